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

from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.due import Due
from streamlab.engine.join_pairs import Arrived, Pairs, Turns, in_order, pairs_of
from streamlab.engine.join_rows import beside, by_arrival, late_rows, no_late
from streamlab.engine.keyed_times import KeyedTimes, Side
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.engine.turns import END, moments_of, passed, reached
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Laned, Merged
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
        both, turns = self._arrive(inputs, watermarks)
        late = [self._late_of(side, arrived, watermarks) for side, arrived in enumerate(both) if arrived.late.any()]
        left, right = both
        pairs = pairs_of(left, right, (self._sides[0].index, self._sides[1].index), self._step.before, self._step.after)
        gone = passed(watermarks, pairs.earlier_time + self._step.reach, turns.index[pairs.turn], turns.lane[pairs.turn])
        pairs = pairs.filter(~gone)
        found = [_matches(pairs, turns)]
        for side in self._outer:
            found.append(self._at_once(side, both[side], pairs, watermarks))
        found += self._overdue(pairs, turns, watermarks)
        emitted = self._emit(found)
        for side, arrived in zip(self._sides, both, strict=True):
            rows = arrived.rows
            self._held.keep(side, arrived.slot, rows.time, arrived.lane, arrived.number, arrived.slot >= 0)
        self._held.sweep(watermarks.after)
        return Output(emitted, by_arrival(late) if late else self._no_late)

    # --- what came ---

    def _arrive(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> tuple[list[Arrived], Turns]:
        sides = [by_arrival([rows]) for rows in inputs]
        lanes = [rows.partition if self.laned else np.zeros(rows.height, np.int64) for rows in sides]
        turn, turns = in_order(sides, lanes)
        late = [
            passed(watermarks, rows.time + self._step.reach, rows.index, lane)
            for rows, lane in zip(sides, lanes, strict=True)
        ]
        keys = [(rows.data.select(side.keys), lane) for rows, lane, side in zip(sides, lanes, self._sides, strict=True)]
        in_time = [(key.filter(pl.Series(~gone)), lane[~gone]) for (key, lane), gone in zip(keys, late, strict=True)]
        slots = [np.full(rows.height, -1) for rows in sides]
        for slot, gone, found in zip(slots, late, self._held.slots(in_time, insert=True), strict=True):
            slot[~gone] = found
        numbers = [
            side.rows.append(rows.data, rows.time, lane)
            for side, rows, lane in zip(self._sides, sides, lanes, strict=True)
        ]
        parts = zip(sides, lanes, numbers, turn, late, slots, strict=True)
        return [Arrived(*part) for part in parts], turns

    def _late_of(self, side: int, arrived: Arrived, watermarks: Merged | Laned) -> Rows:
        rows, number, lane = arrived.rows.filter(arrived.late), arrived.number[arrived.late], arrived.lane[arrived.late]
        none = np.full(rows.height, -1)
        data = self._columns(number, none) if side == 0 else self._columns(none, number)
        return late_rows(rows, data, *self._around(side), reached(watermarks, rows.index, lane))

    def _around(self, side: int) -> tuple[int, int]:
        """Return how far before and after a row of a side its matches may be."""
        before, after = self._step.before, self._step.after
        return (before, after) if side == 0 else (after, before)

    # --- rows without a match ---

    def _at_once(self, side: int, arrived: Arrived, pairs: Pairs, watermarks: Merged | Laned) -> _Results:
        """Return the rows that have nothing to wait for: their key has a null, or their deadline was over when they came."""
        rows, deadline = arrived.rows, arrived.rows.time + self._patience[side]
        over = passed(watermarks, deadline, rows.index, arrived.lane) & (arrived.slot >= 0)
        waits = (arrived.slot >= 0) & ~over
        self._wait(side, deadline[waits], arrived.number[waits], arrived.lane[waits])
        if over.any():
            made = pairs.turn[pairs.left_made == (side == 0)]
            over &= ~np.isin(arrived.turn, made)
        now = np.flatnonzero(over | ((arrived.slot < 0) & ~arrived.late))
        none, number = np.full(len(now), -1), arrived.number[now]
        both = (number, none) if side == 0 else (none, number)
        beside = (rows.time[now], rows.partition[now], rows.offset[now], rows.index[now])
        return _Results(2 * arrived.turn[now] + 1, np.zeros(len(now), np.int64), *both, *beside)

    def _wait(self, side: int, deadline: Ints, number: Ints, lane: Ints) -> None:
        due = self._due[side]
        for one in np.unique(lane).tolist() if self.laned else [0]:
            mine = lane == one
            due.setdefault(one, Due()).put(deadline[mine], number[mine])

    def _overdue(self, pairs: Pairs, turns: Turns, watermarks: Merged | Laned) -> list[_Results]:
        """Return the rows whose deadline the watermark has passed in this batch, and that had not matched by then."""
        found = []
        for side in self._outer:
            deadline, number, lane = self._take(side, watermarks.after)
            if not len(number):
                continue
            mine = (pairs.left, pairs.left_time) if side == 0 else (pairs.right, pairs.right_time)
            in_time = ~passed(
                watermarks, mine[1] + self._patience[side], turns.index[pairs.turn], turns.lane[pairs.turn]
            )
            alone = ~np.isin(number, mine[0][in_time])
            deadline, number, lane = deadline[alone], number[alone], lane[alone]
            alone = ~self._has_match(side, deadline - self._patience[side], number, lane)
            found.append((side, deadline[alone], number[alone], lane[alone]))
        if not found:
            return []
        moments = [moments_of(watermarks, deadline, lane) for _, deadline, _, lane in found]
        return [self._in_order(found, moments, turns)]

    def _take(self, side: int, watermark: Ints) -> tuple[Ints, Ints, Ints]:
        """Take off what is due on a side: deadlines, numbers, lanes."""
        parts = [(*due.take(int(watermark[lane])), lane) for lane, due in self._due[side].items() if lane < len(watermark)]
        deadline, number = (np.concatenate([_NONE, *(part[at] for part in parts)]) for at in (0, 1))
        return deadline, number, np.repeat([lane for *_, lane in parts], [len(part[0]) for part in parts]).astype(np.int64)

    def _has_match(self, side: int, time: Ints, number: Ints, lane: Ints) -> Bools:
        """Return which rows have a match among those held from earlier batches."""
        if not len(number):
            return np.zeros(0, np.bool_)
        mine, other = self._sides[side], self._sides[1 - side]
        (slot,) = self._held.slots([(mine.rows.take(number).select(mine.keys), lane)], insert=False)
        back, ahead = self._around(side)
        known = np.flatnonzero(slot >= 0)
        found = np.zeros(len(number), np.bool_)
        found[known] = other.index.any_between(slot[known], time[known] - back, time[known] + ahead)
        return found

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
        moment, time, side, number, lane = (
            order[name].to_numpy().astype(np.int64) for name in ("moment", "time", "side", "number", "lane")
        )
        after = np.searchsorted(turns.index, moment, side="right")
        place = np.where(moment == MADE, after, np.searchsorted(turns.index, moment))
        made = np.full(len(time), MADE, np.int64)
        both = np.where(side == 0, number, -1), np.where(side == 1, number, -1)
        return _Results(2 * place, np.arange(len(time)), *both, time, lane, made, made)

    def close(self) -> Rows:
        found = []
        for side in self._outer:
            forever = np.full(max([*self._due[side], 0]) + 1, OPEN, np.int64)
            deadline, number, lane = self._take(side, forever)
            alone = ~self._has_match(side, deadline - self._patience[side], number, lane)
            found.append((side, deadline[alone], number[alone], lane[alone]))
        if not found:
            return empty(self._step.schema)
        moments = [np.full(len(deadline), END) for _, deadline, _, _ in found]
        return self._emit([self._in_order(found, moments, Turns(_NONE, _NONE, _NONE, _NONE))])

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
                self._wait(side, deadline[waits], block.number[waits], block.lane[waits])

    def holding(self) -> Holding:
        return self._held.holding()


def _matches(pairs: Pairs, turns: Turns) -> _Results:
    at = pairs.turn
    beside = (turns.partition[at], turns.offset[at], turns.index[at])
    time = np.maximum(pairs.left_time, pairs.right_time)
    return _Results(2 * at + 1, pairs.earlier, pairs.left, pairs.right, time, *beside)
