"""The interval join, step by step."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

import streamlab as sl
from streamlab.testing import StreamTester

SCHEMA = {"id": pl.Int64, "x": pl.String}


def stream(topic, **settings):
    return sl.Kafka("localhost:9092").stream(topic, schema=SCHEMA, **{"idle_timeout": None, **settings})


def joined(how="inner", **lengths):
    return stream("l").join_interval(stream("r"), on="id", how=how, **({"before": "5ms", "after": "10ms"} | lengths))


def told(tester):
    return [(r.value["id"], r.value["x"], r.value["x_right"], r.timestamp) for r in tester.read()]


def test_a_pair_is_emitted_at_once_at_the_time_of_the_later_row():
    with StreamTester(joined()) as t:
        t.send("l", {"id": 1, "x": "a"}, timestamp=100)
        assert told(t) == []
        t.send("r", {"id": 1, "x": "b"}, timestamp=95)
        t.send("r", {"id": 1, "x": "c"}, timestamp=110)
        t.send("r", {"id": 1, "x": "early"}, timestamp=94)
        t.send("r", {"id": 1, "x": "far"}, timestamp=111)
        assert told(t) == [(1, "a", "b", 100), (1, "a", "c", 110)]


def test_several_matches_come_in_the_order_in_which_the_other_side_came():
    with StreamTester(joined()) as t:
        t.send_batch(
            "r", [{"value": {"id": 1, "x": x}, "timestamp": at} for x, at in (("p", 9), ("q", 3))], wrapped=True
        )
        t.send("l", {"id": 1, "x": "a"}, timestamp=5)
        assert told(t) == [(1, "a", "p", 9), (1, "a", "q", 5)]


def test_an_unmatched_row_comes_with_nulls_once_the_watermark_of_both_sides_is_past():
    with StreamTester(joined("left", grace="3ms")) as t:
        t.send("l", {"id": 1, "x": "a"}, timestamp=100)
        t.send("l", {"id": 2, "x": "z"}, timestamp=500)
        t.send("r", {"id": 2, "x": "y"}, timestamp=113)
        assert told(t) == []  # 100 + 10 + 3 is not before 113
        t.send("r", {"id": 3, "x": "y"}, timestamp=114)
        assert told(t) == [(1, "a", None, 100)]


def test_a_row_that_came_with_nulls_may_still_match():
    with StreamTester(joined("left")) as t:
        t.send("l", {"id": 1, "x": "a"}, timestamp=100)
        t.send_batch("l", [{"value": {"id": 2, "x": "z"}, "timestamp": 112}], wrapped=True)
        t.send_batch(
            "r", [{"value": {"id": i, "x": "y"}, "timestamp": at} for i, at in ((9, 112), (1, 101))], wrapped=True
        )
        assert told(t) == [(1, "a", None, 100), (1, "a", "y", 101)]


@pytest.mark.parametrize("size", [1, 3])
def test_what_has_expired_at_the_turn_of_a_record_is_invisible_to_it(size):
    with StreamTester(joined(before="5ms", after="5ms")) as t:
        for topic in "lr":
            t.send(topic, {"id": 9, "x": topic}, timestamp=100)
        t.send("l", {"id": 1, "x": "kept"}, timestamp=90)
        t.send("l", {"id": 7, "x": "l"}, timestamp=101)
        told(t)
        batch = [{"value": {"id": i, "x": "r"}, "timestamp": at} for i, at in ((1, 91), (7, 101), (1, 91))]
        for at in range(0, 3, size):
            t.send_batch("r", batch[at : at + size], wrapped=True)
        assert told(t) == [(1, "kept", "r", 91), (7, "l", "r", 101)]
        assert t.late() == []


def test_rows_of_both_sides_come_by_time_the_right_one_first_then_by_key():
    with StreamTester(joined("outer", before="5ms", after="5ms")) as t:
        for topic, key, at in (("l", 2, 10), ("l", 1, 10), ("r", 7, 10), ("r", 8, 9), ("l", 5, 900), ("r", 6, 900)):
            t.send(topic, {"id": key, "x": topic}, timestamp=at)
        assert told(t) == [(8, None, "r", 9), (7, None, "r", 10), (1, "l", None, 10), (2, "l", None, 10)]


def test_a_null_key_never_matches_and_comes_when_others_without_a_match_do():
    with StreamTester(joined("outer")) as t:
        t.send("l", {"id": None, "x": "a"}, timestamp=100)
        t.send("r", {"id": None, "x": "b"}, timestamp=100)
        assert told(t) == []
        t.restart()
        t.send("l", {"id": 5, "x": "l"}, timestamp=900)
        t.send("r", {"id": 6, "x": "r"}, timestamp=900)
        assert told(t) == [(None, None, "b", 100), (None, "a", None, 100)]
    with StreamTester(joined("left")) as t:
        t.send("r", {"id": None, "x": "b"}, timestamp=100)
        t.close_input()
        assert told(t) == []


def test_late_rows_have_the_interval_in_which_they_might_have_matched():
    with StreamTester(joined(before="5ms", after="10ms")) as t:
        t.send("l", {"id": 1, "x": "a"}, timestamp=100)
        t.send("r", {"id": 2, "x": "b"}, timestamp=100)
        t.send("l", {"id": 1, "x": "in time"}, timestamp=85)
        t.send("l", {"id": 1, "x": "l"}, timestamp=84)
        t.send("r", {"id": 1, "x": "r"}, timestamp=84)
        left, right = (record.value for record in t.late())
    at = lambda ms: datetime(1970, 1, 1, 0, 0, 0, ms * 1000, tzinfo=UTC)  # noqa: E731
    assert left == {
        "id": 1,
        "x": "l",
        "x_right": None,
        "window_start": at(79),
        "window_end": at(94),
        "watermark": at(100),
    }
    assert right == {
        "id": 1,
        "x": None,
        "x_right": "r",
        "window_start": at(74),
        "window_end": at(89),
        "watermark": at(100),
    }


def test_a_self_join_takes_each_record_as_left_and_then_as_right():
    events = stream("l")
    with StreamTester(events.join_interval(events, on="id", before="5ms", after="5ms")) as t:
        t.send_batch("l", [{"value": {"id": 1, "x": x}, "timestamp": 1} for x in "ab"], wrapped=True)
        assert [(a, b) for _, a, b, _ in told(t)] == [("a", "a"), ("b", "a"), ("a", "b"), ("b", "b")]


def test_different_names_several_keys_and_suffixes_are_as_in_polars():
    left = sl.from_frame(
        pl.DataFrame({"a": [1, 1], "b": ["x", "y"], "v": [1, 2], "ts": [0, 0]}), event_time="ts", topic="l"
    )
    right = sl.from_frame(
        pl.DataFrame({"v": [5, 6], "i": [1, 1], "b": ["y", "z"], "ts": [0, 0]}), event_time="ts", topic="r"
    )
    found = left.join_interval(
        right, left_on=["a", "b"], right_on=["i", "b"], after="0s", how="full", suffix="_r"
    ).collect()
    assert found.columns == ["a", "b", "v", "ts", "v_r", "ts_r"]
    assert sorted(found.rows(), key=repr) == [
        (1, "x", 1, 0, None, None),
        (1, "y", 2, 0, 5, 0),
        (1, "z", None, None, 6, 0),
    ]


def test_nan_and_minus_zero_are_keys_like_any_other():
    schema = {"f": pl.Float64}
    left, right = (sl.Kafka("localhost:9092").stream(topic, schema=schema) for topic in "lr")
    keys = left.map_batches(
        lambda d: d.with_columns(f=pl.when(pl.col("f") > 5).then(float("nan")).otherwise("f")), schema=schema
    )
    other = right.map_batches(
        lambda d: d.with_columns(f=pl.when(pl.col("f") > 5).then(float("nan")).otherwise(-pl.col("f"))), schema=schema
    )
    with StreamTester(keys.join_interval(other, on="f", after="1s")) as t:
        t.send_batch("l", [{"value": {"f": f}, "timestamp": 0} for f in (0.0, 9.0)], wrapped=True)
        t.send_batch("r", [{"value": {"f": f}, "timestamp": 0} for f in (0.0, 7.0)], wrapped=True)
        assert len(t.read()) == 2


def test_each_partition_has_a_watermark_of_its_own_where_both_sides_promise_the_key():
    join = stream("l", key="id").join_interval(stream("r", key="id"), on="id", before="5ms", after="5ms", how="left")
    with StreamTester(join, partitions=2) as t:
        for topic in "lr":
            t.send(topic, {"id": 1, "x": topic}, timestamp=100, partition=0)
            t.send(topic, {"id": 2, "x": topic}, timestamp=10, partition=1)
        t.send("l", {"id": 3, "x": "alone"}, timestamp=100, partition=0)
        told(t)
        t.send("l", {"id": 1, "x": "new"}, timestamp=200, partition=0)
        t.send("r", {"id": 1, "x": "new"}, timestamp=200, partition=0)
        assert told(t) == [(3, "alone", None, 100), (1, "new", "new", 200)]
        t.send("l", {"id": 2, "x": "in time"}, timestamp=9, partition=1)
        assert t.late() == []


def test_state_is_dropped_as_the_watermark_moves_on_and_keys_too():
    with StreamTester(joined("outer")) as t:
        most = 0
        for step in range(60):
            for topic in "lr":
                batch = [{"value": {"id": 100 * step + n, "x": "v"}, "timestamp": 10 * step} for n in range(100)]
                t.send_batch(topic, batch, wrapped=True)
            held = t.state().row(0, named=True)
            most = max(most, held["rows"])
            if step % 7 == 0:
                t.restart()
        assert most <= 1_200
        assert held["windows"] <= 1_200
        for topic in "lr":
            t.send(topic, {"id": 1, "x": "v"}, timestamp=100_000)
        assert t.state()["rows"].to_list() == [2]


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_match_and_what_comes_of_it_are_never_late_for_a_window(partitions):
    counts = joined("left").group_by("id").window(sl.tumbling("20ms")).agg(pl.len().alias("n"))
    with StreamTester(counts, partitions=partitions) as t:
        for at in range(0, 300, 3):
            for topic in "lr":
                t.send(topic, {"id": at % 7, "x": "v"}, timestamp=at, partition=at % partitions)
        t.close_input()
        assert t.late() == []
        assert sum(record.value["n"] for record in t.read()) >= 100
