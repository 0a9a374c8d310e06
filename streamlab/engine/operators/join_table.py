"""A stream joined with a table: each record with the row of its key as it is when the record comes, or was at the record's time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE
from streamlab.engine.batch import Rows, empty
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.operators.shared.current_rows import Answering, Asked, CurrentRows, LookedUp, StaticRows, arrived
from streamlab.engine.operators.shared.horizon import Horizons
from streamlab.engine.operators.shared.versioned_rows import VersionedRows
from streamlab.engine.stream_time import NEVER
from streamlab.plan.table_source import LookupTable, StaticTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.operators.shared.current_rows import Arrived, Found
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.join_table import JoinTable


class TableJoin:
    """The operator: only rows of the stream emit, in their order, each as soon as it comes."""

    delay = 0

    def __init__(self, step: JoinTable, *, laned: bool) -> None:
        self.name, self._laned, self._step = step.name, laned, step
        self._columns = Columns(step)
        self._right = right_side(step, self._columns)

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        stream, table = inputs
        horizons = None if self._step.history is None else Horizons(watermarks, self._step.history)
        asked = self._asked(stream, horizons) if stream.height else None
        found = self._right.answer(asked, self._columns.arrived(table), horizons)
        none = empty(self._step.schema)
        return Output(none if found is None else self._columns.joined(stream, found), none)

    def _asked(self, rows: Rows, horizons: Horizons | None) -> Asked:
        horizon = np.full(rows.height, NEVER, np.int64)
        if horizons is not None:
            horizon = horizons_of(horizons, rows.time, lanes_of(rows, laned=self._laned), rows.index)
        return Asked(self._columns.asked(rows), rows.time, rows.index, horizon)

    def close(self) -> Rows:
        return empty(self._step.schema)

    def changes(self) -> Changes:
        return self._right.changes()

    def progress(self) -> Any:
        return self._right.progress()

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._right.load(frames, progress)

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        return of_keys(self._right.rows().rename(dict(zip(self._step.by.right, self._step.by.left, strict=True))), key)

    def holding(self) -> Holding:
        return self._right.holding()


def right_side(step: JoinTable, columns: Columns) -> Answering:
    """Return what keeps the rows of a join's table, or knows where to ask for them."""
    if isinstance(step.right, StaticTable):
        return StaticRows(step.right.frame, columns.keys, columns.values)
    if isinstance(step.right, LookupTable):
        return LookedUp(step.right.origin, columns.keys, columns.values)
    return (CurrentRows if step.history is None else VersionedRows)(columns.keys, columns.values)


class Columns:
    """The columns of both sides of a join with a table, on their way into the result.

    Where both sides share their partitions, the partition is part of the key: each has its own part of the table.
    """

    def __init__(self, step: JoinTable) -> None:
        self._by, self._added, self._how, self._schema = step.by, step.added, step.how, step.schema
        self._lanes = step.shares
        lane = {LANE: pl.Int64()} if self._lanes else {}
        self.keys = pl.Schema({**lane, **{name: step.right.schema[name] for name in step.by.right}})
        self.values = pl.Schema({name: step.right.schema[name] for name in step.added})

    def asked(self, rows: Rows) -> pl.DataFrame:
        """Return the keys of rows of the stream, named as the table's."""
        return self._keys(rows, self._by.left)

    def arrived(self, rows: Rows) -> Arrived:
        """Return the rows of the table that have a key."""
        return arrived(rows, self._keys(rows, self._by.right), self.values.names())

    def _keys(self, rows: Rows, names: Sequence[str]) -> pl.DataFrame:
        columns = [rows.data[name].alias(key) for name, key in zip(names, self._by.right, strict=True)]
        return pl.DataFrame([pl.Series(LANE, rows.partition), *columns] if self._lanes else columns)

    def joined(self, rows: Rows, found: Found) -> Rows:
        """Return rows of the stream with what was found for them."""
        made = rows.with_data(rows.data.hstack(found.values.rename(self._added)).select(self._schema.names()))
        return made.filter(found.hit) if self._how == "inner" else made


def lanes_of(rows: Rows, *, laned: bool) -> Ints:
    """Return the lane of each row: its partition, or the only one there is."""
    return rows.partition if laned else np.zeros(rows.height, np.int64)


def horizons_of(horizons: Horizons, time: Ints, lane: Ints, turn: Ints) -> Ints:
    """Return what is too old for rows at their turn; NEVER where it does not matter, since they are no older themselves."""
    found = np.full(len(time), NEVER, np.int64)
    old = time < horizons.after[lane]
    if old.any():
        found[old] = horizons.at(lane[old], turn[old])
    return found
