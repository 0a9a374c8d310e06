"""The interval join: rows of two streams with one key whose event times are not far apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamlab.durations import text
from streamlab.errors import PlanError
from streamlab.plan.join_keys import JoinKeys, check_how, joined_schema, right_columns
from streamlab.plan.stateful import Stateful
from streamlab.plan.windows import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from streamlab.plan.nodes import Node

HOWS = ("inner", "left", "outer")


@dataclass(frozen=True, eq=False)
class IntervalJoin(Stateful):
    """Each pair of a left and a right row with left.t - before <= right.t <= left.t + after; lengths in milliseconds."""

    left: Node
    right: Node
    by: JoinKeys
    before: int
    after: int
    how: str = "inner"
    grace: int = 0
    suffix: str = "_right"
    given_name: str | None = None
    label = "join_interval"

    def check(self) -> None:
        super().check()
        check_how(self.label, self.how, HOWS)
        for which, node in (("left", self.left), ("right", self.right)):
            if node.is_table:
                raise PlanError(
                    f"{self.label}: the {which} side is a table, and this joins two streams of events. "
                    "A stream is joined with a table by stream.join(table, on=...)."
                )
        self.by.check(self.label, self.left.schema, self.right.schema)
        for name in ("before", "after", "grace"):
            if not 0 <= (length := getattr(self, name)) <= LONGEST:
                raise PlanError(f"{self.label}: {name} {length} ms; it must be from 0 to {text(LONGEST)}.")

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    @cached_property
    def added(self) -> dict[str, str]:
        """Columns of the right side that the result has, and what they are called there; its key is in the left one's."""
        return right_columns(self.left.schema, self.right.schema, self.by, self.suffix)

    @cached_property
    def schema(self) -> pl.Schema:
        return joined_schema(self.label, self.left.schema, self.right.schema, self.by, self.suffix)

    @property
    def key(self) -> str | None:
        return self.by.shared(self.left, self.right)

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.by.left

    @property
    def derived_name(self) -> str:
        return "-".join(["join-interval-on", *self.by.left])

    @property
    def reach(self) -> int:
        """How far the watermark must be past a row for it to be joinable no more."""
        return self.before + self.after + self.grace

    @property
    def late_schema(self) -> pl.Schema | None:
        return self.schema

    @property
    def late_keys(self) -> tuple[str, ...]:
        return self.by.left

    def describe(self) -> str:
        grace = f", grace {text(self.grace)}" if self.grace else ""
        between = f"right from {text(self.before)} before left to {text(self.after)} after"
        return f"{self.label} {self.how} on {self.by}: {between}{grace} [{self.name}]"

    def identity(self) -> Any:
        lengths = [self.before, self.after, self.grace]
        types = [[name, str(dtype)] for name, dtype in self.schema.items()]
        return [self.label, self.name, list(self.by.left), list(self.by.right), lengths, self.how, self.suffix, types]

    def notes(self) -> Iterator[str]:
        yield f"keeps the rows of both sides for {text(self.reach)} of event time (before + after + grace)"
        if self.how != "inner":
            sides = f"left rows {text(self.after + self.grace)}"
            if self.how == "outer":
                sides += f", right rows {text(self.before + self.grace)}"
            yield f"without a match they come with nulls once the watermark is past: {sides}"
        if self.reach:
            yield f"its watermark trails by {text(self.reach)}: what comes after it waits for that"
        yield from super().notes()
