"""Tables that are no topic: a frame, whose rows never change while it is read, and a table in a database that is looked things up in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from streamlab.durations import text
from streamlab.errors import PlanError
from streamlab.plan import schema as schemas
from streamlab.plan.nodes import Node
from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False)
class StaticTable(Stateful):
    """The rows of a frame, each key once: they are there before the first record.

    What was given out is kept, so that after a restart with other data only what differs is given out: rows, and deletions.
    """

    frame: pl.DataFrame = field(repr=False)  # each key once, none null
    table_key: tuple[str, ...]
    given_name: str | None = None
    label = "table_from_frame"

    def check(self) -> None:
        super().check()
        schemas.check_names(self.label, self.frame.schema)
        check_key(self.label, self.table_key, self.frame.schema)
        for name, dtype in self.frame.schema.items():
            if dtype == pl.Object:
                raise PlanError(
                    f"{self.label}: column {name!r} holds Python objects; use text, numbers, times, lists or structs."
                )

    @property
    def inputs(self) -> tuple[Node, ...]:
        return ()

    @cached_property
    def schema(self) -> pl.Schema:
        return self.frame.schema

    @property
    def is_table(self) -> bool:
        return True

    @property
    def retracts(self) -> bool:
        return True

    @property
    def makes_rows(self) -> bool:
        return True

    @property
    def keys(self) -> tuple[str, ...]:
        return self.table_key

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.table_key

    @property
    def derived_name(self) -> str:
        return "-".join(["static-by", *self.table_key])

    def describe(self) -> str:
        rows = f"{self.frame.height:,} row{'s' * (self.frame.height != 1)}"
        return f"static table of {rows} by {', '.join(self.table_key)} [{self.name}]"

    def identity(self) -> Any:
        # not its rows: they may differ in the next run, and its state is what the last one gave out
        return [
            self.label,
            self.name,
            list(self.table_key),
            [[name, str(dtype)] for name, dtype in self.schema.items()],
        ]

    def notes(self) -> Iterator[str]:
        yield "there before the first record; after a restart with other rows only what differs is new"


class Answers(Protocol):
    """What a lookup table asks."""

    def lookup(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of keys, in any order; a key that has none is left out."""
        ...

    def identity(self) -> Any:
        """Return what distinguishes it, as JSON values."""
        ...


@dataclass(frozen=True, eq=False)
class LookupTable(Node):
    """A table in a database, of which rows are fetched as records ask for them."""

    name: str
    columns: pl.Schema
    table_key: tuple[str, ...]
    origin: Answers = field(repr=False)
    refresh: int | None = None
    cache: int = 100_000
    label = "lookup table"
    is_lookup = True

    def check(self) -> None:
        schemas.check_names(self.label, self.columns)
        check_key(f"{self.label} {self.name!r}", self.table_key, self.columns)

    @cached_property
    def schema(self) -> pl.Schema:
        return self.columns

    @property
    def is_table(self) -> bool:
        return True

    @property
    def keys(self) -> tuple[str, ...]:
        return self.table_key

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.table_key

    def describe(self) -> str:
        fresh = "kept" if self.refresh is None else f"fetched again after {text(self.refresh)}"
        return f"lookup table {self.name!r} by {', '.join(self.table_key)}, at most {self.cache:,} rows cached, {fresh}"

    def identity(self) -> Any:
        types = [[name, str(dtype)] for name, dtype in self.schema.items()]
        return [self.label, self.name, list(self.table_key), types, self.refresh, self.origin.identity()]


def check_key(step: str, key: tuple[str, ...], schema: pl.Schema) -> None:
    """Refuse a key of no columns, of columns that are not there, and of one column twice."""
    if not key:
        raise PlanError(f"{step}: key is empty; name the columns that identify a row, of {schema.names()}.")
    schemas.require(f"{step}: key", key, schema)
    if len(set(key)) < len(key):
        raise PlanError(f"{step}: key {list(key)} names a column twice; name each once.")
