"""The rows of a frame as a table: given out once, and after a restart with other rows what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.held.key_index import differ
from streamlab.engine.held.keyed_rows import KeyedRows
from streamlab.engine.held.runs import named
from streamlab.engine.operator import Changes, Holding, Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.table_source import StaticTable


class Static:
    """The operator: no input; its rows come with the first micro-batch, before all records."""

    delay = 0

    def __init__(self, step: StaticTable, *, laned: bool) -> None:  # noqa: ARG002  # one task gives them out
        self.name, self._frame, self._by = step.name, step.frame, list(step.table_key)
        values = pl.Schema({name: dtype for name, dtype in step.schema.items() if name not in step.table_key})
        self._given = KeyedRows(pl.Schema({name: step.schema[name] for name in self._by}), values)
        self._done = False

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:  # noqa: ARG002  # it has none
        none = empty(self._frame.schema)
        if self._done:
            return Output(none, none)
        self._done = True
        gone, fresh = self._difference()
        self._given.delete(gone)
        self._given.put(fresh)
        return Output(self._rows(gone, fresh), none)

    def _difference(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the keys that were given out and are no more, and the rows that are new or others now."""
        if not len(self._given):
            return self._frame.select(self._by).clear(), self._frame
        held, found = self._given.get(self._frame.select(self._by))
        changed = ~found
        if held.width:
            changed |= differ(self._frame.select(held.columns), held)
        before = self._given.frame().select(self._by)
        gone = before.join(self._frame, on=self._by, how="anti", nulls_equal=True)
        return gone, self._frame.filter(pl.Series(changed))

    def _rows(self, gone: pl.DataFrame, fresh: pl.DataFrame) -> Rows:
        data = pl.concat([gone, fresh], how="diagonal").select(
            pl.col(name).cast(dtype) for name, dtype in self._frame.schema.items()
        )
        made, zero = np.full(data.height, MADE, np.int64), np.zeros(data.height, np.int64)
        deleted = np.arange(data.height) < gone.height
        return Rows(data, zero, zero, made, made, deleted if gone.height else None)

    def close(self) -> Rows:
        return empty(self._frame.schema)

    def changes(self) -> Changes:
        return named(self._given)

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:  # noqa: ARG002  # all of it is in the frames
        self._given.load((int(name), frame) for name, frame in frames)

    def holding(self) -> Holding:
        return Holding(len(self._given), self._given.estimated_size())
