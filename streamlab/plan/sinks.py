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
