"""Rows by number, changed in place: columns of a fixed width in arrays, all others in a `SlotFrame`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.engine.held.slot_frame import SlotFrame, Slots, grown

_WIDTHS: dict[Any, type[np.generic]] = {
    pl.Int8: np.int8,
    pl.Int16: np.int16,
    pl.Int32: np.int32,
    pl.Int64: np.int64,
    pl.UInt8: np.uint8,
    pl.UInt16: np.uint16,
    pl.UInt32: np.uint32,
    pl.UInt64: np.uint64,
    pl.Float32: np.float32,
    pl.Float64: np.float64,
    pl.Boolean: np.bool_,
    pl.Date: np.int32,
    pl.Datetime: np.int64,
    pl.Duration: np.int64,
    pl.Time: np.int64,
}


class RowStore:
    """Rows under numbers that the caller gives: dense ones, since arrays are as long as the largest.

    Parameters
    ----------
    schema
        Columns of a row.

    Examples
    --------
    >>> store = RowStore(pl.Schema({"n": pl.Int64, "name": pl.String}))
    >>> store.put(np.array([2, 0]), pl.DataFrame({"n": [7, None], "name": ["a", "b"]}))
    >>> store.take(np.array([0, 2])).rows()
    [(None, 'b'), (7, 'a')]
    """

    def __init__(self, schema: pl.Schema) -> None:
        self.schema = pl.DataFrame(schema=schema).schema
        self._columns = {
            name: _Column(dtype, _WIDTHS[dtype.base_type()])
            for name, dtype in self.schema.items()
            if dtype.base_type() in _WIDTHS
        }
        self._others = SlotFrame(pl.Schema({n: t for n, t in self.schema.items() if n not in self._columns}))

    def take(self, rows: Slots) -> pl.DataFrame:
        """Return rows; what stands in one whose number was never put, or is -1, says nothing."""
        others = self._others.take(rows) if self._others.schema else pl.DataFrame()
        return pl.DataFrame(
            [self._columns[n].take(rows).alias(n) if n in self._columns else others[n] for n in self.schema]
        )

    def put(self, rows: Slots, values: pl.DataFrame) -> None:
        """Set rows; no number may repeat."""
        for name, column in self._columns.items():
            column.put(rows, values[name])
        if self._others.schema:
            self._others.put(rows, values.select(self._others.schema.names()))

    def drop(self, rows: Slots) -> None:
        """Forget rows; their numbers may come again."""
        if self._others.schema:
            self._others.drop(rows)

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return self._others.estimated_size() + sum(column.nbytes for column in self._columns.values())


class _Column:
    """Values of a fixed width; whether they are known once one was not."""

    def __init__(self, dtype: pl.DataType, width: type[np.generic]) -> None:
        self._dtype = dtype
        self._values: npt.NDArray[Any] = np.zeros(1024, width)
        self._known: npt.NDArray[np.bool_] | None = None

    @property
    def nbytes(self) -> int:
        return self._values.nbytes + (0 if self._known is None else self._known.nbytes)

    def take(self, rows: Slots) -> pl.Series:
        series = pl.Series(self._values.take(rows))
        if series.dtype != self._dtype:
            series = series.cast(self._dtype)
        if self._known is None:
            return series
        unknown = ~self._known[rows]
        return series.set(pl.Series(unknown), None) if unknown.any() else series

    def put(self, rows: Slots, values: pl.Series) -> None:
        size = int(rows.max(initial=-1)) + 1
        self._values = grown(self._values, size, 0)
        nulls = values.null_count()
        if nulls and self._known is None:
            self._known = np.ones(len(self._values), np.bool_)
        if self._known is not None:
            self._known = grown(self._known, len(self._values), 1)
            self._known[rows] = values.is_not_null().to_numpy() if nulls else True
        physical = values.to_physical()
        if nulls:
            physical = physical.fill_null(False if physical.dtype == pl.Boolean else 0)
        self._values[rows] = physical.to_numpy()
