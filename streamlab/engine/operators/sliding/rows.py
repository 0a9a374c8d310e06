"""What sliding windows are made of: partial results by key and event time, found by key, dropped by time, kept by a store.

A row has a number, under which arrays hold its slot (that of its key), its event time and `since`: the first end of a window that it came
in time for. A commit writes the rows that are new, as a run. Runs are put together like the levels of an LSM tree, one sequence of them for
each task, and rows of one key and time with them; dropping needs no writing, since whoever reads a run knows by the times what is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, TIME
from streamlab.engine.held.key_index import KeyIndex
from streamlab.engine.held.near import Near
from streamlab.engine.held.slot_frame import SlotFrame, grown
from streamlab.engine.held.slot_lists import SlotLists
from streamlab.engine.operator import Changes, of_keys
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamlab.engine.batch import Ints

SINCE = f"{RESERVED}since"
_FEW = 1_000  # keys without rows that are not worth a sweep
_LARGE, _SMALL = 16, 4_096  # a run with this part of all rows is large, unless it is so small


@dataclass(slots=True)
class _Run:
    name: str
    numbers: Ints


class SlidingRows:
    """Rows of all keys.

    Parameters
    ----------
    keys
        Columns that tell groups apart: the task first.
    partials
        Columns of a partial result.
    combined
        Puts partial results together by group; None: they are rows, and stay as they are.
    """

    def __init__(
        self,
        keys: pl.Schema,
        partials: pl.Schema,
        combined: Callable[[pl.DataFrame, Ints], pl.DataFrame] | None,
    ) -> None:
        self._index, self._lists, self._partials = KeyIndex(keys), SlotLists(), SlotFrame(partials)
        self._combined = combined
        self._by = [name for name in keys if name != LANE]
        self.slot, self.time, self.since = (np.empty(0, np.int64) for _ in range(3))  # by number
        self._alive = np.empty(0, np.bool_)  # by number
        self._lane = np.zeros(1, np.int64)  # by slot
        self._known = np.zeros(1, np.bool_)  # by slot: whether it is that of a key
        self._given, self._live = 0, 0
        self._gone = 0  # that stand in the lists, but not alive
        self._dead: list[Ints] = []  # dropped, but not swept up: their numbers are not free yet
        self._free: list[Ints] = []
        self._fresh: list[Ints] = []
        self._runs: dict[int, list[_Run]] = {}
        self._dropped: list[str] = []
        self.sequence = 0

    def __len__(self) -> int:
        return self._live

    def slots(self, keys: pl.DataFrame) -> Ints:
        """Return the slot of each row's key; new keys get one."""
        slots = self._index.slots(keys, insert=True)
        size = int(slots.max(initial=0)) + 1
        self._lane, self._known = grown(self._lane, size, 0), grown(self._known, size, 0)
        self._lane[slots], self._known[slots] = keys[LANE].to_numpy(), True
        return slots

    def find(self, key: pl.DataFrame | None) -> Ints:
        """Return the slots of keys, in all tasks; None: of all. Looks through all of them."""
        known = np.flatnonzero(self._known)
        return of_keys(self._index.keys(known).with_columns(pl.Series(TIME, known)), key)[TIME].to_numpy()

    def keys(self, slots: Ints) -> pl.DataFrame:
        """Return the columns of the keys of slots."""
        return self._index.keys(slots)

    def lane(self, slots: Ints) -> Ints:
        """Return the task of each slot."""
        return self._lane[slots]

    def of(self, slots: Ints) -> tuple[Ints, Ints]:
        """Return the numbers of the rows of slots, and the position in `slots` that each comes from."""
        which, numbers = self._lists.of(slots)
        if self._gone:
            alive = self._alive[numbers]
            which, numbers = which[alive], numbers[alive]
        return which, numbers

    def partials(self, numbers: Ints) -> pl.DataFrame:
        """Return the partial results of rows."""
        return self._partials.take(numbers)

    def add(self, slots: Ints, times: Ints, since: Ints, partials: pl.DataFrame) -> Ints:
        """Keep rows, and return their numbers."""
        numbers = self._put(slots, times, since, partials)
        self._fresh.append(numbers)
        return numbers

    def drop(self, numbers: Ints) -> None:
        """Forget rows; they are swept up once they are a third of all."""
        if len(numbers):
            self._bury(numbers[self._alive[numbers]])
            self._dead.append(numbers)
        if 2 * self._gone > self._live or len(self._index) > 2 * self._live + _FEW:
            self._sweep()

    def _bury(self, numbers: Ints) -> None:
        self._alive[numbers] = False
        self._live -= len(numbers)
        self._gone += len(numbers)

    def changes(self) -> Changes:
        """Return what changed since the last call."""
        numbers = np.concatenate([np.empty(0, np.int64), *self._fresh])
        numbers, self._fresh = numbers[self._alive[numbers]], []
        lanes = self._lane[self.slot[numbers]]
        put = dict(self._fold(int(lane), numbers[lanes == lane]) for lane in np.flatnonzero(np.bincount(lanes)))
        drop, self._dropped = self._dropped, []
        return Changes(put, drop)

    def load(self, name: str, frame: pl.DataFrame) -> Ints:
        """Take in a part of a run, and return the numbers of its rows."""
        lane = int(name.partition("/")[0])
        keys = pl.DataFrame([pl.Series(LANE, np.full(frame.height, lane)), *(frame[name] for name in self._by)])
        times, since = (frame[name].to_numpy() for name in (TIME, SINCE))
        numbers = self._put(self.slots(keys), times, since, frame.select(self._partials.schema.names()))
        runs = self._runs.setdefault(lane, [])
        if runs and runs[-1].name == name:
            runs[-1].numbers = np.concatenate([runs[-1].numbers, numbers])
        else:
            runs.append(_Run(name, numbers))
        return numbers

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        arrays = (self.slot, self.time, self.since, self._alive, self._lane, self._known)
        parts = (self._index, self._lists, self._partials)
        return sum(array.nbytes for array in arrays) + sum(part.estimated_size() for part in parts)

    def oldest(self) -> int | None:
        """Return the smallest event time."""
        times = self.time[self._alive]
        return int(times.min()) if len(times) else None

    def _put(self, slots: Ints, times: Ints, since: Ints, partials: pl.DataFrame) -> Ints:
        numbers = self._numbers(len(slots))
        self.slot[numbers], self.time[numbers], self.since[numbers], self._alive[numbers] = slots, times, since, True
        self._lists.add(slots, numbers)
        self._partials.put(numbers, partials)
        self._live += len(numbers)
        return numbers

    def _numbers(self, missing: int) -> Ints:
        """Give out numbers: free ones first."""
        parts: list[Ints] = []
        while missing and self._free:
            free, rest = np.split(self._free.pop(), [missing])
            self._free += [rest] if rest.size else []
            parts.append(free)
            missing -= len(free)
        parts.append(np.arange(self._given, self._given + missing))
        self._given += missing
        self.slot, self.time, self.since = (grown(a, self._given, 0) for a in (self.slot, self.time, self.since))
        self._alive = grown(self._alive, self._given, 0)
        return np.concatenate(parts)

    def _sweep(self) -> None:
        """Let go of what is dropped: its numbers may be given to other rows then."""
        self._fresh = [numbers[self._alive[numbers]] for numbers in self._fresh]
        for lane, runs in self._runs.items():
            for run in runs:
                run.numbers = run.numbers[self._alive[run.numbers]]
            self._dropped += [run.name for run in runs if not len(run.numbers)]
            self._runs[lane] = [run for run in runs if len(run.numbers)]
        self._lists.keep(self._alive)
        dead, self._dead, self._gone = np.concatenate([np.empty(0, np.int64), *self._dead]), [], 0
        self._partials.drop(dead[self._partials.has(dead)])
        self._free += [dead] if len(dead) else []
        slots = np.flatnonzero(self._known)
        empty = slots[~self._lists.has(slots)]
        if 2 * len(empty) > len(self._index) - len(empty):
            self._index.release(empty)
            self._known[empty] = False

    def _fold(self, lane: int, numbers: Ints) -> tuple[str, pl.DataFrame]:
        """Make one run of new rows, and of older runs that they outgrow; a large one stays as it is, for it will go whole."""
        runs = self._runs.setdefault(lane, [])
        large = max(sum(len(run.numbers) for run in runs) // _LARGE, _SMALL)
        while runs and len(runs[-1].numbers) < min(2 * len(numbers), large):
            older = runs.pop()
            self._dropped.append(older.name)
            numbers = np.concatenate([older.numbers[self._alive[older.numbers]], numbers])
        numbers = self._shared(numbers)
        self.sequence += 1
        run = _Run(f"{lane:05d}/{self.sequence:012d}", numbers)
        runs.append(run)
        return run.name, self._frame(numbers)

    def _shared(self, numbers: Ints) -> Ints:
        """Put rows of one key and time together in one of them, and return those that stay; the numbers of the others are free later."""
        whole = self.since[numbers] == 0
        mine = numbers[whole]
        near = Near(self.slot[mine], self.time[mine])
        begins = near.begins
        if self._combined is None or begins.all():
            return numbers
        mine, group = mine[near.order], np.cumsum(begins) - 1
        several = np.bincount(group)[group] > 1
        parts = self._combined(self._partials.take(mine[several]), group[several])
        self._bury(mine[~begins])
        self._partials.drop(mine[~begins])
        self._partials.put(mine[several & begins], parts)
        return np.concatenate([mine[begins], numbers[~whole]])

    def _frame(self, numbers: Ints) -> pl.DataFrame:
        keys = self._index.keys(self.slot[numbers])
        own: Sequence[pl.Series] = [pl.Series(TIME, self.time[numbers]), pl.Series(SINCE, self.since[numbers])]
        return pl.DataFrame([*(keys[name] for name in self._by), *own, *self._partials.take(numbers)])
