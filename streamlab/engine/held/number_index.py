"""Dense places for numbers: a hash table whose cells hold places, and by place the number that has it.

Open addressing with linear probing, all needles of a batch abreast. A number that is released leaves its cell as it is: the place no longer
has that number, so the cell is passed over, until the table is made anew.
"""

from __future__ import annotations

import numpy as np

from streamlab.engine.held.dense import Dense
from streamlab.engine.held.slot_frame import Slots, grown

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: neighbours go far apart (Knuth, volume 3, 6.4)


class NumberIndex:
    """Dense places for distinct numbers. A place stays with its number until it is released; then it may go to another one.

    Examples
    --------
    >>> index = NumberIndex()
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
        self._filled = 0  # cells in use, be it by numbers that are gone
        self._numbers = np.full(1024, -1, np.int64)  # by place
        self._places = Dense()

    def __len__(self) -> int:
        return len(self._places)

    def find(self, numbers: Slots) -> Slots:
        """Return the place of each number, none below 0, -1 where it has none; numbers may repeat."""
        at = self._home(numbers)
        found = self._cells[at]
        hit = self._numbers[found] == numbers
        places = np.where(hit, found, -1).astype(np.int64)
        todo = np.flatnonzero(~hit & (found >= 0))
        at = at[todo]
        while todo.size:
            at = self._next(at)
            found = self._cells[at]
            hit = self._numbers[found] == numbers[todo]
            places[todo[hit]] = found[hit]
            on = ~hit & (found >= 0)
            todo, at = todo[on], at[on]
        return places

    def insert(self, numbers: Slots) -> Slots:
        """Give places to numbers that have none; no number may repeat."""
        if 2 * (self._filled + len(numbers)) > len(self._cells):
            self._rebuild(len(self) + len(numbers))
        places = self._places.give(len(numbers))
        self._numbers = grown(self._numbers, self._places.ever, -1)
        self._numbers[places] = numbers
        self._place(numbers, places)
        return places

    def release(self, places: Slots) -> None:
        """Take places back; none may repeat, nor be free."""
        self._numbers[places] = -1
        self._places.take_back(places)

    @property
    def nbytes(self) -> int:
        """How many bytes are held."""
        return self._cells.nbytes + self._numbers.nbytes + self._places.nbytes

    def _home(self, numbers: Slots) -> Slots:
        bits = len(self._cells).bit_length() - 1
        spread = numbers.view(np.uint64) * _GOLDEN
        return (spread >> np.uint64(64 - bits)).view(np.int64)

    def _next(self, at: Slots) -> Slots:
        following: Slots = (at + 1) & (len(self._cells) - 1)
        return following

    def _place(self, numbers: Slots, places: Slots) -> None:
        place, at = places.astype(np.int32), self._home(numbers)
        self._filled += len(numbers)
        while place.size:
            free = self._cells[at] < 0
            self._cells[at[free]] = place[free]  # of several that want one cell the last has it
            lost = self._cells[at] != place
            place, at = place[lost], self._next(at[lost])

    def _rebuild(self, entries: int) -> None:
        self._cells = np.full(1 << max(10, (4 * entries - 1).bit_length()), -1, np.int32)
        self._filled = 0
        places = np.flatnonzero(self._numbers[: self._places.ever] >= 0)
        self._place(self._numbers[places], places)
