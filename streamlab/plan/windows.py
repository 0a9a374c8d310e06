"""Windows and the aggregations in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from streamlab.durations import Duration, milliseconds, text
from streamlab.errors import DurationError, PlanError, did_you_mean
from streamlab.plan import schema as schemas
from streamlab.plan.expressions import PlanExpr, expand, is_aggregating
from streamlab.plan.nodes import Node

EMITS = ("final", "updates")
LONGEST = 1 << 53
"""Milliseconds: far beyond every event time, and with room to add several."""


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows [start, start + size), one after the other without overlap; lengths in milliseconds.

    Examples
    --------
    >>> str(tumbling("1h", grace="10m"))
    'tumbling 1h, grace 10m'
    """

    size: int
    grace: int = 0
    offset: int = 0

    def __str__(self) -> str:
        grace = f", grace {text(self.grace)}" if self.grace else ""
        return f"tumbling {text(self.size)}{grace}" + (f", offset {text(self.offset)}" if self.offset else "")


def tumbling(size: Duration, *, grace: Duration = "0s", offset: Duration = "0s") -> Tumbling:
    """Return windows of one size that follow each other without gap or overlap.

    Parameters
    ----------
    size
        Length of a window, such as ``"5m"``.
    grace
        How long after its end a window still takes rows that come out of order.
    offset
        Shifts the bounds, which are multiples of `size` since 1970-01-01 UTC without it; less than `size`.

    Raises
    ------
    DurationError
        If a length is no duration, or `size` is zero.

    Examples
    --------
    >>> tumbling("1h", grace="10m")
    Tumbling(size=3600000, grace=600000, offset=0)
    """
    length, patience = milliseconds(size, "tumbling: size", positive=True), milliseconds(grace, "tumbling: grace")
    for what, given in (("size", length), ("grace", patience)):
        if given > LONGEST:
            raise DurationError(
                f"tumbling: {what} {text(given)} is longer than event times reach; at most {text(LONGEST)}."
            )
    shift = milliseconds(offset, "tumbling: offset")
    if shift >= length:
        raise PlanError(f"tumbling: offset {text(shift)} must be less than the size, {text(length)}.")
    return Tumbling(length, patience, shift)


@dataclass(frozen=True, eq=False)
class Aggregate(Node):
    """One row per group, or per group and window, made of aggregating expressions."""

    input: Node
    by: tuple[str, ...]
    window: Tumbling | None
    aggs: tuple[PlanExpr, ...]
    emit: str = "final"
    given_name: str | None = None
    label = "agg"

    def check(self) -> None:
        schema = self.input.schema
        if self.emit not in EMITS:
            raise PlanError(
                f"window: emit={self.emit!r}; valid are {list(EMITS)}.{did_you_mean(str(self.emit), EMITS)}"
            )
        if self.given_name is not None:
            schemas.check_identity("name", self.given_name)
        schemas.require("group_by", self.by, schema)
        _ = self.schema
        for expr in self.aggs:
            if not is_aggregating(expr.expr, schema):
                raise PlanError(
                    f"agg: {expr} gives a value per row, not one per group. "
                    "Aggregate it, such as (...).sum(), (...).last(), or (...).implode() to keep all values."
                )

    @cached_property
    def schema(self) -> pl.Schema:
        """Grouping columns, window bounds, aggregations."""
        schema, by = self.input.schema, list(self.by)
        exprs = [e.expr for e in self.aggs]
        values = schemas.after("agg", schema, lambda f: f.group_by(by).agg(exprs) if by else f.select(exprs))
        bounds = dict.fromkeys((schemas.WINDOW_START, schemas.WINDOW_END), schemas.TIME) if self.window else {}
        groups = {name: schema[name] for name in by}
        made = {name: dtype for name, dtype in values.items() if name not in groups}
        for name in bounds:
            if name in groups or name in made:
                raise PlanError(f"agg: {name!r} is the name of a window's bound; give your column another one.")
        return pl.Schema({**groups, **bounds, **made})

    @cached_property
    def expanded(self) -> tuple[pl.Expr, ...]:
        """One aggregation per output column: the grouping columns are left out, as polars does."""
        columns = pl.Schema({name: dtype for name, dtype in self.input.schema.items() if name not in self.by})
        return tuple(expand([e.expr for e in self.aggs], columns))

    @property
    def key(self) -> str | None:
        return self.input.key if self.input.key in self.by else None

    @property
    def is_table(self) -> bool:
        return self.emit == "updates" or self.window is None

    @property
    def makes_rows(self) -> bool:
        return True

    @property
    def name(self) -> str:
        """The step's identity: its state is found by it."""
        if self.given_name is not None:
            return self.given_name
        window = f"tumbling-{text(self.window.size)}" if self.window else "group"
        return ("-".join([window, "by", *self.by]) if self.by else window).replace("/", "-")

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that identify a row of the result."""
        bounds = (schemas.WINDOW_START, schemas.WINDOW_END) if self.window else ()
        return (*self.by, *bounds)

    def describe(self) -> str:
        how = f"{self.window} -> {self.emit}" if self.window else "updates"
        by = f" by {', '.join(self.by)}" if self.by else ""
        return f"{how}{by}: {', '.join(map(str, self.aggs))} [{self.name}]"

    def identity(self) -> Any:
        window = [self.window.size, self.window.grace, self.window.offset] if self.window else None
        types = [[name, str(dtype)] for name, dtype in self.schema.items()]
        return [self.label, self.name, list(self.by), window, self.emit, [e.canonical for e in self.aggs], types]


@dataclass(frozen=True, eq=False)
class Late(Node):
    """Rows that came too late for a windowed step, with the window they missed and the watermark they missed it by."""

    input: Aggregate
    label = "late"

    def check(self) -> None:
        if self.input.window is None:
            raise PlanError(f"late: step {self.input.name!r} has no window, so no row is ever late for it.")

    @cached_property
    def schema(self) -> pl.Schema:
        extra = dict.fromkeys((schemas.WINDOW_START, schemas.WINDOW_END, schemas.WATERMARK), schemas.TIME)
        return pl.Schema({**self.input.input.schema, **extra})

    @property
    def makes_rows(self) -> bool:
        return self.input.input.makes_rows

    def describe(self) -> str:
        return f"late rows of [{self.input.name}]"
