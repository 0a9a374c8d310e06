from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import DurationError, PlanError, UnknownColumnError, UnsafeExpressionError

SCHEMA: dict[str, Any] = {
    "carrier": pl.String,
    "delay": pl.Float64,
    "seats": pl.Int64,
    "tags": pl.List(pl.String),
    "codes": pl.List(pl.Int64),
    "at": pl.Datetime("ms", "UTC"),
}
KAFKA = sl.Kafka("localhost:9092")
FRAME: Any = pl.DataFrame()
delay, seats = pl.col("delay"), pl.col("seats")


def flights(schema: Any = SCHEMA, **settings: Any) -> Any:
    return KAFKA.stream("flights", schema=schema, **settings)


UNKNOWN = {
    "filter": lambda: flights().filter(pl.col("carier") == "AA"),
    "filter by value": lambda: flights().filter(carier="AA"),
    "select": lambda: flights().select("carier"),
    "select named": lambda: flights().select(c=pl.col("carier")),
    "with_columns": lambda: flights().with_columns(c=pl.col("carier").str.len_chars()),
    "rename": lambda: flights().rename({"carier": "c"}),
    "drop": lambda: flights().drop("carier"),
    "cast": lambda: flights().cast({"carier": pl.Categorical}),
    "explode": lambda: flights().explode("carier"),
    "with_event_time": lambda: flights().with_event_time("carier"),
    "group_by": lambda: flights().group_by("carier").agg(pl.len()),
    "agg": lambda: flights().group_by("seats").agg(pl.col("carier").first()),
    "agg in a window": lambda: flights().group_by().window(sl.tumbling("1m")).agg(pl.col("carier").first()),
    "stream: event time": lambda: flights(event_time="carier"),
    "stream: key": lambda: flights(key="carier"),
    "sink_table: key": lambda: flights().sink_table("x", key="carier"),
    "sink_kafka: key": lambda: flights().sink_kafka("x", key=["seats", "carier"]),
}


@pytest.mark.parametrize("write", UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_column_is_refused_where_it_is_written_with_the_near_miss(write: Any) -> None:
    with pytest.raises(
        UnknownColumnError, match=r"no column 'carier'; the stream has \['carrier', .* Did you mean 'carrier'\?"
    ) as raised:
        write()
    assert raised.value.column == "carier"
    assert raised.value.available == tuple(SCHEMA)


REFUSED = {
    "filter: a number": (lambda: flights().filter("seats"), r'filter: col\("seats"\) is Int64, not Boolean'),
    "filter: nothing": (lambda: flights().filter(), "filter: no expression given"),
    "filter: unsafe": (lambda: flights().filter(delay > delay.mean()), "filter: .* needs more than one row"),
    "select: nothing": (lambda: flights().select(), "select: no expression given"),
    "select: twice one name": (lambda: flights().select("seats", "seats"), "select: .*duplicate.*'seats'"),
    "select: unsafe": (lambda: flights().select(seats.sum()), r"select: col\(\"seats\"\)\.sum\(\) needs more than one row"),
    "select: reserved": (lambda: flights().select(__sl_x=seats), "select: column '__sl_x': names that begin with '__sl_'"),
    "with_columns: unsafe": (lambda: flights().with_columns(seats.shift(1)), "with_columns: .* needs more than one row"),
    "with_columns: reserved": (lambda: flights().with_columns(__sl_x=seats), "with_columns: column '__sl_x'"),
    "with_columns: impossible": (lambda: flights().with_columns(pl.col("carrier") * 2), "with_columns: arithmetic on"),
    "rename: clash": (lambda: flights().rename({"carrier": "seats"}), "rename: column 'seats' is duplicate"),
    "rename: reserved": (lambda: flights().rename({"carrier": "__sl_x"}), "rename: column '__sl_x'"),
    "rename: no text": (lambda: flights().rename({"carrier": 1}), "rename: 1 is no column name"),
    "drop: everything": (lambda: flights().drop(*SCHEMA), "drop: no column would be left"),
    "cast: no type": (lambda: flights().cast({"seats": "whole"}), "cast: column 'seats'"),
    "explode: a number": (lambda: flights().explode("seats"), "explode: column 'seats' is Int64, not a List or Array"),
    "explode: nothing": (lambda: flights().explode(), "explode: no columns"),
    "with_event_time: text": (lambda: flights().with_event_time("carrier"), r"with_event_time: event time .* is String; it must be"),
    "with_event_time: a fraction": (lambda: flights().with_event_time("delay"), "is Float64; it must be Datetime"),
    "with_event_time: unsafe": (lambda: flights().with_event_time(pl.col("at").max()), "needs more than one row"),
    "with_event_time: after a concat": (
        lambda: sl.concat([flights(), flights()]).filter(seats > 1).with_event_time("at"),
        r"with_event_time col\(\"at\"\): stands after 'concat', whose rows come from 2 places; use it on each stream before",
    ),
    "with_event_time: of results": (
        lambda: flights().group_by("carrier").window(sl.tumbling("1m")).agg(pl.len()).with_event_time("window_start"),
        "the event time of a result is the last instant of its window; use it on the stream before",
    ),
    "map_batches: no function": (lambda: flights().map_batches(3, schema={"x": pl.Int64}), "map_batches: 3 is no function"),
    "map_batches: no schema": (lambda: flights().map_batches(len, schema={}), "map_batches: schema= is empty"),
    "map_batches: reserved": (lambda: flights().map_batches(len, schema={"__sl_x": pl.Int64}), "map_batches: column '__sl_x'"),
    "map_pandas: no function": (lambda: flights().map_pandas(None, schema={"x": pl.Int64}), "map_pandas: None is no function"),
    "concat: one": (lambda: sl.concat([flights()]), "concat: takes two or more streams, got 1"),
    "concat: none": (lambda: sl.concat([]), "concat: takes two or more streams, got 0"),
    "concat: a frame": (lambda: sl.concat([flights(), FRAME]), "concat: takes StreamFrames, got DataFrame"),
    "concat: a table": (
        lambda: sl.concat([flights(), flights().group_by("carrier").agg(pl.len())]),
        "concat: takes StreamFrames, got StreamTable",
    ),
    "concat: another column": (lambda: sl.concat([flights(), flights().drop("at")]), "concat: stream 2 has .* the first has"),
    "concat: another type": (
        lambda: sl.concat([flights(), flights(), flights().cast({"seats": pl.Int32})]),
        "concat: stream 3 has .*Int32.* the first has .*; they must be equal",
    ),
    "concat: another order": (
        lambda: sl.concat([flights(), flights().select("at", pl.all().exclude("at"))]),
        "concat: stream 2 has",
    ),
    "stream: event time is text": (lambda: flights(event_time="carrier"), "stream 'flights': event time 'carrier' is String"),
    "stream: reserved": (lambda: flights({"__sl_x": pl.Int64}), "stream 'flights': column '__sl_x'"),
    "stream: metadata clash": (lambda: flights({"_key": pl.Int64}, metadata=True), "metadata=True adds '_key'"),
    "stream: on_error": (lambda: flights(on_error="dead_leter"), "Did you mean 'dead_letter'"),
    "late: no window": (lambda: flights().late, "late: no windowed step is behind this stream"),
    "late: a table for ever": (lambda: flights().group_by("carrier").agg(pl.len()).late, "has no window"),
    "sink_table: no key": (lambda: flights().sink_table("x"), "sink_table 'x': the rows have no key"),
    "sink_table: no name": (lambda: flights().sink_table("", key="carrier"), "sink_table: '' cannot be a name"),
    "sink_table: a path": (lambda: flights().sink_table("a/b", key="carrier"), "'a/b' cannot be a name.* such as 'a-b'"),
}  # fmt: skip  # one line a mistake


@pytest.mark.parametrize(("write", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_run_is_refused_where_it_is_written(write: Any, told: Any) -> None:
    with pytest.raises(PlanError, match=told) as raised:
        write()
    assert "polars" not in type(raised.value).__module__


def test_an_unsafe_expression_and_a_bad_duration_have_classes_of_their_own() -> None:
    with pytest.raises(UnsafeExpressionError):
        flights().filter(delay > delay.mean())
    with pytest.raises(DurationError):
        flights(idle_timeout="5 minutes")


def test_a_stream_is_inert_and_immutable() -> None:
    stream = flights()
    stream.filter(seats > 1).select("carrier").rename({"carrier": "c"})
    assert stream.schema == pl.Schema(SCHEMA)
    assert "filter" not in stream.explain()


SCHEMAS = {
    "filter": (lambda: flights().filter(delay > 0), SCHEMA),
    "select": (lambda: flights().select("seats", hours=delay / 60), {"seats": pl.Int64, "hours": pl.Float64}),
    "select a literal": (lambda: flights().select("seats", one=pl.lit("a")), {"seats": pl.Int64, "one": pl.String}),
    "with_columns": (lambda: flights().with_columns(seats=seats.cast(pl.Int8)), {**SCHEMA, "seats": pl.Int8}),
    "rename": (lambda: flights().select("carrier", "seats").rename({"seats": "n"}), {"carrier": pl.String, "n": pl.Int64}),
    "drop": (lambda: flights().drop("tags", ["codes", "at"]), {n: SCHEMA[n] for n in ("carrier", "delay", "seats")}),
    "cast": (lambda: flights().select("seats").cast({"seats": pl.String}), {"seats": pl.String}),
    "explode": (lambda: flights().select("tags", "codes").explode("tags", "codes"), {"tags": pl.String, "codes": pl.Int64}),
    "with_event_time": (lambda: flights().with_event_time("at"), SCHEMA),
    "map_batches": (lambda: flights().map_batches(len, schema={"x": pl.Int8}), {"x": pl.Int8}),
    "concat": (lambda: sl.concat([flights(), flights()]), SCHEMA),
}  # fmt: skip  # one line a step


@pytest.mark.parametrize(("write", "schema"), SCHEMAS.values(), ids=SCHEMAS)
def test_the_schema_of_every_step_is_known_without_data(write: Any, schema: Any) -> None:
    assert dict(write().schema) == dict(pl.Schema(schema))


KEYS = {
    "filter": (lambda s: s.filter(seats > 1), "carrier"),
    "select": (lambda s: s.select("carrier", "seats"), "carrier"),
    "select under another name": (lambda s: s.select("seats", c="carrier"), "c"),
    "select by a selector": (lambda s: s.select(pl.selectors.string()), "carrier"),
    "select made anew": (lambda s: s.select(carrier=pl.col("carrier").str.to_lowercase()), None),
    "select without it": (lambda s: s.select("seats"), None),
    "select another as it": (lambda s: s.select(carrier="seats"), None),
    "with_columns beside it": (lambda s: s.with_columns(x=seats), "carrier"),
    "with_columns over it": (lambda s: s.with_columns(carrier=pl.lit("AA")), None),
    "with_columns the same again": (lambda s: s.with_columns("carrier"), "carrier"),
    "rename": (lambda s: s.rename({"carrier": "c"}), "c"),
    "rename another": (lambda s: s.rename({"seats": "n"}), "carrier"),
    "rename by exchange": (lambda s: s.rename({"carrier": "seats", "seats": "carrier"}), "seats"),
    "drop another": (lambda s: s.drop("seats"), "carrier"),
    "drop": (lambda s: s.drop("carrier"), None),
    "cast": (lambda s: s.cast({"carrier": pl.Categorical}), None),
    "explode another": (lambda s: s.explode("tags"), "carrier"),
    "with_event_time": (lambda s: s.with_event_time("at"), "carrier"),
    "map_batches": (lambda s: s.map_batches(len, schema=SCHEMA), None),
    "concat": (lambda s: sl.concat([s, s]), None),
    "windows by it": (lambda s: s.group_by("carrier", "seats").window(sl.tumbling("1m")).agg(pl.len()), "carrier"),
    "windows not by it": (lambda s: s.group_by("seats").window(sl.tumbling("1m")).agg(pl.len()), None),
    "late rows": (lambda s: s.group_by("carrier").window(sl.tumbling("1m")).agg(pl.len()).late, None),
}


@pytest.mark.parametrize(("write", "key"), KEYS.values(), ids=KEYS)
def test_a_promised_key_is_followed_as_long_as_its_column_is_the_same(write: Any, key: Any) -> None:
    assert write(flights(key="carrier")).node.key == key


@pytest.mark.parametrize(("write", "_"), KEYS.values(), ids=KEYS)
def test_without_a_promise_there_is_no_key(write: Any, _: Any) -> None:  # the other half of the pairs
    assert write(flights()).node.key is None
