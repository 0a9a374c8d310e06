"""Sliding windows: one for each distinct set of rows of a key that are at most `size` apart.

A row at `t` has the window that ends with it, and one that begins right after it if that is not empty. So which windows there are, and
what is in them, follows from the rows alone: a window is worked out when it changes or closes, from the rows of its key between its bounds.
State is the rows, those of one key and time as one partial result; they go when no open window can need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE
from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.held.due import Due
from streamlab.engine.held.near import Near
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.operators.shared.covering import times
from streamlab.engine.operators.sliding.blocks import blocks
from streamlab.engine.operators.sliding.blocks import members as block_members
from streamlab.engine.operators.sliding.judge import Judged, closed_before, judge, left_end, none_late
from streamlab.engine.operators.sliding.partials import SlidingPartials
from streamlab.engine.operators.sliding.rows import SlidingRows
from streamlab.engine.operators.sliding.windows import Held, Windows, bounded, changed
from streamlab.engine.stream_time import NEVER, OPEN, grown
from streamlab.plan.schema import WINDOW_END, WINDOW_START
from streamlab.plan.windows import Sliding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate

BLOCKS_PAY = 8
"""In how many windows a row must be on average for it to pay that rows are put together in blocks first."""


class _Sliding:
    """What both modes share: which rows are kept, how they are put together, and when they go."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if not isinstance(step.window, Sliding):
            raise TypeError(f"{step.window} is no sliding window")
        self.name, self.window, self.laned = step.name, step.window, laned
        self.delay = step.window.grace
        self._step = step
        self._partials = SlidingPartials(step)
        keys = pl.Schema({LANE: pl.Int64(), **{name: step.input.schema[name] for name in step.by}})
        self._rows = SlidingRows(
            keys, self._partials.schema, None if self._partials.keeps_rows else self._partials.combined
        )
        self._leaving: dict[int, Due] = {}  # by task: rows, and the end of the window that begins right after each
        self._closed = np.full(1, NEVER, np.int64)  # by task: windows that end before are closed
        self._passed = self._closed  # by task: and were so before the batch
        self._arrivals = 0

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        late, reached, fresh = none_late(self._step.input.schema, self.window), None, np.empty(0, np.int64)
        if rows.height:
            judged = judge(rows, self.window, watermarks, self._rows, self._keys)
            late, reached = judged.late, judged.rows.index
            fresh = self._take(judged)
        self._passed, self._closed = self._closed, closed_before(watermarks.after, self.window)
        return Output(self._results(fresh), late, reached)

    def _keys(self, rows: Rows) -> pl.DataFrame:
        lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
        return pl.DataFrame([pl.Series(LANE, lane), *(rows.data[name] for name in self._step.by)])

    def _take(self, judged: Judged) -> Ints:
        """Keep rows as partial results, and return the numbers of these by key and time."""
        rows, near = judged.rows, Near(judged.slots, judged.rows.time)
        since, begins = judged.since[near.order], near.begins
        apart = np.full(rows.height, self._partials.keeps_rows) | (since > 0)
        begins |= apart
        begins[1:] |= apart[:-1]
        arrival = self._arrivals + near.order
        self._arrivals += rows.height
        parts = self._partials.split(rows.data[near.order], np.cumsum(begins) - 1, arrival)
        numbers = self._rows.add(near.key[begins], near.time[begins], since[begins], parts)
        self._watch(numbers)
        return numbers

    def _watch(self, numbers: Ints) -> None:
        """Take note of when rows are due."""
        self._put(self._leaving, numbers, self._rows.time[numbers] + (self.window.size + 1))

    def _put(self, dues: dict[int, Due], numbers: Ints, ends: Ints) -> None:
        if not len(numbers):
            return
        lanes = self._rows.lane(self._rows.slot[numbers])
        for lane in np.flatnonzero(np.bincount(lanes)):
            mine = lanes == lane
            dues.setdefault(int(lane), Due()).put(ends[mine], numbers[mine])

    def _taken(self, dues: dict[int, Due]) -> Ints:
        """Take off the rows for which a window has closed."""
        found = [due.take(int(self._closed[lane]))[1] for lane, due in dues.items() if lane < len(self._closed)]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _results(self, fresh: Ints) -> Rows:
        """Return what is to be emitted, and drop what no open window can need."""
        raise NotImplementedError

    def _held(self, slots: Ints, low: Ints, high: Ints) -> Held:
        """Return the rows of slots whose times are from `low` to `high`, which are given for each slot."""
        which, numbers = self._rows.of(slots)
        time = self._rows.time[numbers]
        inside = (time >= low[which]) & (time <= high[which])
        numbers = numbers[inside]
        near = Near(which[inside], time[inside])
        numbers = numbers[near.order]
        since = self._rows.since[numbers]
        if since.any():
            # a row that only misses windows closed before the batch is in all that are still to be worked out
            since = np.where(since <= self._closed_before_batch(slots)[near.key], 0, since)
        return Held(slots, near, numbers, since)

    def _closed_before_batch(self, slots: Ints) -> Ints:
        """Return for each slot before which end its windows were closed when the batch began."""
        lane, passed = self._rows.lane(slots), self._passed
        return np.where(lane < len(passed), passed[np.minimum(lane, len(passed) - 1)], NEVER)

    def _values(self, held: Held, windows: Windows) -> tuple[pl.DataFrame, Ints]:
        """Return the rows of windows that are not empty, tasks among the columns, and the newest event time in each."""
        values, newest = [self._partials.nothing], [np.empty(0, np.int64)]
        found = [np.empty(0, np.int64)]
        parts = self._rows.partials(held.numbers)
        if self._partials.spelled:
            parts = parts.hstack(self._rows.keys(held.slots[held.near.key]).select(self._partials.spelled))
        time = held.near.time
        members = windows.members(held.since)
        if windows.pairs > BLOCKS_PAY * len(time) and not self._partials.keeps_rows:
            parts, time = blocks(parts, held, self._partials.combined)
            members = block_members(windows, held.since)
        for which, at in members:
            values.append(self._partials.join(parts, which, at))
            first = np.flatnonzero(np.diff(which, prepend=-1))
            found.append(which[first])
            newest.append(np.maximum.reduceat(time[at], first) if len(first) else first)
        windows = windows.where(np.concatenate(found))
        keys = self._rows.keys(held.slots[windows.key])
        bounds = times(WINDOW_START, windows.start), times(WINDOW_END, windows.start + windows.size)
        return pl.concat(values).with_columns(*keys, *bounds), np.concatenate(newest)

    def _made(self, data: pl.DataFrame, time: Ints) -> Rows:
        made = np.full(data.height, MADE, np.int64)
        return Rows(data.select(self._step.schema.names()), time, data[LANE].to_numpy(), made, made)

    def changes(self) -> Changes:
        return self._rows.changes()

    def progress(self) -> Any:
        return {"sequence": self._rows.sequence, "arrivals": self._arrivals, "closed": self._closed.tolist()}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._rows.sequence, self._arrivals = progress["sequence"], progress["arrivals"]
        self._closed = np.array(progress["closed"], np.int64)
        numbers = np.concatenate([np.empty(0, np.int64), *(self._rows.load(name, frame) for name, frame in frames)])
        self._watch(numbers)
        self._rows.drop(self._taken(self._leaving))

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        slots = self._rows.find(key)
        rows = self._held(slots, np.full(len(slots), NEVER), np.full(len(slots), OPEN))
        nothing = empty(self._step.schema).data.with_columns(pl.lit(0, pl.Int64).alias(LANE))
        if not len(rows.numbers):
            return nothing
        data, _ = self._values(rows, changed(rows, np.ones(len(rows.numbers), np.bool_), self.window))
        lane = data[LANE].to_numpy()
        closed = grown(self._closed, int(lane.max(initial=0)) + 1, NEVER)[lane]
        still = data[WINDOW_END].dt.epoch("ms").to_numpy() >= closed
        return data.select(nothing.columns).filter(pl.Series(still)).sort(WINDOW_START)

    def holding(self) -> Holding:
        size = self._rows.estimated_size() + sum(due.estimated_size() for due in self._leaving.values())
        oldest = self._rows.oldest()
        start = None if oldest is None else int(left_end(np.array([oldest]), self.window)[0]) - self.window.size
        return Holding(len(self._rows), size, self._open(), start)

    def _open(self) -> int:
        """Return how many windows there are at most."""
        return sum(len(due) for due in self._leaving.values())


class FinalSliding(_Sliding):
    """The operator: one row per window and group, when the watermark passes the window's end and grace."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        super().__init__(step, laned=laned)
        self._ending: dict[int, Due] = {}  # by task: rows, and the end of their own window

    def _watch(self, numbers: Ints) -> None:
        super()._watch(numbers)
        numbers = numbers[self._rows.since[numbers] == 0]
        self._put(self._ending, numbers, left_end(self._rows.time[numbers], self.window))

    def _results(self, fresh: Ints) -> Rows:  # noqa: ARG002  # nothing is emitted for coming
        ending, leaving = self._taken(self._ending), self._taken(self._leaving)
        emitted = self._closing(ending, leaving)
        self._rows.drop(leaving)
        return emitted

    def _closing(self, ending: Ints, leaving: Ints) -> Rows:
        """Return the windows that end with some rows, and those that begin right after others."""
        if not len(ending) + len(leaving):
            return empty(self._step.schema)
        time, size = self._rows.time, self.window.size
        starts = np.concatenate([left_end(time[ending], self.window) - size, time[leaving] + 1])
        named = Near(self._rows.slot[np.concatenate([ending, leaving])], starts)
        begins = named.begins
        slots, start = named.key[begins], named.time[begins]
        first, last = _ends(slots)
        held = self._held(slots[first], start[first], start[last] + size)
        key = np.repeat(np.arange(len(first)), last - first + 1)
        data, _ = self._values(held, bounded(held, key, start, size))
        data = data.sort(WINDOW_START, *self._step.by, LANE)
        return self._made(data, data[WINDOW_END].cast(pl.Int64).to_numpy())

    def close(self) -> Rows:
        self._passed, self._closed = self._closed, np.full(max(self._leaving, default=0) + 1, OPEN, np.int64)
        return self._results(np.empty(0, np.int64))

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        super().load(frames, progress)
        self._taken(self._ending)

    def _open(self) -> int:
        return super()._open() + sum(len(due) for due in self._ending.values())


class SlidingUpdates(_Sliding):
    """The operator: the current row of each window and group that a micro-batch changed."""

    def _results(self, fresh: Ints) -> Rows:
        emitted = self._changed(fresh) if len(fresh) else empty(self._step.schema)
        self._rows.drop(self._taken(self._leaving))
        return emitted

    def _changed(self, fresh: Ints) -> Rows:
        slots, time, reach = self._rows.slot[fresh], self._rows.time[fresh], self.window.size + 1
        first, last = _ends(slots)
        held = self._held(slots[first], time[first] - reach, time[last] + reach)
        new = np.zeros(len(self._rows.time), np.bool_)
        new[fresh] = True
        windows = changed(held, new[held.numbers], self.window)
        open_then = windows.start + self.window.size >= self._closed_before_batch(held.slots)[windows.key]
        data, newest = self._values(held, windows.where(open_then))
        return self._made(data, newest)

    def close(self) -> Rows:
        return empty(self._step.schema)


def _ends(sorted_numbers: Ints) -> tuple[Ints, Ints]:
    """Return where each distinct number stands first and last."""
    return np.flatnonzero(np.diff(sorted_numbers, prepend=-1)), np.flatnonzero(np.diff(sorted_numbers, append=-1))
