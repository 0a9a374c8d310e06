"""Frames and files replayed as streams; frames and databases as tables."""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from polars.exceptions import PolarsError

from streamlab.connect.lookup import Connect, Lookup, Query, paramstyle, quoted
from streamlab.connect.memory import FrameOrigin, NdjsonOrigin, ParquetOrigin
from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError
from streamlab.frame import StreamFrame
from streamlab.plan.nodes import Source
from streamlab.plan.schema import declared
from streamlab.plan.table_source import LookupTable, StaticTable, check_key
from streamlab.runtime.decoding import FORMATS
from streamlab.table import StreamTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars.datatypes import DataType, DataTypeClass

_SAMPLE = 1_000


def from_frame(frame: Any, *, event_time: str, topic: str = "frame", key: str | None = None) -> StreamFrame:
    """Return a DataFrame replayed as a stream: its rows in order, as one partition.

    Parameters
    ----------
    frame
        A polars or pandas frame.
    event_time
        The column of event times: Datetime, Date, or an integer of milliseconds since 1970 (UTC).
    topic
        What the stream is called.
    key
        As in `Kafka.stream`.

    Examples
    --------
    >>> import polars as pl
    >>> from_frame(pl.DataFrame({"ts": [0, 1]}), event_time="ts").collect().height
    2
    """
    rows = as_polars(frame, "from_frame")
    return StreamFrame(Source(topic, rows.schema, FrameOrigin(rows), "frame", "frame", event_time, key, "raise", None))


def as_polars(frame: Any, step: str) -> pl.DataFrame:
    """Return a polars or pandas frame as a polars frame, or raise a PlanError that names the step."""
    if isinstance(frame, pl.DataFrame):
        return frame
    try:
        made = pl.from_pandas(frame)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{step}: {type(frame).__name__} is no frame; give a polars or pandas DataFrame.") from error
    if not isinstance(made, pl.DataFrame):
        raise PlanError(f"{step}: {type(frame).__name__} is no frame; give a polars or pandas DataFrame.")
    return made


def from_parquet(path: str | Path, *, event_time: str, topic: str | None = None, key: str | None = None) -> StreamFrame:
    """Return Parquet files replayed as a stream, read a batch at a time.

    Parameters
    ----------
    path
        A file, or a pattern such as ``"flights/*.parquet"``; files in order of their names.
    event_time, key
        As in `from_frame`.
    topic
        What the stream is called; default: the file's name.
    """
    try:
        schema = pl.scan_parquet(path).collect_schema()
    except (PolarsError, OSError) as error:
        raise PlanError(f"from_parquet {str(path)!r}: {str(error).splitlines()[0]}") from error
    origin = ParquetOrigin(str(path))
    return StreamFrame(
        Source(topic or Path(path).stem, schema, origin, "parquet", "parquet", event_time, key, "raise", None)
    )


def from_ndjson(
    path: str | Path,
    *,
    event_time: str,
    schema: Mapping[str, DataType | DataTypeClass] | None = None,
    topic: str | None = None,
    key: str | None = None,
    on_error: Literal["dead_letter", "skip", "raise"] = "dead_letter",
) -> StreamFrame:
    """Return a file of JSON lines replayed as a stream, decoded as strictly as a topic.

    Parameters
    ----------
    path
        The file.
    event_time, key
        As in `from_frame`.
    schema
        Columns and types; None: inferred from the first thousand lines.
    topic
        What the stream is called; default: the file's name.
    on_error
        As in `Kafka.stream`.
    """
    file = Path(path)
    if not file.is_file():
        raise PlanError(f"from_ndjson: no file {str(path)!r}.")
    if schema is None:
        with file.open("rb") as lines:
            sample = [line for line, _ in zip(lines, range(_SAMPLE), strict=False) if line.strip()]
        schema = FORMATS["json"].infer(sample)
    columns = declared(f"from_ndjson {str(path)!r}", schema)
    FORMATS["json"].check(columns)
    origin = NdjsonOrigin(str(file))
    return StreamFrame(Source(topic or file.stem, columns, origin, "ndjson", "json", event_time, key, on_error, None))


def table_from_frame(frame: Any, *, key: str | Sequence[str], name: str | None = None) -> StreamTable:
    """Return a frame as a static table: its rows are there before the first record of any stream.

    Of rows with one key the last counts; rows with a null in the key are left out. When a pipeline goes on with another frame under
    the same name, what differs reaches the steps after it: rows that are new or others, and deletions of keys that are gone.

    Parameters
    ----------
    frame
        A polars or pandas frame.
    key
        Column or columns that identify a row.
    name
        What its state is found by. Default: derived from the key.

    Raises
    ------
    PlanError
        If it is no frame, or a key column is not in it.

    Examples
    --------
    >>> import polars as pl
    >>> airlines = table_from_frame(pl.DataFrame({"carrier": ["AA", "UA"], "name": ["American", "United"]}), key="carrier")
    >>> airlines.collect().rows()
    [('AA', 'American'), ('UA', 'United')]
    """
    rows, by = as_polars(frame, "table_from_frame"), _names(key)
    check_key("table_from_frame", by, rows.schema)
    rows = rows.drop_nulls(by).unique(by, keep="last", maintain_order=True)
    return StreamTable(StaticTable(rows, by, name))


def table_from_sqlite(
    path: str | Path,
    table_or_query: str,
    *,
    key: str | Sequence[str],
    schema: Mapping[str, DataType | DataTypeClass] | None = None,
    refresh: Duration | None = None,
    cache: int = 100_000,
    name: str | None = None,
) -> StreamTable:
    """Return a table of a SQLite file, whose rows are looked up as records ask for them: the right side of a join, and nothing else.

    Parameters
    ----------
    path
        The file; it is only read.
    table_or_query
        The name of a table or view, or a SELECT.
    key
        Column or columns that identify a row; an index over them makes lookups fast.
    schema
        Columns and types. None: inferred from the first thousand rows.
    refresh
        After how long a row that was looked up is fetched again, such as ``"5m"``; None: when it has left the cache.
    cache
        How many keys are remembered at most, also those that have no row; the ones asked for longest ago go first.
    name
        What it is called; default: that of the table, or of the file.

    Raises
    ------
    PlanError
        If there is no such file, table or column, or the query is refused.
    """
    file = Path(path)
    if not file.is_file():
        raise PlanError(f"table_from_sqlite: no file {str(path)!r}.")
    plain = table_or_query.strip()
    what = f"table_from_sqlite {file.name!r}"
    sql = plain.rstrip("; \n") if _QUERY.match(plain) else f"SELECT * FROM {quoted(plain)}"  # noqa: S608  # a quoted name
    query = Query(what, partial(_read_only, str(file)), sql)
    return _looked_up(query, name or (file.stem if _QUERY.match(plain) else plain), key, schema, refresh, cache)


def table_from_sql(
    connect: Connect,
    query: str,
    *,
    key: str | Sequence[str],
    schema: Mapping[str, DataType | DataTypeClass] | None = None,
    refresh: Duration | None = None,
    cache: int = 100_000,
    name: str = "sql",
) -> StreamTable:
    """Return the rows of a query in any database as a table to look things up in; otherwise as `table_from_sqlite`.

    Parameters
    ----------
    connect
        A function that opens a connection of the Python database API (PEP 249), such as ``lambda: psycopg.connect(os.environ["DSN"])``.
        It is called once here and once where the pipeline runs.
    query
        A SELECT.
    key, schema, refresh, cache
        As in `table_from_sqlite`.
    name
        What it is called.
    """
    if not callable(connect):
        raise PlanError(
            f"table_from_sql: {type(connect).__name__} is no function that opens a connection; the pipeline opens one of its own, on its "
            "own thread: table_from_sql(lambda: psycopg.connect(...), query, key=...)."
        )
    try:
        connection = connect()
    except Exception as error:
        raise PlanError(f"table_from_sql: {type(error).__name__}: {error}") from error
    try:
        mark = paramstyle(connection)
    finally:
        connection.close()
    return _looked_up(
        Query(f"table_from_sql {name!r}", connect, query.strip().rstrip("; \n"), mark),
        name,
        key,
        schema,
        refresh,
        cache,
    )


_QUERY = re.compile(r"(?is)(select|with|values)\s")


def _looked_up(
    query: Query,
    name: str,
    key: str | Sequence[str],
    schema: Mapping[str, DataType | DataTypeClass] | None,
    refresh: Duration | None,
    cache: int,
) -> StreamTable:
    columns = query.sample().schema if schema is None else declared(query.what, schema)
    if cache < 1:
        raise PlanError(f"{query.what}: cache={cache}; at least one row must be remembered.")
    again = None if refresh is None else milliseconds(refresh, f"{query.what}: refresh", positive=True)
    by = _names(key)
    check_key(query.what, by, columns)
    return StreamTable(LookupTable(name, columns, by, Lookup(query, by, columns, again, cache), again, cache))


def _read_only(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)


def _names(key: str | Sequence[str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)
