"""A stream joined with a table: each record with the row of its key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamlab.durations import text
from streamlab.errors import PlanError
from streamlab.plan.join_keys import (
    JoinKeys,
    check_how,
    check_table_key,
    history_of,
    joined_schema,
    name_of,
    right_columns,
)
from streamlab.plan.stateful import Stateful
from streamlab.plan.table_source import LookupTable, StaticTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from streamlab.plan.nodes import Node


@dataclass(frozen=True, eq=False)
class JoinTable(Stateful):
    """Records of a stream, each with the row that a table has for its key; only records emit."""

    left: Node
    right: Node
    by: JoinKeys
    how: str = "inner"
    suffix: str = "_right"
    grace: int | None = None
    given_name: str | None = None
    label = "join"
    takes_lookups = True

    def check(self) -> None:
        super().check()
        check_how(self.label, self.how, ("inner", "left"))
        if self.left.is_lookup:
            raise PlanError(
                f"{self.label}: {self.left.describe()} is looked up; it can only be the right side of a join."
            )
        self.by.check(self.label, self.left.schema, self.right.schema)
        check_table_key(self.label, self.by.right, self.right.keys, "right")
        if self.grace is not None and self.history is None:
            raise PlanError(
                f"{self.label}: grace={text(self.grace)!r} waits to join a record with the row as of its own time, and the table keeps the "
                'newest rows alone; keep versions: kafka.table(..., history="1h"), or leave grace out.'
            )

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    @cached_property
    def schema(self) -> pl.Schema:
        return joined_schema(self.label, self.left.schema, self.right.schema, self.by, self.suffix)

    @cached_property
    def added(self) -> dict[str, str]:
        """Columns of the table that the result has, and what they are called there."""
        return right_columns(self.left.schema, self.right.schema, self.by, self.suffix)

    @cached_property
    def history(self) -> int | None:
        """For how long the table keeps versions; None: the newest row alone."""
        return history_of(self.right)

    @property
    def shares(self) -> bool:
        """Whether rows of one key share a partition on both sides, so that each partition has its own part of the table."""
        return self.by.shared(self.left, self.right) is not None and not self.reads_whole

    @property
    def reads_whole(self) -> bool:
        """Whether the table is no topic: each task has all of it."""
        return isinstance(self.right, StaticTable | LookupTable)

    @property
    def key(self) -> str | None:
        # the newest rows may be asked by each partition of the stream on its own, whatever the table's partitions are
        return self.left.key if self.shares or self.history is None else None

    @property
    def keys(self) -> tuple[str, ...]:
        return self.left.keys

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.left.record_key

    @property
    def copartitioned(self) -> tuple[Node, ...]:
        return self.inputs if self.shares else ()

    @property
    def passes_on(self) -> bool:
        return True

    @property
    def makes_rows(self) -> bool:
        return self.left.makes_rows

    @property
    def clocks(self) -> tuple[int, ...]:
        return (0,) if self.grace is None else (0, 1)

    @property
    def reach(self) -> int:
        return self.grace or 0

    @property
    def derived_name(self) -> str:
        return "-".join(["join", name_of(self.right), "by", *self.by.left])

    def describe(self) -> str:
        wait = "" if self.grace is None else f", grace {text(self.grace)}"
        return f"join {self.how} with a table on {self.by}{wait} [{self.name}]"

    def identity(self) -> Any:
        return [
            self.label,
            self.name,
            list(self.by.left),
            list(self.by.right),
            self.how,
            self.suffix,
            self.grace,
            self.history,
            self.shares,
        ]

    def notes(self) -> Iterator[str]:
        if self.history is not None:
            yield f"keeps versions of the table's rows for {text(self.history)} behind the stream, and the newest one of every key"
        elif isinstance(self.right, LookupTable):
            yield "looks rows up as they are when a record comes: outside the replay law"
        elif isinstance(self.right, StaticTable):
            yield "the table never changes: nothing of it is kept in the state"
        else:
            yield (
                "keeps the newest row of every key; what a record is joined with depends on when the table's row came: "
                "outside the replay law (a table with history= is not)"
            )
        if not self.reads_whole and self.right.makes_rows:
            yield "what a step made of the table in a micro-batch counts as there before its records"
        if self.grace is not None:
            yield f"records wait until both sides have passed their time by {text(self.grace)}"
        elif self.history is not None:
            yield "records are joined when they come: with grace= they would wait for rows of the table that come later"
        if not self.shares and not self.reads_whole:
            yield "every task reads the whole table: stream and table do not both promise the key (key=)"
        yield from super().notes()
