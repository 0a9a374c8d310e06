"""The as-of join: each left row with the newest right row of its key that is not newer than itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamlab.durations import text
from streamlab.errors import PlanError, UnknownColumnError
from streamlab.plan import schema as schemas
from streamlab.plan.join_keys import JoinKeys, joined_schema, right_columns
from streamlab.plan.nodes import Source
from streamlab.plan.stateful import Stateful
from streamlab.plan.steps import Filter, Rename, Select, WithEventTime
from streamlab.plan.windows import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from streamlab.plan.nodes import Node


@dataclass(frozen=True, eq=False)
class AsofJoin(Stateful):
    """Left rows, each with the newest right row of its key in [left.t - tolerance, left.t], or nulls; lengths in milliseconds."""

    left: Node
    right: Node
    by: JoinKeys
    tolerance: int
    grace: int = 0
    on: tuple[str, str] | None = None  # the columns of event time, where they are named
    suffix: str = "_right"
    given_name: str | None = None
    label = "join_asof"

    def check(self) -> None:
        super().check()
        for which, node in (("left", self.left), ("right", self.right)):
            if node.is_table:
                raise PlanError(
                    f"{self.label}: the {which} side is a table, which has no more than one row of a key. A stream is joined with a table "
                    "by stream.join(table, on=...); with a frame of rows over time by join_asof(frame, on=...)."
                )
        self.by.check(self.label, self.left.schema, self.right.schema)
        check_length(self.label, "tolerance", self.tolerance, 1)
        check_length(self.label, "grace", self.grace, 0)
        if self.on is not None:
            for which, node, column in zip(("left", "right"), (self.left, self.right), self.on, strict=True):
                check_time(self.label, which, node, column)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    @cached_property
    def same(self) -> JoinKeys:
        """Columns of both sides that are one in the result: the key, and event time where it is named."""
        return with_time(self.by, self.on)

    @cached_property
    def added(self) -> dict[str, str]:
        """Columns of the right side that the result has, and what they are called there."""
        return right_columns(self.left.schema, self.right.schema, self.same, self.suffix)

    @cached_property
    def schema(self) -> pl.Schema:
        return joined_schema(self.label, self.left.schema, self.right.schema, self.same, self.suffix)

    @property
    def key(self) -> str | None:
        return self.by.shared(self.left, self.right)

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.by.left

    @property
    def derived_name(self) -> str:
        return "-".join(["join-asof-by", *self.by.left])

    @property
    def reach(self) -> int:
        """How far the watermark must be past a right row for no left row to need it any more."""
        return self.tolerance + self.grace

    @property
    def late_schema(self) -> pl.Schema | None:
        return self.schema

    @property
    def late_keys(self) -> tuple[str, ...]:
        return self.by.left

    def describe(self) -> str:
        grace = f", grace {text(self.grace)}" if self.grace else ""
        return f"{self.label} by {self.by}: newest right row of the last {text(self.tolerance)}{grace} [{self.name}]"

    def identity(self) -> Any:
        types = [[name, str(dtype)] for name, dtype in self.schema.items()]
        lengths, on = [self.tolerance, self.grace], None if self.on is None else list(self.on)
        return [self.label, self.name, list(self.by.left), list(self.by.right), lengths, on, self.suffix, types]

    def notes(self) -> Iterator[str]:
        waits = f" by {text(self.grace)}" if self.grace else ""
        yield f"left rows wait until the watermark of both sides has passed their time{waits}, then come in the order of time"
        yield f"keeps right rows for {text(self.reach)} of event time (tolerance + grace)"
        if not self.laned:
            yield "of right rows of one time the last to arrive counts: partitions read in another order may give another"
        yield from super().notes()


def with_time(by: JoinKeys, on: tuple[str, str] | None) -> JoinKeys:
    """Return the columns that are one in the result."""
    return by if on is None else JoinKeys((*by.left, on[0]), (*by.right, on[1]))


def check_length(step: str, what: str, length: int, least: int) -> None:
    """Refuse a length that no difference of two event times has."""
    if not least <= length <= LONGEST:
        raise PlanError(
            f"{step}: {what} {length} ms; it must be from {text(least)} to {text(LONGEST)}, as differences of event times are."
        )


def check_time(step: str, which: str, node: Node, column: str) -> None:
    """Refuse a column that is not the event time of a stream, as far as that can be told."""
    if column not in node.schema:
        raise UnknownColumnError(f"{step}: on, {which} side", column, node.schema.names())
    schemas.require_time(f"{step}: {which} side", column, node.schema[column])
    known, found = event_time_of(node)
    if known and found != column:
        has = (
            f"its event time is {found!r}"
            if found
            else "its event time is the record timestamp, which is no column of it"
        )
        raise PlanError(
            f"{step}: on={column!r} is not the event time of the {which} side: {has}, and rows are joined by event time. "
            f"Make it so before: .with_event_time({column!r}), or kafka.stream(..., event_time={column!r})."
        )


def event_time_of(node: Node) -> tuple[bool, str | None]:
    """Return whether it can be told which column is a stream's event time, and that column; None: it is none of them."""
    names: dict[str, str] = {}  # what columns are called further down
    while True:
        if isinstance(node, Source):
            column = node.event_time
            return True, None if column is None else names.get(column, column)
        if isinstance(node, WithEventTime):
            expr = node.expr.expr
            if not expr.meta.is_column():
                return False, None
            column = expr.meta.output_name()
            return True, names.get(column, column)
        if isinstance(node, Rename):
            names = {old: names.get(new, new) for old, new in node.names.items()} | names
        elif not isinstance(node, Filter | Select) or any(node.changes(name) for name in node.input.schema):
            return False, None
        node = node.input
