"""Two tables joined by their key: whenever a row of either changes, the row that both make together.

State is one row per key, with the columns of both sides. Every change emits, also those within a micro-batch, so results do not depend on
how the input is cut. Within a batch, changes are sorted by key and arrival; what each side had at each of them is the last change of that
side at or before it, else what the state holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE
from streamlab.engine.batch import MADE, Rows, concat, empty
from streamlab.engine.held.keyed_rows import KeyedRows
from streamlab.engine.held.runs import named
from streamlab.engine.held.slot_frame import rows_at
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.operators.shared.both_sides import Course, Events, Side
from streamlab.engine.operators.shared.horizon import Horizons, lanes_of_keys
from streamlab.engine.stream_time import NEVER
from streamlab.plan.schema import RESERVED, WINDOW_END

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.join_tables import JoinTables

_SLACK = 256  # rows that are not worth a cleaning


class TablesJoin:
    """The operator: either side emits; a deletion is emitted only where there was a result."""

    delay = 0

    def __init__(self, step: JoinTables, *, laned: bool) -> None:
        self.name, self._laned, self._step = step.name, laned, step
        by, schema = step.by, step.left.schema
        lane = {LANE: pl.Int64()} if laned else {}
        self._keys = pl.Schema({**lane, **{name: schema[name] for name in by.left}})
        self._sides = tuple(
            Side(
                number,
                {name: f"{RESERVED}{letter}_{name}" for name in node.schema if name not in names},
                f"{RESERVED}{letter}time",
                f"{RESERVED}{letter}there",
                history,
            )
            for number, (letter, node, names, history) in enumerate(
                zip("lr", step.inputs, (by.left, by.right), step.histories, strict=True)
            )
        )
        values = {
            side.names[name]: node.schema[name]
            for side, node in zip(self._sides, step.inputs, strict=True)
            for name in side.names
        }
        self._rows = KeyedRows(self._keys, pl.Schema({**values, **self._sides[0].schema, **self._sides[1].schema}))
        self._cleaned = 0  # rows there were after the last cleaning

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        none = empty(self._step.schema)
        events, made = self._events(inputs), [none]
        while (cut := self._conflict(events, watermarks)) is not None:
            made.append(self._changed(events.filter(events.turn < cut), watermarks))
            events = events.filter(events.turn >= cut)
        made.append(self._changed(events, watermarks))
        self._clean(watermarks.after)
        return Output(concat(made, self._step.schema), none)

    def close(self) -> Rows:
        return empty(self._step.schema)

    # --- changes of both sides ---

    def _events(self, inputs: Sequence[Rows]) -> Events:
        keys, values, kept = [], [], []
        for given, names, side in zip(inputs, (self._step.by.left, self._step.by.right), self._sides, strict=True):
            null = given.data.select(pl.any_horizontal(pl.col(list(names)).is_null())).to_series().to_numpy()
            rows = given.filter(~null)
            lane = [pl.Series(LANE, rows.partition)] if self._laned else []
            told = [rows.data[name].alias(key) for name, key in zip(names, self._step.by.left, strict=True)]
            keys.append(pl.DataFrame([*lane, *told]))
            values.append(rows.data.select(pl.col(name).alias(own) for name, own in side.names.items()))
            kept.append(rows)
        deleted = [np.zeros(rows.height, np.bool_) if rows.deleted is None else rows.deleted for rows in kept]
        time, turn, partition, offset = (
            np.concatenate([getattr(rows, at) for rows in kept]) for at in ("time", "index", "partition", "offset")
        )
        return Events(
            keys=pl.concat(keys),
            values=(values[0], values[1]),
            side=np.repeat([0, 1], [rows.height for rows in kept]),
            place=np.concatenate([np.arange(rows.height) for rows in kept]),
            time=time,
            turn=turn,
            partition=partition,
            offset=offset,
            deleted=np.concatenate(deleted),
        )

    def _changed(self, events: Events, watermarks: Merged | Laned) -> Rows:
        """Take in changes, and return what they make."""
        if not events.height:
            return empty(self._step.schema)
        slots = self._rows.slots_of(events.keys, insert=True)
        if any(self._step.histories):
            counts = self._in_order(events, slots, watermarks)
            events, slots = events.filter(counts), slots[counts]
            if not events.height:
                return empty(self._step.schema)
        order = np.lexsort((np.arange(len(slots)), events.turn, slots))
        begins = np.append(True, np.diff(slots[order]) != 0)[: len(order)]
        group = np.cumsum(begins) - 1
        firsts = np.flatnonzero(begins)
        held = self._rows.get_slots(slots[order][firsts])
        courses = tuple(self._course(side, events, order, firsts[group], held, group) for side in self._sides)
        made = self._results(events, order, held, group, courses)
        self._keep(slots[order], np.append(firsts[1:], len(order)) - 1, held, events, courses)
        return made

    def _course(self, side: Side, events: Events, order: Ints, first: Ints, held: pl.DataFrame, group: Ints) -> Course:
        """Follow one side along the changes, which are sorted by key and arrival; `first` is where the changes of a key begin."""
        mine = events.side[order] == side.number
        at = np.maximum.accumulate(np.where(mine, np.arange(len(order)), -1))
        before = np.append(-1, at)[: len(order)]
        there = held[side.there].fill_null(value=False).to_numpy()[group]
        deleted, known = events.deleted[order], at >= first
        now = np.where(known, ~deleted[at], there)
        was = np.where(before >= first, ~deleted[before], there)
        time = np.where(known, events.time[order][at], held[side.time].fill_null(NEVER).to_numpy()[group])
        return Course(np.where(known, events.place[order][at], -1), now, was, time)

    def _results(self, events: Events, order: Ints, held: pl.DataFrame, group: Ints, courses: Sequence[Course]) -> Rows:
        left, right = courses
        side, deleted = events.side[order], events.deleted[order]
        nothing = deleted & ~np.where(side == 0, left.was, right.was)  # what is deleted was not there
        existed, exists = self._exist(left.was, right.was), self._exist(left.there, right.there)
        emits = np.flatnonzero((existed | exists) & ~nothing)
        emits = emits[np.lexsort((order[emits], events.turn[order[emits]]))]
        gone = ~exists[emits]
        own, others = events.time[order], np.where(side == 0, right.time, left.time)
        other = np.where(side == 0, right.there, left.there)
        time = np.where(other, np.maximum(own, others), own)[emits]
        values = [
            self._values(which, events, held, group[emits], course.take(emits), gone)
            for which, course in zip(self._sides, courses, strict=True)
        ]
        values[1] = values[1].rename(self._step.added)
        data = rows_at(events.keys, order[emits]).hstack(values[0]).hstack(values[1]).select(self._step.schema.names())
        partition, offset, index = (at[order[emits]] for at in (events.partition, events.offset, events.turn))
        return Rows(data, time, partition, offset, index, gone if gone.any() else None)

    def _values(
        self, side: Side, events: Events, held: pl.DataFrame, group: Ints, course: Course, gone: Bools
    ) -> pl.DataFrame:
        """Return the columns of one side for results, by the table's names; nulls where it has no row, and for deletions."""
        own = events.values[side.number]
        pool = pl.concat([own, held.select(own.columns)]) if own.width else own
        at = np.where(course.last >= 0, course.last, own.height + group)
        found = rows_at(pool, np.where(course.there & ~gone, at, -1)) if own.width else pl.DataFrame(height=len(at))
        return found.rename({told: name for name, told in side.names.items()})

    def _exist(self, left: Bools, right: Bools) -> Bools:
        """Return where there is a result, given where each side has a row."""
        if self._step.how == "inner":
            return left & right
        return left if self._step.how == "left" else left | right

    def _keep(self, slots: Ints, last: Ints, held: pl.DataFrame, events: Events, courses: Sequence[Course]) -> None:
        """Keep what the last change of each key left."""
        columns, stays = list[pl.DataFrame](), np.zeros(len(last), np.bool_)
        groups, none = np.arange(len(last)), np.zeros(len(last), np.bool_)
        for side, whole in zip(self._sides, courses, strict=True):
            course = whole.take(last)
            values = self._values(side, events, held, groups, course, none).rename(side.names)
            remembered = course.there | ((side.history is not None) & (course.time != NEVER))
            time = pl.Series(side.time, course.time).set(pl.Series(~remembered), None)
            columns.append(
                values.with_columns(time, pl.Series(side.there, course.there))
                if values.width
                else pl.DataFrame([time, pl.Series(side.there, course.there)])
            )
            stays |= remembered
        slots = slots[last]
        if stays.any():
            self._rows.put_slots(slots[stays], columns[0].hstack(columns[1]).filter(pl.Series(stays)))
        if not stays.all():
            self._rows.delete(self._rows.keys_of(slots[~stays]))

    # --- versions: a change older than the newest of its key is none ---

    def _in_order(self, events: Events, slots: Ints, watermarks: Merged | Laned) -> Bools:
        """Return which changes count: all of a side without versions, of one with them those that are not older than one before."""
        counts = np.ones(events.height, np.bool_)
        held = self._rows.get_slots(slots)
        lanes = lanes_of_keys(events.keys)
        for side in self._sides:
            if side.history is None:
                continue
            mine = np.flatnonzero(events.side == side.number)
            newest = held[side.time].fill_null(NEVER).to_numpy()[mine].copy()
            there = held[side.there].fill_null(value=False).to_numpy()[mine]
            old = ~there & (newest > events.time[mine])  # than a deletion, which may be forgotten by now
            if old.any():
                horizon = Horizons(watermarks, side.history).at(
                    lanes[mine][old], np.maximum(events.turn[mine][old] - 1, MADE)
                )
                newest[np.flatnonzero(old)[newest[old] <= horizon]] = NEVER
            came = pl.DataFrame({"slot": slots[mine], "time": events.time[mine]})
            before = came.select(pl.col("time").cum_max().shift(1).over("slot")).to_series().fill_null(NEVER).to_numpy()
            counts[mine] = events.time[mine] >= np.maximum(before, newest)
        return counts

    def _conflict(self, events: Events, watermarks: Merged | Laned) -> int | None:
        """Return the turn of the first change that is older than the horizon, and than a deletion before it in the batch.

        Whether that deletion is still remembered at its turn goes by the watermark there: what comes before is done first.
        """
        cuts = []
        for side in self._sides:
            mine = np.flatnonzero(events.side == side.number)
            if side.history is None or not events.deleted[mine].any():
                continue
            horizons, lanes = Horizons(watermarks, side.history), lanes_of_keys(events.keys)[mine]
            late = np.flatnonzero(events.time[mine] < horizons.after[lanes])
            if not late.size:
                continue
            slots = self._rows.slots_of(events.keys, insert=True)[mine]
            gone = pl.DataFrame({"slot": slots, "time": np.where(events.deleted[mine], events.time[mine], NEVER)})
            before = gone.select(pl.col("time").cum_max().shift(1).over("slot")).to_series().fill_null(NEVER).to_numpy()
            late = late[before[late] > events.time[mine][late]]
            late = late[
                events.time[mine][late] < horizons.at(lanes[late], np.maximum(events.turn[mine][late] - 1, MADE))
            ]
            cuts += events.turn[mine][late][:1].tolist()
        return min(cuts, default=None)

    def _clean(self, after: Ints) -> None:
        """Let go of rows of windows that are closed and of deletions that are forgotten, once the rows have doubled."""
        if not (self._step.closes or any(self._step.histories)) or len(self._rows) <= 2 * self._cleaned + _SLACK:
            return
        rows = self._rows.frame()
        mark = pl.Series(after[lanes_of_keys(rows)])
        gone = pl.Series(np.zeros(rows.height, np.bool_))
        if self._step.closes:
            gone |= rows[WINDOW_END].dt.epoch("ms") < mark
        forgotten = pl.Series(np.ones(rows.height, np.bool_))
        for side in self._sides:
            forgotten &= ~rows[side.there] & (rows[side.time].fill_null(NEVER) <= mark - (side.history or 0))
        self._rows.delete(rows.filter(gone | forgotten).select(self._keys.names()))
        self._cleaned = len(self._rows)

    # --- state ---

    def changes(self) -> Changes:
        return named(self._rows)

    def progress(self) -> Any:
        return {"cleaned": self._cleaned}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._rows.load((int(name), frame) for name, frame in frames)
        self._cleaned = progress["cleaned"]

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        there = [
            pl.col(side.there).alias(f"{name} row") for side, name in zip(self._sides, ("left", "right"), strict=True)
        ]
        return of_keys(self._rows.frame().select(*self._keys, *there), key)

    def holding(self) -> Holding:
        return Holding(len(self._rows), self._rows.estimated_size())
