"""Summaries of bounded size that can be merged: distinct values, quantiles, the most frequent values.

A summary of each group is a list, so that a column of them is a frame's like any other. Each kind makes lists from lists of values, merges
lists of them, and reads a result off them; all groups at once, with no Python call per group.

The first two are functions of the values alone: what order these come in, and how they are cut into parts, changes nothing. The third is
as long as its capacity suffices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.plan.stable_hash import stable_hash

Ints = npt.NDArray[np.int64]


class Sketch(Protocol):
    """A kind of summary."""

    def held(self, values: pl.DataType) -> pl.DataType:
        """Return the type of a summary of such values."""
        ...

    def found(self, held: pl.DataType) -> pl.DataType:
        """Return the type of a result, given that of summaries."""
        ...

    def start(self, lists: pl.Series) -> pl.Series:
        """Return a summary of each list of values."""
        ...

    def merge(self, lists: pl.Series) -> pl.Series:
        """Return the summary of each list of summaries."""
        ...

    def finish(self, held: pl.Series) -> pl.Series:
        """Return the result of each summary."""
        ...


# --- lists ---


def _opened(lists: pl.Series) -> tuple[pl.Series, Ints]:
    """Return the items of lists end to end, and which list each is from."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    items = lists.explode(empty_as_null=False, keep_nulls=False)
    return items, np.repeat(np.arange(len(lists)), lengths)


def _listed(items: pl.Series, lengths: Ints) -> pl.Series:
    """Return items that lie end to end as lists of these lengths."""
    groups = pl.Series("g", np.repeat(np.arange(len(lengths)), lengths)).set_sorted()
    lists = pl.DataFrame([groups, items.alias("v")]).group_by("g", maintain_order=True).agg("v")
    if lists.height == len(lengths):
        return lists["v"]
    if not lists.height:
        return pl.Series([[]] * len(lengths), dtype=lists["v"].dtype)
    found = lists["v"].gather(np.maximum(np.cumsum(lengths > 0) - 1, 0))  # an empty one is another's, cut to nothing
    return pl.DataFrame([found, pl.Series("n", lengths)]).select(pl.col("v").list.head("n"))["v"]


# --- distinct values ---

_ADDRESS, _RANKS = 26, 64
_REST = 64 - _ADDRESS


@dataclass(frozen=True)
class Distinct:
    """How many distinct values there are: HyperLogLog.

    A value is a coupon of 26 bits of its hash and the number of zeros that the rest begins with. Few coupons are kept as such, and count
    exactly, but for hashes that collide; many become `2 ** bits` registers of the largest number of zeros seen (Flajolet, Fusy, Gandouet
    and Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", 2007), read by the estimator of Ertl, "New
    cardinality estimation algorithms for HyperLogLog sketches" (2017), which is unbiased for all sizes. The standard error is
    ``1.04 / sqrt(2 ** bits)``.

    Held as unsigned 32-bit numbers: coupons, or four registers to a number; it is registers where there are as many as those take.
    """

    bits: int

    @classmethod
    def within(cls, error: float) -> Distinct:
        """Return the smallest with such a standard error."""
        return cls(max(4, math.ceil(2 * math.log2(1.04 / error))))

    @property
    def _size(self) -> int:
        return 1 << self.bits

    @property
    def _dense(self) -> int:
        return self._size // 4

    def held(self, values: pl.DataType) -> pl.DataType:  # noqa: ARG002  # hashes of any
        return pl.List(pl.UInt32)

    def found(self, held: pl.DataType) -> pl.DataType:  # noqa: ARG002  # a count
        return pl.Int64()

    def start(self, lists: pl.Series) -> pl.Series:
        values, groups = _opened(lists)
        hashes = stable_hash(values)
        rest = hashes >> np.uint64(_ADDRESS)
        zeros = _REST - np.frexp(rest.astype(np.float64))[1]  # 38 bits are exact as a float
        coupons = (hashes & np.uint64((1 << _ADDRESS) - 1)) | ((zeros + 1).astype(np.uint64) << np.uint64(_ADDRESS))
        none = np.empty((0, self._dense), np.uint32)
        return self._merged(coupons, groups, none, np.empty(0, np.int64), len(lists))

    def merge(self, lists: pl.Series) -> pl.Series:
        parts, owners = _opened(lists)
        items, of = _opened(parts)
        numbers, dense = items.to_numpy(), parts.list.len().to_numpy() == self._dense
        registers = numbers[dense[of]].reshape(-1, self._dense)
        sparse = ~dense[of]
        return self._merged(numbers[sparse].astype(np.uint64), owners[of[sparse]], registers, owners[dense], len(lists))

    def _merged(
        self, coupons: npt.NDArray[np.uint64], groups: Ints, registers: npt.NDArray[np.uint32], owners: Ints, count: int
    ) -> pl.Series:
        """Return the summaries of so many groups, given coupons and registers and the group of each."""
        each = np.sort((groups.astype(np.uint64) << np.uint64(32)) | coupons)
        each = each[np.diff(each, prepend=each[:1] ^ np.uint64(1)) != 0]
        groups, coupons = (each >> np.uint64(32)).astype(np.int64), each & np.uint64(0xFFFFFFFF)
        lengths = np.bincount(groups, minlength=count)
        dense = lengths >= self._dense
        dense[owners] = True
        if not dense.any():
            return _listed(pl.Series(coupons.astype(np.uint32)), lengths)
        place = np.cumsum(dense) - 1
        filled = np.zeros((int(dense.sum()), self._size), np.uint8)
        order = np.argsort(owners, kind="stable")
        if len(order):
            first = np.flatnonzero(np.diff(owners[order], prepend=-1))
            filled[place[owners[order[first]]]] = np.maximum.reduceat(registers[order].view(np.uint8), first, axis=0)
        many = dense[groups]
        at = (coupons[many] & np.uint64(self._size - 1)).astype(np.int64)
        ranks = (coupons[many] >> np.uint64(_ADDRESS)).astype(np.uint8)
        np.maximum.at(filled.reshape(-1), place[groups[many]] * self._size + at, ranks)
        lengths = np.where(dense, self._dense, lengths)
        numbers = np.empty(int(lengths.sum()), np.uint32)
        theirs = np.repeat(dense, lengths)
        numbers[theirs] = filled.view("<u4").reshape(-1)
        numbers[~theirs] = coupons[~many].astype(np.uint32)
        return _listed(pl.Series(numbers), lengths)

    def finish(self, held: pl.Series) -> pl.Series:
        lengths = held.list.len().to_numpy().astype(np.int64)
        dense = lengths == self._dense
        # two values have one coupon with probability 1 / (3 * 2 ** 26)
        found = lengths + lengths**2 / (6 << _ADDRESS)
        if dense.any():
            items = held.filter(pl.Series(dense)).explode(empty_as_null=False).to_numpy()
            found[dense] = self._estimate(np.ascontiguousarray(items).view(np.uint8).reshape(-1, self._size))
        return pl.Series(np.rint(found).astype(np.int64))

    def _estimate(self, registers: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return the estimates of rows of registers (Ertl 2017, algorithm 6)."""
        rows, size = len(registers), self._size
        flat = registers.astype(np.int64) + _RANKS * np.arange(rows)[:, None]
        counts = np.bincount(flat.ravel(), minlength=rows * _RANKS).reshape(rows, _RANKS)
        total = size * _tau(1 - counts[:, _REST + 1] / size)
        for rank in range(_REST, 0, -1):
            total = 0.5 * (total + counts[:, rank])
        estimate: npt.NDArray[np.float64] = size**2 / (2 * math.log(2) * (total + size * _sigma(counts[:, 0] / size)))
        return estimate


def _sigma(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total, factor, x = x.copy(), 1.0, x.copy()  # x < 1: some register is filled
    while True:
        x = x * x
        grown = total + x * factor
        if (grown == total).all():
            return total
        total, factor = grown, 2 * factor


def _tau(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    factor, total = 1.0, 1 - x
    while True:
        x = np.sqrt(x)
        factor *= 0.5
        shrunk = total - (1 - x) ** 2 * factor
        if (shrunk == total).all() or factor < 1e-300:  # noqa: PLR2004  # x is 0: nothing changes any more
            return np.where((x == 0) | (x == 1), 0.0, total / 3)
        total = shrunk


# --- quantiles ---

_SPAN = 40.0
"""How far apart, in natural logarithms, values are told apart: 17 orders of magnitude."""
_SMALLEST = 745.2
"""No float has a natural logarithm below minus this, and none one above it."""
_CODE = 26
"""Bits of a bucket's code."""


@dataclass(frozen=True)
class Quantile:
    """A quantile of numbers: DDSketch, counts in buckets that grow by a factor.

    A value v > 0 is in bucket ``ceil(log(v) / log(g))`` with ``g = (1 + error) / (1 - error)``, and read as the bucket's middle, so that it
    is off by at most `error` times itself (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
    relative-error guarantees", 2019). Values below zero have buckets of their own, and so have zero, the infinities, and what is no number.
    Of more than 17 orders of magnitude of buckets, all filled, those nearest to zero are taken for zero: which ones is given by the values
    alone, in whatever order they come.

    Held as 64-bit numbers: code of a bucket, its count, and so on.
    """

    share: float
    error: float

    @cached_property
    def _width(self) -> float:
        return math.log((1 + self.error) / (1 - self.error))

    @cached_property
    def _shift(self) -> int:
        """What is added to a bucket's number, so that none of them is below 1."""
        return math.ceil(_SMALLEST / self._width) + 2

    @cached_property
    def _infinite(self) -> int:
        return 2 * self._shift + 2

    @cached_property
    def capacity(self) -> int:
        """How many buckets a group has at most."""
        return math.ceil(_SPAN / self._width)

    def held(self, values: pl.DataType) -> pl.DataType:  # noqa: ARG002  # counts of any
        return pl.List(pl.Int64)

    def found(self, held: pl.DataType) -> pl.DataType:  # noqa: ARG002  # a number
        return pl.Float64()

    def start(self, lists: pl.Series) -> pl.Series:
        values, groups = _opened(lists)
        there = values.is_not_null().to_numpy()
        codes = self._codes(values.drop_nulls().to_physical().cast(pl.Float64))
        return self._merged(codes, np.ones(len(codes), np.int64), groups[there], len(lists))

    def merge(self, lists: pl.Series) -> pl.Series:
        parts, owners = _opened(lists)
        items, of = _opened(parts)
        pairs = items.to_numpy().reshape(-1, 2)
        return self._merged(pairs[:, 0], pairs[:, 1], owners[of[::2]], len(lists))

    def _codes(self, values: pl.Series) -> Ints:
        """Return the codes of values, which have the values' order."""
        x = values.to_numpy()
        logs = np.nan_to_num(values.abs().log().to_numpy(), nan=0.0, posinf=0.0, neginf=0.0)
        codes = (np.sign(np.nan_to_num(x)) * (np.ceil(logs / self._width) + self._shift)).astype(np.int64)
        codes[np.isinf(x)] = np.sign(x[np.isinf(x)]).astype(np.int64) * self._infinite
        codes[np.isnan(x)] = self._infinite + 1  # above all, as polars sorts it
        return cast("Ints", codes)

    def _merged(self, codes: Ints, counts: Ints, groups: Ints, count: int) -> pl.Series:
        """Return the summaries of so many groups, given codes, their counts, and the group of each."""
        keys = (groups << _CODE) + (codes + (1 << (_CODE - 1)))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        keys, counts = keys[first], np.add.reduceat(counts[order], first) if len(first) else counts
        groups, codes = keys >> _CODE, (keys & ((1 << _CODE) - 1)) - (1 << (_CODE - 1))
        lengths = np.bincount(groups, minlength=count)
        if (lengths > self.capacity + 1).any():
            nearest = np.lexsort((codes, -np.abs(codes), groups))  # those farthest from zero first
            rank = np.empty(len(codes), np.int64)
            rank[nearest] = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            if ((rank >= self.capacity) & (codes != 0)).any():
                return self._merged(np.where(rank < self.capacity, codes, 0), counts, groups, count)
        return _listed(pl.Series(np.stack([codes, counts], axis=1).reshape(-1)), 2 * lengths)

    def finish(self, held: pl.Series) -> pl.Series:
        items, of = _opened(held)
        pairs, of = items.to_numpy().reshape(-1, 2), of[::2]
        codes, reached = pairs[:, 0], np.concatenate([np.zeros(1, np.int64), np.cumsum(pairs[:, 1])])
        ends = np.cumsum(np.bincount(of, minlength=len(held)))
        before, total = reached[np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(held)]], reached[ends]
        there = total > before
        place = before + np.floor(self.share * np.maximum(total - before - 1, 0)).astype(np.int64)
        at = np.searchsorted(reached[1:], place[there], side="right")
        found = np.zeros(len(held))
        found[there] = self._values(codes[at])
        return pl.Series(found).set(pl.Series(~there), None)

    def _values(self, codes: Ints) -> npt.NDArray[np.float64]:
        sizes = pl.Series((np.abs(codes) - self._shift) * self._width).exp().to_numpy() * (
            2 / (1 + math.exp(self._width))
        )
        values = np.where(codes == 0, 0.0, np.sign(codes) * np.minimum(sizes, np.finfo(np.float64).max))
        values = np.where(np.abs(codes) == self._infinite, np.copysign(np.inf, codes), values)
        found: npt.NDArray[np.float64] = np.where(codes == self._infinite + 1, np.nan, values)
        return found


# --- the most frequent values ---


@dataclass(frozen=True)
class Frequent:
    """The most frequent values and their counts: the mergeable summary of Misra and Gries.

    Counts are exact while a group has at most `capacity` distinct values. With more, the count of the first one too many is taken off all,
    and those that have none left are forgotten: a count is then too low by at most ``rows / (capacity + 1)`` (Agarwal, Cormode, Huang,
    Phillips, Wei and Yi, "Mergeable summaries", 2012), by how much depends on how the rows are cut into parts.

    Held as structs of value and count.
    """

    k: int
    capacity: int

    def held(self, values: pl.DataType) -> pl.DataType:
        return pl.List(pl.Struct({"value": values, "count": pl.Int64}))

    def found(self, held: pl.DataType) -> pl.DataType:
        return held

    def start(self, lists: pl.Series) -> pl.Series:
        values, groups = _opened(lists)
        if values.dtype.is_float():
            values = values.set(values.eq_missing(0.0), 0.0)  # -0.0 too, which is equal
        frame = pl.DataFrame([pl.Series("g", groups), values.alias("value")])
        return self._merged(frame.group_by("g", "value").agg(pl.len().cast(pl.Int64).alias("count")), len(lists))

    def merge(self, lists: pl.Series) -> pl.Series:
        parts, owners = _opened(lists)
        items, of = _opened(parts)
        frame = items.struct.unnest().with_columns(pl.Series("g", owners[of]))
        return self._merged(frame.group_by("g", "value").agg(pl.col("count").sum()), len(lists))

    def _merged(self, frame: pl.DataFrame, count: int) -> pl.Series:
        frame = frame.sort("g")
        lengths = np.bincount(frame["g"].to_numpy(), minlength=count)
        if (lengths > self.capacity).any():
            frame = frame.sort("g", "count", descending=[False, True])
            counts, full = frame["count"].to_numpy(), lengths > self.capacity
            less = np.zeros(count, np.int64)
            less[full] = counts[(np.cumsum(lengths) - lengths)[full] + self.capacity]
            frame = frame.with_columns(pl.Series("count", counts - np.repeat(less, lengths))).filter(
                pl.col("count") > 0
            )
            lengths = np.bincount(frame["g"].to_numpy(), minlength=count)
        return _listed(frame.select(pl.struct("value", "count")).to_series(), lengths)

    def finish(self, held: pl.Series) -> pl.Series:
        items, of = _opened(held)
        frame = items.struct.unnest().with_columns(pl.Series("g", of))
        frame = frame.sort("g", "count", "value", descending=[False, True, False])
        lengths = np.bincount(of, minlength=len(held))
        return _listed(frame.select(pl.struct("value", "count")).to_series(), lengths).list.head(self.k)
