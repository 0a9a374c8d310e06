from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.operators.sessions.operator import SessionWindows
from streamlab.testing import StreamTester

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMA = {"k": pl.String, "x": pl.Int64}
COUNT = pl.len().alias("n")


def sessions(
    *aggs: Any, by: Any = ("k",), gap: Any = "10ms", grace: Any = "0s", emit: Any = "final", key: Any = None
) -> Any:
    events = sl.Kafka("localhost:9092").stream("events", schema=SCHEMA, key=key, idle_timeout=None)
    return events.group_by(*by).window(sl.session(gap, grace=grace), emit=emit).agg(*aggs or (COUNT,))


def send(tester: Any, *records: Any) -> Any:
    """Send a batch of (time, key, value, partition), or of times alone, and read what comes of it."""
    given = []
    for record in (record if isinstance(record, tuple) else (record,) for record in records):
        time, k, x, partition = (*record, *("a", None, 0)[len(record) - 1 :])
        given.append({"value": {"k": k, "x": x}, "timestamp": time, "partition": partition})
    tester.send_batch("events", given, wrapped=True)
    return told(tester)


def told(tester: Any) -> Any:
    """Return key columns, bounds and values of results; of a deletion its key and None."""
    return [
        tuple(map(number, record.value.values() if record.value else (*record.key, None))) for record in tester.read()
    ]


def late(tester: Any) -> Any:
    return [tuple(map(number, record.value.values())) for record in tester.late()]


def number(value: Any) -> Any:
    """Return times in milliseconds, and all else as it is."""
    return (value - EPOCH) // timedelta(milliseconds=1) if isinstance(value, datetime) else value


def test_rows_exactly_the_gap_apart_are_together_and_it_closes_when_the_watermark_has_passed_gap_and_grace() -> None:
    with StreamTester(sessions(grace="5ms")) as t:
        assert send(t, 0, 10, (21, "b"), 25) == []
        assert send(t, (26, "b")) == [("a", 0, 10, 2)]
        assert send(t, (36, "b"), (40, "b")) == []
        assert send(t, (41, "b")) == [("a", 25, 25, 1)]


def test_a_final_result_has_the_event_time_of_its_end() -> None:
    with StreamTester(sessions()) as t:
        t.send_batch("events", [{"value": {"k": "a"}, "timestamp": at} for at in (0, 7, 100)], wrapped=True)
        (record,) = t.read()
        assert (record.key, record.timestamp) == ("a", 7)


def test_results_come_in_order_of_closing_time_start_and_key() -> None:
    with StreamTester(sessions()) as t:
        found = send(t, (5, "z"), (5, None), (15, "c"), (20, "b"), (20, "a"), (20, "c"), (20, None), (100, "x"))
    assert found == [
        (None, 5, 5, 1),
        ("z", 5, 5, 1),
        ("c", 15, 20, 2),
        (None, 20, 20, 1),
        ("a", 20, 20, 1),
        ("b", 20, 20, 1),
    ]


def test_a_null_is_a_group_of_its_own() -> None:
    with StreamTester(sessions()) as t:
        assert send(t, (0, None), (1, "a"), (2, None), (50, "b")) == [("a", 1, 1, 1), (None, 0, 2, 2)]


def test_without_grouping_columns_all_rows_are_of_one_key() -> None:
    with StreamTester(sessions(by=())) as t:
        assert send(t, (0, "a"), (9, "b"), (30, "c")) == [(0, 9, 2)]
        t.restart()
        t.close_input()
        assert told(t) == [(30, 30, 1)]


def test_a_late_row_has_the_bounds_it_would_have_had_and_the_watermark_it_missed() -> None:
    with StreamTester(sessions()) as t:
        send(t, 0, (11, "b", 7), (0, "a", 1), (0, "c", 2), (1, "c", 3))
        assert late(t) == [("a", 1, 0, 0, 11), ("c", 2, 0, 0, 11)]
        assert t.metrics().late_rows == 2


def test_a_row_that_is_late_for_itself_is_taken_by_a_session_that_is_open() -> None:
    with StreamTester(sessions()) as t:
        send(t, 20, (30, "b"))
        assert send(t, 11) == []  # alone it would have been closed since 22, but 20 is open, and within the gap
        assert send(t, 1, 0) == []  # and so is 11 now
        assert late(t) == []
        assert send(t, (35, "b"), 2) == [("a", 0, 20, 4)]
        assert late(t) == [("a", None, 2, 2, 35)]


def test_a_row_that_bridges_a_closed_session_and_an_open_one_joins_the_open_one() -> None:
    with StreamTester(sessions()) as t:
        assert send(t, 0, 20, (11, "b")) == [("a", 0, 0, 1)]
        assert send(t, 10) == []
        assert send(t, (60, "b")) == [("b", 11, 11, 1), ("a", 10, 20, 2)]


@pytest.mark.parametrize("whole", [True, False], ids=["one batch", "record by record"])
def test_a_session_that_closed_within_a_batch_is_not_joined_by_what_comes_after(whole: Any) -> None:
    records = [(0, "a"), (11, "b"), (10, "a"), (9, "a"), (100, "b")]
    with StreamTester(sessions()) as t:
        found = send(t, *records) if whole else [row for record in records for row in send(t, record)]
        assert found == [("a", 0, 0, 1), ("a", 9, 10, 2), ("b", 11, 11, 1)]
        assert late(t) == []


def test_updates_delete_the_row_of_a_session_whose_bounds_changed() -> None:
    with StreamTester(sessions(emit="updates")) as t:
        assert send(t, 0) == [("a", 0, 0, 1)]
        assert send(t, 5) == [("a", 0, 0, None), ("a", 0, 5, 2)]
        assert send(t, 3) == [("a", 0, 5, 3)]
        assert send(t, 16) == [("a", 16, 16, 1)]
        t.restart()
        assert send(t, 15) == [("a", 16, 16, None), ("a", 15, 16, 2)]  # 5 had closed


def test_updates_delete_the_rows_of_all_sessions_that_were_merged() -> None:
    with StreamTester(sessions(emit="updates", grace="1h")) as t:
        assert send(t, 0, 20) == [("a", 0, 0, 1), ("a", 20, 20, 1)]
        t.restart()
        assert send(t, 10) == [("a", 0, 0, None), ("a", 20, 20, None), ("a", 0, 20, 3)]


def test_a_deletion_has_the_event_time_of_the_end_that_was() -> None:
    with StreamTester(sessions(emit="updates")) as t:
        for at in (0, 5):
            t.send("events", {"k": "a"}, timestamp=at)
        assert [(record.value is None, record.timestamp) for record in t.read()] == [(False, 0), (True, 0), (False, 5)]


def test_updates_of_a_batch_skip_what_no_reader_has_seen() -> None:
    with StreamTester(sessions(emit="updates")) as t:
        assert send(t, 0, (3, "b"), 5, 7) == [("b", 3, 3, 1), ("a", 0, 7, 3)]
        assert send(t, (4, "b"), 9, 12, (50, "c"), 53) == [
            ("b", 3, 3, None),
            ("b", 3, 4, 2),
            ("a", 0, 7, None),
            ("a", 0, 12, 5),
            ("c", 50, 50, 1),
            ("a", 53, 53, 1),
        ]


def test_first_last_and_kept_rows_go_by_order_of_arrival_also_in_merged_sessions() -> None:
    aggs = (pl.col("x").first().alias("f"), pl.col("x").last().alias("l"), pl.col("x").implode().alias("xs"))
    with StreamTester(sessions(*aggs, grace="15ms")) as t:
        send(t, (30, "a", 1))
        send(t, (10, "a", 2), (12, "a", 3))
        t.restart()
        send(t, (20, "a", 4))
        assert send(t, (60, "b", 0)) == [("a", 10, 30, 1, 4, [1, 2, 3, 4])]


def test_an_aggregation_may_read_a_grouping_column() -> None:
    aggs = (pl.col("k").last().alias("name"), pl.col("k").str.len_chars().sum().alias("chars"))
    with StreamTester(sessions(*aggs)) as t:
        send(t, (0, "abc"))
        assert send(t, (5, "abc"), (30, "b")) == [("abc", 0, 5, "abc", 6)]


def test_each_partition_is_a_task_of_its_own_where_the_key_is_promised() -> None:
    with StreamTester(sessions(key="k"), partitions=2) as t:
        assert send(t, (0, "a", 0, 0), (0, "b", 0, 1), (100, "a", 0, 0)) == [("a", 0, 0, 1)]
        assert send(t, (10, "b", 0, 1)) == []
        t.restart()
        assert send(t, (21, "b", 0, 1)) == [("b", 0, 10, 2)]


def test_the_input_ends_and_every_session_closes() -> None:
    with StreamTester(sessions()) as t:
        send(t, (5, "b"), (0, "a"))
        t.close_input()
        assert told(t) == [("a", 0, 0, 1), ("b", 5, 5, 1)]
        assert t.state()["rows"].to_list() == [0]


def test_what_is_held_is_told_and_dropped_when_sessions_close() -> None:
    with StreamTester(sessions()) as t:
        send(t, 0, 50, (50, "b"))
        assert t.state().select("rows", "windows").rows() == [(2, 2)]
        send(t, (1_000, "c"))
        assert t.state().select("rows", "windows").rows() == [(1, 1)]


def test_windows_over_sessions_lose_nothing() -> None:
    second = sessions(gap="3ms").group_by().window(sl.tumbling("10ms"), name="second").agg(pl.col("n").sum())
    with StreamTester(second) as t:
        for at in (0, 2, 8, 13, 14, 25, 40):
            t.send("events", {"k": "a"}, timestamp=at)
        t.close_input()
        assert [(r.value["n"], r.timestamp) for r in t.read()] == [(3, 9), (2, 19), (1, 29), (1, 49)]
        assert late(t) == []


def test_another_kind_of_window_is_no_session() -> None:
    tumbling = sl.from_frame(pl.DataFrame({"ts": [0]}), event_time="ts", topic="t").group_by().window(sl.tumbling("1s"))
    with pytest.raises(TypeError, match="tumbling 1s is no session window"):
        SessionWindows(tumbling.agg(COUNT).node, laned=False)
