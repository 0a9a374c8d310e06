"""StreamFrame: events, and what is done to them, written as with a polars frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError
from streamlab.grouping import GroupBy
from streamlab.plan import nodes, steps
from streamlab.plan.expressions import IntoExpr, PlanExpr, parse
from streamlab.plan.join_keys import join_keys
from streamlab.plan.join_table import JoinTable
from streamlab.plan.schema import declared
from streamlab.stream_joins import StreamJoins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from polars.datatypes import DataType, DataTypeClass

    from streamlab.table import StreamTable


class StreamFrame(StreamJoins):
    """A stream of events: immutable, lazy and inert; nothing is read until it is run.

    Made by `Kafka.stream`, `from_frame`, `from_parquet` and `from_ndjson`, and by each step.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
    >>> events.filter(pl.col("user") == "a").select("user").collect()
    shape: (1, 1)
    ┌──────┐
    │ user │
    │ ---  │
    │ str  │
    ╞══════╡
    │ a    │
    └──────┘
    """

    def filter(self, *predicates: IntoExpr, **equals: Any) -> StreamFrame:
        """Keep the rows for which every predicate is true; null is not true.

        Parameters
        ----------
        predicates
            Boolean expressions.
        equals
            Columns and the value that each must have.

        Raises
        ------
        PlanError
            If a predicate is not Boolean, names an unknown column, or needs more than one row.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.filter(pl.col("usr") == "a")
        Traceback (most recent call last):
        ...
        streamlab.errors.UnknownColumnError: filter: no column 'usr'; the stream has ['user', 'ts']. Did you mean 'user'?
        """
        matches = [pl.col(name) == value for name, value in equals.items()]
        exprs = parse([*predicates, *matches], {}, step="filter")
        return StreamFrame(steps.Filter(self.node, tuple(map(PlanExpr, exprs))))

    def select(self, *exprs: IntoExpr, **named: IntoExpr) -> StreamFrame:
        """Make the columns anew; event time, partition and offset travel on unseen.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"x": [1, 2], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.select("x", double=pl.col("x") * 2).columns
        ['x', 'double']
        """
        return StreamFrame(steps.Select(self.node, tuple(map(PlanExpr, parse(exprs, named, step="select")))))

    def with_columns(self, *exprs: IntoExpr, **named: IntoExpr) -> StreamFrame:
        """Add columns, or replace those of the same name.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"x": [1, 2], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.with_columns(double=pl.col("x") * 2).schema.names()
        ['x', 'ts', 'double']
        """
        return StreamFrame(
            steps.Select(self.node, tuple(map(PlanExpr, parse(exprs, named, step="with_columns"))), keep=True)
        )

    def rename(self, mapping: Mapping[str, str]) -> StreamFrame:
        """Give columns other names: ``{"old": "new"}``.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.rename({"user": "name"}).columns
        ['name', 'ts']
        """
        return StreamFrame(steps.Rename(self.node, dict(mapping)))

    def drop(self, *columns: str) -> StreamFrame:
        """Leave columns out; event time travels on unseen.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.drop("ts").columns
        ['user']
        """
        return StreamFrame(steps.Drop(self.node, _names(columns)))

    def cast(self, dtypes: Mapping[str, DataType | DataTypeClass]) -> StreamFrame:
        """Change the types of columns; a value that does not fit fails the step, it is never cut or made null.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.cast({"user": pl.Categorical}).schema["user"]
        Categorical
        """
        return StreamFrame(steps.Cast(self.node, declared("cast", dtypes)))

    def explode(self, *columns: str) -> StreamFrame:
        """Make a row for each item of list columns, as polars does: columns exploded together must be equally long.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> orders = sl.from_frame(pl.DataFrame({"items": [["a", "b"], ["c"]], "ts": [0, 1]}), event_time="ts", topic="orders")
        >>> orders.explode("items").collect()["items"].to_list()
        ['a', 'b', 'c']
        """
        return StreamFrame(steps.Explode(self.node, _names(columns)))

    def with_event_time(self, expr: IntoExpr) -> StreamFrame:
        """Take event time from an expression from here on: Datetime, Date, or an integer of milliseconds since 1970 (UTC).

        A row where it is null or before 1970 is a bad record: it goes where the source's `on_error` says.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> later = events.with_event_time(pl.col("ts") + 60_000)
        >>> later.group_by().window(sl.tumbling("1m")).agg(pl.len().alias("n")).collect()["window_start"].dt.epoch("ms").to_list()
        [60000]
        """
        (parsed,) = parse([expr], {}, step="with_event_time")
        return StreamFrame(steps.WithEventTime(self.node, PlanExpr(parsed)))

    def map_batches(
        self, function: Callable[[pl.DataFrame], pl.DataFrame], *, schema: Mapping[str, DataType | DataTypeClass]
    ) -> StreamFrame:
        """Apply a function to each micro-batch as a polars frame.

        Parameters
        ----------
        function
            Gets a frame and returns one with a row for each row given. How many rows come at once depends on the load, so
            a row's result should not depend on the others.
        schema
            Columns and types that the function returns.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"x": [1, 2], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.map_batches(lambda f: f.select(y=pl.col("x") * 10), schema={"y": pl.Int64}).collect()["y"].to_list()
        [10, 20]
        """
        return StreamFrame(steps.MapBatches(self.node, function, declared("map_batches", schema)))

    def map_pandas(
        self, function: Callable[[pd.DataFrame], pd.DataFrame], *, schema: Mapping[str, DataType | DataTypeClass]
    ) -> StreamFrame:
        """Apply a function to each micro-batch as a pandas frame; otherwise as `map_batches`.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"x": [1, 2], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> events.map_pandas(lambda f: f.assign(y=f["x"] * 10)[["y"]], schema={"y": pl.Int64}).collect()["y"].to_list()
        [10, 20]
        """
        return StreamFrame(steps.MapBatches(self.node, function, declared("map_pandas", schema), flavour="pandas"))

    def join(
        self,
        table: StreamTable,
        on: str | Sequence[str] | None = None,
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: str = "inner",
        suffix: str = "_right",
        grace: Duration | None = None,
        name: str | None = None,
    ) -> StreamFrame:
        """Join each row with the row that a table has for its key; the table itself emits nothing.

        The row is the last one that came; of a table with ``history=`` the one as of the row's event time. A null key never matches.

        Parameters
        ----------
        table
            What to look rows up in.
        on, left_on, right_on
            The columns that must be equal, by their names on both sides or on each; on the right they are the table's key.
        how
            ``"inner"``: rows without a match go; ``"left"``: they stay, with nulls.
        suffix
            What is put behind the name of a column of the table that the stream has too.
        grace
            How long rows wait for rows of the table that come late; needs a table with ``history=``.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        PlanError
            If the columns are not the table's key, or their types differ.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> users = sl.table_from_frame(pl.DataFrame({"user": ["a"], "city": ["Oslo"]}), key="user")
        >>> events.join(users, on="user", how="left").collect().rows()
        [('a', 0, 'Oslo'), ('b', 1, None)]
        """
        from streamlab.table import StreamTable  # noqa: PLC0415  # tables and frames name each other

        if not isinstance(table, StreamTable):
            raise PlanError(
                f"join: the right side is a {type(table).__name__}, not a table. Streams are joined with .join_interval(...) or "
                ".join_asof(...); a table is made by kafka.table(...), sl.table_from_frame(...) or .group_by(...).agg(...)."
            )
        keys = join_keys("join", on, left_on, right_on, (self.columns, table.node.keys))
        wait = None if grace is None else milliseconds(grace, "join: grace")
        return StreamFrame(JoinTable(self.node, table.node, keys, how, suffix, wait, name))

    def group_by(self, *by: IntoExpr, **named_by: IntoExpr) -> GroupBy:
        """Group rows by columns or row-by-row expressions; without any, all rows are one group.

        Returns
        -------
        GroupBy
            ``.window(...).agg(...)`` makes windows of it, ``.agg(...)`` a table that is updated for ever.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "a"], "ts": [0, 61_000]}), event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m")).agg(pl.len().alias("n"))
        >>> counts.collect()["n"].to_list()
        [1, 1]
        """
        if not by and not named_by:
            return GroupBy(self.node, ())
        exprs = parse(by, named_by, step="group_by")
        plain = [e for e in exprs if e.meta.is_column()]
        node = self.node
        if len(plain) < len(exprs):
            made = [PlanExpr(e) for e in exprs if not e.meta.is_column()]
            node = steps.Select(node, tuple(made), keep=True)
        return GroupBy(node, tuple(e.meta.output_name() for e in exprs))


def concat(streams: Sequence[StreamFrame]) -> StreamFrame:
    """Put streams of one schema together: each row as it comes, the watermark the smallest of all.

    Raises
    ------
    PlanError
        If there are fewer than two, or their schemas differ.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> frame = pl.DataFrame({"x": [1], "ts": [0]})
    >>> a, b = (sl.from_frame(frame, event_time="ts", topic=name) for name in ("a", "b"))
    >>> sl.concat([a, b]).collect().height
    2
    """
    for stream in streams:
        if not isinstance(stream, StreamFrame):
            raise PlanError(f"concat: takes StreamFrames, got {type(stream).__name__}.")
    return StreamFrame(nodes.Concat(tuple(stream.node for stream in streams)))


def _names(columns: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(name for given in columns for name in ([given] if isinstance(given, str) else given))
