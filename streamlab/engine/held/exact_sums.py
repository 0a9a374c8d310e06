"""Sums of floating numbers that numbers can be taken out of again.

Adding and subtracting in double precision leaves the rounding errors of large numbers behind when these have gone. So a sum is kept as two
numbers, the second what the first is short of: twice the digits. What a batch adds to each group is summed without error first, by cutting
numbers into parts that fit a common grid.

References
----------
T. J. Dekker, "A floating-point technique for extending the available precision", Numerische Mathematik 18 (1971): `two_product`.
D. E. Knuth, The Art of Computer Programming 2, 4.2.2: `two_sum`.
S. M. Rump, T. Ogita, S. Oishi, "Accurate floating-point summation", SIAM J. Sci. Comput. 31 (2008): the common grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SPLIT = float(2**27 + 1)
_LARGE = 1e150  # squares of larger numbers are infinite, or nearly so
_HIGHEST = 1_000  # numbers near the largest there are have no grid
_GRIDS = 2  # parts that are summed without error; what is left is 2^-90 of the largest number


class Double(NamedTuple):
    """Numbers of twice the digits: `high` plus the much smaller `low`."""

    high: Floats
    low: Floats


def two_sum(a: Floats, b: Floats) -> Double:
    """Return a + b without error."""
    total = a + b
    part = total - a
    return Double(total, (a - (total - part)) + (b - part))


def two_product(a: Floats, b: Floats) -> Double:
    """Return a * b without error."""
    product = a * b
    ah, bh = _upper(a), _upper(b)
    al, bl = a - ah, b - bh
    return Double(product, al * bl - (((product - ah * bh) - al * bh) - ah * bl))


def _upper(a: Floats) -> Floats:
    scaled = a * _SPLIT
    return scaled - (scaled - a)


def add(a: Double, b: Double) -> Double:
    """Return a + b."""
    high, low = two_sum(a.high, b.high)
    return two_sum(high, low + a.low + b.low)


def group_sums(values: Floats, group: Ints, groups: int) -> Double:
    """Return the sum of the values of each group; all are finite.

    Examples
    --------
    >>> high, low = group_sums(np.array([1e16, 1.0, -1e16, 0.5]), np.array([0, 0, 0, 1]), 2)
    >>> (high + low).tolist()
    [1.0, 0.5]
    """
    found = Double(np.zeros(groups), np.zeros(groups))
    largest, room = float(np.abs(values).max(initial=0)), int(np.ceil(np.log2(len(values) + 2)))
    exponent = room + int(np.ceil(np.log2(largest))) if largest else _HIGHEST
    grid = 2.0**exponent if exponent < _HIGHEST else 0.0
    for _ in range(_GRIDS if grid else 0):
        part = (grid + values) - grid
        values = values - part
        found = add(found, _summed(part, group, groups))
        grid *= 2.0 ** (room - 52)
    return add(found, _summed(values, group, groups))


def _summed(values: Floats, group: Ints, groups: int) -> Double:
    sums: Floats = np.bincount(group, values, groups).astype(np.float64)
    return Double(sums, np.zeros(groups))


def spread(total: Double, squares: Double, count: Ints) -> Floats:
    """Return the sum of squared deviations from the mean, of the sums of numbers and of their squares."""
    n = np.maximum(count, 1).astype(np.float64)
    high, low = two_product(total.high, total.high)
    low = low + 2 * total.high * total.low
    quotient = high / n
    back = two_product(quotient, n)
    rest = ((high - back.high) - back.low + low) / n
    apart = add(squares, Double(-quotient, -rest))
    return np.maximum(apart.high + apart.low, 0.0)


@dataclass(slots=True)
class FloatSums:
    """Sums by slot of numbers that come and go: of the finite ones exactly, of the others how many there are."""

    high: Floats
    low: Floats
    odd: Ints  # shape (3, slots): how many are NaN, infinite, and minus infinite
    all_finite: bool = True
    """Whether none has ever been."""

    @classmethod
    def empty(cls) -> FloatSums:
        """Return sums of no slots."""
        return cls(np.zeros(1), np.zeros(1), np.zeros((3, 1), np.int64))

    def grow(self, size: int) -> None:
        """Have room for so many slots."""
        more = size - len(self.high)
        if more > 0:
            more = max(more, len(self.high))
            self.high, self.low = (np.append(a, np.zeros(more)) for a in (self.high, self.low))
            self.odd = np.append(self.odd, np.zeros((3, more), np.int64), axis=1)

    def change(self, slots: Ints, group: Ints, values: Floats, sign: Floats, *, square: bool) -> None:
        """Add values times sign to the slot of each one's group; `square`: their squares."""
        finite = np.abs(values) < (_LARGE if square else np.inf)  # false for NaN, too
        if not finite.all():
            self.all_finite = False
            whole, odd = sign.astype(np.int64), np.isnan(values)
            above = ~finite & ~odd & ((values > 0) | square)
            for number, which in enumerate((odd, above, ~finite & ~odd & ~above)):
                np.add.at(self.odd[number], slots[group[which]], whole[which])
            values = np.where(finite, values, 0.0)
        if square:
            high, low = two_product(values, values)
            change = add(group_sums(high * sign, group, len(slots)), group_sums(low * sign, group, len(slots)))
        else:
            change = group_sums(values * sign, group, len(slots))
        self.high[slots], self.low[slots] = add(Double(self.high[slots], self.low[slots]), change)

    def clear(self, slots: Ints) -> None:
        """Let slots be sums of nothing."""
        self.high[slots] = self.low[slots] = 0.0
        if not self.all_finite:
            self.odd[:, slots] = 0

    def at(self, slots: Ints) -> Double:
        """Return the sums of slots; NaN and infinities as adding up gives them."""
        high, low = self.high[slots], self.low[slots]
        if not self.all_finite and (odd := self.odd[:, slots]).any():
            strange = np.where(odd[1] > 0, np.inf, np.where(odd[2] > 0, -np.inf, np.nan))
            strange = np.where((odd[0] > 0) | ((odd[1] > 0) & (odd[2] > 0)), np.nan, strange)
            some = odd.any(axis=0)
            high, low = np.where(some, strange, high), np.where(some, 0.0, low)
        return Double(high, low)

    def saved(self, slots: Ints) -> dict[str, Any]:
        """Return what a checkpoint keeps of slots, as columns."""
        odd = {f"odd{number}": self.odd[number][slots] for number in range(3)}
        return {"high": self.high[slots], "low": self.low[slots], **odd}

    def load(self, slots: Ints, columns: dict[str, Any]) -> None:
        """Go on from what `saved` gave."""
        self.high[slots], self.low[slots] = columns["high"], columns["low"]
        for number in range(3):
            self.odd[number][slots] = odd = columns[f"odd{number}"]
            self.all_finite = self.all_finite and not np.any(odd)
