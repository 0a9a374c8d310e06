"""Tumbling and hopping windows that emit one final row per group when they close.

State is partial results by pane: event time is cut where windows begin and where they end, so that every window is a number of whole
panes, and a record costs one row however many windows cover it. A tumbling window is one pane, a hopping one several that it shares
with its neighbours ("paired windows": Krishnamurthy, Wu and Franklin, "On-the-fly sharing for streamed aggregation", 2006).
A pane goes when the last window that covers it has closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, WINDOW, compile_aggregates
from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.held.panes import Panes
from streamlab.engine.held.slot_frame import own_texts
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.operators.shared.covering import Fixed, bounds, closed_by, covering, judge, panes_of, spread
from streamlab.engine.stream_time import NEVER, OPEN, grown
from streamlab.plan.aggregations import SEQUENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate

_AT_ONCE = 1_000_000
"""Rows from which on windows that close together are worked out one after the other."""


class FinalWindows:
    """The operator: groups by lane, window and key; emits when the watermark passes a window's end and grace."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if not isinstance(step.window, Fixed):
            raise TypeError(f"{step.window} is neither tumbling nor hopping")
        self.name, self.window, self.laned = step.name, step.window, laned
        self.delay = step.window.grace
        self._step = step
        self._lead = (LANE, WINDOW) if laned else (WINDOW,)
        shared = step.window.every < step.window.size  # panes of one window do not stand in order of arrival
        self._aggregates = compile_aggregates(step, (*self._lead, *step.by), sequenced=shared)
        self._of_one = compile_aggregates(step, step.by, sequenced=shared)  # the same, of a single window
        self._panes = Panes(self._aggregates.combine)
        self._closed = np.empty(0, np.int64)  # by lane: the newest start of a window that is closed
        self._arrived = 0

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
        judged = judge(rows, lane, self.window, watermarks)
        closed = self._closed_by(watermarks.after)
        # windows that close in this batch get its rows at once: their panes may have rows by then that came too late for them
        at, low = judged.closing, judged.since[judged.closing]
        which, starts = spread(low, np.minimum(closed[lane[at]], judged.last[at]), self.window.every)
        direct = self._split(rows, at[which], starts, lane) if len(which) else None
        emitted = self._emit(closed, direct)
        staying = np.flatnonzero(judged.last > closed[lane])
        if len(staying):
            self._append(self._split(rows, staying, panes_of(rows.time[staying], self.window), lane))
        self._arrived += rows.height
        return Output(emitted, judged.late, judged.reached)

    def close(self) -> Rows:
        before = self._closed
        rest = self._emit(np.full(max(self._panes.lanes(), default=-1) + 1, OPEN), None)
        self._closed = before
        return rest

    def _closed_by(self, watermark: Ints) -> Ints:
        """Return the newest start of a window that is closed, by lane; lanes may be known that have no watermark yet."""
        width = max(len(watermark), len(self._closed))
        return np.maximum(grown(closed_by(watermark, self.window), width, NEVER), grown(self._closed, width, NEVER))

    def _append(self, fresh: pl.DataFrame) -> None:
        for key, part in fresh.partition_by(self._lead, as_dict=True, maintain_order=True).items():
            lane, start = key if self.laned else (0, *key)
            self._panes.append(lane, start, part)

    def _split(self, rows: Rows, at: Ints, starts: Ints, lane: Ints) -> pl.DataFrame:
        """Return partial results of the rows at some positions, by the windows or panes that start then."""
        lead = [pl.Series(WINDOW, starts), *([pl.Series(LANE, lane[at])] if self.laned else [])]
        lead += [pl.Series(SEQUENCE, self._arrived + at)] if self._aggregates.sequenced else []
        columns = rows.data.select(*self._step.by, *self._aggregates.columns)
        if not columns.width:
            return self._aggregates.split(pl.DataFrame(lead))
        every = len(at) == rows.height and bool((np.diff(at) > 0).all())  # a copy less in most batches
        return own_texts(self._aggregates.split((columns if every else columns[at]).hstack(lead)))

    def _emit(self, closed: Ints, direct: pl.DataFrame | None) -> Rows:
        """Close the windows up to a start, by lane: from their panes, and from rows that go to them directly."""
        due = sorted(self._due(closed))
        alone = len(due) == 1 and direct is None and bool(self._step.by)
        found = [self._single(*due[0])] if alone else [self._finish(parts) for parts in self._closing(due, direct)]
        for one in self._panes.lanes():
            self._panes.drop(one, int(closed[one]) + self.window.every)
        self._closed = closed
        if not found:
            return empty(self._step.schema)
        values = found[0] if alone else pl.concat(found).sort(WINDOW, *self._step.by, *self._lead[:-1])
        starts = values[WINDOW].to_numpy()
        data = values.with_columns(bounds(starts, self.window)).select(self._step.schema.names())
        lane = values[LANE].to_numpy() if self.laned else np.zeros(len(starts), np.int64)
        made = np.full(len(starts), MADE, np.int64)
        return Rows(data, starts + (self.window.size - 1), lane, made, made)

    def _finish(self, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
        return self._aggregates.finish(self._aggregates.combine(parts))

    def _single(self, start: int, lane: int) -> pl.DataFrame:
        """Return the values of one window, sorted: it needs no telling apart, and sorting by less is faster."""
        panes = self._panes.starts(lane, start, start + self.window.size)
        parts = [part for pane in panes for part in self._panes.parts(lane, pane)]
        values = self._of_one.finish(self._of_one.combine(parts)).sort(self._step.by)
        return values.with_columns(pl.lit(start, pl.Int64).alias(WINDOW), pl.lit(lane, pl.Int64).alias(LANE))

    def _closing(self, due: Sequence[tuple[int, int]], direct: pl.DataFrame | None) -> Iterator[list[pl.DataFrame]]:
        """Yield the parts of windows that close, several windows at a time where they are small."""
        if direct is not None:
            held = pl.Series([start for start, _ in due], dtype=pl.Int64).implode()
            alone, direct = direct.filter(~pl.col(WINDOW).is_in(held)), direct.filter(pl.col(WINDOW).is_in(held))
            if alone.height:  # nothing is to be put to them
                yield [alone]
        parts: list[pl.DataFrame] = []
        rows, low = 0, NEVER
        for start, lane in due:
            if rows > _AT_ONCE and start > low:
                yield parts + _between(direct, low, start)
                parts, rows, low = [], 0, start
            for pane in self._panes.starts(lane, start, start + self.window.size):
                of_pane = self._panes.parts(lane, pane)
                parts += (
                    of_pane
                    if pane == start
                    else [p.with_columns(pl.lit(start, pl.Int64).alias(WINDOW)) for p in of_pane]
                )
                rows += sum(part.height for part in of_pane)
        parts += _between(direct, low, OPEN)
        if parts:
            yield parts

    def _due(self, closed: Ints) -> Iterator[tuple[int, int]]:
        """Yield start and lane of the windows that have panes, and that close now."""
        before = grown(self._closed, len(closed), NEVER)
        for lane in self._panes.lanes():
            if closed[lane] > before[lane]:
                panes = np.array(self._panes.starts(lane, None, int(closed[lane]) + self.window.size), np.int64)
                first, last = covering(panes, self.window)
                low = np.maximum(first, before[lane] + self.window.every)
                _, starts = spread(low, np.minimum(last, closed[lane]), self.window.every)
                for start in np.unique(starts).tolist():
                    yield start, lane

    def changes(self) -> Changes:
        return self._panes.changes()

    def progress(self) -> Any:
        return {"sequence": self._panes.sequence, "arrived": self._arrived, "closed": self._closed.tolist()}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._panes.sequence, self._arrived = progress["sequence"], progress["arrived"]
        self._closed = np.array(progress["closed"], np.int64)
        self._panes.load(frames)

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        found = [empty(self._step.schema).data.with_columns(pl.lit(0, pl.Int64).alias(LANE))]
        for start, lane in self._due(np.full(max(self._panes.lanes(), default=-1) + 1, OPEN)):
            panes = self._panes.starts(lane, start, start + self.window.size)
            parts = [of_keys(part, key) for pane in panes for part in self._panes.parts(lane, pane)]
            if any(part.height for part in parts):
                values = self._finish([part.with_columns(pl.lit(start, pl.Int64).alias(WINDOW)) for part in parts])
                values = values.with_columns(bounds(values[WINDOW].to_numpy(), self.window))
                found.append(values.with_columns(pl.lit(lane, pl.Int64).alias(LANE)).select(found[0].columns))
        return pl.concat(found)

    def holding(self) -> Holding:
        """Count the windows that are open, with the oldest of them."""
        windows, oldest = 0, None
        for lane in self._panes.lanes():
            first, last = covering(np.array(self._panes.starts(lane), np.int64), self.window)
            since = self._closed[lane] + self.window.every if lane < len(self._closed) else NEVER
            low = np.maximum(np.maximum(first, np.append(NEVER, last[:-1] + self.window.every)), since)
            windows += int(np.maximum((last - low) // self.window.every + 1, 0).sum())
            start = max(int(first[0]), int(since))
            oldest = start if oldest is None else min(start, oldest)
        rows, size = self._panes.size()
        return Holding(rows, size, windows, oldest)


def _between(parts: pl.DataFrame | None, low: int, high: int) -> list[pl.DataFrame]:
    """Return the part of windows that start in [low, high)."""
    if parts is None:
        return []
    found = parts.filter((pl.col(WINDOW) >= low) & (pl.col(WINDOW) < high))
    return [found] if found.height else []
