"""The as-of join of two streams, step by step."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

import streamlab as sl
from streamlab.testing import StreamTester

SCHEMA = {"id": pl.Int64, "x": pl.String, "ts": pl.Int64}


def stream(topic, **settings):
    return sl.Kafka("localhost:9092").stream(
        topic, schema=SCHEMA, event_time="ts", **{"idle_timeout": None, **settings}
    )


def joined(**settings):
    return stream("l").join_asof(stream("r"), **({"on": "ts", "by": "id", "tolerance": "10ms"} | settings))


def send(tester, topic, key, x, at, **where):
    tester.send(topic, {"id": key, "x": x, "ts": at}, **where)


def told(tester):
    return [(r.value["id"], r.value["x"], r.value["x_right"], r.timestamp) for r in tester.read()]


def test_a_row_waits_until_the_watermark_has_passed_its_time():
    with StreamTester(joined()) as t:
        send(t, "r", 1, "p", 95)
        send(t, "l", 1, "a", 100)
        send(t, "r", 1, "q", 100)
        assert told(t) == []
        send(t, "r", 1, "later", 101)
        assert told(t) == []
        send(t, "l", 2, "b", 101)
        assert told(t) == [(1, "a", "q", 100)]


def test_of_right_rows_of_one_time_the_last_to_arrive_counts():
    with StreamTester(joined()) as t:
        send(t, "r", 1, "p", 100)
        send(t, "r", 1, "q", 100)
        send(t, "l", 1, "a", 100)
        t.close_input()
        assert told(t) == [(1, "a", "q", 100)]


def test_rows_come_in_the_order_of_time_and_those_without_a_match_with_nulls():
    with StreamTester(joined(grace="20ms")) as t:
        for key, x, at in ((1, "c", 30), (1, "a", 10), (None, "b", 20)):
            send(t, "l", key, x, at)
        send(t, "r", 1, "too old for c", 19)
        send(t, "r", None, "n", 20)
        t.restart()
        for topic in "lr":
            send(t, topic, 5, "z", 100)
        assert told(t) == [(1, "a", None, 10), (None, "b", None, 20), (1, "c", None, 30)]


def test_bounds_are_included():
    with StreamTester(joined(tolerance="11ms")) as t:
        send(t, "r", 1, "p", 19)
        send(t, "l", 1, "a", 30)
        t.close_input()
        assert told(t) == [(1, "a", "p", 30)]


def test_a_right_row_behind_the_grace_is_seen_by_those_that_still_wait():
    with StreamTester(joined()) as t:
        for topic in "lr":
            send(t, topic, 1, "gone", 50)
            send(t, topic, 1, "waits", 60)
        told(t)
        batch = [{"value": {"id": 1, "x": x, "ts": at}} for x, at in (("straggler", 55), ("b", 60), ("new", 70))]
        t.send_batch("r", batch, wrapped=True)
        send(t, "l", 1, "new", 70)
        assert told(t) == [(1, "waits", "b", 60)]


@pytest.mark.parametrize(("order", "match"), [((0, 1), "straggler"), ((1, 0), None)])
def test_a_right_row_behind_the_grace_is_seen_by_none_that_went_before_it_came(order, match):
    with StreamTester(joined()) as t:
        for topic in "lr":
            send(t, topic, 2, "z", 60)
        send(t, "l", 1, "a", 60)
        send(t, "l", 2, "z", 70)
        told(t)
        batch = [{"value": {"id": 1, "x": "straggler", "ts": 55}}, {"value": {"id": 2, "x": "z", "ts": 70}}]
        t.send_batch("r", [batch[at] for at in order], wrapped=True)
        assert (1, "a", match, 60) in told(t)


def test_late_rows_of_both_sides_say_what_they_missed():
    at = lambda ms: datetime(1970, 1, 1, 0, 0, 0, ms * 1000, tzinfo=UTC)  # noqa: E731
    with StreamTester(joined(grace="5ms")) as t:
        for topic in "lr":
            send(t, topic, 1, "x", 100)
        send(t, "l", 1, "l", 94)
        send(t, "l", 1, "in time", 95)
        send(t, "r", 1, "still needed", 85)
        send(t, "r", 1, "r", 84)
        left, right = (record.value for record in t.late())
    assert left == {
        "id": 1,
        "x": "l",
        "ts": 94,
        "x_right": None,
        "window_start": at(84),
        "window_end": at(94),
        "watermark": at(100),
    }
    assert right == {
        "id": 1,
        "x": None,
        "ts": 84,
        "x_right": "r",
        "window_start": at(84),
        "window_end": at(94),
        "watermark": at(100),
    }


def test_state_is_dropped_as_the_watermark_moves_on():
    with StreamTester(joined()) as t:
        most = 0
        for step in range(60):
            for topic in "lr":
                batch = [{"value": {"id": 50 * step + n, "x": "v", "ts": 10 * step}} for n in range(50)]
                t.send_batch(topic, batch, wrapped=True)
            most = max(most, t.state()["rows"].item())
            if step % 9 == 0:
                t.restart()
        assert most <= 400
        told(t)
        for topic in "lr":
            send(t, topic, 1, "v", 100_000)
        assert t.state()["rows"].item() <= 2
        assert len(told(t)) == 50


def test_without_a_name_for_time_the_right_one_stays_with_a_suffix():
    join = stream("l").join_asof(stream("r"), by="id", tolerance="1s", suffix="_r")
    assert join.columns == ["id", "x", "ts", "x_r", "ts_r"]
