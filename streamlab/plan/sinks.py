"""Where results go."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamlab.errors import PlanError
from streamlab.plan import schema as schemas
from streamlab.plan.nodes import Node
from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl


DELETED = "_deleted"
"""The column that marks deletions in sinks that have no other way to say them."""

MARKED = ("parquet", "frame")
"""Kinds of such sinks."""


@dataclass(frozen=True, eq=False)
class Sink(Node):
    """A place for results: a topic, a table in the state, Parquet files, a function, or memory."""

    input: Node
    kind: str  # "kafka" | "table" | "parquet" | "frame" | "memory"
    target: str
    by: tuple[str, ...] = ()
    function: Callable[[Any], Any] | None = None
    origin: Any = field(default=None, repr=False)
    label = "sink"

    def check(self) -> None:
        schemas.require(f"sink_{self.kind}: key", self.by, self.input.schema)
        if self.kind in MARKED and self.input.retracts and DELETED in self.input.schema:
            raise PlanError(
                f"sink_{self.kind}: a table with deletions is written with a column {DELETED!r} that marks them, and it has such a column "
                "already; rename that."
            )
        if self.kind == "table":
            schemas.check_identity("sink_table", self.target)
        if self.kind == "table" and not self.by:
            raise PlanError(
                f"sink_table {self.target!r}: the rows have no key; name the columns that identify a row: "
                f"sink_table({self.target!r}, key=...). The stream has {self.input.schema.names()}."
            )

    @cached_property
    def schema(self) -> pl.Schema:
        return self.input.schema

    @property
    def mark(self) -> str | None:
        """The column that marks deletions, where the sink needs one."""
        return DELETED if self.kind in MARKED and self.input.retracts else None

    def describe(self) -> str:
        return f"sink_{self.kind} {self.target!r}" + (f" by {', '.join(self.by)}" if self.by else "")

    def identity(self) -> Any:
        return [f"sink_{self.kind}", self.target, list(self.by), self.function]


def nearest_stateful(node: Node) -> Stateful | None:
    """Return the step with state that a node's rows come from, through row-by-row steps only."""
    while not isinstance(node, Stateful):
        if len(node.inputs) != 1:
            return None
        (node,) = node.inputs
    return node
