"""The as-of join of two streams: left rows wait for their time, then come in the order of time.

A left row waits until its time + grace is before the watermark of both sides: then every right row up to its time is there that is out
of order by no more than the grace. Right rows are held until tolerance + grace is over. A left row for which it is too late already when
it comes (its time + grace is before the watermark) is late; so is a right row that no left row can need any more. A right row that comes
after left rows that it belongs to have gone is seen by those that still wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.batch import Rows, by_arrival, concat, empty
from streamlab.engine.held.keyed_times import KeyedTimes, Side, counted
from streamlab.engine.held.time_index import TimeIndex
from streamlab.engine.held.timed_rows import TimedRows
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.operators.shared.join_rows import beside, late_rows, no_late, put, taken
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.engine.turns import END, Turns, made_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.held.due import Due
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.join_asof import AsofJoin as Step

_NONE = np.empty(0, np.int64)


class AsofJoin:
    """The operator: left rows that wait, right rows by key and time."""

    def __init__(self, step: Step, *, laned: bool) -> None:
        self.name, self.laned, self.delay = step.name, laned, step.grace
        self._step = step
        self._left = TimedRows(step.left.schema, "left")
        self._right = Side("right", step.right.schema, step.by.right, step.reach)
        self._held = KeyedTimes(pl.Schema({name: step.left.schema[name] for name in step.by.left}), self._right)
        self._due: dict[int, Due] = {}  # by lane: times of left rows and their numbers
        self._watermark = np.full(1, NEVER, np.int64)
        self._no_late = no_late(step.schema)

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        self._watermark = watermarks.after
        left, right = (by_arrival(rows) for rows in inputs)
        ours, theirs = (Turns(watermarks, rows.index, self._lane(rows)) for rows in (left, right))
        late = [self._take_left(left, ours)]
        stragglers, missed = self._take_right(right, theirs)
        late = [rows for rows in (*late, missed) if rows.height]
        time, number, lane = taken(self._due, watermarks.after - self._step.grace)
        emitted = self._joined(number, time, lane, ours.moments(time + self._step.grace, lane), stragglers)
        stragglers.settle(self._right.index)
        self._forget(watermarks.after)
        return Output(emitted, concat(late, self._no_late.data.schema) if late else self._no_late)

    # --- what came ---

    def _lane(self, rows: Rows) -> Ints:
        return rows.partition if self.laned else np.zeros(rows.height, np.int64)

    def _take_left(self, rows: Rows, turns: Turns) -> Rows:
        """Let left rows wait, and return those that are late."""
        lane, turn = turns.lane, np.arange(rows.height)
        late = turns.passed(rows.time + self._step.grace, turn)
        number = self._left.append(rows.data, rows.time, lane)
        self._left.settle(~late)
        put(self._due, rows.time[~late], number[~late], lane[~late])
        if not late.any():
            return self._no_late
        gone = rows.filter(late)
        nulls = pl.DataFrame(schema=self._step.right.schema).clear(gone.height)
        data = self._beside(gone.data, nulls, np.ones(gone.height, np.bool_))
        return late_rows(gone, data, self._step.tolerance, 0, turns.watermark[late])

    def _take_right(self, rows: Rows, turns: Turns) -> tuple[_Stragglers, Rows]:
        """Keep right rows and return those that came out of order by more than the grace, and those that are late."""
        step, lane, turn = self._step, turns.lane, np.arange(rows.height)
        behind = turns.passed(rows.time + step.grace, turn)
        late = behind & turns.passed(rows.time + step.reach, turn)
        (slots,) = self._held.slots([(rows.data.select(step.by.right), lane, ~late)], insert=True)
        number = self._right.rows.append(rows.data, rows.time, lane, slots)
        self._held.keep(self._right, np.flatnonzero(slots >= 0), rows.time, lane)
        now = np.flatnonzero((slots >= 0) & ~behind)
        self._right.index.add(slots[now], rows.time[now], number[now])
        after = behind & (slots >= 0)
        stragglers = _Stragglers(slots[after], rows.time[after], number[after], rows.index[after])
        if not late.any():
            return stragglers, self._no_late
        gone = rows.filter(late)
        nulls = pl.DataFrame(schema=step.left.schema).clear(gone.height)
        data = self._beside(nulls, gone.data, np.zeros(gone.height, np.bool_))
        missed = late_rows(gone, data, 0, step.tolerance, turns.watermark[late])
        return stragglers, missed

    # --- results ---

    def _joined(self, number: Ints, time: Ints, lane: Ints, moment: Ints, stragglers: _Stragglers) -> Rows:
        """Return left rows with their right rows, by the moment that they were due, then by time."""
        if not len(number):
            return empty(self._step.schema)
        order = np.lexsort((number, time, lane, moment))
        number, time, lane, moment = (values[order] for values in (number, time, lane, moment))
        rows = self._left.take(number)
        (slot,) = self._held.slots([(rows.select(self._step.by.left), lane, time >= 0)], insert=False)
        at = np.flatnonzero(slot >= 0)
        oldest = time[at] - self._step.tolerance
        newest, when = self._right.index.latest(slot[at], oldest, time[at])
        stragglers.overtake(newest, when, (slot[at], oldest, time[at], moment[at]))
        matches = np.full(len(number), -1)
        matches[at] = newest
        data = self._beside(rows, self._right.rows.take(matches), np.ones(len(number), np.bool_))
        return Rows(data, time, lane, np.full(len(number), -1, np.int64), made_at(moment))

    def _beside(self, left: pl.DataFrame, right: pl.DataFrame, there: Bools) -> pl.DataFrame:
        return beside(left, right, there, self._step.same.pairs(), self._step.added)

    def close(self) -> Rows:
        forever = np.full(max([*self._due, 0]) + 1, OPEN, np.int64)
        time, number, lane = taken(self._due, forever)
        none = _Stragglers(_NONE, _NONE, _NONE, _NONE)
        return self._joined(number, time, lane, np.full(len(number), END), none)

    # --- state ---

    def _forget(self, watermark: Ints) -> None:
        """Drop what no left row needs any more, and left rows that have gone."""
        self._held.sweep(watermark)
        waiting = sum(len(due) for due in self._due.values())
        if len(self._left) > 2 * waiting:
            lanes = max([len(watermark), *(int(block.lane.max()) + 1 for block in self._left.blocks)])
            oldest = np.full(lanes, NEVER, np.int64)
            oldest[: len(watermark)] = watermark - self._step.grace
            self._left.drop_before(oldest)

    def changes(self) -> Changes:
        right = self._held.changes()
        put, drop = self._left.changes()
        return Changes({**right.put, **put}, [*right.drop, *drop])

    def progress(self) -> Any:
        return {
            "left": self._left.progress(),
            "right": self._held.progress(),
            "watermark": self._watermark.tolist(),
        }

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        frames = list(frames)
        self._held.load(frames, progress["right"])
        self._left.load([(name, frame) for name, frame in frames if name.startswith("left-")], progress["left"])
        self._watermark = np.array(progress["watermark"], np.int64)
        for block in self._left.blocks:
            waits = block.time + self._step.grace >= self._watermark[block.lane]
            put(self._due, block.time[waits], block.number[waits], block.lane[waits])

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        waiting = Side("left", self._step.left.schema, self._step.by.left, self._step.grace)
        waiting.rows = self._left
        return counted(self._step.by.left, (waiting, self._right), key, self._watermark)

    def holding(self) -> Holding:
        held = self._held.holding()
        oldest = min((int(block.time.min()) for block in self._left.blocks), default=None)
        times = [at for at in (held.oldest, oldest) if at is not None]
        return Holding(
            held.rows + len(self._left), held.bytes + self._left.estimated_size(), 0, min(times, default=None)
        )


class _Stragglers:
    """Right rows of a batch that came out of order by more than the grace: seen only by left rows that go after they came."""

    def __init__(self, slot: Ints, time: Ints, number: Ints, index: Ints) -> None:
        self._slot, self._time, self._number, self._index = slot, time, number, index

    def overtake(self, newest: Ints, when: Ints, asked: tuple[Ints, Ints, Ints, Ints]) -> None:
        """Put those in that are newer than what was found: `asked` is slot, oldest and newest time, and moment of each left row."""
        if not len(self._slot) or not len(newest):
            return
        slot, oldest, latest, moment = asked
        index = TimeIndex()
        index.add(self._slot, self._time, np.arange(len(self._slot)))
        row, at, times = index.between(slot, oldest, latest)
        there = self._index[at] < moment[row]
        row, at, times = row[there], at[there], times[there]
        number = self._number[at]
        better = (times > when[row]) | ((times == when[row]) & (number > newest[row]))
        row, times, number = row[better], times[better], number[better]
        order = np.lexsort((number, times, row))  # the last of each left row wins
        newest[row[order]], when[row[order]] = number[order], times[order]

    def settle(self, index: TimeIndex) -> None:
        """Let all that comes from now on see them."""
        index.add(self._slot, self._time, self._number)
