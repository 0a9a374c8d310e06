"""Rows by slot: appended to frames, the newest counts, and the others are dropped when they outweigh those."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.errors import StepError, UnknownColumnError

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_MANY = 4096  # rows from which on working part by part is worth its overhead
_SLACK = 256  # rows of garbage that are not worth a compaction


class SlotFrame:
    """The newest row of each slot, in frames that are only appended to."""

    def __init__(self, schema: pl.Schema) -> None:
        self._rows = pl.DataFrame(schema=schema)  # the parts as one frame of several chunks
        self._parts = [self._rows]
        self.schema = self._rows.schema
        self._row_of = np.full(1, -1, np.int32)  # by slot; -1 where there is none
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def has(self, slots: Slots) -> Mask:
        """Return which slots have a row."""
        return self._find(slots) >= 0

    def used(self) -> Slots:
        """Return the slots that have a row, in ascending order."""
        return np.flatnonzero(self._row_of >= 0)

    def take(self, slots: Slots) -> pl.DataFrame:
        """Return the newest rows of slots, nulls where there is none."""
        rows = self._find(slots)
        if len(rows) < _MANY or len(self._parts) == 1:
            return rows_at(self._rows, rows)
        taken, place, start, done = [], np.full(len(rows), -1), 0, 0
        for part in self._parts:  # polars is several times slower on chunks
            at = np.flatnonzero((rows >= start) & (rows < start + part.height))
            taken.append(rows_at(part, rows[at] - start))
            place[at] = np.arange(done, done + len(at))
            start, done = start + part.height, done + len(at)
        return rows_at(pl.concat(taken, rechunk=True), place)

    def put(self, slots: Slots, rows: pl.DataFrame) -> None:
        """Set the rows of slots; of rows for one slot the last counts."""
        self._row_of = grown(self._row_of, int(slots.max(initial=0)) + 1, -1)
        had = self._row_of[slots] >= 0
        number = np.arange(len(slots), dtype=np.int32)
        self._row_of[slots] = number
        last = np.flatnonzero(self._row_of[slots] == number)
        slots, rows, had = slots[last], rows_at(rows, last), had[last]  # a copy: a slice would keep all it was cut from
        self._row_of[slots] = np.arange(self._rows.height, self._rows.height + len(slots))
        self._live += len(slots) - int(had.sum())
        keep, height = len(self._parts), rows.height
        while keep and 2 * height > self._parts[keep - 1].height:
            keep -= 1
            height += self._parts[keep].height
        self._parts[keep:] = [own_texts(pl.concat([*self._parts[keep:], rows], rechunk=True))]
        self._rows = pl.concat(self._parts)
        self._compact()

    def drop(self, slots: Slots) -> None:
        """Forget the rows of slots that have one; no slot may repeat."""
        self._row_of[slots] = -1
        self._live -= len(slots)
        self._compact()

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return int(self._rows.estimated_size()) + self._row_of.nbytes

    def _find(self, slots: Slots) -> npt.NDArray[np.int32]:
        self._row_of = grown(self._row_of, int(slots.max(initial=0)) + 1, -1)
        rows: npt.NDArray[np.int32] = self._row_of[slots]
        rows[slots < 0] = -1
        return rows

    def _compact(self) -> None:
        if self._rows.height > 2 * self._live + _SLACK:
            slots = self.used()
            self._rows = own_texts(rows_at(self._rows, self._row_of[slots]))
            self._parts = [self._rows]
            self._row_of[slots] = np.arange(len(slots))


def conform(frame: pl.DataFrame, schema: pl.Schema, step: str) -> pl.DataFrame:
    """Return the columns of a schema, in its order, or say which one does not fit."""
    if frame.schema == schema:
        return frame
    for name, dtype in schema.items():
        if name not in frame.schema:
            raise UnknownColumnError(step, name, frame.columns)
        if frame.schema[name] != dtype:
            raise StepError(f"{step}: column {name!r} is {frame.schema[name]}; it must be {dtype}. Cast it before.")
    return frame[schema.names()] if schema else pl.DataFrame(height=frame.height)


def grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    """Return the array, or a copy at least twice as long where it is shorter than `size`."""
    if size <= len(array):
        return array
    longer = np.empty(max(size, 2 * len(array)), array.dtype)
    longer[: len(array)], longer[len(array) :] = array, fill
    return longer


def rows_at(frame: pl.DataFrame, rows: npt.NDArray[np.signedinteger]) -> pl.DataFrame:
    """Return rows of a frame by number, with nulls where a number is negative."""
    if not frame.width:
        return pl.DataFrame(height=len(rows))
    index = pl.Series(rows.astype(np.uint32))  # a negative number becomes one beyond every row
    return frame[index] if rows.min(initial=0) >= 0 else frame.select(pl.all().gather(index, null_on_oob=True))


def own_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """Copy texts and bytes: a few of them, selected from a batch, would keep all of the batch's in memory."""
    own = [s + "" if s.dtype == pl.String else s.bin.slice(0) for s in frame if s.dtype in (pl.String, pl.Binary)]
    nested = [n for n, t in frame.schema.items() if t.is_nested() and leaves(t) & {pl.String, pl.Binary}]
    if nested:
        copy = io.BytesIO()  # the old layout has texts end to end; the new one would write all of the batch's
        frame.select(nested).write_ipc_stream(copy, compat_level=pl.CompatLevel.oldest())
        own += pl.read_ipc_stream(copy.getvalue()).get_columns()
    return frame.with_columns(own)


def leaves(dtype: Any) -> set[Any]:
    """Return the types that a nested type is made of in the end."""
    if isinstance(dtype, pl.Struct):
        return set().union(*(leaves(field.dtype) for field in dtype.fields))
    return leaves(dtype.inner) if isinstance(dtype, (pl.List, pl.Array)) else {dtype.base_type()}
