"""Groups, and the aggregations in them: for ever, or in windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.durations import text
from streamlab.errors import PlanError, did_you_mean
from streamlab.plan import approx
from streamlab.plan import schema as schemas
from streamlab.plan.aggregations import by_arrival, keeps_rows
from streamlab.plan.expressions import PlanExpr, expand, is_aggregating
from streamlab.plan.stateful import Stateful
from streamlab.plan.windows import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Node
    from streamlab.plan.windows import Window

EMITS = ("final", "updates")


@dataclass(frozen=True, eq=False)
class Aggregate(Stateful):
    """One row per group, or per group and window, made of aggregating expressions."""

    input: Node
    by: tuple[str, ...]
    window: Window | None
    aggs: tuple[PlanExpr, ...]
    emit: str = "final"
    given_name: str | None = None
    ttl: int | None = None  # milliseconds that a group without a window lives untouched; None: for ever
    label = "agg"

    def check(self) -> None:
        super().check()
        schema = self.input.schema
        if self.emit not in EMITS:
            raise PlanError(
                f"window: emit={self.emit!r}; valid are {list(EMITS)}.{did_you_mean(str(self.emit), EMITS)}"
            )
        schemas.require("group_by", self.by, schema)
        _ = self.schema
        for expr in self.aggs:
            if not is_aggregating(expr.expr, schema):
                raise PlanError(
                    f"agg: {expr} gives a value per row, not one per group. "
                    "Aggregate it, such as (...).sum(), (...).last(), or (...).implode() to keep all values."
                )
        for one in self.expanded:
            approx.check("agg", one, schema)

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
    def retracts(self) -> bool:
        # the bounds of a session change, and then its old row goes
        return self.is_table and (self.ttl is not None or isinstance(self.window, Session))

    @property
    def derived_name(self) -> str:
        window = self.window.label if self.window else "group"
        return "-".join([window, "by", *self.by]) if self.by else window

    @property
    def reach(self) -> int:
        return max(self.window.lengths) + self.window.grace if self.window else 0

    @property
    def late_schema(self) -> pl.Schema | None:
        return self.input.schema if self.window else None

    @property
    def late_keys(self) -> tuple[str, ...]:
        return self.by

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that identify a row of the result."""
        bounds = (schemas.WINDOW_START, schemas.WINDOW_END) if self.window else ()
        return (*self.by, *bounds)

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.keys if self.is_table else self.by

    def describe(self) -> str:
        how = f"{self.window} -> {self.emit}" if self.window else "updates"
        by = f" by {', '.join(self.by)}" if self.by else ""
        lives = "" if self.ttl is None else f", groups dropped after {text(self.ttl)} untouched"
        return f"{how}{by}{lives}: {', '.join(map(str, self.aggs))} [{self.name}]"

    def identity(self) -> Any:
        window = self.window.identity() if self.window else None
        types = [[name, str(dtype)] for name, dtype in self.schema.items()]
        return [self.label, self.name, list(self.by), window, self.emit, [e.canonical for e in self.aggs], types] + (
            [] if self.ttl is None else [self.ttl]
        )

    def notes(self) -> Iterator[str]:
        if kept := keeps_rows(self):
            rows = "of an open window" if self.window else "for ever"
            yield f"keeps every row {rows}, because of {', '.join(kept)}: memory and state grow with rows, not keys"
        if not self.key and (ordered := by_arrival(self)):
            yield (
                f"goes by order of arrival: {', '.join(ordered)}; "
                "partitions read in another order may give other values (sort_by does not)"
            )
        yield from approx.notes(self.expanded)
        yield from super().notes()
