"""The as-of join with a frame."""

from __future__ import annotations

import polars as pl

import streamlab as sl
from streamlab.testing import StreamTester

PRICES = pl.DataFrame({"code": [1, 1, None, 2], "price": [2.6, 2.5, 1.0, 9.0], "since": [60, 10, 0, 0]})


def joined(**settings):
    trades = sl.Kafka("localhost:9092").stream("t", schema={"id": pl.Int64, "ts": pl.Int64}, event_time="ts")
    return trades.join_asof(PRICES, left_on="ts", right_on="since", by_left="id", by_right="code", **settings)


def test_each_row_goes_on_at_once_with_the_newest_row_that_is_not_newer():
    with StreamTester(joined()) as t:
        for key, at in ((1, 100), (1, 59), (1, 9), (2, 0), (3, 50), (None, 50)):
            t.send("t", {"id": key, "ts": at})
        assert [(r.value["id"], r.value["price"], r.timestamp) for r in t.read()] == [
            (1, 2.6, 100),
            (1, 2.5, 59),
            (1, None, 9),
            (2, 9.0, 0),
            (3, None, 50),
            (None, None, 50),
        ]


def test_a_match_is_no_older_than_the_tolerance():
    with StreamTester(joined(tolerance="40ms")) as t:
        t.send_batch("t", [{"value": {"id": 1, "ts": at}} for at in (50, 51, 100)], wrapped=True)
        assert [r.value["price"] for r in t.read()] == [2.5, None, 2.6]


def test_its_rows_may_go_on_into_windows_and_new_event_times():
    counts = (
        joined()
        .with_event_time(pl.col("ts") + 5)
        .group_by("price")
        .window(sl.tumbling("10ms"))
        .agg(pl.len().alias("n"))
    )
    with StreamTester(counts) as t:
        t.send("t", {"id": 2, "ts": 3})
        t.restart()
        t.send("t", {"id": 2, "ts": 25})
        assert [(r.key, r.value["n"], r.timestamp) for r in t.read()] == [(9.0, 1, 9)]
