"""Custom state: a person's function, called with the rows of a key and what it kept for that key.

State is one row of bytes per key (`plan/kept_value.py`), the newest counts. The function is called once per key and micro-batch: that
is inherent, and all that Python does. It is always given its state as it comes back from those bytes, so that a restart changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from streamlab.engine.aggregates import LANE
from streamlab.engine.batch import Rows, empty
from streamlab.engine.event_time import event_times
from streamlab.engine.held.keyed_rows import KeyedRows
from streamlab.engine.held.runs import named
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.stateless import promised
from streamlab.errors import PlanError, StepError
from streamlab.plan.kept_value import decode, encode
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.apply_state import ApplyState

_KEPT = f"{RESERVED}kept"


@dataclass(frozen=True, slots=True)
class _Made:
    """What one call made: rows, their event times, and which row of the micro-batch each comes from."""

    data: pl.DataFrame
    time: Ints
    source: Ints


class StateFunction:
    """The operator: the function's rows, in the order of the rows that they come from."""

    delay = 0

    def __init__(self, step: ApplyState, *, laned: bool) -> None:
        self.name, self.laned = step.name, laned
        self._step = step
        keys = pl.Schema({LANE: pl.Int64(), **{name: step.input.schema[name] for name in step.by}})
        self._rows = KeyedRows(keys, pl.Schema({_KEPT: pl.Binary()}))
        self._initial = encode(step.initial)

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:  # noqa: ARG002  # nothing is ever late
        (rows,) = inputs
        none = empty(self._step.schema)
        if not rows.height:
            return Output(none, empty(self._step.input.schema))
        lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
        keys = pl.DataFrame([pl.Series(LANE, lane), *(rows.data[name] for name in self._step.by)])
        slots = self._rows.slots_of(keys, insert=True)
        made = list(self._calls(rows, keys, slots))
        return Output(self._together(rows, made), empty(self._step.input.schema))

    def _calls(self, rows: Rows, keys: pl.DataFrame, slots: Ints) -> Iterator[_Made]:
        """Call the function for each key, in order of first appearance, and keep its states."""
        order = np.argsort(slots, kind="stable")
        starts = np.flatnonzero(np.diff(slots[order], prepend=-1))
        ends = np.append(starts[1:], len(order))
        data = rows.data[order]
        held = self._rows.get_slots(slots[order[starts]])[_KEPT].to_list()
        changed: list[bytes] = []
        places: list[int] = []
        gone: list[int] = []
        first = order[starts]  # of each key, its first row in the micro-batch
        for which in np.argsort(first).tolist():
            start, end = int(starts[which]), int(ends[which])
            before = held[which]
            given = data.slice(start, end - start)
            made, state = self._call(given, self._initial if before is None else before)
            if state is None:
                gone.append(int(first[which]))
            else:
                kept = self._encoded(given, state)
                if kept != before:
                    changed.append(kept)
                    places.append(int(first[which]))
            yield self._placed(rows, given, made, order[start:end])
        self._rows.put_slots(slots[places], pl.DataFrame({_KEPT: pl.Series(changed, dtype=pl.Binary)}))
        self._rows.delete(keys[gone])

    def _call(self, given: pl.DataFrame, kept: bytes) -> tuple[pl.DataFrame, Any]:
        try:
            made = self._step.function(given, decode(kept))
        except Exception as error:
            raise StepError(f"{self._where(given)}: {type(error).__name__}: {error}") from error
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], pl.DataFrame)):  # noqa: PLR2004  # rows, state
            found = (
                f"({', '.join(type(part).__name__ for part in made)})"
                if isinstance(made, tuple)
                else type(made).__name__
            )
            raise StepError(
                f"{self._where(given)}: the function returned {found}; it must return (rows, state): a polars DataFrame, and the new "
                "state, None to forget the key."
            )
        return self._promised(given, made[0]), made[1]

    def _promised(self, given: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
        if not made.height:  # of no rows it does not matter what columns they have
            return pl.DataFrame(schema=self._step.schema)
        try:
            return promised(self._where(given), made, self._step.schema)
        except PolarsError as error:
            raise StepError(f"{self._where(given)}: {str(error).splitlines()[0]}") from error

    def _encoded(self, given: pl.DataFrame, state: Any) -> bytes:
        try:
            return encode(state)
        except (PlanError, PolarsError) as error:
            raise StepError(f"{self._where(given)}: {error}") from error

    def _placed(self, rows: Rows, given: pl.DataFrame, made: pl.DataFrame, places: Ints) -> _Made:
        """Say when and whence the rows of a call are: as many as were given are those; others are with the last that was given."""
        same = made.height == len(places)
        source = places if same else np.full(made.height, places[-1], np.int64)
        if self._step.event_time is None:
            time = rows.time[places] if same else np.full(made.height, rows.time[places].max(), np.int64)
            return _Made(made, time, source)
        time, bad = event_times(made[self._step.event_time])
        if bad.any():
            found = made[self._step.event_time].filter(pl.Series(bad))[0]
            raise StepError(
                f"{self._where(given)}: event time {self._step.event_time!r} is {found!r} in a row of the result; it must be from "
                "1970 to 9998."
            )
        return _Made(made, time, source)

    def _together(self, rows: Rows, made: Sequence[_Made]) -> Rows:
        source = np.concatenate([one.source for one in made])
        if not len(source):
            return empty(self._step.schema)
        order = np.argsort(source, kind="stable")
        data = pl.concat([one.data for one in made])[order]
        time, source = np.concatenate([one.time for one in made])[order], source[order]
        return Rows(data, time, rows.partition[source], rows.offset[source], rows.index[source])

    def _where(self, given: pl.DataFrame) -> str:
        key = ", ".join(f"{name}={given[name][0]!r}" for name in self._step.by)
        return self._step.describe() + (f": key {key}" if key else "")

    def close(self) -> Rows:
        return empty(self._step.schema)

    def changes(self) -> Changes:
        return named(self._rows)

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:  # noqa: ARG002  # all of it is in the frames
        self._rows.load((int(name), frame) for name, frame in frames)

    def holding(self) -> Holding:
        return Holding(len(self._rows), self._rows.estimated_size())

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        rows = of_keys(self._rows.frame(), key)
        states = [str(decode(kept)) for kept in rows[_KEPT]]
        return rows.select(LANE, *self._step.by).with_columns(pl.Series("state", states, pl.String))
