"""StreamFrame: events, and what is done to them, written as with a polars frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError
from streamlab.grouping import GroupBy
from streamlab.plan import nodes, steps
from streamlab.plan.expressions import IntoExpr, PlanExpr, parse
from streamlab.plan.asof import asof_join
from streamlab.plan.join_interval import IntervalJoin
from streamlab.plan.join_keys import join_keys
from streamlab.plan.join_table import JoinTable
from streamlab.plan.schema import declared
from streamlab.plan.unique import Unique
from streamlab.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from polars.datatypes import DataType, DataTypeClass

    from streamlab.table import StreamTable


class StreamFrame(Results):
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

    def join_interval(
        self,
        right: StreamFrame,
        on: str | Sequence[str] | None = None,
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        how: str = "inner",
        grace: Duration = "0s",
        suffix: str = "_right",
        name: str | None = None,
    ) -> StreamFrame:
        """Join each row with the rows of another stream that have its key and an event time not far from its own.

        A pair matches when ``left.t - before <= right.t <= left.t + after``, and is emitted at once; its event time is the later of the
        two. A row stays joinable until the watermark, the smallest of both streams, is past its time + before + after + grace; one that is
        older than that when it comes is late. A null key never matches.

        Parameters
        ----------
        right
            The other stream; it may be this one.
        on, left_on, right_on
            The columns that must be equal, by their names on both sides or on each.
        before, after
            How far a right row's event time may be before and after that of the left row, bounds included; one that is not given is zero.
        how
            ``"inner"``: matches alone; ``"left"``: left rows without a match too, with nulls, once the watermark is past their time +
            after + grace; ``"outer"`` (or ``"full"``): right rows as well, once it is past their time + before + grace. Rows whose key has
            a null have nothing to wait for, and come at once.
        grace
            How much longer rows wait for rows that come out of order.
        suffix
            What is put behind the name of a column of the right stream that the left one has too.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        PlanError
            If there is no common key, types differ, or a side is a table.
        DurationError
            If a length is no duration, or is negative.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> orders = sl.from_frame(pl.DataFrame({"id": [1, 2], "ts": [0, 10_000]}), event_time="ts", topic="orders")
        >>> paid = sl.from_frame(pl.DataFrame({"id": [1], "paid": [9.5], "ts": [4_000]}), event_time="ts", topic="paid")
        >>> orders.join_interval(paid, on="id", after="5s", how="left").collect().select("id", "paid").rows()
        [(1, 9.5), (2, None)]
        """
        _require_stream("join_interval", right)
        keys = join_keys("join_interval", on, left_on, right_on, (self.columns, ()))
        if before is None and after is None:
            raise PlanError(
                'join_interval: how far apart may the rows be? Give before=, after= or both, such as before="1m", after="5m".'
            )
        back = milliseconds("0s" if before is None else before, "join_interval: before")
        ahead = milliseconds("0s" if after is None else after, "join_interval: after")
        wait = milliseconds(grace, "join_interval: grace")
        how = "outer" if how == "full" else how
        return StreamFrame(IntervalJoin(self.node, right.node, keys, back, ahead, how, wait, suffix, name))

    def join_asof(
        self,
        right: StreamFrame | pl.DataFrame,
        *,
        on: str | None = None,
        left_on: str | None = None,
        right_on: str | None = None,
        by: str | Sequence[str] | None = None,
        by_left: str | Sequence[str] | None = None,
        by_right: str | Sequence[str] | None = None,
        tolerance: Duration | None = None,
        strategy: str = "backward",
        grace: Duration | None = None,
        suffix: str = "_right",
        name: str | None = None,
    ) -> StreamFrame:
        """Join each row with the newest row of another stream, or of a frame, that has its key and is not newer than itself.

        A row waits until the watermark, the smallest of both streams, is past its time + grace, so that the right rows up to its time are
        there; then rows come in the order of time, those without a match with nulls. Of right rows of one time the last that came counts.
        A row that comes when the watermark is past its time + grace already is late, and so is a right row that is older than the
        watermark by more than tolerance + grace. A null key never matches. With a frame on the right, sorted or not, no row waits, and
        none is late.

        Parameters
        ----------
        right
            The other stream, or a polars frame with a column of times.
        on, left_on, right_on
            The event-time columns by their name on both sides or on each: the result has the left one alone. Rows are joined by event time
            whether they are named or not.
        by, by_left, by_right
            The columns that must be equal, by their names on both sides or on each.
        tolerance
            How much older than the left row a right row may be, bounds included, such as ``"1h"``; only with a frame may it be left out.
        strategy
            ``"backward"``: the only one, as later rows have not come yet.
        grace
            How much longer rows wait for rows that come out of order; zero if it is not given.
        suffix
            What is put behind the name of a column of the right stream that the left one has too.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        PlanError
            If there is no common key, types differ, a named column is not the event time, or a side is a table.
        DurationError
            If a length is no duration, or `tolerance` is not more than zero.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> trades = sl.from_frame(pl.DataFrame({"id": [1, 1], "ts": [5_000, 9_000]}), event_time="ts", topic="trades")
        >>> quotes = sl.from_frame(pl.DataFrame({"id": [1, 1], "price": [2.5, 2.6], "ts": [1_000, 6_000]}), event_time="ts", topic="quotes")
        >>> trades.join_asof(quotes, on="ts", by="id", tolerance="1h").collect().rows()
        [(1, 5000, 2.5), (1, 9000, 2.6)]
        """
        if not isinstance(right, pl.DataFrame):
            _require_stream("join_asof", right)
        return StreamFrame(
            asof_join(
                self.node,
                right if isinstance(right, pl.DataFrame) else right.node,
                {"on": on, "left_on": left_on, "right_on": right_on, "by": by, "by_left": by_left, "by_right": by_right},
                tolerance,
                strategy,
                grace=grace,
                suffix=suffix,
                name=name,
            )
        )

    def unique(self, *subset: str | Sequence[str], within: Duration | None = None, name: str | None = None) -> StreamFrame:
        """Let of several rows with one key only the first to arrive pass, unchanged.

        A row is a duplicate if a row of its key that passed is at most `within` before or after it in event time. A row that passed is
        remembered until the watermark is past its time + within, so one that comes later than that passes again; a row that was dropped is
        not remembered, and so keeps no other out. A row with a null in its key always passes.

        Parameters
        ----------
        subset
            The columns that make the key; all of them if none is named.
        within
            How near in event time a duplicate is, such as ``"10m"``, bounds included. Not given: any row of a key that has come before,
            which costs state for every key, for ever.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        UnknownColumnError
            If a column is not there.
        DurationError
            If `within` is no duration, or negative.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"id": [7, 7, 7], "ts": [0, 60_000, 700_000]}), event_time="ts", topic="events")
        >>> events.unique("id", within="10m").collect()["ts"].to_list()
        [0, 700000]
        """
        near = None if within is None else milliseconds(within, "unique: within")
        return StreamFrame(Unique(self.node, _names(subset) or tuple(self.columns), near, name))

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


def _require_stream(step: str, right: object) -> None:
    if not isinstance(right, StreamFrame):
        raise PlanError(
            f"{step}: the right side is a {type(right).__name__}, not a StreamFrame. A stream is joined with a table by .join(table, on=...)."
        )


def _names(columns: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(name for given in columns for name in ([given] if isinstance(given, str) else given))
