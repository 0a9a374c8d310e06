"""A case as a plan of streamlab."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

import streamlab as sl
from tests.conformance.cases import NotExpressibleError, NotThereError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.results import Results
    from tests.conformance.cases import Case

IDLE = "1s"
"""The idle timeout of sources that are taken out of the minimum by moving the wall clock."""

value = pl.col("value")


def plan(case: Case) -> Results:
    """Return the stream or table that a case describes.

    Raises
    ------
    NotThereError
        If streamlab does not have the operation, the window, or the aggregation.
    NotExpressibleError
        If no polars expression says what the case does.
    """
    build = OPERATIONS.get(case.op)
    if build is None:
        raise NotThereError(f"op {case.op!r} is not there; there are {sorted(OPERATIONS)}")
    return build(case)


# --- sources ---


def schema(case: Case, topic: str) -> dict[str, Any]:
    """Return the columns of a topic's records: whole numbers stay numbers where all its keys are such."""
    given = [record for record in case.inputs if record["topic"] == topic] or case.inputs
    keys = {type(record["key"]) for record in given} - {type(None)}
    return {"key": pl.Int64 if keys == {int} else pl.String, "value": pl.String}


def events(case: Case, topic: str, idle_timeout: str | None = None) -> Any:
    """Return a topic of the case as a stream."""
    return sl.Kafka("localhost:9092").stream(topic, schema=schema(case, topic), idle_timeout=idle_timeout)


def rows(case: Case, topic: str, idle_timeout: str | None = None) -> Any:
    """Return a topic of the case as a table."""
    kept = case.params.get("history_retention_ms", 300_000) if case.params.get("versioned") else None
    history = None if kept is None else timedelta(milliseconds=kept)
    return sl.Kafka("localhost:9092").table(
        topic, schema=schema(case, topic), key="key", history=history, idle_timeout=idle_timeout
    )


# --- groups ---


def joined(first: str, separator: str = "+") -> pl.Expr:
    """Return the values of a group in order of arrival, put together."""
    return pl.lit(first) + value.str.join(separator)


AGGREGATIONS: dict[str, Callable[[], pl.Expr]] = {
    "count": pl.len,
    "sum": lambda: value.cast(pl.Int64).sum(),
    "concat0": lambda: joined("0+"),
    "concat": lambda: joined("+"),
    "reduce+": lambda: joined(""),
    "reduce:": lambda: joined("", ":"),
    "sorted_concat": lambda: value.sort().str.join(""),
    "concat_remove": lambda: value.str.join(""),
}


def aggregation(case: Case) -> pl.Expr:
    """Return what a case makes of a group."""
    name, params = case.params["agg"], case.params
    if name not in AGGREGATIONS:
        raise NotThereError(f"op {case.op!r}: agg {name!r} is not there; there are {sorted(AGGREGATIONS)}")
    if str(params.get("merger", "")).startswith("concat") and name.startswith("concat"):
        raise NotExpressibleError("texts of two sessions put together with a text in between")
    if "subtractor" in params and name != "concat_remove":
        raise NotExpressibleError("a text that tells what was taken out of it")
    return AGGREGATIONS[name]().alias("value")


def window(case: Case) -> Any:
    """Return the windows of a case; None: it has none."""
    build = WINDOWS.get(case.window)
    if build is None:
        raise NotThereError(f"op {case.op!r}: {case.window} windows are not there")
    return build(lambda name: timedelta(milliseconds=case.params.get(name, 0)))


WINDOWS: dict[str | None, Callable[[Callable[[str], timedelta]], Any]] = {
    None: lambda _: None,
    "tumbling": lambda ms: sl.tumbling(ms("size_ms"), grace=ms("grace_ms")),
    "hopping": lambda ms: sl.hopping(ms("size_ms"), every=ms("advance_ms"), grace=ms("grace_ms")),
    "sliding": lambda ms: sl.sliding(ms("size_ms"), grace=ms("grace_ms")),
    "session": lambda ms: sl.session(ms("gap_ms"), grace=ms("grace_ms")),
}


def aggregated(case: Case) -> Results:
    """Return a grouped aggregation, in windows or for ever."""
    groups, made = events(case, "input").group_by("key"), aggregation(case)
    cut = window(case)
    if cut is None:
        return groups.agg(made)
    return groups.window(cut, emit="final" if case.mode == "final" else "updates").agg(made)


def table_aggregated(case: Case) -> Results:
    """Return an aggregation of a table's rows."""
    made, by = aggregation(case), case.params["group_by"]
    table = rows(case, "input")
    if by == "value":
        return table.group_by(key_of_group=value).agg(made).rename({"key_of_group": "key"})
    if by == "(first char of key, second char of key)":
        first, second = (pl.col("key").str.slice(at, 1) for at in (0, 1))
        return table.with_columns(group=first, value=second).group_by("group").agg(made).rename({"group": "key"})
    raise NotThereError(f"group_by {by!r} is not there")


# --- joins ---


def interval_joined(case: Case) -> Results:
    """Return two streams joined within an interval."""
    params = case.params
    before, after, grace = (
        timedelta(milliseconds=params.get(f"{name}_ms", 0)) for name in ("before", "after", "grace")
    )
    left = events(case, "left", IDLE)
    right = left if params.get("self") else events(case, "right", IDLE)
    return left.join_interval(right, on="key", before=before, after=after, grace=grace, how=params["join"])


def table_joined(case: Case) -> Results:
    """Return a stream enriched from a table."""
    params = case.params
    stream, table = events(case, "stream", IDLE), rows(case, "table", IDLE)
    how = params["join"]
    if params.get("key_mapper") == "csv1":
        mapped = value.str.split(",").list.get(1, null_on_oob=True)
        # Kafka Streams drops a record without a key; here that is a filter
        found = stream.with_columns(mapped=mapped).filter(pl.col("mapped").is_not_null())
        return found.join(table, left_on="mapped", right_on="key", how=how)
    if "key_mapper" in params:
        raise NotThereError(f"key_mapper {params['key_mapper']!r} is not there")
    grace = timedelta(milliseconds=params["grace_ms"]) if "grace_ms" in params else None
    return stream.join(table, on="key", how=how, grace=grace)


def tables_joined(case: Case) -> Results:
    """Return two tables joined: of rows, or of windows."""
    if not case.params.get("windowed"):
        return rows(case, "left").join(rows(case, "right"), on="key", how=case.params["join"])
    cut = WINDOWS["hopping"](lambda name: timedelta(milliseconds=case.params.get(name, 0)))
    sides = [
        events(case, topic).group_by("key").window(cut, emit="updates", name=topic).agg(aggregation(case))
        for topic in ("left", "right")
    ]
    return sides[0].join(sides[1], on=["key", "window_start", "window_end"], how=case.params["join"])


def deduplicated(case: Case) -> Results:
    """Return a stream without its duplicates."""
    if case.params.get("by", "key") != "key":
        raise NotThereError(f"by {case.params['by']!r} is not there")
    return events(case, "input").unique("key", within=timedelta(milliseconds=case.params["interval_ms"]))


OPERATIONS: dict[str, Callable[[Case], Any]] = {
    "tumbling": aggregated,
    "hopping": aggregated,
    "sliding": aggregated,
    "session": aggregated,
    "reduce": aggregated,
    "suppress": aggregated,
    "table_aggregate": table_aggregated,
    "stream_stream_join": interval_joined,
    "stream_table_join": table_joined,
    "table_table_join": tables_joined,
    "dedup": deduplicated,
}
