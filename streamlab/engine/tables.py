"""Operators whose results are tables: the newest row of every key.

`Updates` keeps the partial results of every group and emits a group's current row each time it changes; with a window, a group is a key
in a window, and goes when the window closes. `Table` keeps the newest row of every key of a table sink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, TIME, WINDOW, compile_aggregates
from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.covering import bounds, judge, none_late
from streamlab.engine.keyed_rows import DELETED, KeyedRows
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.plan.schema import RESERVED
from streamlab.plan.windows import Tumbling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate
    from streamlab.plan.sinks import Sink

_ROW = f"{RESERVED}row"


class Updates:
    """The operator: the current row of each group that a micro-batch changed."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if not isinstance(step.window, Tumbling | None):
            raise TypeError(f"{step.window} is no tumbling window")
        self.name, self.window, self.laned = step.name, step.window, laned
        self.delay = step.window.grace if step.window else 0
        self._step = step
        lead = {LANE: pl.Int64(), **({WINDOW: pl.Int64()} if step.window else {})}
        keys = pl.Schema({**lead, **{name: step.input.schema[name] for name in step.by}})
        self._aggregates = compile_aggregates(step, keys.names())
        # where rows are kept and only the grouping columns are read, something must still say how many there are
        self._kept = self._aggregates.columns or (_ROW,)
        self._lists = tuple(pl.col(name).explode(empty_as_null=False) for name in self._kept)
        self._rows = KeyedRows(keys, self._partial_schema(keys))
        self._members: dict[tuple[int, int], list[pl.DataFrame]] = {}  # (lane, window) -> keys
        self._no_late = none_late(step.input.schema, self.window) if self.window else empty(step.input.schema)

    def _partial_schema(self, keys: pl.Schema) -> pl.Schema:
        frame = pl.DataFrame(schema={**keys, **self._step.input.schema, _ROW: pl.Int8(), TIME: pl.Int64()})
        return self._partials(frame).drop(keys.names()).schema

    def _partials(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row a group in order of first appearance; where rows are kept, their columns as lists."""
        aggregates = self._aggregates
        parts = aggregates.start if not aggregates.keeps_rows else [pl.col(name) for name in self._kept]
        return rows.group_by(aggregates.keys, maintain_order=True).agg(*parts, pl.col(TIME).max())

    def _combined(self, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
        aggregates = self._aggregates
        together = aggregates.together if not aggregates.keeps_rows else self._lists
        whole = pl.concat(parts).group_by(aggregates.keys, maintain_order=True)
        return whole.agg(*together, pl.col(TIME).max())

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        late, emitted = self._no_late, empty(self._step.schema)
        if rows.height:
            lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
            starts = None
            if self.window:
                judged = judge(rows, lane, self.window, watermarks)
                late, keep = judged.late, judged.in_time
                rows, starts, lane = rows.filter(keep), judged.last[keep], lane[keep]
            if rows.height:
                emitted = self._update(rows, starts, lane)
        self._close(watermarks.after)
        return Output(emitted, late)

    def _update(self, rows: Rows, starts: Ints | None, lane: Ints) -> Rows:
        lead = [
            pl.Series(LANE, lane),
            pl.Series(TIME, rows.time),
            pl.Series(_ROW, np.zeros(rows.height, np.int8)),
            *([pl.Series(WINDOW, starts)] if starts is not None else []),
        ]
        columns = [rows.data[name] for name in (*self._step.by, *self._aggregates.columns)]
        fresh = self._partials(pl.DataFrame([*columns, *lead]))
        keys = fresh.select(self._aggregates.keys)
        held, found = self._rows.get(keys)
        if self.window:
            self._remember(keys.filter(pl.Series(~found)))
        if found.any():
            mask = pl.Series(found)
            fresh = self._combined(
                [keys.filter(mask).hstack(held.filter(mask)), fresh.select(*keys.columns, *held.columns)]
            )
        self._rows.put(fresh)
        return self._values(fresh)

    def _remember(self, keys: pl.DataFrame) -> None:
        if keys.height:
            for (lane, start), part in keys.partition_by(LANE, WINDOW, as_dict=True).items():
                self._members.setdefault((lane, start), []).append(part)

    def _values(self, partials: pl.DataFrame) -> Rows:
        aggregates = self._aggregates
        data = partials
        if aggregates.keeps_rows:
            long = partials.explode(list(self._kept), empty_as_null=False)
            data = partials.select(aggregates.keys).hstack(
                long.group_by(aggregates.keys, maintain_order=True).agg(aggregates.values).drop(aggregates.keys)
            )
        else:
            data = aggregates.finish(partials)
        if self.window:
            starts = partials[WINDOW].to_numpy()
            data = data.with_columns(bounds(starts, self.window))
        made = np.full(partials.height, MADE, np.int64)
        lane = partials[LANE].to_numpy()
        return Rows(data.select(self._step.schema.names()), partials[TIME].to_numpy(), lane, made, made)

    def _close(self, after: Ints) -> None:
        if not self.window:
            return
        length = self.window.size + self.window.grace
        for lane, start in [at for at in self._members if at[0] < len(after) and at[1] + length <= int(after[at[0]])]:
            for keys in self._members.pop((lane, start)):
                self._rows.delete(keys)

    def close(self) -> Rows:
        return empty(self._step.schema)

    def changes(self) -> Changes:
        return _named(self._rows)

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:  # noqa: ARG002  # all of it is in the frames
        self._rows.load((int(name), frame) for name, frame in frames)
        if self.window:
            self._remember(self._rows.frame().select(self._aggregates.keys))

    def holding(self) -> Holding:
        oldest = min((start for _, start in self._members), default=None)
        return Holding(len(self._rows), self._rows.estimated_size(), len(self._members), oldest)


class Table:
    """The operator behind a table sink: the newest row of every key."""

    delay = 0

    def __init__(self, sink: Sink) -> None:
        self.name, self._by, self._schema = f"table:{sink.target}", sink.by, sink.schema
        values = {name: dtype for name, dtype in sink.schema.items() if name not in sink.by}
        self._rows = KeyedRows(
            pl.Schema({name: sink.schema[name] for name in sink.by}), pl.Schema({**values, TIME: pl.Int64()})
        )

    def upsert(self, rows: Rows) -> None:
        """Take in rows; the last of equal keys wins, and one that is deleted goes."""
        data = rows.data.with_columns(pl.Series(TIME, rows.time))
        if rows.deleted is None or not rows.deleted.any():
            self._rows.put(data)
            return
        last = rows.data.select(pl.struct(self._by).is_last_distinct()).to_series().to_numpy()
        self._rows.put(data.filter(pl.Series(last & ~rows.deleted)))
        self._rows.delete(data.filter(pl.Series(last & rows.deleted)).select(self._by))

    def frame(self) -> pl.DataFrame:
        """Return all rows."""
        return self._rows.frame().select(self._schema.names())

    def changes(self) -> Changes:
        return _named(self._rows)

    def progress(self) -> Any:
        return {"by": list(self._by), "columns": self._schema.names(), "deleted": DELETED}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:  # noqa: ARG002  # all of it is in the frames
        self._rows.load((int(name), frame) for name, frame in frames)

    def holding(self) -> Holding:
        return Holding(len(self._rows), self._rows.estimated_size())


def _named(rows: KeyedRows) -> Changes:
    changes = rows.changes()
    return Changes(
        {f"{number:012d}": frame for number, frame in changes.put}, [f"{number:012d}" for number in changes.dropped]
    )
