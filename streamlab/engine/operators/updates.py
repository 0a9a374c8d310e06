"""Groups that emit their current row each time it changes: for ever, or in tumbling or hopping windows.

What is held is a row for each key and window. Hopping windows are held so only where an aggregation goes by arrival: see `paned_updates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, TIME, compile_aggregates
from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.held.key_index import distinct
from streamlab.engine.held.pair_index import pairs_of
from streamlab.engine.held.slot_frame import Slots, own_texts
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.operators.shared.covering import (
    Fixed,
    Judged,
    bounds,
    closed_by,
    judge,
    none_late,
    spread,
)
from streamlab.engine.operators.shared.group_rows import GroupRows, lane_key
from streamlab.engine.stream_time import NEVER, grown
from streamlab.plan.aggregations import EARLIER
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate

_ROW, GROUP, FIRST = (f"{RESERVED}{name}" for name in ("row", "group", "first_row"))


class Updates:
    """The operator: the current row of each group that a micro-batch changed."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if not isinstance(step.window, Fixed | None):
            raise TypeError(f"{step.window} is neither tumbling nor hopping")
        self.name, self.window, self.laned = step.name, step.window, laned
        self.delay = step.window.grace if step.window else 0
        self._every = step.window.every if step.window else 1
        self._step, self._aggregates = step, compile_aggregates(step, step.by)
        # where rows are kept and only the grouping columns are read, something must still say how many there are
        self._kept = (self._aggregates.columns or (_ROW,)) if self._aggregates.keeps_rows else ()
        read = {name for e in step.expanded for name in e.meta.root_names()}
        self._read = [*self._aggregates.columns, *(name for name in step.by if name in read)]
        keys = {**lane_key(laned=laned, by=step.by), **{name: step.input.schema[name] for name in step.by}}
        together = [*self._aggregates.together, pl.col(TIME).max()]
        self._groups = GroupRows(pl.Schema(keys), self._partial_schema(), self._merges(), together)
        self._closed = np.empty(0, np.int64)  # by lane: the newest start of a window that is closed
        self._no_late = none_late(step.input.schema, self.window) if self.window else empty(step.input.schema)

    def _partial_schema(self) -> pl.Schema:
        schema = {**self._step.input.schema, _ROW: pl.Int8(), TIME: pl.Int64(), GROUP: pl.Int64()}
        return self._partials(pl.DataFrame(schema=schema)).drop(GROUP, FIRST).schema

    def _partials(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row a group in order of first appearance; where rows are kept, their columns as lists."""
        parts = [pl.col(name) for name in self._kept] or self._aggregates.start
        numbered = rows.with_row_index(FIRST)
        return numbered.group_by(GROUP, maintain_order=True).agg(*parts, pl.col(TIME).max(), pl.col(FIRST).first())

    def _merges(self) -> dict[str, pl.Expr]:
        made = [pl.concat_list(name + EARLIER, name).alias(name) for name in self._kept] or self._aggregates.merge
        made = [*made, pl.max_horizontal(TIME + EARLIER, TIME).alias(TIME)]
        return {expr.meta.output_name(): expr for expr in made}

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        emitted, late, reached = empty(self._step.schema), self._no_late, rows.index
        before = self._closed
        self._closed = self._closed_by(watermarks.after)
        if rows.height:
            lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
            judged = judge(rows, lane, self.window, watermarks) if self.window else _for_ever(rows, self._no_late)
            late, reached, keep = judged.late, judged.reached, judged.in_time
            if keep.any():
                emitted = self._update(rows.filter(keep), lane[keep], judged.since[keep], judged.last[keep])
        if len(self._closed) > len(before) or (self._closed > before).any():
            self._drop()
        return Output(emitted, late, reached)

    def _update(self, rows: Rows, lane: Ints, since: Ints, last: Ints) -> Rows:
        slots = self._slots(rows, lane)
        if all(each.min() == each.max() for each in (since, last)):  # then one group a key is enough
            fresh = self._split(rows, np.arange(rows.height), slots)
            row = fresh[FIRST].to_numpy().astype(np.int64)
            covered = np.arange(since[0], last[0] + 1, self._every)
            own, starts = np.tile(row, len(covered)), np.repeat(covered, len(row))  # window by window
            pairs = pairs_of(self._number(lane[own], starts), slots[own])
            fresh = pl.concat([fresh] * len(covered))
        else:
            which, starts = spread(since, last, self._every)
            fresh = self._split(rows, which, pairs_of(self._number(lane[which], starts), slots[which]))
            pairs, first = fresh[GROUP].to_numpy(), fresh[FIRST].to_numpy().astype(np.int64)
            own, starts = which[first], starts[first]
        now = self._groups.add(pairs, fresh.drop(GROUP, FIRST))
        return self._values(now, self._given(rows, own), starts, lane[own])

    def _slots(self, rows: Rows, lane: Ints) -> Slots:
        """Return the slots of the rows' keys."""
        lead = [pl.Series(LANE, lane)] if LANE in self._groups.index.schema else []
        keys = pl.DataFrame([*lead, *(rows.data[name] for name in self._step.by)])
        return self._groups.index.slots(keys, insert=True)

    def _given(self, rows: Rows, own: Ints) -> pl.DataFrame | None:
        """Return the grouping columns of some rows, if there are any."""
        return rows.data.select(self._step.by)[own] if self._step.by else None

    def _split(self, rows: Rows, which: Ints, group: Slots) -> pl.DataFrame:
        """Return partial results of rows, by group."""
        lead = [
            pl.Series(GROUP, group),
            pl.Series(TIME, rows.time[which]),
            pl.Series(_ROW, np.zeros(len(which), np.int8)),
        ]
        columns = rows.data.select(self._read)
        if not columns.width:
            return self._partials(pl.DataFrame(lead))
        every = len(which) == rows.height and bool((np.diff(which) > 0).all())
        return own_texts(self._partials((columns if every else columns[which]).hstack(lead)))

    def _number(self, lane: Ints, starts: Ints, number: Callable[[int, int], int] | None = None) -> Slots:
        """Return the numbers of windows, which are told apart by lane and start."""
        number = number or self._groups.number
        low, lanes = int(starts.min()), int(lane.max()) + 1
        code = (starts - low) * lanes + lane
        kinds = code[:1] if code[0] == code[-1] and (code == code[0]).all() else distinct(code)
        found = [number(int(c % lanes), low + int(c // lanes)) for c in kinds]
        return np.array(found, np.int64)[np.searchsorted(kinds, code)]

    def _values(self, partials: pl.DataFrame, given: pl.DataFrame | None, starts: Ints, lane: Ints) -> Rows:
        """Return the current rows of groups; `given` has their grouping columns."""
        if self._kept:
            numbered = partials.select(self._kept).with_row_index(GROUP)
            numbered = numbered if given is None else numbered.hstack(given.select(self._step.by))
            long = numbered.explode(list(self._kept), empty_as_null=False)
            data = long.group_by(GROUP, maintain_order=True).agg(self._aggregates.values)
        else:
            data = partials.select(self._aggregates.values)
        if given is not None:
            data = data.hstack(given.select(self._step.by))
        if self.window:
            data = data.with_columns(bounds(starts, self.window))
        made = np.full(len(starts), MADE, np.int64)
        return Rows(data.select(self._step.schema.names()), partials[TIME].to_numpy(), lane, made, made)

    def _closed_by(self, watermark: Ints) -> Ints:
        """Return the newest start of a window that is closed, by lane; lanes may be known that have no watermark yet."""
        if not self.window:
            return self._closed
        width = max(len(watermark), len(self._closed))
        return np.maximum(grown(closed_by(watermark, self.window), width, NEVER), grown(self._closed, width, NEVER))

    def _drop(self) -> None:
        """Forget the windows that are closed."""
        closed = self._closed.tolist()
        self._groups.drop(lambda window: window.lane < len(closed) and window.start <= closed[window.lane])

    def close(self) -> Rows:
        return empty(self._step.schema)

    def changes(self) -> Changes:
        return self._groups.changes()

    def progress(self) -> Any:
        return {"sequence": self._groups.sequence, "closed": self._closed.tolist()}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._groups.sequence, self._closed = progress["sequence"], np.array(progress["closed"], np.int64)
        self._groups.load(frames)

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        found = [empty(self._step.schema).data.with_columns(pl.lit(0, pl.Int64).alias(LANE))]
        for number, window in self._groups.windows.items():
            slots, partials = self._groups.read(number)
            keys = self._groups.index.keys(slots).with_row_index(_ROW)
            at = of_keys(keys, key)[_ROW]
            starts, lane = np.full(len(at), window.start), np.full(len(at), window.lane)
            rows = self._values(partials[at], keys[at] if self._step.by else None, starts, lane)
            found.append(rows.data.with_columns(pl.Series(LANE, lane)))
        return pl.concat(found)

    def holding(self) -> Holding:
        starts = [window.start for window in self._groups.windows.values() if self.window]
        return Holding(len(self._groups), self._groups.estimated_size(), len(starts), min(starts, default=None))


def _for_ever(rows: Rows, late: Rows) -> Judged:
    """Return that no row is late where there is no window."""
    none = np.zeros(rows.height, np.int64)
    return Judged(none, none, late, rows.index, none[:0])
