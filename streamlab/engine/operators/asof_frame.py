"""The as-of join with a frame: no state and no waiting, as all of the frame is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.batch import empty
from streamlab.engine.held.key_index import KeyIndex
from streamlab.engine.held.slot_frame import rows_at
from streamlab.engine.held.time_index import TimeIndex
from streamlab.engine.operator import Changes, Holding, Output
from streamlab.engine.operators.shared.join_rows import beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Ints, Rows
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.asof_frame import AsofFrame


class FrameAsof:
    """The operator: each row goes on with its record, at once."""

    delay = 0

    def __init__(self, step: AsofFrame, *, laned: bool) -> None:  # noqa: ARG002  # every task has the whole frame
        self.name, self._step = step.name, step
        self._keys = KeyIndex(pl.Schema({name: step.input.schema[name] for name in step.by.left}))
        self._index = TimeIndex()
        slots = self._slots(step.frame.select(step.by.right), insert=True)
        known = np.flatnonzero(slots >= 0)
        self._index.add(slots[known], step.times.to_numpy()[known], known)

    def _slots(self, keys: pl.DataFrame, *, insert: bool) -> Ints:
        """Return the slots of keys; -1 for a key with a null, which equals none, and for one that the frame has not."""
        keys = keys.rename(dict(zip(keys.columns, self._step.by.left, strict=True)))
        found = np.full(keys.height, -1)
        real = keys.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
        if real.any():
            found[real] = self._keys.slots(keys.filter(pl.Series(real)), insert=insert)
        return found

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:  # noqa: ARG002  # nothing waits for it
        (rows,) = inputs
        none = empty(self._step.schema)
        if not rows.height:
            return Output(none, none)
        slots, tolerance = self._slots(rows.data.select(self._step.by.left), insert=False), self._step.tolerance
        oldest = np.zeros_like(rows.time) if tolerance is None else rows.time - tolerance
        known, match = np.flatnonzero(slots >= 0), np.full(rows.height, -1)
        match[known], _ = self._index.latest(slots[known], oldest[known], rows.time[known])
        right, there = rows_at(self._step.frame, match), np.ones(rows.height, np.bool_)
        return Output(rows.with_data(beside(rows.data, right, there, (), self._step.added)), none)

    def close(self) -> Rows:
        return empty(self._step.schema)

    def changes(self) -> Changes:
        return Changes()

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        """Do nothing: the frame is in the plan."""

    def holding(self) -> Holding:
        size = int(self._step.frame.estimated_size()) + self._keys.estimated_size() + self._index.estimated_size()
        return Holding(self._step.frame.height, size)
