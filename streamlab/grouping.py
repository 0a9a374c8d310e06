"""Groups and windows on the way to an aggregation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.apply_state import ApplyState
from streamlab.plan.expressions import IntoExpr, PlanExpr, parse
from streamlab.plan.schema import declared
from streamlab.plan.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl
    from polars.datatypes import DataType, DataTypeClass

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

    def agg(
        self, *aggs: IntoExpr, name: str | None = None, ttl: Duration | None = None, **named: IntoExpr
    ) -> StreamTable:
        """Aggregate each group for ever: a table that every row updates.

        Parameters
        ----------
        aggs, named
            Aggregating expressions.
        name
            The step's identity: its state is found by it.
        ttl
            How long a group lives untouched, such as ``"1d"``: once the watermark is later than its newest event time by more than that,
            it is dropped, and a deletion emitted. A row that comes after begins it anew; one that is itself so old makes no group.
            Default: for ever, and then the state grows with the groups.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "a"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.group_by("user").agg(n=pl.len()).collect().rows()
        [('a', 2)]
        >>> later = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 60_001]}), event_time="ts", topic="later")
        >>> later.group_by("user").agg(n=pl.len(), ttl="1m").collect().rows()
        [('b', 1)]
        """
        from streamlab.table import StreamTable  # noqa: PLC0415  # tables and groups name each other

        exprs = tuple(map(PlanExpr, parse(aggs, named, step="agg")))
        lives = None if ttl is None else milliseconds(ttl, "agg: ttl", positive=True)
        return StreamTable(Aggregate(self.node, self.by, None, exprs, "updates", name, lives))

    def apply_state(
        self,
        function: Callable[[pl.DataFrame, Any], tuple[pl.DataFrame, Any]],
        *,
        schema: Mapping[str, DataType | DataTypeClass],
        state: Any = None,
        event_time: str | None = None,
        name: str | None = None,
    ) -> StreamFrame:
        """Apply a function of your own to the rows of each key, with a state that it keeps for that key.

        Parameters
        ----------
        function
            Gets the rows of one key that came in a micro-batch, in order of arrival, as a polars frame with all columns, and the key's
            state. Returns rows and the new state; None as state forgets the key. It is called once per key and micro-batch.
            How rows are cut into micro-batches depends on the load, so it must make the same of any cut: 2 rows at once, or one
            after the other. It must depend on nothing but what it is given.
        schema
            Columns and types of the rows that it returns.
        state
            What a key begins with. A state is made of None, numbers, text, lists and dicts with text keys (tuples come back as lists),
            or is a polars DataFrame or Series, or a dict that has such among its values.
        event_time
            The column of the returned rows that is their event time. Without it, where as many rows are returned as were given, each
            has that of the row given in its place: that is exact for any cut, and what is not wanted of them can be filtered behind.
            Any other number of rows comes with the last of those given, at their newest event time, which goes by the cut.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        PlanError
            If there is no function or schema, or the state is of another kind.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "b", "a"], "amount": [5, 1, 2], "ts": [0, 1, 2]})
        >>> payments = sl.from_frame(rows, event_time="ts", topic="payments")
        >>> def running(rows, total):
        ...     rows = rows.select("user", total=pl.col("amount").cum_sum() + total)
        ...     return rows, rows["total"][-1]
        >>> totals = payments.group_by("user").apply_state(running, schema={"user": pl.String, "total": pl.Int64}, state=0)
        >>> totals.collect().rows()
        [('a', 5), ('b', 1), ('a', 7)]
        """
        from streamlab.frame import StreamFrame  # noqa: PLC0415  # frames and groups name each other

        columns = declared("apply_state", schema)
        return StreamFrame(ApplyState(self.node, self.by, function, columns, state, event_time, name))


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
        var, std, first, last, any, all, null_count, and the approximate `approx_n_unique`, `approx_quantile`, `top_k`) cost memory per
        group; any other keeps the rows of the open windows, and `explain()` says so.

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
