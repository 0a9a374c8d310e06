"""The newest rows of a table as a join asks for them: what a key had when a record came, also between rows of one micro-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from streamlab.engine.batch import MADE
from streamlab.engine.held.keyed_rows import KeyedRows
from streamlab.engine.held.runs import named
from streamlab.engine.held.slot_frame import rows_at
from streamlab.engine.operator import Changes, Holding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamlab.engine.batch import Bools, Ints, Rows
    from streamlab.engine.operators.shared.horizon import Horizons
    from streamlab.plan.table_source import Answers


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows of a stream that ask for the row of their key.

    Parameters
    ----------
    keys
        Their keys, by the names that the table has for them.
    time
        Their event times.
    turn
        The arrival index at which each asks: it sees the rows of the table that have come by then.
    horizon
        Versions that were newest no later than this are gone for it, but for the last of them.
    """

    keys: pl.DataFrame
    time: Ints
    turn: Ints
    horizon: Ints


@dataclass(frozen=True, slots=True)
class Found:
    """The columns that a table has for rows that asked, nulls where there are none, and which of them there are."""

    values: pl.DataFrame
    hit: Bools


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rows of a table that came in a micro-batch, in order of arrival, none without a key."""

    keys: pl.DataFrame
    values: pl.DataFrame
    time: Ints
    turn: Ints
    deleted: Bools

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.turn)

    def filter(self, mask: Bools) -> Arrived:
        """Return the rows where `mask` is true."""
        if mask.all():
            return self
        keep = pl.Series(mask)
        return Arrived(
            self.keys.filter(keep), self.values.filter(keep), self.time[mask], self.turn[mask], self.deleted[mask]
        )


def arrived(rows: Rows, keys: pl.DataFrame, values: list[str]) -> Arrived:
    """Return the rows of a table that have a key, in order of arrival."""
    deleted = np.zeros(rows.height, np.bool_) if rows.deleted is None else rows.deleted
    found = Arrived(keys, rows.data.select(values), rows.time, rows.index, deleted)
    keyed = ~keys.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
    found = found.filter(keyed)
    if (np.diff(found.turn) >= 0).all():
        return found
    order = np.argsort(found.turn, kind="stable")
    return Arrived(found.keys[order], found.values[order], found.time[order], found.turn[order], found.deleted[order])


class Answering(Protocol):
    """The right side of a join with a table."""

    def answer(self, asked: Asked | None, table: Arrived, horizons: Horizons | None) -> Found | None:
        """Take in rows of the table, and answer rows of the stream that came among them; None: nothing was asked."""
        ...

    def changes(self) -> Changes:
        """Return what changed since the last call."""
        ...

    def progress(self) -> Any:
        """Return the small part of the state that no frame holds, as JSON values."""
        ...

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        """Go on from the frames of a checkpoint."""
        ...

    def rows(self) -> pl.DataFrame:
        """Return the newest rows that are held, key columns first."""
        ...

    def holding(self) -> Holding:
        """Return how much is held."""
        ...


class CurrentRows:
    """The last row of every key by order of arrival.

    Parameters
    ----------
    keys, values
        Columns of the table.
    """

    def __init__(self, keys: pl.Schema, values: pl.Schema) -> None:
        self._rows = KeyedRows(keys, values)

    def answer(self, asked: Asked | None, table: Arrived, horizons: Horizons | None) -> Found | None:  # noqa: ARG002  # the last to come counts
        if not table.height:
            return None if asked is None else self._held(asked)
        slots = self._rows.slots_of(table.keys, insert=True)
        order = np.lexsort((table.turn, slots))
        found = None if asked is None else self._between(asked, table, slots[order], order)
        self._take(table, slots, order)
        return found

    def _held(self, asked: Asked) -> Found:
        slots = self._rows.slots_of(asked.keys, insert=False)
        return Found(self._rows.get_slots(slots), self._rows.has(slots))

    def _between(self, asked: Asked, table: Arrived, slots: Ints, order: Ints) -> Found:
        """Answer rows that came among rows of the table, which are in `order`: by slot, then by arrival."""
        mine = self._rows.slots_of(asked.keys, insert=False)
        at = np.searchsorted(_packed(slots, table.turn[order]), _packed(mine, asked.turn), side="right") - 1
        fresh = (at >= 0) & (slots[at] == mine)
        held, hit = self._rows.get_slots(mine), self._rows.has(mine)
        if not fresh.any():
            return Found(held, hit)
        rows = order[at[fresh]]
        hit[fresh] = ~table.deleted[rows]
        return Found(overlaid(held, fresh, rows_at(table.values, rows)), hit)

    def _take(self, table: Arrived, slots: Ints, order: Ints) -> None:
        """Keep the last row of each key."""
        last = order[np.append(np.diff(slots[order]) != 0, True)]
        gone = table.deleted[last]
        stays = last[~gone]
        if stays.size:
            self._rows.put_slots(slots[stays], rows_at(table.values, stays))
        if gone.any():
            self._rows.delete(table.keys[last[gone]])

    def changes(self) -> Changes:
        return named(self._rows)

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:  # noqa: ARG002  # all of it is in the frames
        self._rows.load((int(name), frame) for name, frame in frames)

    def rows(self) -> pl.DataFrame:
        return self._rows.frame()

    def holding(self) -> Holding:
        return Holding(len(self._rows), self._rows.estimated_size())


class StaticRows(CurrentRows):
    """Rows that never change: made of a frame at every start, no part of the state."""

    def __init__(self, frame: pl.DataFrame, keys: pl.Schema, values: pl.Schema) -> None:
        super().__init__(keys, values)
        self._rows.put(frame)

    def answer(self, asked: Asked | None, table: Arrived, horizons: Horizons | None) -> Found | None:  # noqa: ARG002  # it is whole from the start
        return None if asked is None else self._held(asked)

    def changes(self) -> Changes:
        return Changes()

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        """There is nothing to go on from."""

    def holding(self) -> Holding:
        return Holding(0, self._rows.estimated_size())


class LookedUp:
    """Rows of a database, asked for as records come: each distinct key of a micro-batch once.

    Parameters
    ----------
    origin
        Whom to ask.
    keys, values
        Columns of the table.
    """

    def __init__(self, origin: Answers, keys: pl.Schema, values: pl.Schema) -> None:
        self._origin, self._keys, self._values = origin, keys, values

    def answer(self, asked: Asked | None, table: Arrived, horizons: Horizons | None) -> Found | None:  # noqa: ARG002  # it has no rows of its own
        if asked is None:
            return None
        rows = KeyedRows(self._keys, self._values)
        wanted = asked.keys.drop_nulls().unique(maintain_order=True)
        if wanted.height:
            rows.put(self._origin.lookup(wanted))
        values, hit = rows.get(asked.keys)
        return Found(values, hit)

    def changes(self) -> Changes:
        return Changes()

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        """There is nothing to go on from."""

    def rows(self) -> pl.DataFrame:
        return pl.DataFrame(schema={**self._keys, **self._values})

    def holding(self) -> Holding:
        return Holding(0, 0)


def overlaid(frame: pl.DataFrame, where: Bools, rows: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with other rows, in order, where `where` is true."""
    if not frame.width:
        return frame
    at = np.arange(frame.height)
    at[where] = frame.height + np.arange(rows.height)
    return rows_at(pl.concat([frame, rows], rechunk=True), at)


def _packed(slots: Ints, turn: Ints) -> Ints:
    """Return slot and place of arrival as one number, ordered by both: a batch has fewer than 2**32 records."""
    packed: Ints = (slots << 32) + (turn - MADE)
    return packed
