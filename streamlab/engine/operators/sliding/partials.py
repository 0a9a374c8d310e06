"""Partial results of sliding windows: those of one key and event time, and their combination in each window.

A row is in many windows, so it is not put together with others of its key in order of arrival: what goes by arrival goes by a number that
each row carries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.aggregates import WINDOW, compile_aggregates
from streamlab.plan.aggregations import SEQUENCE
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from streamlab.engine.batch import Ints
    from streamlab.plan.aggregate import Aggregate

_GROUP = f"{RESERVED}group"


class SlidingPartials:
    """How rows become partial results, and those the values of windows.

    Attributes
    ----------
    keeps_rows
        Whether partial results are the rows.
    spelled
        Grouping columns that the aggregations read once more when a window is worked out.
    schema
        Columns of a partial result.
    """

    def __init__(self, step: Aggregate) -> None:
        self._aggregates = compile_aggregates(step, [WINDOW], sequenced=True)
        self.keeps_rows = self._aggregates.keeps_rows
        read = {name for expr in step.expanded for name in expr.meta.root_names()}
        self._read = [name for name in step.input.schema if name in read or name in step.by]
        self.spelled = [name for name in step.by if name in read] if self.keeps_rows else []
        none = np.empty(0, np.int64)
        self.schema = self.split(pl.DataFrame(schema=step.input.schema), none, none).schema
        self.nothing = self.join(self._spelled(step), none, none)

    def _spelled(self, step: Aggregate) -> pl.DataFrame:
        return pl.DataFrame(schema={**self.schema, **{name: step.input.schema[name] for name in self.spelled}})

    def split(self, rows: pl.DataFrame, group: Ints, arrival: Ints) -> pl.DataFrame:
        """Return partial results of groups of rows, which must be sorted by group, in order of the groups.

        Parameters
        ----------
        rows
            Columns of the step's input.
        group
            Number of each row's group; where rows are kept, each is a group of its own.
        arrival
            Number of each row in order of arrival.
        """
        own = [pl.Series(_GROUP, group), pl.Series(SEQUENCE, arrival)]
        data = pl.DataFrame([*(rows[name] for name in self._read), *own])
        if self.keeps_rows:
            return data.select(*self._aggregates.columns, SEQUENCE)
        return data.group_by(_GROUP, maintain_order=True).agg(self._aggregates.start).drop(_GROUP)

    def join(self, parts: pl.DataFrame, window: Ints, at: Ints) -> pl.DataFrame:
        """Return the values of windows in order of their numbers, a window being the parts `at` some positions.

        Parameters
        ----------
        parts
            Partial results, and the columns that are `spelled`.
        window
            Numbers of windows, ascending.
        at
            Positions of parts, one for each of these.
        """
        if self.keeps_rows:
            rows = parts[at].with_columns(pl.Series(WINDOW, window)).sort(WINDOW, SEQUENCE)
            return rows.group_by(WINDOW, maintain_order=True).agg(self._aggregates.values).drop(WINDOW)
        return self.combined(parts[at], window).select(self._aggregates.values)

    def combined(self, parts: pl.DataFrame, group: Ints) -> pl.DataFrame:
        """Return partial results put together by group, in order of first appearance."""
        numbered = parts.with_columns(pl.Series(WINDOW, group))
        return numbered.group_by(WINDOW, maintain_order=True).agg(self._aggregates.together).drop(WINDOW)
