"""Groups and windows on the way to an aggregation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.errors import PlanError
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.expressions import IntoExpr, PlanExpr, parse
from streamlab.plan.windows import Window

if TYPE_CHECKING:
    from streamlab.frame import StreamFrame
    from streamlab.plan.nodes import Node
    from streamlab.table import StreamTable


@dataclass(frozen=True)
class GroupBy:
    """Rows in groups: what comes next is `window` or `agg`."""

    node: Node
    by: tuple[str, ...]

    def window(self, window: Window, *, emit: str = "final", name: str | None = None) -> WindowedGroupBy:
        """Cut each group into windows of event time.

        Parameters
        ----------
        window
            ``sl.tumbling(...)``.
        emit
            ``"final"``: one row per group and window, when the window closes. ``"updates"``: its row each time it changes.
        name
            The step's identity: its state is found by it. Derived from window and keys if not given.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a"], "ts": [0]}), event_time="ts", topic="events")
        >>> events.group_by("user").window("1m")
        Traceback (most recent call last):
        ...
        streamlab.errors.PlanError: window: '1m' is no window; write sl.tumbling("5m"), with grace= for rows out of order.
        """
        if not isinstance(window, Window):
            raise PlanError(
                f'window: {window!r} is no window; write sl.tumbling("5m"), with grace= for rows out of order.'
            )
        return WindowedGroupBy(self, window, emit, name)

    def agg(self, *aggs: IntoExpr, name: str | None = None, **named: IntoExpr) -> StreamTable:
        """Aggregate each group for ever: a table that every row updates.

        Parameters
        ----------
        aggs, named
            Aggregating expressions.
        name
            The step's identity: its state is found by it.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "a"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.group_by("user").agg(n=pl.len()).collect().rows()
        [('a', 2)]
        """
        from streamlab.table import StreamTable  # noqa: PLC0415  # tables and groups name each other

        exprs = tuple(map(PlanExpr, parse(aggs, named, step="agg")))
        return StreamTable(Aggregate(self.node, self.by, None, exprs, "updates", name))


@dataclass(frozen=True)
class WindowedGroupBy:
    """Rows in groups and windows: what comes next is `agg`."""

    groups: GroupBy
    cut: Window
    emit: str
    name: str | None

    def agg(self, *aggs: IntoExpr, **named: IntoExpr) -> StreamFrame | StreamTable:
        """Aggregate each group in each window.

        Any aggregating polars expression works. Those that can be put together from partial results (len, count, sum, mean, min, max,
        var, std, first, last, any, all, null_count) cost memory per group; any other keeps the rows of the open windows, and
        `explain()` says so.

        Returns
        -------
        StreamFrame or StreamTable
            Final results are events, updates are a table. Columns: grouping columns, window_start, window_end, aggregations.

        Raises
        ------
        PlanError
            If an expression does not aggregate, or names an unknown column.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"x": [1, 3], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> windows = events.group_by().window(sl.tumbling("1m"))
        >>> windows.agg(mean=pl.col("x").mean(), middle=pl.col("x").median()).collect().select("mean", "middle").rows()
        [(2.0, 2.0)]
        >>> windows.agg(pl.col("x") * 2)
        Traceback (most recent call last):
        ...
        streamlab.errors.PlanError: agg: [(col("x")) * (dyn int: 2)] gives a value per row, not one per group. \
Aggregate it, such as (...).sum(), (...).last(), or (...).implode() to keep all values.
        """
        from streamlab.frame import StreamFrame  # noqa: PLC0415  # frames and groups name each other
        from streamlab.table import StreamTable  # noqa: PLC0415

        exprs = tuple(map(PlanExpr, parse(aggs, named, step="agg")))
        node = Aggregate(self.groups.node, self.groups.by, self.cut, exprs, self.emit, self.name)
        return StreamTable(node) if node.is_table else StreamFrame(node)
