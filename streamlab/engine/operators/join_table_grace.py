"""A stream joined with a table that keeps versions, after waiting for rows of the table that come late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.batch import Rows, empty
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.operators.join_table import Columns, TableJoin, horizons_of, lanes_of, right_side
from streamlab.engine.operators.shared.current_rows import Asked
from streamlab.engine.operators.shared.horizon import Horizons, levels, moments
from streamlab.engine.operators.shared.waiting import ORDER, TIME, Waiting
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.engine.turns import made_at
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.operator import Operator
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.join_table import JoinTable

PARTITION, OFFSET = f"{RESERVED}partition", f"{RESERVED}offset"
_WAITING, _TABLE = "waiting/", "table/"


@dataclass(frozen=True, slots=True)
class _Due:
    """Rows whose turn has come: when it came, and whether with their own record."""

    rows: pl.DataFrame
    turn: Ints
    own: Bools


class PatientTableJoin:
    """The operator: a row of the stream is joined once the watermark has passed its time by the grace, in order of time.

    One that is older than that when it comes is joined at once. Which versions of the table it sees goes by its turn, not by when it came.
    """

    def __init__(self, step: JoinTable, *, laned: bool) -> None:
        self.name, self._laned, self._step = step.name, laned, step
        self.delay = self._grace = step.grace or 0
        self._columns = Columns(step)
        self._right = right_side(step, self._columns)
        self._waiting = Waiting()
        self._came = 0

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        stream, table = inputs
        horizons = Horizons(watermarks, (self._step.history or 0) + self._grace)
        return Output(self._joined(self._due(stream, watermarks), table, horizons), empty(self._step.schema))

    def close(self) -> Rows:
        parts = [part for lane in self._waiting.lanes for part in self._waiting.due(lane, OPEN)]
        rows = [_Due(part, np.full(part.height, OPEN), np.zeros(part.height, np.bool_)) for part in parts]
        return self._joined(rows, empty(self._step.right.schema), None)

    # --- whose turn it is ---

    def _due(self, stream: Rows, watermarks: Merged | Laned) -> list[_Due]:
        """Take in rows of the stream, and take out those that the watermark has passed."""
        rows, lanes = self._framed(stream), lanes_of(stream, laned=self._laned)
        limits, at = watermarks.after - self._grace, moments(watermarks)
        found = []
        for lane in sorted({*self._waiting.lanes, *np.unique(lanes).tolist()}):
            reached = levels(watermarks, lane, at)
            for part in self._waiting.due(lane, int(limits[lane])):
                turn = self._turns(part, at, reached)
                found.append(_Due(part, turn, np.zeros(part.height, np.bool_)))
            mine = lanes == lane
            now = mine & (stream.time <= limits[lane])
            if now.any():
                part = rows.filter(pl.Series(now))
                turn = np.maximum(self._turns(part, at, reached), stream.index[now])
                found.append(_Due(part, turn, turn == stream.index[now]))
            if (later := mine & ~now).any():
                self._waiting.add(lane, rows.filter(pl.Series(later)))
        return found

    def _framed(self, rows: Rows) -> pl.DataFrame:
        came = np.arange(self._came, self._came + rows.height)
        self._came += rows.height
        beside = {TIME: rows.time, ORDER: came, PARTITION: rows.partition, OFFSET: rows.offset}
        return rows.data.with_columns(pl.Series(name, values, pl.Int64) for name, values in beside.items())

    def _turns(self, rows: pl.DataFrame, at: Ints, reached: Ints) -> Ints:
        """Return the arrival index at which the watermark passed each row."""
        passed = np.searchsorted(reached, rows[TIME].to_numpy() + self._grace)
        turns: Ints = at[np.minimum(passed, len(at) - 1)]
        return turns

    # --- joining ---

    def _joined(self, due: list[_Due], table: Rows, horizons: Horizons | None) -> Rows:
        asked, rows = None, None
        if due:
            frame, turn = pl.concat([part.rows for part in due], rechunk=True), np.concatenate([p.turn for p in due])
            own = np.concatenate([part.own for part in due])
            order = np.lexsort((frame[ORDER].to_numpy(), frame[TIME].to_numpy(), turn))
            frame, turn, own = frame[order], turn[order], own[order]
            rows = self._rows(frame, np.where(own, turn, made_at(turn)))
            limit = np.full(frame.height, NEVER)
            if horizons is not None:  # those that waited are younger than what was gone just before their turn
                lane = lanes_of(rows, laned=self._laned)
                limit[own] = horizons_of(horizons, rows.time[own], lane[own], turn[own])
            asked = Asked(self._columns.asked(rows), rows.time, turn, limit)
        found = self._right.answer(asked, self._columns.arrived(table), horizons)
        return empty(self._step.schema) if rows is None or found is None else self._columns.joined(rows, found)

    def _rows(self, frame: pl.DataFrame, index: Ints) -> Rows:
        time, partition, offset = (frame[name].to_numpy() for name in (TIME, PARTITION, OFFSET))
        return Rows(frame.drop(TIME, ORDER, PARTITION, OFFSET), time, partition, offset, index)

    # --- state ---

    def changes(self) -> Changes:
        waiting, table = self._waiting.changes(_WAITING), self._right.changes()
        put = {f"{_TABLE}{name}": frame for name, frame in table.put.items()}
        return Changes({**waiting.put, **put}, [*waiting.drop, *(f"{_TABLE}{name}" for name in table.drop)])

    def progress(self) -> Any:
        return {"came": self._came, "waiting": self._waiting.progress(), "table": self._right.progress()}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        parts = list(frames)
        self._came = progress["came"]
        self._waiting.load(((n, frame) for n, frame in parts if n.startswith(_WAITING)), progress["waiting"])
        table = [(n.removeprefix(_TABLE), frame) for n, frame in parts if n.startswith(_TABLE)]
        self._right.load(table, progress["table"])

    def holding(self) -> Holding:
        waiting, table = self._waiting.holding(), self._right.holding()
        return Holding(waiting.rows + table.rows, waiting.bytes + table.bytes, oldest=waiting.oldest)


def table_join(step: JoinTable, *, laned: bool) -> Operator:
    """Return the operator of a join with a table."""
    return (TableJoin if step.grace is None else PatientTableJoin)(step, laned=laned)
