"""Tumbling windows that emit one final row per group when they close.

State is, per lane and window, a list of partial results in order of arrival: appending is all that a record costs. Parts are combined
when they outgrow older ones, like the levels of an LSM tree, so that the work per record does not grow with the keys held. A closed
window is dropped whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, WINDOW, Aggregates, compile_aggregates
from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.slot_frame import own_texts
from streamlab.engine.stream_time import NEVER
from streamlab.plan.schema import TIME as TIME_TYPE
from streamlab.plan.schema import WATERMARK, WINDOW_END, WINDOW_START
from streamlab.plan.windows import Tumbling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate

_MANY_ROWS = 50_000
"""Fewer appended rows than this are not worth combining between two checkpoints."""


@dataclass(slots=True)
class _Window:
    """Partial results of one window, in order of arrival: those in the last checkpoint by name, and those since."""

    kept: dict[str, pl.DataFrame] = field(default_factory=dict)
    fresh: list[pl.DataFrame] = field(default_factory=list)
    fresh_rows: int = 0
    combined_rows: int = 0

    def parts(self) -> list[pl.DataFrame]:
        return [*self.kept.values(), *self.fresh]


def starts_of(time: Ints, window: Tumbling) -> Ints:
    """Return the start of each time's window, unclipped at 1970.

    Examples
    --------
    >>> from streamlab.plan.windows import tumbling
    >>> starts_of(np.array([0, 59_999, 60_000]), tumbling("1m")).tolist()
    [0, 0, 60000]
    """
    return (time - window.offset) // window.size * window.size + window.offset


def judge_late(
    rows: Rows, starts: Ints, lane: Ints, window: Tumbling, watermarks: Merged | Laned
) -> tuple[Bools, Ints]:
    """Return which rows miss their window, and the watermarks at those: the end of the batch is asked first."""
    deadline = starts + (window.size + window.grace)
    late = deadline <= watermarks.after[lane]
    if not late.any():
        return late, np.empty(0, np.int64)
    suspects = np.flatnonzero(late)
    reached = watermarks.at(rows.take(suspects), lane[suspects])
    missed = deadline[suspects] <= reached
    late[suspects] = missed
    return late, reached[missed]


def late_rows(rows: Rows, starts: Ints, window: Tumbling, reached: Ints) -> Rows:
    """Return late rows with the bounds of the window that they missed and the watermark that they missed it by."""
    bounds = [
        times(WINDOW_START, np.maximum(starts, 0)),
        times(WINDOW_END, starts + window.size),
        times(WATERMARK, reached),
    ]
    return rows.with_data(rows.data.with_columns(bounds))


def times(name: str, values: Ints) -> pl.Series:
    """Return milliseconds as a column of event times."""
    return pl.Series(name, values, pl.Int64).cast(TIME_TYPE)


class FinalWindows:
    """The operator: groups by lane, window and key; emits when the watermark passes a window's end and grace."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if not isinstance(step.window, Tumbling):
            raise TypeError(f"{step.window} is no tumbling window")
        self.name, self.window, self.laned = step.name, step.window, laned
        self.delay = step.window.grace
        self._step = step
        self._lead = (LANE, WINDOW) if laned else (WINDOW,)
        self._aggregates: Aggregates = compile_aggregates(step, (*self._lead, *step.by))
        self._open: dict[tuple[int, int], _Window] = {}
        self._due: dict[int, list[int]] = {}  # lane -> heap of starts of open windows
        self._dropped: list[str] = []
        self._sequence = 0
        self._no_late = late_rows(empty(step.input.schema), np.empty(0, np.int64), self.window, np.empty(0, np.int64))

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        late, fresh = self._no_late, None
        if rows.height:
            starts = starts_of(rows.time, self.window)
            lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
            missed, reached = judge_late(rows, starts, lane, self.window, watermarks)
            if missed.any():
                late = late_rows(rows.filter(missed), starts[missed], self.window, reached)
                rows, starts, lane = rows.filter(~missed), starts[~missed], lane[~missed]
            if rows.height:
                fresh = self._split(rows, starts, lane)
        return Output(self._advance(fresh, watermarks.after), late)

    def close(self) -> Rows:
        everything = list(self._open)
        self._due.clear()
        return self._emit(everything, None)

    def _split(self, rows: Rows, starts: Ints, lane: Ints) -> pl.DataFrame:
        lead = [pl.Series(WINDOW, starts), *([pl.Series(LANE, lane)] if self.laned else [])]
        columns = [*self._step.by, *self._aggregates.columns]
        data = rows.data.select(columns).with_columns(lead) if columns else pl.DataFrame(lead)
        return own_texts(self._aggregates.split(data))

    def _advance(self, fresh: pl.DataFrame | None, after: Ints) -> Rows:
        """Close what the watermark has passed; what stays open is put with its window."""
        closing = list(self._closing(after))
        done = None
        if fresh is not None:
            lane = fresh[LANE].to_numpy() if self.laned else np.zeros(fresh.height, np.int64)
            passed = fresh[WINDOW].to_numpy() + (self.window.size + self.window.grace) <= after[lane]
            if passed.any():
                done = fresh.filter(pl.Series(passed))
                fresh = fresh.filter(pl.Series(~passed))
            self._append(fresh)
        return self._emit(closing, done)

    def _closing(self, after: Ints) -> Iterator[tuple[int, int]]:
        """Take the open windows that the watermark has passed off the heaps."""
        for lane, starts in self._due.items():
            passed = int(after[lane]) - self.window.size - self.window.grace if lane < len(after) else NEVER
            while starts and starts[0] <= passed:
                yield lane, heappop(starts)

    def _append(self, fresh: pl.DataFrame) -> None:
        for key, part in fresh.partition_by(self._lead, as_dict=True, maintain_order=True).items():
            lane, start = key if self.laned else (0, *key)
            window = self._window(lane, start)
            window.fresh.append(part)
            window.fresh_rows += part.height
            if window.fresh_rows > 2 * max(_MANY_ROWS, window.combined_rows):
                window.fresh = [self._aggregates.combine(window.fresh)]
                window.fresh_rows = window.combined_rows = window.fresh[0].height

    def _window(self, lane: int, start: int) -> _Window:
        if (lane, start) not in self._open:
            self._open[lane, start] = _Window()
            heappush(self._due.setdefault(lane, []), start)
        return self._open[lane, start]

    def _emit(self, closing: Sequence[tuple[int, int]], done: pl.DataFrame | None) -> Rows:
        parts: list[pl.DataFrame] = []
        for key in closing:
            window = self._open.pop(key)
            self._dropped += window.kept
            parts += window.parts()
        parts += [] if done is None else [done]
        if not parts:
            return empty(self._step.schema)
        return self._results(self._aggregates.finish(self._aggregates.combine(parts)))

    def _results(self, values: pl.DataFrame) -> Rows:
        values = values.sort(WINDOW, *self._step.by, *self._lead[:-1])
        starts = values[WINDOW].to_numpy()
        ends = starts + self.window.size
        data = values.with_columns(times(WINDOW_START, np.maximum(starts, 0)), times(WINDOW_END, ends))
        lane = values[LANE].to_numpy() if self.laned else np.zeros(len(ends), np.int64)
        made = np.full(len(ends), MADE, np.int64)
        return Rows(data.select(self._step.schema.names()), ends - 1, lane, made, made)

    def changes(self) -> Changes:
        put = {f"{lane:05d}/{start:015d}": window for (lane, start), window in self._open.items() if window.fresh}
        frames = dict(self._fold(place, window) for place, window in put.items())
        drop, self._dropped = self._dropped, []
        return Changes(frames, drop)

    def _fold(self, place: str, window: _Window) -> tuple[str, pl.DataFrame]:
        """Make one named frame of what is fresh, and of older frames that it outgrows: a logarithmic number of them stays."""
        part = self._aggregates.combine(window.fresh)
        while window.kept and next(reversed(window.kept.values())).height < 2 * part.height:
            name, older = window.kept.popitem()
            part = self._aggregates.combine([older, part])
            self._dropped.append(name)
        self._sequence += 1
        name = f"{place}/{self._sequence:012d}"
        window.kept[name] = part
        window.fresh, window.fresh_rows, window.combined_rows = [], 0, 0
        return name, part

    def progress(self) -> Any:
        return {"sequence": self._sequence}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._sequence = progress["sequence"]
        for name, frame in frames:
            lane, start, _ = name.split("/")
            kept = self._window(int(lane), int(start)).kept
            kept[name] = pl.concat([kept[name], frame]) if name in kept else frame

    def holding(self) -> Holding:
        frames = [part for window in self._open.values() for part in window.parts()]
        oldest = min((start for _, start in self._open), default=None)
        size = int(sum(frame.estimated_size() for frame in frames))
        return Holding(sum(frame.height for frame in frames), size, len(self._open), oldest)
