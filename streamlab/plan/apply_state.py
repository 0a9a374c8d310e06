"""Custom state: a function of a person's own, called with the rows of one key and what it kept for that key."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamlab.errors import PlanError
from streamlab.plan import schema as schemas
from streamlab.plan.kept_value import described
from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from streamlab.plan.nodes import Node


@dataclass(frozen=True, eq=False)
class ApplyState(Stateful):
    """Rows that a function makes of the rows of a key and of its state."""

    input: Node
    by: tuple[str, ...]
    function: Callable[[Any, Any], Any]
    columns: pl.Schema
    initial: Any = field(default=None, repr=False)
    event_time: str | None = None
    given_name: str | None = None
    label = "apply_state"

    def check(self) -> None:
        super().check()
        if self.input.is_table:
            raise PlanError(
                "apply_state: takes events, and this is a table; use it on the stream that the table is made of."
            )
        if not callable(self.function):
            raise PlanError(
                f"apply_state: {self.function!r} is no function; it must take the rows of one key and its state, and return both."
            )
        schemas.require("group_by", self.by, self.input.schema)
        if not self.columns:
            raise PlanError(
                "apply_state: schema= is empty; name the columns and types of the rows that the function returns."
            )
        schemas.check_names("apply_state", self.columns)
        if self.event_time is not None:
            schemas.require("apply_state: event_time", [self.event_time], self.columns)
            schemas.require_time("apply_state", self.event_time, self.columns[self.event_time])
        described(self.initial)

    @cached_property
    def schema(self) -> pl.Schema:
        return self.columns

    @property
    def laned(self) -> bool:
        return self.input.key is not None and self.input.key in self.by

    @property
    def keys(self) -> tuple[str, ...]:
        return ()

    @property
    def record_key(self) -> tuple[str, ...]:
        return self._still_there(self.by)

    @property
    def passes_on(self) -> bool:
        return True

    @property
    def derived_name(self) -> str:
        return "-".join(["apply", "by", *self.by]) if self.by else "apply"

    def describe(self) -> str:
        called = getattr(self.function, "__qualname__", repr(type(self.function).__name__))
        by = f" by {', '.join(self.by)}" if self.by else ""
        return f"apply_state {called}{by} [{self.name}]"

    def identity(self) -> Any:
        columns = [[name, str(dtype)] for name, dtype in self.columns.items()]
        return [self.label, self.name, list(self.by), self.function, columns, described(self.initial), self.event_time]

    def notes(self) -> Iterator[str]:
        yield "calls a Python function once per key and micro-batch, and keeps a state per key until it returns None as state"
        yield "how rows are cut into micro-batches depends on the load: the function must make the same of any cut"
        yield (
            f"one task per partition: rows of one {self.input.key} share a partition"
            if self.laned
            else "one task over all partitions"
        )
