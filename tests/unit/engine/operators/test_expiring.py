"""Groups that are dropped when nothing has touched them for long."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.operators.expiring import Wheel
from streamlab.errors import DurationError
from streamlab.testing import StreamTester


def counts(ttl: str = "10ms", **more: Any) -> Any:
    events = sl.Kafka("x:1").stream("events", schema={"k": pl.String}, idle_timeout=None, **more)
    return events.group_by("k").agg(pl.len().alias("n"), ttl=ttl)


def told(t: StreamTester) -> list[Any]:
    return [(record.key, record.value and record.value["n"], record.timestamp) for record in t.read()]


def test_a_group_goes_when_the_watermark_is_later_than_its_newest_record_by_more_than_ttl() -> None:
    with StreamTester(counts()) as t:
        t.send("events", {"k": "a"}, timestamp=0)
        t.send("events", {"k": "b"}, timestamp=10)
        assert told(t) == [("a", 1, 0), ("b", 1, 10)]
        t.send("events", {"k": "b"}, timestamp=11)
        assert told(t) == [("a", None, 10), ("b", 2, 11)]
        t.send("events", {"k": "a"}, timestamp=11)
        assert told(t) == [("a", 1, 11)]


def test_a_touch_makes_it_live_longer() -> None:
    with StreamTester(counts()) as t:
        for time in (0, 8, 16, 24):
            t.send("events", {"k": "a"}, timestamp=time)
        assert [n for _, n, _ in told(t)] == [1, 2, 3, 4]


def test_within_a_batch_a_record_after_the_end_begins_anew() -> None:
    with StreamTester(counts()) as t:
        t.send("events", {"k": "a"}, timestamp=0)
        times = [("b", 5), ("c", 50), ("a", 45), ("a", 46)]
        t.send_batch("events", [{"value": {"k": k}, "timestamp": at} for k, at in times], wrapped=True)
        assert sorted(told(t)[1:]) == [("a", 2, 46), ("b", None, 15), ("c", 1, 50)]


def test_a_record_that_is_too_old_itself_makes_no_group() -> None:
    with StreamTester(counts()) as t:
        t.send("events", {"k": "a"}, timestamp=100)
        t.send("events", {"k": "b"}, timestamp=89)
        t.send("events", {"k": "c"}, timestamp=90)
        assert told(t) == [("a", 1, 100), ("c", 1, 90)]
        assert t.state()["rows"].to_list() == [2]


def test_a_restart_forgets_no_end() -> None:
    with StreamTester(counts()) as t:
        t.send("events", {"k": "a"}, timestamp=0)
        t.restart()
        t.send("events", {"k": "b"}, timestamp=11)
        t.restart()
        assert told(t) == [("a", 1, 0), ("a", None, 10), ("b", 1, 11)]
        assert t.state()["rows"].to_list() == [1]


def test_each_partition_goes_by_its_own_watermark_where_the_key_is_promised() -> None:
    with StreamTester(counts(key="k"), partitions=2) as t:
        t.send("events", {"k": "a"}, timestamp=0, partition=0)
        t.send("events", {"k": "b"}, timestamp=500, partition=1)
        assert told(t) == [("a", 1, 0), ("b", 1, 500)]
        t.send("events", {"k": "c"}, timestamp=500, partition=0)
        assert told(t) == [("a", None, 10), ("c", 1, 500)]


def test_state_does_not_grow_with_keys_that_come_and_go() -> None:
    with StreamTester(counts("100ms")) as t:
        for batch in range(50):
            given = [{"value": {"k": f"{batch}-{n}"}, "timestamp": batch * 50} for n in range(100)]
            t.send_batch("events", given, wrapped=True)
            if batch % 10 == 9:
                t.restart()
        assert t.state()["rows"].to_list() == [300]


def test_the_sink_table_has_what_lives() -> None:
    with StreamTester(sl.Pipeline([counts().sink_table("n")])) as t:
        for key, time in (("a", 0), ("b", 20)):
            t.send("events", {"k": key}, timestamp=time)
        assert t.table("n").rows() == [("b", 1)]


def test_a_ttl_is_a_positive_duration_and_is_told() -> None:
    assert "updates by k, groups dropped after 1d untouched: len()" in counts("1d").explain()
    assert counts("1d").node.identity() != counts("2d").node.identity()
    assert counts().node.retracts
    for wrong in ("0s", "soon"):
        with pytest.raises(DurationError, match="ttl"):
            counts(wrong)


def test_a_slot_stands_in_one_bucket_and_moves_when_asked_for() -> None:
    wheel = Wheel(640)
    wheel.put(np.array([3, 4]), np.array([5, 1_000]), lane=0)
    wheel.put(np.array([3]), np.array([900]), lane=0)  # stands already
    assert [slots.tolist() for slots in wheel.due(0, 100)] == [[3]]
    wheel.put(np.array([3]), np.array([900]), lane=0)
    wheel.drop(np.array([4]))
    assert [slots.tolist() for slots in wheel.due(0, 2_000)] == [[3], []]
    assert list(wheel.due(1, 10_000)) == []
