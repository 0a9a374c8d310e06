"""The operator behind a table sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.engine.aggregates import TIME
from streamlab.engine.held.keyed_rows import DELETED, KeyedRows
from streamlab.engine.operator import Changes, Holding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamlab.engine.batch import Rows
    from streamlab.plan.sinks import Sink


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
