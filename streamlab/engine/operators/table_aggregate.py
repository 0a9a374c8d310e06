"""Aggregations over the rows of a table, changed as its rows change.

A record first takes the old values of its row out of the row's old group, then adds the new ones to the new group; with one record a batch
both groups' rows come in this order. A group that has lost all its rows stays. The operator keeps of each row of the table which group it
is in, and what it added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, TIME
from streamlab.engine.batch import Rows, empty
from streamlab.engine.held.keyed_rows import KeyedRows
from streamlab.engine.held.runs import named
from streamlab.engine.held.slot_frame import grown
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.operators.shared.table_groups import KeptRows, Moves, Sums
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.table_aggregate import TableAggregate

_ROWS, _GROUPS = "rows-", "groups-"
_MEMBERS = f"{RESERVED}members"


class TableGroups:
    """The operator: the current row of each group that a micro-batch changed."""

    delay = 0

    def __init__(self, step: TableAggregate, *, laned: bool) -> None:
        self.name, self.laned, self._step = step.name, laned, step
        self._values: Sums | KeptRows = KeptRows(step) if step.measures is None else Sums(step.measures)
        self._keys = [pl.col(name).alias(f"k{n}") for n, name in enumerate(step.input.keys)]
        self._by = [group.expr.alias(f"g{n}") for n, group in enumerate(step.groups)]
        keys = {f"k{n}": step.input.schema[name] for n, name in enumerate(step.input.keys)}
        groups = {f"g{n}": step.schema[name] for n, name in enumerate(step.by)}
        self._rows = KeyedRows(pl.Schema({LANE: pl.Int64(), **keys}), pl.Schema({**groups, **self._values.row_schema}))
        more = {TIME: pl.Int64(), _MEMBERS: pl.Int64()}
        self._groups = KeyedRows(
            pl.Schema({LANE: pl.Int64(), **groups}), pl.Schema({**more, **self._values.group_schema})
        )
        self._group_of = np.full(1, -1, np.int64)  # by row slot; -1: no such row
        self._time, self._count = np.full(1, -1, np.int64), np.zeros(1, np.int64)  # by group slot
        self._dirty_rows, self._dirty_groups = np.zeros(1, np.bool_), np.zeros(1, np.bool_)
        self._place = np.zeros(1, np.int64)  # by group slot, for the batch at hand
        self._sequence = 0

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:  # noqa: ARG002  # a table has no late rows
        (rows,) = inputs
        none = empty(self._step.schema)
        return Output(self._emitted(rows) if rows.height else none, none)

    def _emitted(self, rows: Rows) -> Rows:
        lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
        live = np.ones(rows.height, np.bool_) if rows.deleted is None else ~rows.deleted
        keys = rows.data.select(self._keys).with_columns(pl.Series(LANE, lane))
        row = self._rows.slots_of(keys, insert=True)
        groups = self._group_columns(rows.data, live, lane)
        group = np.full(rows.height, -1, np.int64)
        group[live] = self._groups.slots_of(groups, insert=True)
        self._make_room(int(row.max()) + 1, int(group.max()) + 1)
        before, last = _neighbours(row)
        old = np.where(before >= 0, group[before], self._group_of[row])
        moves = self._moves(rows, live, row, before, last, group, old)
        self._group_of[row[last]] = group[last]
        ends = last[live[last]]
        if isinstance(self._values, KeptRows):
            kept = self._values.columns(rows.data[ends], moves.sequence[ends])
            at = np.cumsum(live) - 1
            self._rows.put_slots(row[ends], groups.drop(LANE)[at[ends]].hstack(kept))
        else:
            self._dirty_rows[row[ends]] = True
        self._values.move(moves, self._rows, self._group_of)
        self._drop(keys, row, last[~live[last]])
        self._dirty_groups[moves.touched] = True
        self._values.forget(moves.touched[self._count[moves.touched] == 0])
        return self._results(rows, moves)

    def _group_columns(self, data: pl.DataFrame, live: Bools, lane: Ints) -> pl.DataFrame:
        alive = data if live.all() else data.filter(pl.Series(live))
        made = alive.with_columns(self._by)
        return pl.DataFrame([pl.Series(LANE, lane[live]), *(made[f"g{n}"] for n in range(len(self._by)))])

    def _make_room(self, rows: int, groups: int) -> None:
        self._group_of = grown(self._group_of, rows, -1)
        self._dirty_rows = grown(self._dirty_rows, rows, 0)
        self._time, self._count = grown(self._time, groups, -1), grown(self._count, groups, 0)
        self._dirty_groups, self._place = grown(self._dirty_groups, groups, 0), grown(self._place, groups, 0)

    def _moves(self, rows: Rows, live: Bools, row: Ints, before: Ints, last: Ints, group: Ints, old: Ints) -> Moves:
        """Return how rows move from group to group: out of the old one, into the new one, record by record."""
        both = np.empty(2 * rows.height, np.int64)
        both[0::2], both[1::2] = old, group
        changes = np.flatnonzero(both >= 0)
        of = both[changes]
        order = np.arange(len(of))
        self._place[of] = order  # of several the last is written last
        ends = self._place[of] == order
        into = (np.cumsum(ends) - 1)[self._place[of]]
        touched = of[ends]
        np.maximum.at(self._time, of, rows.time[changes // 2])
        np.add.at(self._count, of, np.where(changes % 2, 1, -1))
        sequence = self._sequence + np.arange(rows.height)
        self._sequence += rows.height
        return Moves(rows.data, live, row, before, last, group, touched, changes, into, sequence)

    def _drop(self, keys: pl.DataFrame, row: Ints, gone: Ints) -> None:
        """Forget the rows that the batch has deleted in the end."""
        if len(gone):
            self._dirty_rows[row[gone]] = False
            self._rows.delete(keys[gone])

    def _results(self, rows: Rows, moves: Moves) -> Rows:
        touched = moves.touched
        columns = self._groups.key_frame(touched)
        named_by = [columns[f"g{n}"].alias(name) for n, name in enumerate(self._step.by)]
        data = pl.DataFrame([*named_by, *self._values.finish(touched)], height=len(touched))
        final = np.empty(len(touched), np.int64)
        final[moves.into] = moves.changes // 2  # of several the last is written last
        return Rows(
            data.select(self._step.schema.names()),
            self._time[touched],
            rows.partition[final],
            rows.offset[final],
            rows.index[final],
        )

    def close(self) -> Rows:
        return empty(self._step.schema)

    def changes(self) -> Changes:
        if isinstance(self._values, Sums):
            slots = np.flatnonzero(self._dirty_rows)
            self._dirty_rows[slots] = False
            groups = self._groups.key_frame(self._group_of[slots]).drop(LANE)
            self._rows.put_slots(slots, pl.concat([groups, self._values.rows_kept(slots)], how="horizontal"))
        slots = np.flatnonzero(self._dirty_groups)
        self._dirty_groups[slots] = False
        kept = self._values.groups_kept(slots)
        more = [pl.Series(TIME, self._time[slots]), pl.Series(_MEMBERS, self._count[slots])]
        self._groups.put_slots(slots, pl.DataFrame(more, height=len(slots)).hstack(kept))
        rows, of_groups = named(self._rows, _ROWS), named(self._groups, _GROUPS)
        return Changes({**rows.put, **of_groups.put}, [*rows.drop, *of_groups.drop])

    def progress(self) -> Any:
        return {"sequence": self._sequence}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._sequence = progress["sequence"]
        parts = sorted(frames, key=lambda part: part[0])
        for kept, prefix in ((self._groups, _GROUPS), (self._rows, _ROWS)):
            kept.load((int(name.removeprefix(prefix)), frame) for name, frame in parts if name.startswith(prefix))
        groups, rows = self._groups.frame(), self._rows.frame()
        group, row = self._groups.slots_of(groups, insert=False), self._rows.slots_of(rows, insert=False)
        self._make_room(int(row.max(initial=0)) + 1, int(group.max(initial=0)) + 1)
        self._time[group], self._count[group] = groups[TIME].to_numpy(), groups[_MEMBERS].to_numpy()
        self._group_of[row] = self._groups.slots_of(rows, insert=False)
        self._values.load(row, rows, group, groups, self._group_of)

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        slots = np.flatnonzero(self._time >= 0)
        keys = self._groups.key_frame(slots).select(
            LANE, *(pl.col(f"g{n}").alias(name) for n, name in enumerate(self._step.by))
        )
        slots = of_keys(keys.with_columns(pl.Series(_MEMBERS, slots)), key)[_MEMBERS].to_numpy()
        # values that are worked out from rows are not held
        values = self._values.finish(slots) if isinstance(self._values, Sums) else []
        count = pl.Series("rows of the table", self._count[slots])
        return pl.DataFrame([*of_keys(keys, key), count, *values])

    def holding(self) -> Holding:
        size = self._rows.estimated_size() + self._groups.estimated_size() + self._values.size()
        return Holding(int((self._group_of >= 0).sum() + (self._time >= 0).sum()), size)


def _neighbours(row: Ints) -> tuple[Ints, Ints]:
    """Return for each record the one before it of the same row, -1 where there is none, and the last record of each row.

    Examples
    --------
    >>> [found.tolist() for found in _neighbours(np.array([5, 7, 5]))]
    [[-1, -1, 0], [1, 2]]
    """
    order = np.argsort(row, kind="stable")
    same = row[order[1:]] == row[order[:-1]]
    before = np.full(len(row), -1, np.int64)
    before[order[1:][same]] = order[:-1][same]
    return before, np.sort(order[np.append(~same, True)])
