"""What a table aggregation keeps of rows and groups: sums that rows are taken out of, or the rows themselves.

Both know rows and groups by slot. A batch's work comes as `Moves`: each record takes its row's old values out of a group and adds new ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from streamlab.engine.held.exact_sums import FloatSums, spread
from streamlab.engine.held.slot_frame import SlotFrame, grown
from streamlab.plan.aggregations import from_rows
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.held.keyed_rows import KeyedRows
    from streamlab.plan.measures import Measures, Subtractable
    from streamlab.plan.table_aggregate import TableAggregate


@dataclass(frozen=True, slots=True)
class Moves:
    """Rows of one batch on their way from group to group.

    Parameters
    ----------
    data
        Columns of the input, a row a record.
    live
        Which records set a row; the others delete one.
    row
        Slot of each record's row.
    before
        The record that last changed that row in this batch; -1: what is kept counts.
    last
        Records that are the last of their row, positions.
    group
        Slot of the group that each record's row comes to; -1: none, it is deleted.
    touched
        Slots of the groups that change, in the order of their last change.
    changes
        Positions in the interleaved list (out of the old group, into the new one, record by record) that change a group.
    into
        Of each of those, the place of its group in `touched`.
    sequence
        Number of each record in order of arrival, over all batches.
    """

    data: pl.DataFrame
    live: Bools
    row: Ints
    before: Ints
    last: Ints
    group: Ints
    touched: Ints
    changes: Ints
    into: Ints
    sequence: Ints


class Values(Protocol):
    """How the values of groups are kept and worked out."""

    row_schema: pl.Schema
    """Columns kept of a row."""
    group_schema: pl.Schema
    """Columns kept of a group."""

    def move(self, moves: Moves, rows: KeyedRows, group_of: Ints) -> None:
        """Take in a batch; `group_of` is by row slot, as after it."""
        ...

    def finish(self, groups: Ints) -> list[pl.Series]:
        """Return the aggregations of the groups that the last batch touched, in this order."""
        ...

    def rows_kept(self, slots: Ints) -> pl.DataFrame:
        """Return what a checkpoint keeps of rows."""
        ...

    def groups_kept(self, slots: Ints) -> pl.DataFrame:
        """Return what a checkpoint keeps of groups."""
        ...

    def load(self, row: Ints, rows: pl.DataFrame, group: Ints, groups: pl.DataFrame, group_of: Ints) -> None:
        """Go on from what was kept of rows and groups, with the slots that they have now."""
        ...

    def size(self) -> int:
        """Return about how many bytes are held."""
        ...


class Sums:
    """Sums by group of measures by row: a record costs an addition and a subtraction."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._exprs = [e.alias(f"m{n}") for n, e in enumerate(measures.exprs)]
        kinds = [np.float64 if floating else np.int64 for floating in measures.floats]
        self._of_row: list[np.ndarray[Any, Any]] = [np.zeros(1, kind) for kind in kinds]
        self._sums: dict[str, FloatSums | Ints] = {}
        for number, floating in enumerate(measures.floats):
            self._sums[f"s{number}"] = FloatSums.empty() if floating else np.zeros(1, np.int64)
            if number in measures.squared:
                self._sums[f"q{number}"] = FloatSums.empty()
        self.row_schema = pl.Schema({f"m{n}": pl.Float64() if f else pl.Int64() for n, f in enumerate(measures.floats)})
        self.group_schema = self.groups_kept(np.empty(0, np.int64)).schema

    def move(self, moves: Moves, rows: KeyedRows, group_of: Ints) -> None:  # noqa: ARG002  # it keeps rows itself
        live = None if moves.live.all() else np.flatnonzero(moves.live)
        given = moves.data if live is None else moves.data[live]
        given = given.with_columns(self._exprs).select(self.row_schema.names())
        size = int(moves.row.max()) + 1
        sign = np.where(moves.changes % 2, 1, -1)
        groups = int(moves.touched.max(initial=0)) + 1
        ends = moves.row[moves.last]
        for number, floating in enumerate(self._measures.floats):
            kept = self._of_row[number] = grown(self._of_row[number], size, 0)
            new = given[f"m{number}"].to_numpy()
            if live is not None:  # expressions see no deletions
                new, some = np.zeros(moves.data.height, kept.dtype), new
                new[live] = some
            both = np.empty(2 * len(new), kept.dtype)
            both[0::2] = np.where(moves.before >= 0, new[moves.before], kept[moves.row])
            both[1::2] = new
            kept[ends] = new[moves.last]
            self._add(f"s{number}", moves, both[moves.changes], sign, groups, square=False)
            if floating and number in self._measures.squared:
                self._add(f"q{number}", moves, both[moves.changes], sign, groups, square=True)

    def _add(
        self, name: str, moves: Moves, values: np.ndarray[Any, Any], sign: Ints, groups: int, *, square: bool
    ) -> None:
        sums = self._sums[name]
        if isinstance(sums, FloatSums):
            sums.grow(groups)
            with np.errstate(all="ignore"):  # of numbers near the largest there are the squares are infinite
                sums.change(moves.touched, moves.into, values, sign.astype(np.float64), square=square)
            return
        self._sums[name] = sums = grown(sums, groups, 0)
        np.add.at(sums, moves.touched[moves.into], values * sign)

    def finish(self, groups: Ints) -> list[pl.Series]:
        with np.errstate(all="ignore"):
            return [self._value(output, groups) for output in self._measures.outputs]

    def _value(self, output: Subtractable, groups: Ints) -> pl.Series:
        sums = self._sums[f"s{output.total}"]
        if not isinstance(sums, FloatSums):
            return pl.Series(output.name, sums[groups]).cast(output.dtype, wrap_numerical=True)
        total = sums.at(groups)
        value = total.high + total.low
        enough = np.ones(len(groups), np.bool_)
        if output.count is not None:
            counts = self._sums[f"s{output.count}"]
            count: Ints = counts[groups]  # type: ignore[index]  # a count is whole
            enough = count > (output.ddof if output.kind == "spread" else 0)
            if output.kind == "mean":
                value = value / np.maximum(count, 1)
            else:
                squares: FloatSums = self._sums[f"q{output.total}"]  # type: ignore[assignment]  # by its name
                apart = np.where(np.isfinite(value), spread(total, squares.at(groups), count), np.nan)
                value = apart / np.maximum(count - output.ddof, 1)
                value = np.sqrt(value) if output.root else value
        made = pl.Series(output.name, value)
        return made.set(pl.Series(~enough), None).cast(output.dtype)

    def forget(self, groups: Ints) -> None:
        """Let groups without rows be sums of nothing: what rounding left of them goes."""
        for sums in self._sums.values():
            if isinstance(sums, FloatSums):
                sums.clear(groups)

    def rows_kept(self, slots: Ints) -> pl.DataFrame:
        return pl.DataFrame({f"m{n}": kept[slots] for n, kept in enumerate(self._of_row)}, height=len(slots))

    def groups_kept(self, slots: Ints) -> pl.DataFrame:
        columns: dict[str, Any] = {}
        for name, sums in self._sums.items():
            if isinstance(sums, FloatSums):
                columns |= {f"{name}_{part}": values for part, values in sums.saved(slots).items()}
            else:
                columns[name] = sums[slots]
        return pl.DataFrame(columns, height=len(slots))

    def load(self, row: Ints, rows: pl.DataFrame, group: Ints, groups: pl.DataFrame, group_of: Ints) -> None:  # noqa: ARG002  # sums need no members
        for number in range(len(self._of_row)):
            self._of_row[number] = grown(self._of_row[number], int(row.max(initial=0)) + 1, 0)
            self._of_row[number][row] = rows[f"m{number}"].to_numpy()
        size = int(group.max(initial=0)) + 1
        for name, sums in self._sums.items():
            if isinstance(sums, FloatSums):
                sums.grow(size)
                mine = [column for column in groups.columns if column.startswith(f"{name}_")]
                sums.load(group, {column.removeprefix(f"{name}_"): groups[column].to_numpy() for column in mine})
            else:
                self._sums[name] = grown(sums, size, 0)
                self._sums[name][group] = groups[name].to_numpy()  # type: ignore[index]  # as above

    def size(self) -> int:
        arrays = [*self._of_row, *(s if not isinstance(s, FloatSums) else s.odd for s in self._sums.values())]
        return sum(array.nbytes for array in arrays)


_SEQUENCE, _ROW, _ID = (f"{RESERVED}{name}" for name in ("sequence", "row", "id"))


class KeptRows:
    """The rows of each group: a changed group is worked out anew from all of its rows, in order of arrival."""

    def __init__(self, step: TableAggregate) -> None:
        exprs = step.expanded
        read = {name for e in exprs for name in e.meta.root_names()}
        self._names = {name: f"v{n}" for n, name in enumerate(name for name in step.input.schema if name in read)}
        self._outputs = [(e.meta.output_name(), step.schema[e.meta.output_name()]) for e in exprs]
        self._aggs = [
            from_rows(e, step.input.schema, dtype) for e, (_, dtype) in zip(exprs, self._outputs, strict=True)
        ]
        self.row_schema = pl.Schema(
            {new: step.input.schema[name] for name, new in self._names.items()} | {_SEQUENCE: pl.Int64()}
        )
        self.group_schema = pl.Schema()
        self._members = SlotFrame(pl.Schema({_ROW: pl.List(pl.Int64)}))  # by group; some of them have left
        self._values = pl.DataFrame()
        none = pl.DataFrame(schema={name: step.input.schema[name] for name in self._names})
        empty = none.select(self._aggs)
        self._empty = empty if empty.height == 1 else empty.clear(1)

    def columns(self, data: pl.DataFrame, sequence: Ints) -> pl.DataFrame:
        """Return what is kept of rows."""
        return pl.DataFrame(
            [*(data[name].alias(new) for name, new in self._names.items()), pl.Series(_SEQUENCE, sequence)]
        )

    def move(self, moves: Moves, rows: KeyedRows, group_of: Ints) -> None:
        ends = moves.last[moves.live[moves.last]]
        place = np.full(int(moves.touched.max(initial=0)) + 1, -1, np.int64)
        place[moves.touched] = np.arange(len(moves.touched))
        known = self._members.take(moves.touched).with_columns(pl.Series(_ID, np.arange(len(moves.touched))))
        known = known.explode(_ROW, empty_as_null=False).drop_nulls()
        fresh = pl.DataFrame({_ROW: moves.row[ends], _ID: place[moves.group[ends]]})
        members = pl.concat([known.select(_ROW, _ID), fresh]).unique()
        stays = group_of[members[_ROW].to_numpy()] == moves.touched[members[_ID].to_numpy()]
        members = members.filter(pl.Series(stays))
        slots = members[_ROW].to_numpy()
        kept = rows.get_slots(slots).hstack(members).sort(_SEQUENCE)
        lists = kept.group_by(_ID).agg(_ROW)
        self._members.put(moves.touched[lists[_ID].to_numpy()], lists.select(_ROW))
        gone = np.setdiff1d(np.arange(len(moves.touched)), lists[_ID].to_numpy())
        left = moves.touched[gone]
        self._members.drop(left[self._members.has(left)])
        values = kept.rename({new: name for name, new in self._names.items()}).group_by(_ID).agg(self._aggs)
        nothing = pl.DataFrame({_ID: gone}).join(self._empty, how="cross") if len(gone) else values.clear()
        self._values = pl.concat([values, nothing.select(values.columns)]).sort(_ID)

    def finish(self, groups: Ints) -> list[pl.Series]:  # noqa: ARG002  # those that were touched
        return [self._values[name] for name, _ in self._outputs]

    def forget(self, groups: Ints) -> None:
        """Do nothing: no row, no value."""

    def rows_kept(self, slots: Ints) -> pl.DataFrame:
        raise NotImplementedError

    def groups_kept(self, slots: Ints) -> pl.DataFrame:
        return pl.DataFrame(height=len(slots))

    def load(self, row: Ints, rows: pl.DataFrame, group: Ints, groups: pl.DataFrame, group_of: Ints) -> None:  # noqa: ARG002  # all is in the rows
        if len(row):
            lists = pl.DataFrame({_ROW: row, _ID: group_of[row]}).group_by(_ID).agg(_ROW)
            self._members.put(lists[_ID].to_numpy(), lists.select(_ROW))

    def size(self) -> int:
        return self._members.estimated_size()
