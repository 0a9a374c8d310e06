"""Quantiles in bounded space: DDSketch, all groups at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.plan.sketches import listed, opened

if TYPE_CHECKING:
    from streamlab.plan.sketches import Ints

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
        values, groups = opened(lists)
        there = values.is_not_null().to_numpy()
        codes = self._codes(values.drop_nulls().to_physical().cast(pl.Float64))
        return self._merged(codes, np.ones(len(codes), np.int64), groups[there], len(lists))

    def join(self, parts: pl.Series, owners: Ints, count: int) -> pl.Series:
        items, of = opened(parts)
        pairs = items.to_numpy().reshape(-1, 2)
        return self._merged(pairs[:, 0], pairs[:, 1], owners[of[::2]], count)

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
        return listed(pl.Series(np.stack([codes, counts], axis=1).reshape(-1)), 2 * lengths)

    def finish(self, held: pl.Series) -> pl.Series:
        items, of = opened(held)
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
