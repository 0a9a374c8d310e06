"""A step's aggregations compiled: rows to partial results, partial results together, partial results to values.

Where one aggregation needs the rows, the partial results are the rows: nothing is combined, and polars works all of them out at the end.

What goes by arrival (`first`, `last`, kept rows) goes by the order in which parts are given; or, compiled with `sequenced`, by a number
that each row carries, and then `combine` gives the same whatever order the parts stand in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from streamlab.plan.aggregations import SEQUENCE, from_rows, keeps_rows, partial
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
    merge: tuple[pl.Expr, ...] = ()
    """As `together`, of two partial results side by side, where that can be done: see `Partial`."""
    sequenced: bool = False
    """Whether rows must carry `SEQUENCE`: by the step's own choice and because an aggregation goes by it."""

    def split(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return partial results of rows, or the rows where they are kept."""
        if self.keeps_rows:
            return rows.select(*self.keys, *self.columns, *([SEQUENCE] if self.sequenced else []))
        return rows.group_by(self.keys).agg(self.start)

    def combine(self, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return partial results put together, parts in order of arrival; in any order where they are sequenced."""
        whole = pl.concat(parts) if len(parts) > 1 else parts[0]
        if self.keeps_rows or len(parts) == 1:
            return whole
        return whole.group_by(self.keys).agg(self.together)

    def finish(self, parts: pl.DataFrame) -> pl.DataFrame:
        """Return the values of combined partial results: keys, then one column an aggregation."""
        if self.keeps_rows:
            rows = parts.sort(SEQUENCE) if self.sequenced else parts
            return rows.group_by(self.keys).agg(self.values)
        return parts.select(*self.keys, *self.values)


def compile_aggregates(step: Aggregate, keys: Sequence[str], *, sequenced: bool = False) -> Aggregates:
    """Return a step's aggregations in groups of `keys`.

    Parameters
    ----------
    step
        Groups and aggregations.
    keys
        Columns of the groups.
    sequenced
        Whether parts may be combined in another order than that of arrival: rows carry `SEQUENCE` then.

    Examples
    --------
    >>> from streamlab.plan.aggregate import Aggregate
    >>> from streamlab.plan.expressions import PlanExpr
    >>> from streamlab.plan.nodes import Source
    >>> source = Source("events", pl.Schema({"k": pl.String, "x": pl.Int64}), None)
    >>> step = Aggregate(source, ("k",), None, (PlanExpr(pl.col("x").last()),), "updates")
    >>> last = compile_aggregates(step, ["k"], sequenced=True)
    >>> parts = [last.split(pl.DataFrame({"k": ["a"], "x": [x], SEQUENCE: [n]})) for x, n in [(7, 2), (5, 1)]]
    >>> last.finish(last.combine(parts)).rows()
    [('a', 7)]
    """
    exprs = step.expanded
    outputs = [step.schema[e.meta.output_name()] for e in exprs]
    columns = _columns(exprs, step)
    if keeps_rows(step):
        values = tuple(from_rows(e, step.input.schema, dtype) for e, dtype in zip(exprs, outputs, strict=True))
        return Aggregates(
            tuple(keys), columns, keeps_rows=True, start=(), together=(), values=values, sequenced=sequenced
        )
    partials = [
        partial(e, step.input.schema, dtype, n, sequenced=sequenced)
        for n, (e, dtype) in enumerate(zip(exprs, outputs, strict=True))
    ]
    known = [p for p in partials if p is not None]
    return Aggregates(
        tuple(keys),
        columns,
        keeps_rows=False,
        start=tuple(e for p in known for e in p.split),
        together=tuple(e for p in known for e in p.combine),
        values=tuple(p.finish for p in known),
        merge=tuple(e for p in known for e in p.merge) if all(p.merge for p in known) else (),
        sequenced=sequenced and any(p.kind in {"first", "last"} for p in known),
    )


def _columns(exprs: Sequence[pl.Expr], step: Aggregate) -> tuple[str, ...]:
    """Columns that the aggregations read, beside the grouping columns."""
    read = {name for e in exprs for name in e.meta.root_names()}
    return tuple(name for name in step.input.schema if name in read and name not in step.by)
