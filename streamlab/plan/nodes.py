"""The nodes of a plan: what they promise, sources, and streams put together.

A node is inert: it knows its inputs, its output schema, which column still carries the source's key, and how to describe itself. It
checks itself when it is made, which is where the person wrote the mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from streamlab.durations import text
from streamlab.errors import PlanError
from streamlab.plan import schema as schemas


class Node:
    """What every node promises; nodes are compared by what they are, not what they say."""

    label = "step"
    is_lookup = False
    """Whether it has no rows of its own to give, and answers questions alone: a table in a database."""
    takes_lookups = False
    """Whether it may be fed by such a node."""

    def __post_init__(self) -> None:
        self._refuse_lookups()
        self.check()
        _ = self.schema

    def _refuse_lookups(self) -> None:
        for part in self.inputs:
            if part.is_lookup and not self.takes_lookups:
                raise PlanError(
                    f"{self.label}: {part.describe()} is looked up row by row, and never read as a whole; it can only be the right "
                    "side of a join: stream.join(table, on=...). For other uses read it with polars: sl.table_from_frame(frame, key=...)."
                )

    def check(self) -> None:
        """Raise a PlanError if the node cannot be."""

    @property
    def inputs(self) -> tuple[Node, ...]:
        """Nodes that feed this one."""
        return (self.input,) if hasattr(self, "input") else ()

    @cached_property
    def schema(self) -> pl.Schema:
        """Columns this node emits."""
        raise NotImplementedError

    @property
    def key(self) -> str | None:
        """The column whose equal values share a source partition, if one is promised and still there."""
        return None

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that identify a row of the result, where there are such: of a table always."""
        return self._still_there(self.inputs[0].keys) if len(self.inputs) == 1 else ()

    @property
    def record_key(self) -> tuple[str, ...]:
        """Columns that are the record key of the results."""
        return self._still_there(self.inputs[0].record_key) if len(self.inputs) == 1 else ()

    def _still_there(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in columns if name in self.schema)

    @property
    def is_table(self) -> bool:
        """Whether rows are upserts by key rather than events."""
        return False

    @property
    def retracts(self) -> bool:
        """Whether rows of a table may be deletions."""
        return self.is_table and any(part.retracts for part in self.inputs)

    @property
    def makes_rows(self) -> bool:
        """Whether rows come out of an aggregation, and not with a record."""
        return any(part.makes_rows for part in self.inputs)

    def describe(self) -> str:
        """One line for `explain`."""
        raise NotImplementedError

    def identity(self) -> Any:
        """Return what distinguishes this node, inputs left out, as JSON values."""
        return self.describe()


@dataclass(frozen=True, eq=False)
class Source(Node):
    """Records of one topic, or of a frame or file that is replayed as one."""

    topic: str
    columns: pl.Schema
    origin: Any = field(repr=False)  # where the records come from: opaque to the plan
    kind: str = "kafka"
    format: str = "json"
    event_time: str | None = None
    promised_key: str | None = None
    on_error: str = "dead_letter"
    idle_timeout: int | None = 30_000
    start: Any = "earliest"
    metadata: bool = False
    table_key: tuple[str, ...] = ()  # columns that identify a row of a table; none: the records are events
    history: int | None = (
        None  # for how long a table keeps the versions of a row, in milliseconds; None: the newest alone
    )

    def check(self) -> None:
        step = f"{'table' if self.is_table else 'stream'} {self.topic!r}"
        schemas.check_names(step, self.columns)
        schemas.require(f"{step}: key", self.table_key, self.columns)
        if len(set(self.table_key)) < len(self.table_key):
            raise PlanError(f"{step}: key {list(self.table_key)} names a column twice; name each once.")
        if self.event_time is not None:
            schemas.require(f"{step}: event_time", [self.event_time], self.columns)
            schemas.require_time(step, self.event_time, self.columns[self.event_time])
        if self.promised_key is not None:
            schemas.require(f"{step}: key", [self.promised_key], self.columns)
        if clash := [name for name in schemas.METADATA if self.metadata and name in self.columns]:
            raise PlanError(f"{step}: metadata=True adds {clash[0]!r}, which the schema has already.")

    @cached_property
    def schema(self) -> pl.Schema:
        return pl.Schema({**self.columns, **(schemas.METADATA if self.metadata else {})})

    @property
    def is_table(self) -> bool:
        return bool(self.table_key)

    @property
    def retracts(self) -> bool:
        return self.is_table

    @property
    def keys(self) -> tuple[str, ...]:
        return self.table_key

    @property
    def key(self) -> str | None:
        return self.table_key[0] if len(self.table_key) == 1 else self.promised_key

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.table_key or (() if self.promised_key is None else (self.promised_key,))

    def describe(self) -> str:
        clock = self.event_time or "record timestamp"
        idle = "never idle" if self.idle_timeout is None else f"idle after {text(self.idle_timeout)}"
        key = f", key {self.promised_key}" if self.promised_key else ""
        table = f"table by {', '.join(self.table_key)}, " if self.is_table else ""
        versions = "" if self.history is None else f"versions of {text(self.history)}, "
        rest = f"{table}{versions}event time {clock}{key}, {idle}, errors: {self.on_error}"
        return f"{self.kind} {self.topic!r} ({self.format}), {rest}"

    def identity(self) -> Any:
        columns = [[name, str(dtype)] for name, dtype in self.schema.items()]
        return [
            self.kind,
            self.topic,
            self.format,
            columns,
            self.event_time,
            self.promised_key,
            self.on_error,
            self.idle_timeout,
            *([list(self.table_key), self.history] if self.is_table else []),
        ]


@dataclass(frozen=True, eq=False)
class Concat(Node):
    """Rows of several streams, each as they come."""

    parts: tuple[Node, ...]
    label = "concat"

    def check(self) -> None:
        if len(self.parts) < 2:  # noqa: PLR2004  # a union is of two or more
            raise PlanError(f"concat: takes two or more streams, got {len(self.parts)}.")
        first = self.parts[0].schema
        for number, part in enumerate(self.parts[1:], 2):
            if part.schema != first:
                raise PlanError(
                    f"concat: stream {number} has {dict(part.schema)}, the first has {dict(first)}; they must be equal."
                )

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.parts

    @cached_property
    def schema(self) -> pl.Schema:
        return self.parts[0].schema

    def describe(self) -> str:
        return f"concat of {len(self.parts)}"
