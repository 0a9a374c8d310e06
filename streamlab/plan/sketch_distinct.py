"""Distinct values, counted in bounded space: HyperLogLog, all groups at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.plan.sketches import listed, opened
from streamlab.plan.stable_hash import stable_hash

if TYPE_CHECKING:
    from streamlab.plan.sketches import Ints

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
        values, groups = opened(lists)
        hashes = stable_hash(values)
        rest = hashes >> np.uint64(_ADDRESS)
        zeros = _REST - np.frexp(rest.astype(np.float64))[1]  # 38 bits are exact as a float
        coupons = (hashes & np.uint64((1 << _ADDRESS) - 1)) | ((zeros + 1).astype(np.uint64) << np.uint64(_ADDRESS))
        none = np.empty((0, self._dense), np.uint32)
        return self._merged(coupons, groups, none, np.empty(0, np.int64), len(lists))

    def join(self, parts: pl.Series, owners: Ints, count: int) -> pl.Series:
        items, of = opened(parts)
        numbers, dense = items.to_numpy(), parts.list.len().fill_null(0).to_numpy() == self._dense
        registers = numbers[dense[of]].reshape(-1, self._dense)
        sparse = ~dense[of]
        return self._merged(numbers[sparse].astype(np.uint64), owners[of[sparse]], registers, owners[dense], count)

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
            return listed(pl.Series(coupons.astype(np.uint32)), lengths)
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
        return listed(pl.Series(numbers), lengths)

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
