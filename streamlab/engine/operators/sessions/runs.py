"""Open sessions as a store holds them: runs, each a frame of what changed since the one before.

Nothing in a run says that a session is gone: one that has closed is known by the watermark, and one that was merged, or has changed since,
lies within a newer one of its key, which two open sessions never do. So a run is dropped once none of its rows is the newest of an open
session; where there are many, one that outgrows half of the one before takes that one in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.held.key_index import distinct
from streamlab.engine.operators.sessions.cut import NONE

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints

_FEW = 8  # runs are left alone: where sessions are short, all of their rows are gone before there are more
_SPARSE = 4  # a run with fewer live rows than one of so many is written anew


@dataclass(slots=True)
class _Run:
    number: int
    slots: Ints
    """Of its rows, some of which may have gone, or changed since."""
    live: int


class SessionRuns:
    """Which run has the newest row of each slot, and which slots changed since the last run."""

    def __init__(self) -> None:
        self._of = np.empty(0, np.int64)  # by slot: the number of the run that has its newest row
        self._changed = np.empty(0, np.bool_)
        self._runs: list[_Run] = []
        self.next = 0
        """The number of the next run; none is used twice."""

    def grow(self, size: int) -> None:
        """Make room for so many slots."""
        self._of = np.append(self._of, np.full(size - len(self._of), NONE))
        self._changed = np.append(self._changed, np.zeros(size - len(self._changed), np.bool_))

    def change(self, slots: Ints) -> None:
        """Remember that slots must be written."""
        self._leave(slots)
        self._changed[slots] = True

    def forget(self, slots: Ints) -> None:
        """Remember that slots are free."""
        self._leave(slots)
        self._changed[slots] = False

    def write(self) -> tuple[int, Ints, list[int]]:
        """Return the number of a new run, the slots whose rows it must have (none: no new run), and the runs to drop."""
        changed = np.flatnonzero(self._changed)
        runs, self._runs = self._runs, []
        dropped: list[int] = []
        for run in reversed(runs):
            many = len(runs) - len(dropped) > _FEW
            grown = many and len(changed) and not self._runs and 2 * len(changed) > run.live
            if run.live and not grown and _SPARSE * run.live >= len(run.slots):
                self._runs.append(run)
                continue
            dropped.append(run.number)
            changed = np.append(changed, run.slots[self._of[run.slots] == run.number])
        self._runs.reverse()
        changed = distinct(changed)
        number = self.next
        if len(changed):
            self.add(number, changed, len(changed))
        return number, changed, dropped

    def add(self, number: int, slots: Ints, rows: int) -> None:
        """Let a run have the newest rows of slots, and so many rows in all."""
        self._of[slots], self._changed[slots] = number, False
        self._runs.append(_Run(number, np.append(slots, np.full(rows - len(slots), NONE)), len(slots)))
        self.next = number + 1

    def _leave(self, slots: Ints) -> None:
        """Let the newest rows of slots be in no run any more."""
        of = self._of[slots]
        self._of[slots] = NONE
        numbers, counts = np.unique(of[of != NONE], return_counts=True)
        gone = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        for run in self._runs:
            run.live -= gone.get(run.number, 0)

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return self._of.nbytes + self._changed.nbytes + sum(run.slots.nbytes for run in self._runs)


def newest(key: Ints, first: Ints, last: Ints, run: Ints) -> Bools:
    """Return which rows of runs are the newest of a session: those that lie within no newer one of their key.

    Examples
    --------
    >>> first, last, run = np.array([5, 0, 0, 50]), np.array([7, 9, 9, 60]), np.array([1, 2, 3, 1])
    >>> newest(np.zeros(4, np.int64), first, last, run).tolist()
    [False, False, True, True]
    """
    order = np.lexsort((-run, -last, first, key))
    rank = np.searchsorted(np.unique(last), last[order])
    top = np.maximum.accumulate(key[order] * (len(key) + 1) + rank)
    kept = np.ones(len(key), np.bool_)
    kept[order[1:]] = top[1:] > top[:-1]
    return kept
