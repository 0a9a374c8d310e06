"""Rows on their way through the engine, with what travels beside them unseen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]

MADE, LAST = -2, (1 << 31) - 2
"""Arrival indices of rows that an operator made before the first record of a micro-batch, and after the last one."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A micro-batch: the columns that expressions see, and event time, partition, offset and place of arrival beside them.

    Parameters
    ----------
    data
        Columns of the step's schema.
    time
        Event times, milliseconds since 1970 UTC.
    partition
        Source partition of each row.
    offset
        Offset of the record that a row comes from; negative for rows that an operator made.
    index
        Place in the order of arrival of the whole micro-batch, over all sources. Records have the odd places, from 1 on; what an operator
        made at the turn of a record has the even one before it.
    deleted
        For rows of a table: whether the key is deleted. None: no row is.
    """

    data: pl.DataFrame
    time: Ints
    partition: Ints
    offset: Ints
    index: Ints
    deleted: Bools | None = None

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.time)

    def with_data(self, data: pl.DataFrame) -> Rows:
        """Return the same rows with other columns."""
        return replace(self, data=data)

    def filter(self, mask: Bools) -> Rows:
        """Return the rows where `mask` is true."""
        if mask.all():
            return self
        return self._pick(self.data.filter(pl.Series(mask)), mask)

    def take(self, positions: Ints) -> Rows:
        """Return rows by position, repeats allowed."""
        return self._pick(self.data[positions], positions)

    def _pick(self, data: pl.DataFrame, which: Bools | Ints) -> Rows:
        deleted = None if self.deleted is None else self.deleted[which]
        return Rows(data, self.time[which], self.partition[which], self.offset[which], self.index[which], deleted)


def empty(schema: pl.Schema) -> Rows:
    """Return no rows."""
    none = np.empty(0, np.int64)
    return Rows(pl.DataFrame(schema=schema), none, none, none, none)


def concat(parts: Sequence[Rows], schema: pl.Schema) -> Rows:
    """Return the rows of all parts in order of arrival."""
    parts = [part for part in parts if part.height]
    if len(parts) < 2:  # noqa: PLR2004  # nothing to put together
        return parts[0] if parts else empty(schema)
    deleted = None
    if any(part.deleted is not None for part in parts):
        deleted = np.concatenate([np.zeros(p.height, np.bool_) if p.deleted is None else p.deleted for p in parts])
    time, partition, offset, index = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("time", "partition", "offset", "index")
    )
    return by_arrival(Rows(pl.concat([part.data for part in parts]), time, partition, offset, index, deleted))


def by_arrival(rows: Rows) -> Rows:
    """Return rows in order of arrival; those of one place stay in the order that they have."""
    return rows if (np.diff(rows.index) >= 0).all() else rows.take(np.argsort(rows.index, kind="stable"))
