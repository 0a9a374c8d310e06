"""Two tables joined by their key: a table that each of them changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamlab.errors import PlanError
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.join_keys import (
    JoinKeys,
    check_how,
    check_table_key,
    history_of,
    joined_schema,
    name_of,
    right_columns,
)
from streamlab.plan.schema import WINDOW_END
from streamlab.plan.stateful import Stateful
from streamlab.plan.steps import RowByRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from streamlab.plan.nodes import Node

HOWS = ("inner", "left", "outer", "full")


@dataclass(frozen=True, eq=False)
class JoinTables(Stateful):
    """The rows of two tables that have one key: changed by a row of either side."""

    left: Node
    right: Node
    by: JoinKeys
    how: str = "inner"
    suffix: str = "_right"
    given_name: str | None = None
    label = "join"

    def check(self) -> None:
        super().check()
        check_how(self.label, self.how, HOWS)
        for side, node in (("left", self.left), ("right", self.right)):
            if not node.keys:
                raise PlanError(
                    f"{self.label}: the {side} table has no key: it is one row over all groups; "
                    "group both tables by what identifies a row: .group_by(...).agg(...)."
                )
        self.by.check(self.label, self.left.schema, self.right.schema)
        check_table_key(self.label, self.by.left, self.left.keys, "left")
        check_table_key(self.label, self.by.right, self.right.keys, "right")

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    @cached_property
    def schema(self) -> pl.Schema:
        return joined_schema(self.label, self.left.schema, self.right.schema, self.by, self.suffix)

    @cached_property
    def added(self) -> dict[str, str]:
        """Columns of the right table that the result has, and what they are called there."""
        return right_columns(self.left.schema, self.right.schema, self.by, self.suffix)

    @property
    def is_table(self) -> bool:
        return True

    @property
    def key(self) -> str | None:
        return self.by.shared(self.left, self.right)

    @property
    def keys(self) -> tuple[str, ...]:
        return self.left.keys

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.keys

    @cached_property
    def histories(self) -> tuple[int | None, int | None]:
        """For how long each side keeps versions; None: the last row to arrive counts, whatever its time."""
        return history_of(self.left), history_of(self.right)

    @cached_property
    def closes(self) -> bool:
        """Whether rows are of windows that close one day: after that no row of theirs changes."""
        return (
            WINDOW_END in self.by.left
            and self.by.right[self.by.left.index(WINDOW_END)] == WINDOW_END
            and all(map(_windowed, self.inputs))
        )

    @property
    def derived_name(self) -> str:
        return "-".join(["join", name_of(self.left), name_of(self.right)])

    def describe(self) -> str:
        return f"join {self.how} of two tables on {self.by} [{self.name}]"

    def identity(self) -> Any:
        how = "outer" if self.how == "full" else self.how
        return [self.label, self.name, list(self.by.left), list(self.by.right), how, self.suffix, self.histories]

    def notes(self) -> Iterator[str]:
        yield "keeps the newest row of every key of both tables" + (", until its window closes" if self.closes else "")
        yield from super().notes()


def _windowed(node: Node) -> bool:
    """Whether a table is made of windows, so that its rows of a window end with it."""
    while isinstance(node, RowByRow):
        node = node.input
    if isinstance(node, JoinTables):
        return node.closes
    return isinstance(node, Aggregate) and node.window is not None
