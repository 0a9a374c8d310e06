"""A step's aggregations compiled: rows to partial results, partial results together, partial results to values.

Where one aggregation needs the rows, the partial results are the rows: nothing is combined, and polars works all of them out at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from streamlab.plan.aggregations import keeps_rows, partial
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.plan.aggregate import Aggregate

LANE, WINDOW, TIME = f"{RESERVED}lane", f"{RESERVED}window", f"{RESERVED}time"
"""Columns of the engine's own: task, window start, newest event time."""


@dataclass(frozen=True, slots=True)
class Aggregates:
    """How the aggregations of a step are worked out in groups of `keys`."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    keeps_rows: bool
    start: tuple[pl.Expr, ...]
    together: tuple[pl.Expr, ...]
    values: tuple[pl.Expr, ...]

    def split(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return partial results of rows, or the rows where they are kept."""
        if self.keeps_rows:
            return rows.select(*self.keys, *self.columns)
        return rows.group_by(self.keys).agg(self.start)

    def combine(self, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return partial results put together, parts in order of arrival."""
        whole = pl.concat(parts) if len(parts) > 1 else parts[0]
        if self.keeps_rows or len(parts) == 1:
            return whole
        return whole.group_by(self.keys).agg(self.together)

    def finish(self, parts: pl.DataFrame) -> pl.DataFrame:
        """Return the values of combined partial results: keys, then one column an aggregation."""
        if self.keeps_rows:
            return parts.group_by(self.keys).agg(self.values)
        return parts.select(*self.keys, *self.values)


def compile_aggregates(step: Aggregate, keys: Sequence[str]) -> Aggregates:
    """Return a step's aggregations in groups of `keys`."""
    exprs = step.expanded
    outputs = [step.schema[e.meta.output_name()] for e in exprs]
    if keeps_rows(step):
        values = [e.cast(dtype).alias(e.meta.output_name()) for e, dtype in zip(exprs, outputs, strict=True)]
        return Aggregates(tuple(keys), _columns(exprs, step), True, (), (), tuple(values))  # noqa: FBT003  # keeps_rows
    partials = [
        partial(e, step.input.schema, dtype, n) for n, (e, dtype) in enumerate(zip(exprs, outputs, strict=True))
    ]
    known = [p for p in partials if p is not None]
    return Aggregates(
        tuple(keys),
        _columns(exprs, step),
        False,  # noqa: FBT003  # keeps_rows
        tuple(e for p in known for e in p.split),
        tuple(e for p in known for e in p.combine),
        tuple(p.finish for p in known),
    )


def _columns(exprs: Sequence[pl.Expr], step: Aggregate) -> tuple[str, ...]:
    """Columns that the aggregations read, beside the grouping columns."""
    read = {name for e in exprs for name in e.meta.root_names()}
    return tuple(name for name in step.input.schema if name in read and name not in step.by)
