"""Row numbers for pairs of small numbers: what belongs to a key (by its slot) in a window.

Open addressing with linear probing, all needles of a batch abreast: a hash table whose cells hold row numbers, and by row the pair that
it belongs to. A pair that is released leaves its cell as it is: the row no longer has that pair, so the cell is passed over, until the
table is made anew.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamlab.engine.held.slot_frame import Slots, grown

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: neighbours go far apart (Knuth, volume 3, 6.4)
_HALF = np.int64(32)
_LOW = np.int64((1 << 32) - 1)


def pairs_of(high: Slots, low: Slots) -> Slots:
    """Return pairs as one number each: `high` is below 2^31, `low` below 2^32.

    Examples
    --------
    >>> pairs = pairs_of(np.array([0, 7]), np.array([5, 5]))
    >>> [part.tolist() for part in parts_of(pairs)]
    [[0, 7], [5, 5]]
    """
    packed: Slots = (high << _HALF) | low
    return packed


def parts_of(pairs: Slots) -> tuple[Slots, Slots]:
    """Return what pairs were made of."""
    return pairs >> _HALF, pairs & _LOW


class PairIndex:
    """Dense row numbers for distinct pairs. A row stays with its pair until it is released; then it may go to another one.

    Examples
    --------
    >>> index = PairIndex()
    >>> index.insert(np.array([70, 9]))
    array([0, 1])
    >>> index.find(np.array([9, 8, 70]))
    array([ 1, -1,  0])
    >>> index.release(np.array([1]))
    >>> len(index), index.find(np.array([9]))
    (1, array([-1]))
    """

    def __init__(self) -> None:
        self._cells = np.full(1024, -1, np.int32)
        self._filled = 0  # cells in use, be it by pairs that are gone
        self._pairs = np.full(1024, -1, np.int64)  # by row
        self._free: list[Slots] = []
        self._given = 0  # rows ever given out, the free ones too
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def pairs(self, rows: Slots) -> Slots:
        """Return the pair of each row; -1 where a row is free."""
        return self._pairs[rows]

    def find(self, pairs: Slots) -> Slots:
        """Return the row of each pair, -1 where it has none; pairs may repeat."""
        rows = np.full(len(pairs), -1, np.int64)
        todo, at = np.arange(len(pairs)), self._home(pairs)
        while todo.size:
            found = self._cells[at]
            hit = self._pairs[found] == pairs[todo]
            rows[todo[hit]] = found[hit]
            on = ~hit & (found >= 0)
            todo, at = todo[on], self._next(at[on])
        return rows

    def insert(self, pairs: Slots) -> Slots:
        """Give rows to pairs that have none; no pair may repeat."""
        if 2 * (self._filled + len(pairs)) > len(self._cells):
            self._rebuild(self._live + len(pairs))
        rows = self._give(len(pairs))
        self._pairs[rows] = pairs
        self._place(pairs, rows)
        return rows

    def release(self, rows: Slots) -> None:
        """Take rows back; no row may repeat, nor be free."""
        self._pairs[rows] = -1
        self._free.append(rows)
        self._live -= len(rows)

    def estimated_size(self) -> int:
        """Return how many bytes are held."""
        return self._cells.nbytes + self._pairs.nbytes + sum(rows.nbytes for rows in self._free)

    def _home(self, pairs: Slots) -> Slots:
        bits = len(self._cells).bit_length() - 1
        spread = pairs.view(np.uint64) * _GOLDEN
        return (spread >> np.uint64(64 - bits)).view(np.int64)

    def _next(self, at: Slots) -> Slots:
        following: Slots = (at + 1) & (len(self._cells) - 1)
        return following

    def _place(self, pairs: Slots, rows: Slots) -> None:
        number, at = rows.astype(np.int32), self._home(pairs)
        self._filled += len(pairs)
        while number.size:
            free = self._cells[at] < 0
            self._cells[at[free]] = number[free]  # of several that want one cell the last has it
            lost = self._cells[at] != number
            number, at = number[lost], self._next(at[lost])

    def _rebuild(self, entries: int) -> None:
        self._cells = np.full(1 << max(10, (4 * entries - 1).bit_length()), -1, np.int32)
        self._filled = 0
        rows = np.flatnonzero(self._pairs[: self._given] >= 0)
        self._place(self._pairs[rows], rows)

    def _give(self, count: int) -> Slots:
        parts, missing = [], count
        while missing and self._free:
            free, rest = np.split(self._free.pop(), [missing])
            self._free += [rest] if rest.size else []
            parts.append(free)
            missing -= len(free)
        rows = np.concatenate([*parts, np.arange(self._given, self._given + missing)])
        self._given += missing
        self._live += count
        self._pairs = grown(self._pairs, self._given, -1)
        return rows


def cuts(numbers: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return the stretches of equal numbers: number, begin and end.

    Examples
    --------
    >>> cuts(np.array([4, 4, 9, 4]))
    [(4, 0, 2), (9, 2, 3), (4, 3, 4)]
    """
    if not len(numbers):
        return []
    starts = np.append(0, np.flatnonzero(numbers[1:] != numbers[:-1]) + 1)
    return list(zip(numbers[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(numbers)], strict=True))
