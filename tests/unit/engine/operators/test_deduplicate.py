"""De-duplication, step by step."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.operators.deduplicate import by_rounds, in_order
from streamlab.testing import StreamTester


def events(**settings):
    return sl.Kafka("localhost:9092").stream(
        "e", schema={"id": pl.Int64, "x": pl.String}, **{"idle_timeout": None, **settings}
    )


def passed(frame, *records, batch=False):
    given = [{"value": {"id": key, "x": str(at)}, "timestamp": at} for key, at in records]
    with StreamTester(frame) as t:
        for part in [given] if batch else [[one] for one in given]:
            t.send_batch("e", part, wrapped=True)
        return [(r.value["id"], r.timestamp) for r in t.read()]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([(1, 0), (1, 100)], [(1, 0)]),
        ([(1, 0), (1, 101)], [(1, 0), (1, 101)]),
        ([(1, 200), (1, 50), (1, 100)], [(1, 200), (1, 50)]),
        ([(1, 0), (1, 90), (1, 110)], [(1, 0), (1, 110)]),  # the one dropped keeps nobody out
        ([(None, 0), (None, 0)], [(None, 0), (None, 0)]),
        ([(1, 150), (2, 200), (1, 60)], [(1, 150), (2, 200)]),
        ([(1, 150), (2, 251), (1, 160)], [(1, 150), (2, 251), (1, 160)]),  # forgotten: 150 + 100 is before 251
        ([(1, 100), (1, 118), (2, 215), (1, 116), (1, 203)], [(1, 100), (2, 215), (1, 116)]),
    ],
)
def test_the_first_to_arrive_passes(records, wanted, batch):
    assert passed(events().unique("id", within="100ms"), *records, batch=batch) == wanted


def test_without_a_length_a_key_is_remembered_for_ever():
    assert passed(events().unique("id"), (1, 0), (2, 5), (1, 10**12), (None, 0), (None, 0)) == [
        (1, 0),
        (2, 5),
        (None, 0),
        (None, 0),
    ]
    with StreamTester(events().unique("id")) as t:
        for _ in range(3):
            t.send_batch("e", [{"id": n, "x": ""} for n in (1, 2, 1)])
            t.restart()
        assert len(t.read()) == 2


def test_all_columns_are_the_key_where_none_is_named():
    assert len(passed(events().unique(), (1, 5), (1, 5), (1, 6))) == 2


def test_rows_go_on_with_their_records():
    found = events().unique("id", within="1s").with_event_time(pl.col("id") * 10)
    assert passed(found, (1, 0), (1, 5), (2, 7)) == [(1, 10), (2, 20)]


def test_a_promised_key_keeps_partitions_apart():
    frame = events(key="id").unique("id", "x", within="10ms")
    assert frame.node.key == "id"
    assert events(key="id").unique("x").node.key is None
    with StreamTester(frame, partitions=2) as t:
        t.send("e", {"id": 1, "x": "a"}, timestamp=5, partition=0)
        t.send("e", {"id": 2, "x": "a"}, timestamp=500, partition=1)
        t.send("e", {"id": 1, "x": "a"}, timestamp=6, partition=0)
        assert len(t.read()) == 2


def test_what_passed_is_forgotten_as_the_watermark_moves_on():
    with StreamTester(events().unique("id", within="100ms")) as t:
        held = []
        for step in range(100):
            t.send_batch(
                "e", [{"value": {"id": 50 * step + n}, "timestamp": 10 * step} for n in range(50)], wrapped=True
            )
            held.append(t.state()["rows"].item())
            if step % 11 == 0:
                t.restart()
        assert max(held[20:]) <= 1_000
        t.send("e", {"id": 1, "x": ""}, timestamp=10**6)
        assert t.state()["rows"].item() == 1


def test_a_hot_key_whose_rows_come_in_order_is_decided_in_few_jumps():
    group, time = np.zeros(100_000, np.int64), np.arange(100_000)
    assert in_order(group, time, 1).sum() == 50_000


def test_rounds_are_as_many_as_rows_that_pass_in_a_group():
    time = np.array([5, 4, 9, 20, 19])
    assert by_rounds(np.zeros(5, np.int64), time, np.zeros(5, np.int64), 1).tolist() == [True, False, True, True, False]
