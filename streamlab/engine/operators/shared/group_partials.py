"""Partial results of groups that are numbered, a row each: for windows whose groups are found anew with every micro-batch.

Where an aggregation needs the rows, a group's partial result is its rows, each column as a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.aggregates import compile_aggregates
from streamlab.plan.aggregations import SEQUENCE
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from streamlab.engine.batch import Ints
    from streamlab.plan.aggregate import Aggregate

GROUP = f"{RESERVED}group"


class GroupPartials:
    """How the aggregations of a step are worked out for groups 0, 1, ...: parts may be put together in any order.

    Parameters
    ----------
    step
        Groups and aggregations.
    """

    def __init__(self, step: Aggregate) -> None:
        read = {name for expr in step.expanded for name in expr.meta.root_names()}
        self.by = tuple(name for name in step.by if name in read)
        """Grouping columns that an aggregation reads: `join` and `values` need them too."""
        self._compiled = compile_aggregates(step, (GROUP, *self.by), sequenced=True)
        self._columns = (*self._compiled.columns, *self.by)
        self._lists = [pl.col(name) for name in (*self._compiled.columns, SEQUENCE)]
        numbers = {GROUP: pl.Int64(), SEQUENCE: pl.Int64()}
        nothing = pl.DataFrame(schema={**{name: step.input.schema[name] for name in self._columns}, **numbers})
        self.schema = self._split(nothing).drop(GROUP, *self.by).schema

    def of(self, data: pl.DataFrame, groups: Ints, sequence: Ints) -> pl.DataFrame:
        """Return the partial result of each group of rows: every group has one at least."""
        numbers = [pl.Series(GROUP, groups), *([pl.Series(SEQUENCE, sequence)] if self._numbered else [])]
        return self._split(pl.DataFrame([*(data[name] for name in self._columns), *numbers])).sort(GROUP)

    def join(self, fresh: pl.DataFrame, held: pl.DataFrame, groups: Ints) -> pl.DataFrame:
        """Return the partial results of groups, put together with others that belong to some of them."""
        if not len(groups):
            return fresh
        joined = np.zeros(fresh.height, np.bool_)
        joined[groups] = True
        mask = pl.Series(joined)
        parts = [fresh.filter(mask), held.with_columns(pl.Series(GROUP, groups)).select(fresh.columns)]
        return pl.concat([fresh.filter(~mask), self._combine(pl.concat(parts)).select(fresh.columns)]).sort(GROUP)

    def values(self, parts: pl.DataFrame) -> pl.DataFrame:
        """Return the values of partial results, row by row: one column an aggregation."""
        parts = parts.with_columns(pl.Series(GROUP, np.arange(parts.height)))
        if not self._compiled.keeps_rows:
            return self._compiled.finish(parts).drop(GROUP, *self.by)
        rows = parts.explode([expr.meta.output_name() for expr in self._lists], empty_as_null=False)
        return self._compiled.finish(rows).sort(GROUP).drop(GROUP, *self.by)

    @property
    def _numbered(self) -> bool:
        return self._compiled.keeps_rows or self._compiled.sequenced

    def _split(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self._compiled.keeps_rows:
            return rows.group_by(self._compiled.keys).agg(self._lists)
        return self._compiled.split(rows)

    def _combine(self, parts: pl.DataFrame) -> pl.DataFrame:
        exprs = self._compiled.together
        if self._compiled.keeps_rows:
            exprs = tuple(expr.explode(empty_as_null=False) for expr in self._lists)
        return parts.group_by(self._compiled.keys).agg(exprs)
