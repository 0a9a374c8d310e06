"""Row numbers for pairs of small numbers: what belongs to a key (by its slot) in a window.

The slots of a window lie in pages of a few neighbours: a hash table finds the page, and the row stands in it. Keys that came together have
slots next to each other, so there are far fewer pages than pairs, and the table stays small and hardly changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamlab.engine.held.dense import Dense
from streamlab.engine.held.key_index import distinct
from streamlab.engine.held.number_index import NumberIndex
from streamlab.engine.held.slot_frame import Slots, grown

_HALF = np.int64(32)
_LOW = np.int64((1 << 32) - 1)
_PAGE = 4
_CELLS = 1 << _PAGE
"""Slots of a page: more of them make fewer pages, and waste more where the keys of a window are few and far between."""
ONE = np.int32(1)  # numpy adds numbers of another type fifty times slower


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
    >>> windows, slots = np.array([7, 8]), np.array([5, 5])
    >>> index.insert(pairs_of(windows, slots)).tolist()
    [0, 1]
    >>> index.release(np.array([0]))
    >>> index.find(pairs_of(windows, slots)).tolist()
    [-1, 1]
    """

    def __init__(self) -> None:
        self._pages = NumberIndex()
        self._cells = np.full(1024, -1, np.int32)  # by page, then by slot: rows
        self._used = np.zeros(1024, np.int32)  # by page: cells that have a row
        self._pairs = np.full(1024, -1, np.int64)  # by row
        self._rows = Dense()

    def __len__(self) -> int:
        return len(self._rows)

    def pairs(self, rows: Slots) -> Slots:
        """Return the pair of each row; -1 where a row is free."""
        return self._pairs[rows]

    def find(self, pairs: Slots) -> Slots:
        """Return the row of each pair, -1 where it has none; pairs may repeat."""
        page = self._pages.find(pairs >> _PAGE)
        rows = self._cells[_at(page, pairs)].astype(np.int64)
        rows[page < 0] = -1
        return rows

    def insert(self, pairs: Slots) -> Slots:
        """Give rows to pairs that have none; no pair may repeat."""
        page = self._paged(pairs >> _PAGE)
        rows = self._rows.give(len(pairs))
        self._pairs = grown(self._pairs, self._rows.ever, -1)
        self._pairs[rows] = pairs
        self._cells[_at(page, pairs)] = rows
        np.add.at(self._used, page, ONE)
        return rows

    def release(self, rows: Slots) -> None:
        """Take rows back; no row may repeat, nor be free."""
        pairs = self._pairs[rows]
        page = self._pages.find(pairs >> _PAGE)
        self._cells[_at(page, pairs)] = -1
        self._pairs[rows] = -1
        self._rows.take_back(rows)
        np.subtract.at(self._used, page, ONE)
        left = distinct(page)
        self._pages.release(left[self._used[left] == 0])

    def estimated_size(self) -> int:
        """Return how many bytes are held."""
        arrays = self._cells, self._used, self._pairs
        return self._pages.nbytes + self._rows.nbytes + sum(array.nbytes for array in arrays)

    def _paged(self, keys: Slots) -> Slots:
        """Return the pages of keys, new ones where there are none."""
        page = self._pages.find(keys)
        new = np.flatnonzero(page < 0)
        if len(new):
            added = distinct(keys[new])
            made = self._pages.insert(added)
            page[new] = made[np.searchsorted(added, keys[new])]
            size = int(made.max()) + 1
            self._cells, self._used = grown(self._cells, size * _CELLS, -1), grown(self._used, size, 0)
        return page


def _at(page: Slots, pairs: Slots) -> Slots:
    """Return where the rows of pairs stand in their pages; somewhere where there is no page."""
    at: Slots = (np.maximum(page, 0) << _PAGE) | (pairs & (_CELLS - 1))
    return at


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
