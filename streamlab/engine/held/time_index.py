"""Finding rows by key and time: which rows of a slot lie in a range of times.

Slot and time are packed into one integer, so that a range of times of a key is a slice of a sorted array, and all that a batch asks for
is two searches and one expansion. Runs that outgrow half of the one before are merged into it, as in an LSM tree. Where slots or times
are too large to be packed (two million keys, the year 2109), complex numbers take the integers' place: numpy sorts them by real part,
then by imaginary part, and both hold all slots and times exactly. They take twice as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints

Packed = npt.NDArray[Any]

TIME_BITS = 42
_FURTHEST = (1 << TIME_BITS) - 1
_SLOTS = 1 << (63 - TIME_BITS)


class TimeIndex:
    """Numbers of rows by slot and time.

    Examples
    --------
    >>> index = TimeIndex()
    >>> index.add(np.array([0, 0, 1]), np.array([10, 20, 10]), np.array([100, 101, 102]))
    >>> asked, rows, times = index.between(np.array([0, 1]), np.array([10, 11]), np.array([20, 99]))
    >>> asked.tolist(), rows.tolist(), times.tolist()
    ([0, 0], [100, 101], [10, 20])
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Packed, Ints]] = []
        self._wide = False

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._runs)

    def add(self, slots: Ints, times: Ints, rows: Ints) -> None:
        """Take in rows; of rows of one slot and time the later ones stay behind the earlier ones."""
        if not len(rows):
            return
        self._widen(slots, times)
        packed = self._pack(slots, times)
        if (packed[1:] < packed[:-1]).any():
            order = np.argsort(packed, kind="stable")
            packed, rows = packed[order], rows[order]
        while self._runs and 2 * len(rows) > len(self._runs[-1][1]):
            older = self._runs.pop()
            packed, rows = np.concatenate([older[0], packed]), np.concatenate([older[1], rows])
            order = np.argsort(packed, kind="stable")  # it finds the two runs, and merges them
            packed, rows = packed[order], rows[order]
        self._runs.append((packed, rows))

    def between(self, slots: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints, Ints]:
        """Return every row of a slot with low <= time <= high, bounds included: position of the question, number, time."""
        asked, rows, times = [], [], []
        order, lows, highs = self._needles(slots, low, high)
        for packed, numbers in self._runs:
            first, count = _slices(packed, lows, highs)
            total = int(count.sum())
            if not total:
                continue
            begin = np.repeat(first - (np.cumsum(count) - count), count)
            at = begin + np.arange(total)
            asked.append(order[np.repeat(np.arange(len(order)), count)])
            rows.append(numbers[at])
            times.append(self._times(packed[at]))
        none = np.empty(0, np.int64)
        return np.concatenate([none, *asked]), np.concatenate([none, *rows]), np.concatenate([none, *times])

    def any_between(self, slots: Ints, low: Ints, high: Ints) -> Bools:
        """Return which slots have a row with low <= time <= high."""
        found = np.zeros(len(slots), np.bool_)
        order, lows, highs = self._needles(slots, low, high)
        for packed, _ in self._runs:
            _, count = _slices(packed, lows, highs)
            found[order] |= count > 0
        return found

    def latest(self, slots: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return the newest row of each slot with low <= time <= high, of equal times the last one taken in: number (-1: none), time."""
        found, newest = np.full(len(slots), -1), np.full(len(slots), -1)
        order, lows, highs = self._needles(slots, low, high)
        for packed, numbers in self._runs:  # oldest first: of equal times the later one wins
            first, count = _slices(packed, lows, highs)
            hit = np.flatnonzero(count)
            at = (first + count - 1)[hit]
            times, asked = self._times(packed[at]), order[hit]
            better = times >= newest[asked]
            newest[asked[better]], found[asked[better]] = times[better], numbers[at[better]]
        return found, newest

    def keep(self, oldest: Ints) -> Bools:
        """Forget rows older than the oldest time that their slot still needs, and return which slots have rows left."""
        used = np.zeros(len(oldest), np.bool_)
        runs = self._runs
        self._runs = []
        for packed, numbers in runs:
            slots = self._slots(packed)
            stays = self._times(packed) >= oldest[slots]
            used[slots[stays]] = True
            if stays.all():
                self._runs.append((packed, numbers))
            elif stays.any():
                self._runs.append((packed[stays], numbers[stays]))
        return used

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return sum(packed.nbytes + rows.nbytes for packed, rows in self._runs)

    def _needles(self, slots: Ints, low: Ints, high: Ints) -> tuple[Ints, Packed, Packed]:
        """Return the order in which to ask, and both bounds in it: sorted needles walk a run once instead of jumping about in it."""
        order = np.arange(len(slots))
        if (slots[1:] < slots[:-1]).any():
            order = np.argsort(slots, kind="stable")
            slots, low, high = slots[order], low[order], high[order]
        low = np.maximum(low, 0)
        if not self._wide:
            high = np.minimum(high, _FURTHEST)
            low = np.minimum(low, _FURTHEST + 1)
        return order, self._pack(slots, low), self._pack(slots, high)

    def _widen(self, slots: Ints, times: Ints) -> None:
        """Go over to complex numbers once something is too large."""
        if self._wide or (slots.max() < _SLOTS and times.max() <= _FURTHEST):
            return
        parts = [(self._slots(packed), self._times(packed), rows) for packed, rows in self._runs]
        self._wide = True
        self._runs = [(self._pack(held, at), rows) for held, at, rows in parts]

    def _pack(self, slots: Ints, times: Ints) -> Packed:
        if not self._wide:
            return (slots << TIME_BITS) + times
        packed = np.empty(len(slots), np.complex128)
        packed.real, packed.imag = slots, times
        return packed

    def _slots(self, packed: Packed) -> Ints:
        return packed.real.astype(np.int64) if self._wide else packed >> TIME_BITS

    def _times(self, packed: Packed) -> Ints:
        return packed.imag.astype(np.int64) if self._wide else packed & _FURTHEST


def _slices(packed: Packed, lows: Packed, highs: Packed) -> tuple[Ints, Ints]:
    """Return where each range begins in a run, and how many rows are in it."""
    first = np.searchsorted(packed, lows)
    count = np.zeros(len(first), np.int64)
    hit = np.flatnonzero(packed[np.minimum(first, len(packed) - 1)] <= highs)
    hit = hit[first[hit] < len(packed)]
    count[hit] = np.searchsorted(packed, highs[hit], side="right") - first[hit]
    return first, np.maximum(count, 0)
