from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import DurationError, PlanError, UnsafeExpressionError
from streamlab.plan.schema import TIME
from streamlab.plan.windows import Hopping, Session, Sliding, Tumbling

SCHEMA: dict[str, Any] = {
    "carrier": pl.String,
    "dest": pl.String,
    "delay": pl.Float64,
    "seats": pl.Int64,
    "a/b": pl.String,
}
BOUNDS: dict[str, Any] = {"window_start": TIME, "window_end": TIME}
seats = pl.col("seats")
NUMBER: Any = 60


def flights(**settings: Any) -> Any:
    return sl.Kafka("localhost:9092").stream("flights", schema=SCHEMA, **settings)


def windowed(*by: Any, emit: Any = "final", name: Any = None, window: Any = None) -> Any:
    return flights().group_by(*by).window(window or sl.tumbling("1m"), emit=emit, name=name)


def test_lengths_of_windows_are_written_as_texts_or_timedeltas() -> None:
    assert sl.tumbling("1h", grace="10m", offset="5m") == Tumbling(3_600_000, 600_000, 300_000)
    assert sl.tumbling(timedelta(hours=1)) == sl.tumbling("60m") == Tumbling(3_600_000, 0, 0)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda: sl.tumbling("1 minute"), "tumbling: size: '1 minute' is no duration"),
        (lambda: sl.tumbling(NUMBER), "tumbling: size: 60 is no duration"),
        (lambda: sl.tumbling("0s"), "tumbling: size: '0s' must be more than zero"),
        (lambda: sl.tumbling(timedelta(seconds=-1)), "tumbling: size: .* must be more than zero"),
        (lambda: sl.tumbling(timedelta(microseconds=5)), "finer than a millisecond"),
        (lambda: sl.tumbling("1m", grace=timedelta(seconds=-1)), "tumbling: grace: .* must be at least zero"),
        (lambda: sl.tumbling("1m", grace="soon"), "tumbling: grace: 'soon' is no duration"),
        (lambda: sl.tumbling("1m", offset="later"), "tumbling: offset: 'later' is no duration"),
        (lambda: sl.tumbling("99999999999999w"), "tumbling: size .* is longer than event times reach"),
        (lambda: sl.tumbling("1m", grace="99999999999999w"), "tumbling: grace .* is longer than event times reach"),
    ],
)
def test_lengths_that_make_no_window_are_refused(write: Any, told: Any) -> None:
    with pytest.raises(DurationError, match=told):
        write()


def test_windows_of_all_kinds_are_values_with_lengths_in_milliseconds() -> None:
    assert sl.hopping("5m", every="1m", grace="10s", offset="30s") == Hopping(300_000, 60_000, 10_000, 30_000)
    assert sl.hopping("5m", every="5m") == Hopping(300_000, 300_000)
    assert sl.sliding("5m", grace="10s") == Sliding(300_000, 10_000)
    assert sl.session("30m", grace="1m") == Session(1_800_000, 60_000)


def test_windows_are_told_as_they_are_written() -> None:
    assert str(sl.hopping("5m", every="1m", grace="10s", offset="30s")) == "hopping 5m every 1m, grace 10s, offset 30s"
    assert str(sl.sliding("5m")) == "sliding 5m"
    assert str(sl.session("30m", grace="1m")) == "session 30m, grace 1m"


def test_windows_of_different_kinds_or_lengths_are_told_apart() -> None:
    kinds = [
        sl.tumbling("5m"),
        sl.tumbling("5m", grace="1m"),
        sl.tumbling("5m", offset="1m"),
        sl.hopping("5m", every="1m"),
        sl.hopping("5m", every="2m"),
        sl.hopping("5m", every="2m", grace="1m"),
        sl.sliding("5m"),
        sl.session("5m"),
    ]
    assert len({str(window.identity()) for window in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda: sl.hopping("0s", every="1s"), "hopping: size: '0s' must be more than zero"),
        (lambda: sl.hopping("5m", every="0s"), "hopping: every: '0s' must be more than zero"),
        (lambda: sl.hopping("5m", every="often"), "hopping: every: 'often' is no duration"),
        (lambda: sl.hopping("5m", every="1m", grace=timedelta(seconds=-1)), "hopping: grace: .* must be at least zero"),
        (
            lambda: sl.hopping("5m", every="1m", offset=timedelta(seconds=-1)),
            "hopping: offset: .* must be at least zero",
        ),
        (lambda: sl.sliding("0s"), "sliding: size: '0s' must be more than zero"),
        (lambda: sl.sliding("5m", grace="x"), "sliding: grace: 'x' is no duration"),
        (lambda: sl.session(timedelta(0)), "session: gap: .* must be more than zero"),
        (lambda: sl.session("1m", grace=timedelta(seconds=-1)), "session: grace: .* must be at least zero"),
    ],
)
def test_lengths_that_make_no_window_of_another_kind_are_refused(write: Any, told: Any) -> None:
    with pytest.raises(DurationError, match=told):
        write()


def test_hopping_windows_leave_no_gap_between_them() -> None:
    with pytest.raises(
        PlanError, match=r'every 5m is longer than the size, 1m.*Did you mean hopping\("5m", every="1m"\)'
    ):
        sl.hopping("1m", every="5m")
    with pytest.raises(PlanError, match="offset 1m must be less than every, 1m"):
        sl.hopping("5m", every="1m", offset="1m")


def test_an_offset_must_be_less_than_the_size() -> None:
    with pytest.raises(PlanError, match="offset 1m must be less than the size, 1m"):
        sl.tumbling("1m", offset="1m")


REFUSED = {
    "no window": (lambda: flights().group_by("carrier").window("5m"), r"window: '5m' is no window; write sl\.tumbling"),
    "emit": (
        lambda: windowed("carrier", emit="finl").agg(pl.len()),
        r"emit='finl'; valid are \['final', 'updates'\].*Did you mean 'final'",
    ),
    "no aggregation": (lambda: windowed("carrier").agg(), "agg: no expression given"),
    "a column": (lambda: windowed("carrier").agg("seats"), r'agg: col\("seats"\) gives a value per row, not one per group'),
    "a value per row": (lambda: windowed("carrier").agg(seats * 2), "gives a value per row"),
    "a mixture": (lambda: windowed("carrier").agg(seats - seats.mean()), "gives a value per row"),
    "several values": (lambda: windowed("carrier").agg(seats.head(3)), "gives a value per row"),
    "a literal": (lambda: windowed("carrier").agg(pl.lit(1)), "gives a value per row"),
    "twice one name": (lambda: windowed("carrier").agg(seats.sum(), seats.max()), "agg: .*'seats'.*more than one"),
    "the name of a key": (lambda: windowed("carrier").agg(pl.col("dest").first().alias("carrier")), "agg: .*'carrier'.*more than one"),
    "a reserved name": (lambda: windowed("carrier").agg(seats.sum().alias("__sl_x")), "agg: column '__sl_x'"),
    "the name of a bound": (
        lambda: windowed("carrier").agg(seats.sum().alias("window_end")),
        "agg: 'window_end' is the name of a window's bound",
    ),
    "a key twice": (lambda: windowed("carrier", "carrier").agg(pl.len()), "agg: .*'carrier'"),
    "an unsafe key": (lambda: windowed(seats.rank()).agg(pl.len()), "needs more than one row"),
    "an aggregated key": (lambda: windowed(seats.max()).agg(pl.len()), "needs more than one row"),
    "a path as name": (lambda: windowed("carrier", name="a/b").agg(pl.len()), "name: 'a/b' cannot be a name.* such as 'a-b'"),
    "a table's name": (lambda: windowed("carrier", name="table:x").agg(pl.len()), "name: 'table:x' cannot be a name.* such as 'x'"),
    "no text as name": (lambda: windowed("carrier", name=5).agg(pl.len()), "name: 5 cannot be a name"),
    "an empty name": (lambda: windowed("carrier", name="").agg(pl.len()), "name: '' cannot be a name"),
    "a name of two lines": (lambda: windowed("carrier", name="a\nb").agg(pl.len()), "cannot be a name.* such as 'a-b'"),
    "bounds as keys": (
        lambda: windowed("carrier").agg(pl.len()).group_by("window_start").window(sl.tumbling("1h")).agg(pl.len()),
        "'window_start' is the name of a window's bound",
    ),
}  # fmt: skip  # one line a mistake


@pytest.mark.parametrize(("write", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_aggregated_is_refused_where_it_is_written(write: Any, told: Any) -> None:
    with pytest.raises(PlanError, match=told):
        write()


def test_a_python_function_in_an_aggregation_is_refused() -> None:
    with pytest.raises(UnsafeExpressionError, match="Python function"):
        windowed("carrier").agg(seats.map_batches(lambda values: values.sum(), return_dtype=pl.Int64))


def test_results_have_the_grouping_columns_the_bounds_and_the_aggregations() -> None:
    made = windowed("carrier", "dest").agg(pl.len(), seats.mean(), pl.col("delay").max().alias("worst"))
    aggregations = {"len": pl.UInt32, "seats": pl.Float64, "worst": pl.Float64}
    assert dict(made.schema) == dict(pl.Schema({"carrier": pl.String, "dest": pl.String, **BOUNDS, **aggregations}))


def test_a_table_for_ever_has_no_bounds() -> None:
    made = flights().group_by(short=pl.col("carrier").str.head(1)).agg(pl.len())
    assert dict(made.schema) == dict(pl.Schema({"short": pl.String, "len": pl.UInt32}))
    assert made.node.keys == ("short",)


def test_without_grouping_columns_all_rows_are_one_group() -> None:
    assert dict(windowed().agg(pl.len()).schema) == dict(pl.Schema({**BOUNDS, "len": pl.UInt32}))
    assert flights().group_by().agg(pl.len()).node.keys == ()


def test_selectors_leave_the_grouping_columns_out() -> None:
    made = windowed("carrier").agg(pl.all().first())
    assert list(made.schema) == ["carrier", *BOUNDS, "dest", "delay", "seats", "a/b"]


def test_final_results_are_events_and_updates_are_a_table() -> None:
    assert isinstance(windowed("carrier").agg(pl.len()), sl.StreamFrame)
    assert isinstance(windowed("carrier", emit="updates").agg(pl.len()), sl.StreamTable)
    assert isinstance(flights().group_by("carrier").agg(pl.len()), sl.StreamTable)
    assert windowed("carrier", emit="updates").agg(pl.len()).node.keys == ("carrier", "window_start", "window_end")


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (windowed("carrier", name="delays").agg(pl.len()), "delays"),
        (windowed("carrier", "dest").agg(pl.len()), "tumbling-1m-by-carrier-dest"),
        (windowed(window=sl.tumbling("90m")).agg(pl.len()), "tumbling-1h30m"),
        (windowed("carrier", window=sl.hopping("5m", every="1m")).agg(pl.len()), "hopping-5m-1m-by-carrier"),
        (flights().group_by("carrier").agg(pl.len()), "group-by-carrier"),
        (flights().group_by().agg(pl.len()), "group"),
        (flights().group_by("carrier").agg(pl.len(), name="counts"), "counts"),
        (windowed("a/b").agg(pl.len()), "tumbling-1m-by-a-b"),
    ],
)
def test_a_step_is_named_by_the_person_or_by_what_it_does(made: Any, name: Any) -> None:
    assert made.node.name == name


def test_late_rows_have_the_columns_of_the_steps_input_the_window_and_the_watermark() -> None:
    late = flights().select("carrier", "seats").group_by("carrier").window(sl.tumbling("1m")).agg(pl.len()).late
    assert dict(late.schema) == dict(pl.Schema({"carrier": pl.String, "seats": pl.Int64, **BOUNDS, "watermark": TIME}))


def test_late_is_found_behind_row_by_row_steps() -> None:
    made = windowed("carrier", name="delays").agg(pl.len()).filter(pl.col("len") > 1).select("len")
    assert made.late.explain().startswith("late rows of [delays]")
