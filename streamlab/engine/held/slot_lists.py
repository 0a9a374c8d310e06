"""Numbers by slot: a list for each slot, each in one piece of one large array.

A list that has no room left moves to the end, with room for twice as many; where it was stays empty until `keep` puts all lists together
again. So what a batch reads and adds costs no more when there are many lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.held.slot_frame import grown

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamlab.engine.batch import Bools, Ints


class SlotLists:
    """Lists of numbers, found by slot.

    Examples
    --------
    >>> lists = SlotLists()
    >>> lists.add(np.array([7, 2, 7]), np.array([0, 1, 2]))
    >>> which, numbers = lists.of(np.array([2, 7]))
    >>> which.tolist(), numbers.tolist()
    ([0, 1, 1], [1, 0, 2])
    """

    def __init__(self) -> None:
        self._start, self._count, self._room = (np.zeros(1, np.int64) for _ in range(3))  # by slot
        self._numbers: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self._end = 0

    def of(self, slots: Ints) -> tuple[Ints, Ints]:
        """Return the numbers of slots, one list after the other, and the position in `slots` that each comes from."""
        self._hold(slots)
        counts = self._count[slots]
        return np.repeat(np.arange(len(slots)), counts), self._numbers[spread(self._start[slots], counts)].astype(
            np.int64
        )

    def has(self, slots: Ints) -> Bools:
        """Return which slots have a list that is not empty."""
        self._hold(slots)
        found: Bools = self._count[slots] > 0
        return found

    def add(self, slots: Ints, numbers: Ints) -> None:
        """Put numbers at the end of the lists of their slots, which may repeat."""
        self._hold(slots)
        order = np.argsort(slots, kind="stable")
        slots = slots[order]
        begins = np.flatnonzero(np.diff(slots, prepend=-1))
        lists, counts = slots[begins], np.diff(begins, append=len(slots))
        self._make_room(lists, counts)
        self._numbers[spread(self._start[lists] + self._count[lists], counts)] = numbers[order]
        self._count[lists] += counts

    def keep(self, stays: Bools) -> None:
        """Forget the numbers for which `stays` is false, and put what is left together."""
        slots = np.flatnonzero(self._count)
        which, numbers = self.of(slots)
        mask = stays[numbers]
        counts = np.bincount(which[mask], minlength=len(slots))
        self._numbers, self._end = numbers[mask].astype(np.int32), int(counts.sum())
        self._count[slots] = self._room[slots] = counts
        self._start[slots] = np.cumsum(counts) - counts
        self._room[self._count == 0] = 0

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return sum(array.nbytes for array in (self._start, self._count, self._room, self._numbers))

    def _hold(self, slots: Ints) -> None:
        size = int(slots.max(initial=0)) + 1
        self._start, self._count, self._room = (grown(a, size, 0) for a in (self._start, self._count, self._room))

    def _make_room(self, slots: Ints, more: Ints) -> None:
        need = self._count[slots] + more
        short = need > self._room[slots]
        slots, room = slots[short], 2 * need[short]
        starts, counts = self._end + np.cumsum(room) - room, self._count[slots]
        self._end += int(room.sum())
        self._numbers = grown(self._numbers, self._end, 0)
        self._numbers[spread(starts, counts)] = self._numbers[spread(self._start[slots], counts)]
        self._start[slots], self._room[slots] = starts, room


def spread(start: Ints, count: Ints) -> Ints:
    """Return `count` numbers in a row from each `start` on.

    Examples
    --------
    >>> spread(np.array([5, 9]), np.array([2, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    ahead = start - np.cumsum(count) + count
    return np.repeat(ahead, count) + np.arange(int(count.sum()))
