"""The interval join: matches as they become possible, unmatched rows once none can come in time any more.

The rows of both sides are held by key and time (`KeyedTimes`). A row without a match comes with nulls once its deadline is before the
watermark: its time + after + grace for a left row, + before + grace for a right one. Whether it has matched by then is no part of the
state: what a row can have matched with is held until that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.batch import Rows, by_arrival, concat, empty
from streamlab.engine.held.keyed_times import KeyedTimes, Side
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.operators.shared.join_pairs import Arrived, Pairs, in_order, pairs_of
from streamlab.engine.operators.shared.join_rows import beside, late_rows, no_late, put, taken
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.engine.turns import END, Turns, made_at
from streamlab.engine.watermark import Merged
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.held.due import Due
    from streamlab.engine.watermark import Laned
    from streamlab.plan.join_interval import IntervalJoin as Step

_NONE = np.empty(0, np.int64)


@dataclass(slots=True, eq=False)
class _Results:
    """Results to be: rows by number (-1: nulls), and what they are ordered by: place, then rank."""

    place: Ints
    rank: Ints
    left: Ints
    right: Ints
    time: Ints
    partition: Ints
    offset: Ints
    index: Ints


@dataclass(slots=True, eq=False)
class _Batch:
    """What came on both sides, and their records by turn."""

    sides: tuple[Arrived, Arrived]
    turns: Turns
    partition: Ints
    offset: Ints


class IntervalJoin:
    """The operator: two sides held by key and time."""

    def __init__(self, step: Step, *, laned: bool) -> None:
        self.name, self.laned, self.delay = step.name, laned, step.reach
        self._step = step
        self._sides = (
            Side("left", step.left.schema, step.by.left, step.reach),
            Side("right", step.right.schema, step.by.right, step.reach),
        )
        self._held = KeyedTimes(pl.Schema({name: step.left.schema[name] for name in step.by.left}), *self._sides)
        self._patience = (step.after + step.grace, step.before + step.grace)
        self._outer = {"inner": (), "left": (0,), "outer": (0, 1)}[step.how]
        self._due: tuple[dict[int, Due], dict[int, Due]] = ({}, {})  # by side and lane: deadlines and numbers
        self._watermark = np.full(1, NEVER, np.int64)
        self._no_late = no_late(step.schema)

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        self._watermark = watermarks.after
        batch = self._arrive(inputs, watermarks)
        late = [self._late_of(side, batch) for side, arrived in enumerate(batch.sides) if arrived.late.any()]
        held = self._sides[0].index, self._sides[1].index
        pairs = pairs_of(*batch.sides, held, self._step.before, self._step.after)
        pairs = pairs.filter(~batch.turns.passed(pairs.earlier_time + self._step.reach, pairs.turn))
        found = [_matches(pairs, batch)]
        found += [self._at_once(side, pairs, batch) for side in self._outer]
        found += self._overdue(pairs, batch.turns, watermarks.after)
        emitted = self._emit(found)
        for place, (side, arrived) in enumerate(zip(self._sides, batch.sides, strict=True)):
            at, time = arrived.joinable, arrived.rows.time
            kept = np.append(at, arrived.unkeyed) if place in self._outer else at
            self._held.keep(side, kept, time, arrived.lane)
            side.index.add(arrived.slot[at], time[at], arrived.number[at])
        self._held.sweep(watermarks.after)
        return Output(emitted, concat(late, self._no_late.data.schema) if late else self._no_late)

    # --- what came ---

    def _arrive(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> _Batch:
        sides = [by_arrival(rows) for rows in inputs]
        lanes = [rows.partition if self.laned else np.zeros(rows.height, np.int64) for rows in sides]
        turn, order = in_order([rows.index for rows in sides])
        index, partition, offset, lane = (
            np.concatenate([*parts])[order]
            for parts in (*([getattr(r, n) for r in sides] for n in ("index", "partition", "offset")), lanes)
        )
        turns = Turns(watermarks, index, lane)
        late = [turns.passed(rows.time + self._step.reach, at) for rows, at in zip(sides, turn, strict=True)]
        keys = [
            (rows.data.select(side.keys), lane, ~gone)
            for rows, lane, side, gone in zip(sides, lanes, self._sides, late, strict=True)
        ]
        slots = self._held.slots(keys, insert=True)
        numbers = [
            side.rows.append(rows.data, rows.time, lane, slot)
            for side, rows, lane, slot in zip(self._sides, sides, lanes, slots, strict=True)
        ]
        left, right = (Arrived(*part) for part in zip(sides, lanes, numbers, turn, late, slots, strict=True))
        return _Batch((left, right), turns, partition, offset)

    def _late_of(self, side: int, batch: _Batch) -> Rows:
        arrived = batch.sides[side]
        rows, number, turn = arrived.rows.filter(arrived.late), arrived.number[arrived.late], arrived.turn[arrived.late]
        none = np.full(rows.height, -1)
        data = self._columns(number, none) if side == 0 else self._columns(none, number)
        return late_rows(rows, data, *self._around(side), batch.turns.watermark[turn])

    def _around(self, side: int) -> tuple[int, int]:
        """Return how far before and after a row of a side its matches may be."""
        before, after = self._step.before, self._step.after
        return (before, after) if side == 0 else (after, before)

    # --- rows without a match ---

    def _at_once(self, side: int, pairs: Pairs, batch: _Batch) -> _Results:
        """Return the rows that have nothing to wait for: their deadline was over when they came."""
        arrived = batch.sides[side]
        rows, deadline = arrived.rows, arrived.rows.time + self._patience[side]
        over = batch.turns.passed(deadline, arrived.turn) & ~arrived.late
        waits = ~arrived.late & ~over
        put(self._due[side], deadline[waits], arrived.number[waits], arrived.lane[waits])
        if over.any():
            made = pairs.turn[pairs.left_made == (side == 0)]
            over &= ~np.isin(arrived.turn, made)
        now = np.flatnonzero(over)
        none, number = np.full(len(now), -1), arrived.number[now]
        left, right = (number, none) if side == 0 else (none, number)
        place, rank = 2 * arrived.turn[now] + 1, np.zeros(len(now), np.int64)
        partition, offset, index = rows.partition[now], rows.offset[now], rows.index[now]
        return _Results(place, rank, left, right, rows.time[now], partition, offset, index)

    def _overdue(self, pairs: Pairs, turns: Turns, watermark: Ints) -> list[_Results]:
        """Return the rows whose deadline the watermark has passed in this batch, and that had not matched by then."""
        found = []
        for side in self._outer:
            deadline, number, lane = taken(self._due[side], watermark)
            if not len(number):
                continue
            rows, time = (pairs.left, pairs.left_time) if side == 0 else (pairs.right, pairs.right_time)
            in_time = rows[~turns.passed(time + self._patience[side], pairs.turn)]
            found.append(self._unmatched(side, deadline, number, lane, in_time))
        if not found:
            return []
        moments = [turns.moments(deadline, lane) for _, deadline, _, lane in found]
        return [self._in_order(found, moments, turns)]

    def _unmatched(
        self, side: int, deadline: Ints, number: Ints, lane: Ints, matched: Ints
    ) -> tuple[int, Ints, Ints, Ints]:
        """Return which rows of a side are not among those that matched in this batch, and have no match from earlier ones."""
        alone = np.flatnonzero(~np.isin(number, matched))
        back, ahead = self._around(side)
        time = deadline[alone] - self._patience[side]
        slot = self._sides[side].rows.slots(number[alone])
        alone = alone[~self._sides[1 - side].index.any_between(slot, time - back, time + ahead)]
        return side, deadline[alone], number[alone], lane[alone]

    def _in_order(
        self, found: Sequence[tuple[int, Ints, Ints, Ints]], moments: Sequence[Ints], turns: Turns
    ) -> _Results:
        """Return unmatched rows as results: by the moment that they were due, then by time, the right side first, then by key."""
        frames, step = [], self._step
        for (side, deadline, number, lane), moment in zip(found, moments, strict=True):
            keys = self._sides[side].rows.take(number).select(self._sides[side].keys)
            keys.columns = [f"{RESERVED}{n}" for n in range(keys.width)]
            beside = {"moment": moment, "time": deadline - self._patience[side], "number": number, "lane": lane}
            frames.append(keys.with_columns(pl.lit(side).alias("side"), *(pl.Series(n, v) for n, v in beside.items())))
        whole = pl.concat(frames)
        by = [] if any(step.left.schema[name].is_nested() for name in step.by.left) else keys.columns
        order = whole.sort("moment", "time", pl.col("side") == 0, *by, "lane", "number")
        moment, time, which, number, lane = (
            order[name].to_numpy().astype(np.int64) for name in ("moment", "time", "side", "number", "lane")
        )
        none = np.full(len(time), -1, np.int64)
        left, right = (np.where(which == side, number, -1) for side in (0, 1))
        return _Results(2 * turns.places(moment), np.arange(len(time)), left, right, time, lane, none, made_at(moment))

    def close(self) -> Rows:
        found = []
        for side in self._outer:
            forever = np.full(max([*self._due[side], 0]) + 1, OPEN, np.int64)
            found.append(self._unmatched(side, *taken(self._due[side], forever), _NONE))
        if not found:
            return empty(self._step.schema)
        moments = [np.full(len(deadline), END) for _, deadline, _, _ in found]
        turns = Turns(Merged((), self._watermark, self._watermark), _NONE, _NONE)
        return self._emit([self._in_order(found, moments, turns)])

    # --- results ---

    def _emit(self, parts: Sequence[_Results]) -> Rows:
        parts = [part for part in parts if len(part.place)]
        if not parts:
            return empty(self._step.schema)
        place, rank, left, right, time, partition, offset, index = (
            np.concatenate([getattr(part, name) for part in parts]) for name in _Results.__slots__
        )
        order = np.lexsort((rank, place))
        data = self._columns(left[order], right[order])
        return Rows(data, time[order], partition[order], offset[order], index[order])

    def _columns(self, left: Ints, right: Ints) -> pl.DataFrame:
        ours, theirs = self._sides[0].rows.take(left), self._sides[1].rows.take(right)
        return beside(ours, theirs, left >= 0, self._step.by.pairs(), self._step.added)

    # --- state ---

    def changes(self) -> Changes:
        return self._held.changes()

    def progress(self) -> Any:
        return {"rows": self._held.progress(), "watermark": self._watermark.tolist()}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._held.load(frames, progress["rows"])
        self._watermark = np.array(progress["watermark"], np.int64)
        for side in self._outer:
            for block in self._sides[side].rows.blocks:
                deadline = block.time + self._patience[side]
                waits = deadline >= self._watermark[block.lane]
                put(self._due[side], deadline[waits], block.number[waits], block.lane[waits])

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        return self._held.held(key, self._watermark)

    def holding(self) -> Holding:
        return self._held.holding()


def _matches(pairs: Pairs, batch: _Batch) -> _Results:
    at = pairs.turn
    time = np.maximum(pairs.left_time, pairs.right_time)
    came = batch.partition[at], batch.offset[at], batch.turns.index[at]
    return _Results(2 * at + 1, pairs.earlier, pairs.left, pairs.right, time, *came)
