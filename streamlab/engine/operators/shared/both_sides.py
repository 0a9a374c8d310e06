"""The two sides of a join of tables, and their changes in a micro-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the join: the names that its columns have in the state."""

    number: int
    names: dict[str, str]  # by column of the table
    time: str
    there: str
    history: int | None

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Columns of the state that say when its row was changed last, and whether there is one."""
        return {self.time: pl.Int64(), self.there: pl.Boolean()}


@dataclass(frozen=True, slots=True)
class Events:
    """Changes of both sides: those of the left before those of the right, each in order of arrival."""

    keys: pl.DataFrame
    values: tuple[pl.DataFrame, pl.DataFrame]  # of each side's own changes
    side: Ints
    place: Ints  # in the values of its side
    time: Ints
    turn: Ints
    partition: Ints
    offset: Ints
    deleted: Bools

    @property
    def height(self) -> int:
        """Number of changes."""
        return len(self.turn)

    def filter(self, mask: Bools) -> Events:
        """Return the changes where `mask` is true."""
        rest = (
            getattr(self, name)[mask] for name in ("side", "place", "time", "turn", "partition", "offset", "deleted")
        )
        return Events(self.keys.filter(pl.Series(mask)), self.values, *rest)


@dataclass(frozen=True, slots=True)
class Course:
    """What one side had along the changes of each key: before and after each of them."""

    last: Ints  # the place of its values in the batch; -1: as the state holds it
    there: Bools
    was: Bools
    time: Ints  # NEVER where it is not there

    def take(self, at: Ints) -> Course:
        """Return what the side had at some of the changes."""
        return Course(self.last[at], self.there[at], self.was[at], self.time[at])
