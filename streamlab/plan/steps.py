"""The row-by-row steps of a plan: filter, select, rename, drop, cast, explode, event time taken anew, functions over micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.errors import PlanError
from streamlab.plan import schema as schemas
from streamlab.plan.expressions import PlanExpr, check_row_safe, expand
from streamlab.plan.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Callable


class RowByRow(Node):
    """A step that works on each row for itself: of a table it makes a table, whose key columns must stay as they are."""

    input: Node

    @property
    def is_table(self) -> bool:
        return self.input.is_table

    def check(self) -> None:
        lost = [name for name in self.input.keys if self.changes(name)] if self.is_table else []
        if lost:
            raise PlanError(
                f"{self.label}: the key of the table is {list(self.input.keys)}, by which updates and deletions find their row: it must "
                f"stay, unchanged, but {lost[0]!r} would be gone or another. For rows by another key: table.group_by(...).agg(...)."
            )

    def changes(self, column: str) -> bool:  # noqa: ARG002  # most steps change none
        """Whether a column of the input is gone after the step, or holds other values."""
        return False


@dataclass(frozen=True, eq=False)
class Filter(RowByRow):
    """Keep the rows for which every predicate is true."""

    input: Node
    predicates: tuple[PlanExpr, ...]
    label = "filter"

    def check(self) -> None:
        super().check()
        for predicate in self.predicates:
            check_row_safe("filter", predicate.expr, self.input.schema)
            if (found := self._type_of(predicate)) not in (pl.Boolean, pl.Null):
                raise PlanError(f"filter: {predicate} is {found}, not Boolean; compare it with something.")

    @cached_property
    def schema(self) -> pl.Schema:
        return self.input.schema

    @property
    def key(self) -> str | None:
        return self.input.key

    @property
    def retracts(self) -> bool:
        return self.is_table

    def describe(self) -> str:
        return f"filter {', '.join(map(str, self.predicates))}"

    def _type_of(self, predicate: PlanExpr) -> pl.DataType:
        return schemas.after("filter", self.input.schema, lambda f: f.select(predicate.expr.alias("is")))["is"]

    def identity(self) -> Any:
        return ["filter", [p.canonical for p in self.predicates]]


@dataclass(frozen=True, eq=False)
class Select(RowByRow):
    """Make the columns of a stream anew (`keep=False`), or add to them (`keep=True`: with_columns)."""

    input: Node
    exprs: tuple[PlanExpr, ...]
    keep: bool = False

    @property
    def label(self) -> str:  # type: ignore[override]  # two labels, one mechanism
        return "with_columns" if self.keep else "select"

    def check(self) -> None:
        _ = self.schema  # unknown columns first: the safety check needs them
        super().check()
        for expr in self.exprs:
            check_row_safe(self.label, expr.expr, self.input.schema)

    @cached_property
    def schema(self) -> pl.Schema:
        exprs = [e.expr for e in self.exprs]
        return schemas.after(
            self.label, self.input.schema, lambda f: f.with_columns(exprs) if self.keep else f.select(exprs)
        )

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the columns made here."""
        made = schemas.after(self.label, self.input.schema, lambda f: f.select([e.expr for e in self.exprs]))
        return tuple(made.names())

    @cached_property
    def _moved(self) -> dict[str, str]:
        """Columns of the input that are still there, by the names that they have now."""
        kept = {name: name for name in self.input.schema if name not in self.outputs} if self.keep else {}
        made = expand([e.expr for e in self.exprs], self.input.schema)
        bare = {e.meta.output_name(): e.meta.undo_aliases() for e in made}
        return {e.meta.output_name(): name for name, e in reversed(bare.items()) if e.meta.is_column()} | kept

    def changes(self, column: str) -> bool:
        return column not in self._moved

    @property
    def key(self) -> str | None:
        return self._moved.get(self.input.key) if self.input.key else None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._moved[name] for name in self.input.keys if name in self._moved)

    @property
    def record_key(self) -> tuple[str, ...]:
        return tuple(self._moved[name] for name in self.input.record_key if name in self._moved)

    def describe(self) -> str:
        return f"{self.label} {', '.join(map(str, self.exprs))}"

    def identity(self) -> Any:
        return [self.label, [e.canonical for e in self.exprs]]


@dataclass(frozen=True, eq=False)
class Rename(RowByRow):
    """Give columns other names."""

    input: Node
    names: dict[str, str]
    label = "rename"

    def check(self) -> None:
        super().check()
        schemas.require("rename", self.names, self.input.schema)
        if strange := [new for new in self.names.values() if not isinstance(new, str)]:
            raise PlanError(f"rename: {strange[0]!r} is no column name; write a text.")

    @cached_property
    def schema(self) -> pl.Schema:
        return schemas.after("rename", self.input.schema, lambda f: f.rename(self.names))

    @property
    def key(self) -> str | None:
        return self.names.get(self.input.key, self.input.key) if self.input.key else None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.names.get(name, name) for name in self.input.keys)

    @property
    def record_key(self) -> tuple[str, ...]:
        return tuple(self.names.get(name, name) for name in self.input.record_key)

    def describe(self) -> str:
        return f"rename {', '.join(f'{old} -> {new}' for old, new in self.names.items())}"


@dataclass(frozen=True, eq=False)
class Drop(RowByRow):
    """Leave columns out."""

    input: Node
    columns: tuple[str, ...]
    label = "drop"

    def check(self) -> None:
        schemas.require("drop", self.columns, self.input.schema)
        super().check()

    def changes(self, column: str) -> bool:
        return column in self.columns

    @cached_property
    def schema(self) -> pl.Schema:
        left = pl.Schema({name: dtype for name, dtype in self.input.schema.items() if name not in self.columns})
        if not left:
            raise PlanError("drop: no column would be left.")
        return left

    @property
    def key(self) -> str | None:
        return None if self.input.key in self.columns else self.input.key

    def describe(self) -> str:
        return f"drop {', '.join(self.columns)}"


@dataclass(frozen=True, eq=False)
class Cast(RowByRow):
    """Change the types of columns; a value that does not fit fails the step."""

    input: Node
    dtypes: pl.Schema
    label = "cast"

    def check(self) -> None:
        schemas.require("cast", self.dtypes, self.input.schema)
        super().check()

    def changes(self, column: str) -> bool:
        return column in self.dtypes and self.dtypes[column] != self.input.schema[column]

    @cached_property
    def schema(self) -> pl.Schema:
        return schemas.after("cast", self.input.schema, lambda f: f.cast(self.dtypes))

    @property
    def key(self) -> str | None:
        return None if self.input.key in self.dtypes else self.input.key

    def describe(self) -> str:
        return f"cast {', '.join(f'{name} to {dtype}' for name, dtype in self.dtypes.items())}"


@dataclass(frozen=True, eq=False)
class Explode(Node):
    """One row for each item of list columns."""

    input: Node
    columns: tuple[str, ...]
    label = "explode"

    def check(self) -> None:
        schemas.require("explode", self.columns, self.input.schema)
        for column in self.columns:
            if not isinstance(self.input.schema[column], pl.List | pl.Array):
                raise PlanError(f"explode: column {column!r} is {self.input.schema[column]}, not a List or Array.")

    @cached_property
    def schema(self) -> pl.Schema:
        return schemas.after("explode", self.input.schema, lambda f: f.explode(list(self.columns)))

    @property
    def key(self) -> str | None:
        return None if self.input.key in self.columns else self.input.key

    def describe(self) -> str:
        return f"explode {', '.join(self.columns)}"


@dataclass(frozen=True, eq=False)
class WithEventTime(Node):
    """Take event time from an expression from here on."""

    input: Node
    expr: PlanExpr
    label = "with_event_time"

    def check(self) -> None:
        upstream = self.input
        while len(upstream.inputs) == 1:
            (upstream,) = upstream.inputs
        if upstream.inputs:
            raise PlanError(
                f"{self.label} {self.expr}: stands after {upstream.label!r}, whose rows come from {len(upstream.inputs)} places; "
                "use it on each stream before."
            )
        if self.input.makes_rows:
            raise PlanError(
                f"{self.label} {self.expr}: stands after a step that makes rows of its own, and the event time of a result is the last "
                "instant of its window; use it on the stream before."
            )
        check_row_safe(self.label, self.expr.expr, self.input.schema)
        found = schemas.after(self.label, self.input.schema, lambda f: f.select(self.expr.expr.alias("event_time")))
        schemas.require_time(self.label, str(self.expr), found["event_time"])

    @cached_property
    def schema(self) -> pl.Schema:
        return self.input.schema

    @property
    def key(self) -> str | None:
        return self.input.key

    def describe(self) -> str:
        return f"with_event_time {self.expr}"

    def identity(self) -> Any:
        return [self.label, self.expr.canonical]


@dataclass(frozen=True, eq=False)
class MapBatches(Node):
    """Apply a function to each micro-batch, as a polars or a pandas frame."""

    input: Node
    function: Callable[[Any], Any]
    columns: pl.Schema
    flavour: str = "polars"

    @property
    def label(self) -> str:  # type: ignore[override]  # two labels, one mechanism
        return "map_batches" if self.flavour == "polars" else "map_pandas"

    def check(self) -> None:
        if not callable(self.function):
            raise PlanError(f"{self.label}: {self.function!r} is no function; it must take a frame and return one.")
        if not self.columns:
            raise PlanError(f"{self.label}: schema= is empty; name the columns and types that the function returns.")
        schemas.check_names(self.label, self.columns)

    @cached_property
    def schema(self) -> pl.Schema:
        return self.columns

    def describe(self) -> str:
        return f"{self.label} {getattr(self.function, '__qualname__', repr(type(self.function).__name__))}"

    def identity(self) -> Any:
        return [self.label, self.function, [[name, str(dtype)] for name, dtype in self.columns.items()]]
