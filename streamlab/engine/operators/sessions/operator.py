"""Session windows: a row when a session closes, or its current row each time it changes.

What a micro-batch brings is put together with the open sessions that it may come to, and cut anew where nothing happened for longer than
the gap (`session_cut`). A session whose bounds changed is another window than before: its old row, which a reader has seen, is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE
from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.operators.sessions.cut import NONE, Cut, Horizon, Pieces, cut
from streamlab.engine.operators.sessions.open_sessions import OpenSessions, Sessions
from streamlab.engine.operators.shared.covering import times
from streamlab.engine.operators.shared.group_partials import GroupPartials
from streamlab.engine.stream_time import OPEN
from streamlab.plan.schema import WATERMARK, WINDOW_END, WINDOW_START
from streamlab.plan.windows import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate


class SessionWindows:
    """The operator: sessions by lane and key."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if not isinstance(step.window, Session):
            raise TypeError(f"{step.window} is no session window")
        self.name, self.gap, self.laned = step.name, step.window.gap, laned
        self.delay = step.window.gap + step.window.grace
        self._step = step
        self._partials = GroupPartials(step)
        lead = {LANE: pl.Int64()} if laned or not step.by else {}
        keys = pl.Schema({**lead, **{name: step.input.schema[name] for name in step.by}})
        self._open = OpenSessions(keys, self._partials.schema)
        self._before = np.empty(0, np.int64)  # by lane: sessions that end before it have closed
        self._arrived = 0
        self._none, self._no_late = empty(step.schema), _late(empty(step.input.schema), np.empty(0, np.int64))

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        self._before = watermarks.after - self.delay
        late, emitted, closed = self._no_late, self._none, []
        touched = np.empty(0, np.int64)
        if rows.height:
            lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
            keys = self._keys(rows.data, lane)
            touched, met, older = self._open.near(keys, rows.time, self.gap)
            old = self._open.take(met)
            found = self._cut(rows, lane, keys, old, watermarks)
            group = found.group[len(met) :]
            missed = group == NONE
            if missed.any():
                late = _late(rows.filter(missed), self._seen(rows, lane, np.flatnonzero(missed), watermarks))
            new = self._put_together(rows, lane, group, old, found)
            stays = new.last >= self._before[new.lane]
            self._replace((touched, older), met, found, new, stays)
            if self._step.is_table:
                emitted = self._changed(group, old, found, new)
            closed.append(new.where(~stays))
            self._arrived += rows.height
        closed.append(self._open.expire(self._before))
        if not self._step.is_table:
            emitted = self._final(closed)
        self._open.release(np.concatenate([touched, closed[-1].key]))
        return Output(emitted, late)

    def close(self) -> Rows:
        lanes = int(self._open.take(self._open.all()).lane.max(initial=0)) + 1
        rest = self._open.expire(np.full(lanes, OPEN))
        emitted = self._none if self._step.is_table else self._final([rest])
        self._open.release(rest.key)
        return emitted

    # --- rows to sessions ---

    def _keys(self, data: pl.DataFrame, lane: Ints) -> Ints:
        lead = [pl.Series(LANE, lane)] if self.laned or not self._step.by else []
        return self._open.keys(pl.DataFrame([*lead, *(data[name] for name in self._step.by)]))

    def _cut(self, rows: Rows, lane: Ints, keys: Ints, old: Sessions, watermarks: Merged | Laned) -> Cut:
        pieces = Pieces(
            np.concatenate([old.key, keys]),
            np.concatenate([old.first, rows.time]),
            np.concatenate([old.last, rows.time]),
            len(old.key),
        )
        after = self._before[lane]
        return cut(pieces, self.gap, Horizon(after, lambda at: self._seen(rows, lane, at, watermarks) - self.delay))

    def _seen(self, rows: Rows, lane: Ints, at: Ints, watermarks: Merged | Laned) -> Ints:
        """Return the watermark at the turn of some rows."""
        few = Rows(pl.DataFrame(), rows.time[at], rows.partition[at], rows.offset[at], rows.index[at])
        return watermarks.at(few, lane[at])

    def _put_together(self, rows: Rows, lane: Ints, group: Ints, old: Sessions, found: Cut) -> Sessions:
        """Return the sessions of a cut: what their rows make, and what is kept of the sessions that became part of them."""
        at = np.flatnonzero(group != NONE)
        data = rows.data if len(at) == rows.height else rows.data[at]
        fresh = self._partials.of(data, group[at], self._arrived + at)
        inside = found.group[: len(old.key)] != NONE
        held = old.where(inside)
        parts = self._partials.join(fresh, self._with_keys(held), found.group[: len(old.key)][inside])
        lanes = np.zeros(len(found.key), np.int64)
        lanes[group[at]] = lane[at]
        return Sessions(found.key, lanes, found.first, found.last, parts.select(self._partials.schema.names()))

    def _with_keys(self, sessions: Sessions) -> pl.DataFrame:
        """Return what is kept of sessions, with those grouping columns that an aggregation reads."""
        read = self._partials.by
        return sessions.kept.with_columns(self._open.columns(sessions.key).select(read)) if read else sessions.kept

    def _replace(self, keys: tuple[Ints, Ints], met: Ints, found: Cut, new: Sessions, stays: Bools) -> None:
        """Let sessions take the places of those that became part of them, as long as they are open."""
        group = found.group[: len(met)]
        inside = group != NONE
        slots = np.full(len(found.key), NONE)
        slots[group[inside]] = met[inside]
        slots[~stays] = NONE
        self._open.drop(met[inside][slots[group[inside]] != met[inside]])
        placed = self._open.put(new.where(stays), slots[stays])
        self._open.link(*keys, np.concatenate([met[~inside], placed]))

    # --- sessions to rows ---

    def _final(self, parts: Sequence[Sessions]) -> Rows:
        """Return the rows of sessions that have closed, in order of closing time, start and key."""
        parts = [part for part in parts if len(part.key)]
        if not parts:
            return self._none
        rows = self._rows(parts[0] if len(parts) == 1 else parts[0].and_(parts[1]))
        order = rows.data.select(pl.arg_sort_by(WINDOW_END, WINDOW_START, *self._step.by, pl.Series(rows.partition)))
        return rows.take(order.to_series().to_numpy())

    def _changed(self, group: Ints, old: Sessions, found: Cut, new: Sessions) -> Rows:
        """Return the rows of sessions as they last were in the batch, in that order, each after deletions of what they were before."""
        rows = self._rows(new)
        turn = np.zeros(len(new.key), np.int64)
        at = np.flatnonzero(group != NONE)
        turn[group[at]] = at  # of several the last one written stays
        into = found.group[: len(old.key)]
        inside = into != NONE
        old, into = old.where(inside), into[inside]
        moved = (old.first != new.first[into]) | (old.last != new.last[into])
        if not moved.any():
            return rows.take(np.argsort(turn))
        gone = old.where(moved)
        data = pl.concat([self._identity(gone), rows.data], how="diagonal").select(rows.data.columns)
        deleted = np.arange(data.height) < len(gone.key)
        made = np.full(data.height, MADE)
        time, lane = np.concatenate([gone.last, rows.time]), np.concatenate([gone.lane, rows.partition])
        turn = np.concatenate([turn[into[moved]], turn])
        return Rows(data, time, lane, made, made, deleted).take(np.lexsort((time, ~deleted, turn)))

    def _rows(self, sessions: Sessions) -> Rows:
        values = self._partials.values(self._with_keys(sessions))
        data = self._identity(sessions).hstack(values).select(self._step.schema.names())
        made = np.full(data.height, MADE)
        return Rows(data, sessions.last, sessions.lane, made, made)

    def _identity(self, sessions: Sessions) -> pl.DataFrame:
        """Return the columns that identify sessions."""
        keys = self._open.columns(sessions.key)
        bounds = times(WINDOW_START, sessions.first), times(WINDOW_END, sessions.last)
        return pl.DataFrame([*(keys[name] for name in self._step.by), *bounds])

    # --- state ---

    def changes(self) -> Changes:
        return Changes(*self._open.changes())

    def progress(self) -> Any:
        return {"runs": self._open.progress(), "arrived": self._arrived, "before": self._before.tolist()}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._arrived, self._before = progress["arrived"], np.array(progress["before"], np.int64)
        self._open.load(frames, progress["runs"], LANE if self.laned else None, self._before)

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        rows = self._rows(self._open.of(key))
        return rows.data.with_columns(pl.Series(LANE, rows.partition)).sort(WINDOW_START)

    def holding(self) -> Holding:
        count = len(self._open)
        return Holding(count, self._open.estimated_size(), count, self._open.oldest())


def _late(rows: Rows, watermark: Ints) -> Rows:
    """Return late rows with the bounds of the session that each would have been, alone, and the watermark that it missed it by."""
    bounds = (times(WINDOW_START, rows.time), times(WINDOW_END, rows.time), times(WATERMARK, watermark))
    return rows.with_data(rows.data.with_columns(bounds))
