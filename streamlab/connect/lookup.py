"""Rows of a database by key, as records ask for them: a bounded cache in front of a query.

A key that has no row is remembered too. Of the cache the keys go first that were asked for longest ago.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from streamlab.errors import PlanError, StepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Connect = Callable[[], Any]
"""Opens a connection as of PEP 249 (the Python database API)."""

_AT_ONCE = 200  # keys a query asks for
_SAMPLE = 1_000

_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s", "numeric": ":{n}", "named": ":p{n}"}


@dataclass(frozen=True)
class Query:
    """A query whose rows are asked for by key.

    Parameters
    ----------
    what
        How errors call it.
    connect
        Opens a connection, which stays open for the thread that asked first.
    sql
        A SELECT.
    mark
        What stands for the n-th value in SQL: of PEP 249's `paramstyle`.
    """

    what: str
    connect: Connect = field(repr=False)
    sql: str
    mark: str = "?"

    def sample(self) -> pl.DataFrame:
        """Return the first rows, for their columns and types.

        Raises
        ------
        PlanError
            If the database cannot be reached, or refuses the query.
        """
        try:
            connection = self.connect()
            try:
                names, rows = _run(connection, self.sql, (), _SAMPLE)
            finally:
                connection.close()
            found = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
        except Exception as error:
            raise PlanError(f"{self.what}: {type(error).__name__}: {error}") from error
        return found.with_columns(pl.col(pl.Null).cast(pl.String))

    def rows(self, connection: Any, keys: pl.DataFrame, columns: pl.Schema) -> Iterator[pl.DataFrame]:
        """Yield the rows of keys, each key given once."""
        given = [tuple(map(_told, key)) for key in keys.rows()]
        for first in range(0, len(given), _AT_ONCE):
            part = given[first : first + _AT_ONCE]
            sql, values = self._asking(keys.columns, part)
            try:
                names, rows = _run(connection, sql, values, None)
                found = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
                yield found.select(pl.col(name).cast(dtype) for name, dtype in columns.items())
            except PolarsError as error:
                promised = dict(columns)
                raise StepError(
                    f"{self.what}: {str(error).splitlines()[0]}; its columns were promised as {promised}."
                ) from error
            except Exception as error:
                raise StepError(f"{self.what}: {type(error).__name__}: {error}") from error

    def _asking(self, by: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> tuple[str, Any]:
        values = [value for key in keys for value in key]
        marks = [self.mark.format(n=n) for n in range(1, len(values) + 1)]
        if len(by) == 1:
            where = f"{quoted(by[0])} IN ({', '.join(marks)})"
        else:
            each = iter(marks)
            where = " OR ".join("(" + " AND ".join(f"{quoted(c)} = {next(each)}" for c in by) + ")" for _ in keys)
        named = {f"p{n}": value for n, value in enumerate(values, 1)}
        # what is put together is the person's own query and quoted names; values go beside it
        sql = f"SELECT * FROM ({self.sql}) AS looked_up WHERE {where}"  # noqa: S608  # see above
        return sql, named if self.mark.startswith(":p") else values


@dataclass
class Lookup:
    """The rows of a query by key.

    Parameters
    ----------
    query
        What is asked.
    key
        The key columns.
    columns
        Columns and types of the rows.
    refresh
        After how many milliseconds a row is fetched again; None: it is not.
    limit
        Keys that are remembered at most.
    now
        The clock, in seconds.
    """

    query: Query
    key: tuple[str, ...]
    columns: pl.Schema
    refresh: int | None = None
    limit: int = 100_000
    now: Callable[[], float] = time.monotonic
    fetched: int = 0
    """How many keys were asked of the database."""
    _known: dict[tuple[Any, ...], tuple[float, tuple[Any, ...] | None]] = field(default_factory=dict, repr=False)
    _connection: Any = field(default=None, repr=False)

    def identity(self) -> list[Any]:
        """Return what distinguishes it, as JSON values."""
        return [self.query.what, self.query.sql]

    def lookup(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of keys, in any order; a key that has none, or a null in it, is left out.

        Raises
        ------
        StepError
            If the database cannot be reached or refuses, or a value does not fit its column's type.
        """
        asked = (
            keys.select(pl.col(name).cast(self.columns[name]) for name in self.key)
            .drop_nulls()
            .unique(maintain_order=True)
        )
        rows, oldest = asked.rows(), self._oldest()
        missing = [(known := self._known.get(key)) is None or known[0] < oldest for key in rows]
        if any(missing):
            self._fetch(asked.filter(pl.Series(missing, dtype=pl.Boolean)))
        found = []
        for key in rows:
            entry = self._known.pop(key)
            self._known[key] = entry  # the last to go, now
            if entry[1] is not None:
                found.append(entry[1])
        for key in list(self._known)[: max(0, len(self._known) - self.limit)]:
            del self._known[key]
        return pl.DataFrame(found, schema=self.columns, orient="row")

    def _oldest(self) -> float:
        """Return since when a row must be known not to be fetched again."""
        return float("-inf") if self.refresh is None else self.now() - self.refresh / 1000

    def _fetch(self, keys: pl.DataFrame) -> None:
        if self._connection is None:
            try:
                self._connection = self.query.connect()
            except Exception as error:
                raise StepError(f"{self.query.what}: {type(error).__name__}: {error}") from error
        self.fetched += keys.height
        at, places = self.now(), [self.columns.names().index(name) for name in self.key]
        self._known |= dict.fromkeys(keys.rows(), (at, None))
        for part in self.query.rows(self._connection, keys, self.columns):
            self._known |= {tuple(row[i] for i in places): (at, row) for row in part.rows()}


def paramstyle(connection: Any) -> str:
    """Return what stands for a value in the SQL of a connection's driver.

    Raises
    ------
    PlanError
        If the driver does not say so as PEP 249 has it.
    """
    home = type(connection).__module__.split(".")[0]
    style = getattr(sys.modules.get(home), "paramstyle", None)
    if style not in _MARKS:
        raise PlanError(
            f"table_from_sql: {type(connection).__module__}.{type(connection).__qualname__} is no connection of the Python database API "
            f"(PEP 249): its module's paramstyle is {style!r}; valid are {list(_MARKS)}."
        )
    return _MARKS[style]


def quoted(name: str) -> str:
    """Return a name as SQL has it.

    Examples
    --------
    >>> print(quoted("a b"))
    "a b"
    """
    return '"' + name.replace('"', '""') + '"'


def _run(connection: Any, sql: str, values: Any, limit: int | None) -> tuple[list[str], list[tuple[Any, ...]]]:
    cursor = connection.cursor()
    try:
        cursor.execute(sql, values)
        rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
        return [column[0] for column in cursor.description], [tuple(row) for row in rows]
    finally:
        cursor.close()


def _told(value: Any) -> Any:
    """Return a value as drivers take it: not all know times."""
    return (
        value.isoformat(sep=" ")
        if isinstance(value, datetime)
        else value.isoformat()
        if isinstance(value, date)
        else value
    )
