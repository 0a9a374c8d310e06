"""StreamTable: the newest row of every key, changed by every update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.errors import PlanError
from streamlab.plan import steps
from streamlab.plan.expressions import IntoExpr, PlanExpr, parse
from streamlab.plan.join_keys import join_keys
from streamlab.plan.join_tables import JoinTables
from streamlab.plan.schema import declared
from streamlab.plan.table_aggregate import TableAggregate
from streamlab.results import Results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars.datatypes import DataType, DataTypeClass

    from streamlab.plan.nodes import Node


class StreamTable(Results):
    """A table that changes: an update replaces the row of its key.

    Made by aggregations with ``emit="updates"``, by those without a window, by `Kafka.table`, `table_from_frame`, `table_from_sqlite` and
    `table_from_sql`. A row can also be deleted: then its key goes, and a sink gets a tombstone or forgets it.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "a"], "ts": [0, 1]}), event_time="ts", topic="events")
    >>> events.group_by("user").agg(pl.len().alias("n"))
    StreamTable[user: String, n: UInt32] by user
    updates by user: len().alias("n") [group-by-user]
       one task over all partitions
    └─ frame 'events' (frame), event time ts, never idle, errors: raise
    """

    def filter(self, *predicates: IntoExpr, **equals: Any) -> StreamTable:
        """Keep the rows for which every predicate is true; a row for which it is not true any more is deleted.

        Nothing is remembered here, so a row that never passed comes as a deletion, too: sinks, joins and aggregations know no such row, and
        do nothing; a Kafka topic gets a tombstone.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1, 2], "active": [True, False]}), key="id")
        >>> users.filter("active").collect().rows()
        [(1, True)]
        """
        matches = [pl.col(name) == value for name, value in equals.items()]
        exprs = parse([*predicates, *matches], {}, step="filter")
        return StreamTable(steps.Filter(self.node, tuple(map(PlanExpr, exprs))))

    def select(self, *exprs: IntoExpr, **named: IntoExpr) -> StreamTable:
        """Make the columns anew; the key columns must be among them, unchanged.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1], "name": ["Ada"], "age": [36]}), key="id")
        >>> users.select("id", "name").columns
        ['id', 'name']
        >>> users.select("name")
        Traceback (most recent call last):
        ...
        streamlab.errors.PlanError: select: the key of the table is ['id'], by which updates and deletions find their row: it must stay, \
unchanged, but 'id' would be gone or another. For rows by another key: table.group_by(...).agg(...).
        """
        return StreamTable(steps.Select(self.node, tuple(map(PlanExpr, parse(exprs, named, step="select")))))

    def with_columns(self, *exprs: IntoExpr, **named: IntoExpr) -> StreamTable:
        """Add columns, or replace those of the same name but for the key.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1], "age": [36]}), key="id")
        >>> users.with_columns(older=pl.col("age") + 1).collect().rows()
        [(1, 36, 37)]
        """
        made = parse(exprs, named, step="with_columns")
        return StreamTable(steps.Select(self.node, tuple(map(PlanExpr, made)), keep=True))

    def rename(self, mapping: Mapping[str, str]) -> StreamTable:
        """Give columns other names: ``{"old": "new"}``; those of the key, too.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1], "age": [36]}), key="id")
        >>> users.rename({"id": "user"}).node.keys
        ('user',)
        """
        return StreamTable(steps.Rename(self.node, dict(mapping)))

    def drop(self, *columns: str) -> StreamTable:
        """Leave columns out; the key must stay.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1], "age": [36]}), key="id")
        >>> users.drop("age").columns
        ['id']
        """
        names = tuple(name for given in columns for name in ([given] if isinstance(given, str) else given))
        return StreamTable(steps.Drop(self.node, names))

    def cast(self, dtypes: Mapping[str, DataType | DataTypeClass]) -> StreamTable:
        """Change the types of columns but the key; a value that does not fit fails the step.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1], "age": [36]}), key="id")
        >>> users.cast({"age": pl.Float64}).collect().rows()
        [(1, 36.0)]
        """
        return StreamTable(steps.Cast(self.node, declared("cast", dtypes)))

    def join(
        self,
        other: StreamTable,
        on: str | Sequence[str] | None = None,
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: str = "inner",
        suffix: str = "_right",
        name: str | None = None,
    ) -> StreamTable:
        """Join with another table by the key of both: a table that rows of either side change.

        Parameters
        ----------
        other
            The right table.
        on, left_on, right_on
            The key of both tables, by its names on both sides or on each.
        how
            ``"inner"``, ``"left"``, or ``"outer"`` (also ``"full"``): which rows without a match stay, with nulls.
        suffix
            What is put behind the name of a column of the right table that the left one has too.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        PlanError
            If the columns are not the key of both tables, or their types differ.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> stock = sl.table_from_frame(pl.DataFrame({"id": [1, 2], "stock": [5, 0]}), key="id", name="stock")
        >>> price = sl.table_from_frame(pl.DataFrame({"id": [2, 3], "price": [9, 7]}), key="id", name="price")
        >>> stock.join(price, on="id", how="outer").collect().sort("id").rows()
        [(1, 5, None), (2, 0, 9), (3, None, 7)]
        """
        if not isinstance(other, StreamTable):
            raise PlanError(
                f"join: the right side is a {type(other).__name__}, not a table. Only streams are joined with streams; "
                "for the stream's rows with the table's: stream.join(table, on=...)."
            )
        keys = join_keys("join", on, left_on, right_on, (self.columns, other.node.keys))
        return StreamTable(JoinTables(self.node, other.node, keys, how, suffix, name))

    def group_by(self, *by: IntoExpr, **named_by: IntoExpr) -> TableGroupBy:
        """Group the rows as they are now by columns or row-by-row expressions; without any, all rows are one group.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1, 2, 3], "city": ["Bern", "Rome", "Bern"]}), key="id")
        >>> users.group_by("city").agg(pl.len().alias("users")).collect().rows()
        [('Rome', 1), ('Bern', 2)]
        """
        exprs = parse(by, named_by, step="group_by") if by or named_by else ()
        return TableGroupBy(self.node, tuple(map(PlanExpr, exprs)))


@dataclass(frozen=True)
class TableGroupBy:
    """The rows of a table in groups: what comes next is `agg`."""

    node: Node
    groups: tuple[PlanExpr, ...]

    def agg(self, *aggs: IntoExpr, name: str | None = None, **named: IntoExpr) -> StreamTable:
        """Aggregate each group, and change it as rows change: the old values of a row are taken out, then the new ones are added.

        A group that has lost all its rows stays, with a count of 0. Of len, count, null_count, sum, mean, var and std of numbers a row
        costs an addition and a subtraction; any other aggregation works out a changed group from all of its rows, and `explain()` says so.

        Parameters
        ----------
        aggs, named
            Aggregating expressions; first and last go by when a row came to be as it is.
        name
            The step's identity: its state is found by it.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1, 2, 3], "city": ["Bern", "Rome", "Bern"]}), key="id")
        >>> print(users.group_by("city").agg(pl.len().alias("users")).explain())
        table updates by col("city"): len().alias("users") [table-group-by-city]
           keeps a group and some numbers for each row of the table, to take a row's old values out of its old group
           one task over all partitions
        └─ static table of 3 rows by id [static-by-id]
              there before the first record; after a restart with other rows only what differs is new
        """
        exprs = tuple(map(PlanExpr, parse(aggs, named, step="agg")))
        return StreamTable(TableAggregate(self.node, self.groups, exprs, name))

    def window(self, *_: Any, **__: Any) -> Any:
        """Refuse: a table has no events to cut into windows.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> users = sl.table_from_frame(pl.DataFrame({"id": [1], "city": ["Bern"]}), key="id")
        >>> users.group_by("city").window(sl.tumbling("1h"))
        Traceback (most recent call last):
        ...
        streamlab.errors.PlanError: window: a table holds rows as they are now, not events, so there is nothing to cut into windows. \
Window the stream before it becomes a table, or aggregate the table without one: table.group_by(...).agg(...).
        """
        raise PlanError(
            "window: a table holds rows as they are now, not events, so there is nothing to cut into windows. "
            "Window the stream before it becomes a table, or aggregate the table without one: table.group_by(...).agg(...)."
        )
