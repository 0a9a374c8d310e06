"""Aggregations over the rows of a table: a row that changes is taken out of its old group, then added to its new one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.errors import PlanError
from streamlab.plan import approx
from streamlab.plan import schema as schemas
from streamlab.plan.expressions import PlanExpr, check_row_safe, expand, is_aggregating
from streamlab.plan.measures import Measures, measures, needs_rows
from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Node


@dataclass(frozen=True, eq=False)
class TableAggregate(Stateful):
    """One row per group of a table's rows as they are now; a group that lost all its rows stays, with a count of 0."""

    input: Node
    groups: tuple[PlanExpr, ...]
    aggs: tuple[PlanExpr, ...]
    given_name: str | None = None
    label = "agg"

    def check(self) -> None:
        super().check()
        schema = self.input.schema
        if not self.input.is_table:
            raise PlanError(
                "agg: only a table has rows that change; the rows of a stream are events: stream.group_by(...).agg(...)."
            )
        _ = self.schema  # unknown columns first: the safety check needs them
        for group in self.groups:
            check_row_safe("group_by", group.expr, schema)
        for expr in self.aggs:
            if not is_aggregating(expr.expr, schema):
                raise PlanError(
                    f"agg: {expr} gives a value per row, not one per group. "
                    "Aggregate it, such as (...).sum(), (...).last(), or (...).implode() to keep all values."
                )
            approx.check("agg", expr.expr, schema)

    @cached_property
    def by(self) -> tuple[str, ...]:
        """Names of the grouping columns."""
        return tuple(group.expr.meta.output_name() for group in self.groups)

    @cached_property
    def schema(self) -> pl.Schema:
        """Grouping columns, aggregations."""
        schema, groups, exprs = self.input.schema, [g.expr for g in self.groups], [e.expr for e in self.aggs]
        found = schemas.after("group_by", schema, lambda f: f.select(groups)) if groups else pl.Schema()
        values = schemas.after("agg", schema, lambda f: f.group_by(groups).agg(exprs) if groups else f.select(exprs))
        return pl.Schema({**found, **{name: dtype for name, dtype in values.items() if name not in found}})

    @cached_property
    def expanded(self) -> tuple[pl.Expr, ...]:
        """One aggregation per output column: the grouping columns are left out, as polars does."""
        columns = pl.Schema({name: dtype for name, dtype in self.input.schema.items() if name not in self.by})
        return tuple(expand([e.expr for e in self.aggs], columns))

    @cached_property
    def measures(self) -> Measures | None:
        """How values are added and taken out; None: a group's rows are kept, and aggregated anew."""
        return measures(self.expanded, self.input.schema, self.schema)

    @property
    def key(self) -> str | None:
        promised = self.input.key
        for group in self.groups:
            bare = group.expr.meta.undo_aliases()
            if promised is not None and bare.meta.is_column() and bare.meta.output_name() == promised:
                return group.expr.meta.output_name()
        return None

    @property
    def is_table(self) -> bool:
        return True

    @property
    def retracts(self) -> bool:
        return False

    @property
    def keys(self) -> tuple[str, ...]:
        return self.by

    @property
    def record_key(self) -> tuple[str, ...]:
        return self.by

    @property
    def derived_name(self) -> str:
        return "-".join(["table-group", *(["by", *self.by] if self.by else [])])

    def describe(self) -> str:
        by = f" by {', '.join(map(str, self.groups))}" if self.groups else ""
        return f"table updates{by}: {', '.join(map(str, self.aggs))} [{self.name}]"

    def identity(self) -> Any:
        types = [[name, str(dtype)] for name, dtype in self.schema.items()]
        groups, aggs = ([e.canonical for e in exprs] for exprs in (self.groups, self.aggs))
        return [self.label, self.name, groups, list(self.input.keys), aggs, types]

    def notes(self) -> Iterator[str]:
        kept = needs_rows(self.expanded, self.input.schema, self.schema)
        if kept:
            yield f"keeps the table's rows and works out each changed group anew from all of its rows, because of {', '.join(kept)}"
        else:
            yield "keeps a group and some numbers for each row of the table, to take a row's old values out of its old group"
        yield from super().notes()
