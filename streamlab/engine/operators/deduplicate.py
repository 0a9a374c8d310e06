"""De-duplication: the first to arrive passes, and the rows of its key that are near it in time do not.

A row that passed is remembered until its time + within is before the watermark; one that was dropped is not, so it keeps nobody out.
Within a batch, who passes goes from row to row: in the order of time all rows are decided by jumps, doubled until all are done; where
rows came out of order, round by round, the first of each group of neighbours at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.batch import by_arrival, empty
from streamlab.engine.held.keyed_times import KeyedTimes, Side
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints, Rows
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.unique import Unique


class Deduplicate:
    """The operator: rows go through unchanged, or not at all."""

    delay = 0

    def __init__(self, step: Unique, *, laned: bool) -> None:
        self.name, self.laned = step.name, laned
        self._schema, self._within = step.schema, step.within
        keys = pl.Schema({name: step.schema[name] for name in step.subset})
        self._passed = Side("passed", keys, step.subset, step.within or 0, indexed=step.within is not None)
        self._held = KeyedTimes(keys, self._passed)
        self._watermark = np.empty(0, np.int64)  # of each lane, last
        self._known = 0  # keys that were seen, where they are remembered for ever

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        rows, self._watermark = by_arrival(inputs[0]), watermarks.after
        emitted = rows
        if rows.height:
            lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
            keys = rows.data.select(self._passed.keys)
            (slot,) = self._held.slots([(keys, lane, np.ones(rows.height, np.bool_))], insert=True)
            turns = Turns(watermarks, rows.index, lane)
            passes = self._first(slot) if self._within is None else self._near(rows.time, slot, turns)
            number = self._passed.rows.append(keys, rows.time, lane, slot)
            stays = np.flatnonzero(passes & (slot >= 0))
            self._held.keep(self._passed, stays, rows.time, lane)
            if self._passed.indexed:
                self._passed.index.add(slot[stays], rows.time[stays], number[stays])
            emitted = rows.filter(passes)
        if self._within is not None:
            self._held.sweep(watermarks.after)
        return Output(emitted, empty(self._schema))

    def _first(self, slot: Ints) -> Bools:
        """Return which rows are the first of their key ever: new keys have new slots."""
        passes = slot < 0
        new = np.flatnonzero(slot >= self._known)
        passes[new[np.unique(slot[new], return_index=True)[1]]] = True
        self._known = max(self._known, int(slot.max()) + 1)
        return passes

    def _near(self, times: Ints, slot: Ints, turns: Turns) -> Bools:
        """Return which rows have no remembered row of their key near them, and none that passes in this batch before them."""
        within, passes, known = self._within or 0, slot < 0, np.zeros(len(slot), np.bool_)
        todo = np.flatnonzero(slot >= 0)
        todo = todo[np.lexsort((times[todo], slot[todo]))]
        asked, _, held = self._passed.index.between(slot[todo], times[todo] - within, times[todo] + within)
        at = todo[asked]
        known[at[~turns.passed(held + within, at)]] = True
        todo = todo[~known[todo]]
        group = _neighbours(slot[todo], times[todo], within)
        alone = np.bincount(group, minlength=1)[group] == 1
        passes[todo[alone]] = True
        todo, group = todo[~alone], group[~alone]
        if len(todo):
            passes[todo] = _among(todo, group, times[todo], turns, within)
        return passes

    def close(self) -> Rows:
        return empty(self._schema)

    def changes(self) -> Changes:
        return self._held.changes()

    def progress(self) -> Any:
        return self._held.progress()

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._held.load(frames, progress)
        if self._within is None:
            for block in self._passed.rows.blocks:
                (slot,) = self._held.slots([(block.data, block.lane, block.time >= 0)], insert=True)
                self._known = max(self._known, int(slot.max()) + 1)

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        forever = self._within is None
        return self._held.held(key, np.empty(0, np.int64) if forever else self._watermark)

    def holding(self) -> Holding:
        return self._held.holding()


def _neighbours(slot: Ints, time: Ints, within: int) -> Ints:
    """Return numbers of groups of rows, sorted by slot and time, between which nothing can be near."""
    begins = np.ones(len(slot), np.bool_)
    begins[1:] = (slot[1:] != slot[:-1]) | (time[1:] - time[:-1] > within)
    return np.cumsum(begins) - 1


def _among(row: Ints, group: Ints, time: Ints, turns: Turns, within: int) -> Bools:
    """Return which rows pass, by group, time and order of arrival: in groups of neighbours of which none is remembered."""
    passes = np.zeros(len(row), np.bool_)
    hard = np.zeros(int(group[-1]) + 1, np.bool_)
    hard[group[turns.passed(time, row)]] = True  # a row so far behind may be near one that is forgotten
    hard[group[1:][(group[1:] == group[:-1]) & (row[1:] < row[:-1])]] = True
    easy = ~hard[group]
    passes[easy] = in_order(group[easy], time[easy], within)
    rest = np.flatnonzero(~easy)
    if len(rest):
        rest = rest[np.lexsort((row[rest], group[rest]))]
        passes[rest] = by_rounds(group[rest], time[rest], turns.watermark[row[rest]], within)
    return passes


def in_order(group: Ints, time: Ints, within: int) -> Bools:
    """Return which rows pass, by group and time, where each group came in the order of time.

    From a row that passes the next is the first that is too far from it; these jumps are doubled until all are done.

    Examples
    --------
    >>> in_order(np.array([0, 0, 0, 0]), np.array([1, 2, 3, 4]), within=1).tolist()
    [True, False, True, False]
    """
    passes = np.zeros(len(group) + 1, np.bool_)
    if not len(group):
        return passes[:-1]
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(begins[1:], len(group))
    sizes = ends - begins
    # times of one group after those of another, further apart than `within`
    spans = time[ends - 1] - time[begins] + within + 1
    line = time + np.repeat(np.cumsum(spans) - spans - time[begins], sizes)
    jump = np.searchsorted(line, line + within, side="right")
    jump = np.append(np.where(jump < np.repeat(ends, sizes), jump, len(group)), len(group))
    passes[begins] = True
    reach = begins
    while len(reach):
        fresh = jump[np.flatnonzero(passes)]
        reach = fresh[~passes[fresh]]
        passes[fresh] = True
        jump = jump[jump]
    return passes[:-1]


def by_rounds(group: Ints, time: Ints, watermark: Ints, within: int) -> Bools:
    """Return which rows pass, by group and order of arrival; `watermark` is the one at each row's turn.

    Examples
    --------
    >>> by_rounds(np.array([0, 0, 0]), np.array([5, 4, 9]), np.array([0, 0, 0]), within=1).tolist()
    [True, False, True]
    """
    passes = np.zeros(len(group), np.bool_)
    left = np.arange(len(group))
    while len(left):
        begins = np.flatnonzero(np.diff(group[left], prepend=-1))
        first = left[begins]
        passes[first] = True
        of = np.repeat(time[first], np.diff(begins, append=len(left)))
        near = (np.abs(time[left] - of) <= within) & (of + within >= watermark[left])
        near[begins] = True
        left = left[~near]
    return passes
