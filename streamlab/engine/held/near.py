"""Rows of some keys in order of time: which of them lie in a range of times is found by a search, for many ranges at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints

_LIMIT = 1 << 62


class Near:
    """Rows by key and time, packed into one integer where the times are not too far apart, else numbered by their order.

    Parameters
    ----------
    key
        Numbers of keys, not negative.
    time
        Event times.

    Attributes
    ----------
    order
        Positions of the rows by key and time; all ranges are ranges in this order.
    key, time
        Of the rows in order.

    Examples
    --------
    >>> near = Near(np.array([1, 0, 1]), np.array([20, 5, 10]))
    >>> near.order.tolist()
    [1, 2, 0]
    >>> first, last = near.between(np.array([1, 1]), np.array([10, 11]), np.array([20, 19]))
    >>> first.tolist(), last.tolist()
    ([1, 2], [3, 2])
    """

    def __init__(self, key: Ints, time: Ints) -> None:
        low, high = int(time.min(initial=_LIMIT)), int(time.max(initial=-_LIMIT))
        self._low, self._span = low - 1, max(high - low + 3, 1)
        self._ranks: Ints | None = None
        if (int(key.max(initial=0)) + 1) * self._span >= _LIMIT:
            self._ranks = np.unique(time)
            self._low, self._span = -1, len(self._ranks) + 2
        place = time if self._ranks is None else np.searchsorted(self._ranks, time)
        packed = key * self._span + (place - self._low)
        self.order = np.argsort(packed, kind="stable")
        self._packed = packed[self.order]
        self.key, self.time = key[self.order], time[self.order]

    @property
    def begins(self) -> Bools:
        """Which rows are the first of their key and time."""
        begins = np.ones(len(self._packed), np.bool_)
        begins[1:] = self._packed[1:] != self._packed[:-1]
        return begins

    def between(self, key: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return the ranges of rows of keys with low <= time <= high: where each begins, and where it has ended."""
        if self._ranks is not None:
            low, high = np.searchsorted(self._ranks, low), np.searchsorted(self._ranks, high, side="right") - 1
        first = np.searchsorted(self._packed, key * self._span + np.clip(low - self._low, 0, self._span - 1))
        last = np.searchsorted(
            self._packed, key * self._span + np.clip(high - self._low, 0, self._span - 1), side="right"
        )
        return first, np.maximum(first, last)


class Lowest:
    """The smallest of the values in a range, for many ranges at once: the minima of all ranges of 1, 2, 4, ... values are kept.

    Examples
    --------
    >>> lowest = Lowest(np.array([3, 1, 2, 5]), 9)
    >>> lowest.between(np.array([0, 2, 3, 1]), np.array([2, 4, 4, 1])).tolist()
    [1, 2, 5, 9]
    """

    def __init__(self, values: Ints, nothing: int) -> None:
        self._levels, self._nothing = [values], nothing
        while 2 << (len(self._levels) - 1) <= len(values):
            below, step = self._levels[-1], 1 << (len(self._levels) - 1)
            self._levels.append(np.minimum(below[:-step], below[step:]))

    def between(self, first: Ints, last: Ints) -> Ints:
        """Return the smallest value from each `first` to before each `last`."""
        found = np.full(len(first), self._nothing)
        length = last - first
        level = np.frexp(length.astype(np.float64))[1] - 1
        for number, values in enumerate(self._levels):
            at = np.flatnonzero((level == number) & (length > 0))
            found[at] = np.minimum(values[first[at]], values[last[at] - (1 << number)])
        return found
