from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.batch import Rows
from streamlab.testing import StreamTester

kafka = sl.Kafka("localhost:9092")


def stream(**settings: Any) -> Any:
    return kafka.stream("s", schema={"k": pl.String, "x": pl.Int64}, idle_timeout=None, **settings)


def table(history: Any = None, topic: Any = "t", key: Any = "k") -> Any:
    kept = None if history is None else timedelta(milliseconds=history)
    schema = {"k": pl.String, "x": pl.Int64, "y": pl.Int64}
    return kafka.table(topic, key=key, schema=schema, idle_timeout=None, history=kept)


def set_row(tester: Any, key: Any, y: Any, time: Any = 0) -> None:
    value = None if y is None else {"k": key, "x": 0, "y": y}
    tester.send("t", value, key=key, timestamp=time)


def ask(tester: Any, key: Any, time: Any = 0) -> Any:
    """Send a record and return what it was joined with."""
    tester.send("s", {"k": key, "x": time}, timestamp=time)
    return [record.value["y"] for record in tester.read()]


def mixed(tester: Any, *records: Any) -> Any:
    """Run (topic, key, value, time) as one micro-batch, and return (x, y) of the results."""
    graph = tester._task.graph
    rows = {}
    for topic in ("s", "t"):
        at = np.array([n for n, record in enumerate(records) if record[0] == topic], np.int64)
        mine = [records[n] for n in at]
        columns = {"k": [r[1] for r in mine], "x": [r[2] for r in mine]}
        schema: dict[str, Any] = {"k": pl.String, "x": pl.Int64}
        if topic == "t":
            columns["y"], schema["y"] = [r[2] for r in mine], pl.Int64
        deleted = np.array([topic == "t" and r[2] is None for r in mine], np.bool_)
        times = np.array([r[3] for r in mine], np.int64)
        rows[topic] = Rows(
            pl.DataFrame(columns, schema=schema), times, np.zeros(len(at), np.int64), at, 2 * at + 1, deleted
        )
    made = graph.step(rows).sinks.values()
    return [row for part in made for row in part.data.select("x", "y").rows()]


def test_a_record_has_the_last_row_that_came_whatever_its_time() -> None:
    with StreamTester(stream().join(table(), on="k", how="left")) as t:
        assert ask(t, "a", 5) == [None]
        set_row(t, "a", 1, time=90)
        set_row(t, "a", 2, time=10)
        assert ask(t, "a", 6) == [2]
        t.restart()
        assert ask(t, "a", 7) == [2]
        set_row(t, "a", None)
        assert ask(t, "a", 8) == [None]


def test_only_records_of_the_stream_emit_and_an_inner_join_leaves_those_without_a_row_out() -> None:
    with StreamTester(stream().join(table(), on="k")) as t:
        set_row(t, "a", 1)
        assert t.read() == []
        assert (ask(t, "b"), ask(t, "a"), ask(t, None)) == ([], [1], [])


def test_records_see_the_rows_that_came_before_them_in_the_same_batch() -> None:
    with StreamTester(stream().join(table(), on="k", how="left")) as t:
        made = mixed(
            t,
            ("s", "a", 1, 0),
            ("t", "a", 10, 0),
            ("s", "a", 2, 0),
            ("t", "a", None, 0),
            ("s", "a", 3, 0),
            ("t", "a", 11, 0),
        )
        assert made == [(1, None), (2, 10), (3, None)]
        assert ask(t, "a") == [11]


def test_columns_are_those_of_polars() -> None:
    left = pl.DataFrame({"id": ["a", "b"], "x": [1, 2], "ts": [0, 1]})
    right = pl.DataFrame({"code": ["a"], "x": [7], "y": [8]})
    made = sl.from_frame(left, event_time="ts", topic="s").join(
        sl.table_from_frame(right, key="code"), left_on="id", right_on="code", how="left", suffix="_t"
    )
    wanted = left.join(right, left_on="id", right_on="code", how="left", suffix="_t")
    assert made.schema == wanted.schema
    assert made.collect().rows() == wanted.rows()


def test_several_keys_are_joined_in_any_order_of_the_tables_key() -> None:
    rows = pl.DataFrame({"a": [1, 1, None], "b": ["x", "y", "x"], "ts": [0, 1, 2]})
    right = pl.DataFrame({"b": ["x", "y"], "a": [1, 2], "z": [5, 6]})
    made = sl.from_frame(rows, event_time="ts", topic="s").join(
        sl.table_from_frame(right, key=["b", "a"]), on=["a", "b"], how="left"
    )
    assert made.collect()["z"].to_list() == [5, None, None]


def test_a_static_table_is_no_part_of_the_state() -> None:
    users = sl.table_from_frame(pl.DataFrame({"k": ["a"], "y": [1]}), key="k", name="users")
    with StreamTester(stream().join(users, on="k", how="left", name="join")) as t:
        assert ask(t, "a") == [1]
        t.restart()
        assert ask(t, "a") == [1]
        assert t.state().filter(step="join")["rows"].item() == 0


def test_a_table_of_aggregates_is_joined_like_any_other() -> None:
    counts = stream().group_by("k").agg(y=pl.len())
    others = kafka.stream("o", schema={"k": pl.String}, idle_timeout=None)
    with StreamTester(others.join(counts, on="k", how="left")) as t:
        t.send("s", {"k": "a", "x": 1}, timestamp=0)
        t.send("s", {"k": "a", "x": 1}, timestamp=0)
        t.send("o", {"k": "a"}, timestamp=3)
        assert [(r.value, r.timestamp) for r in t.read()] == [({"k": "a", "y": 2}, 3)]


class Database:
    """Answers what it is asked, and remembers that."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def lookup(self, keys: pl.DataFrame) -> pl.DataFrame:
        self.asked.append(keys["k"].to_list())
        return keys.filter(pl.col("k") != "z").with_columns(y=pl.lit(1, pl.Int64))

    def identity(self) -> Any:
        return "database"


def test_a_database_is_asked_once_for_each_distinct_key_of_a_batch() -> None:
    from streamlab.plan.table_source import LookupTable
    from streamlab.table import StreamTable

    database = Database()
    schema = pl.Schema({"k": pl.String(), "y": pl.Int64()})
    looked_up = StreamTable(LookupTable("users", schema, ("k",), database))
    with StreamTester(stream().join(looked_up, on="k", how="left")) as t:
        t.send_batch("s", [{"k": key} for key in ("a", "z", "a", None, "b")])
        assert [r.value["y"] for r in t.read()] == [1, None, 1, None, 1]
        assert database.asked == [["a", "z", "b"]]
        t.send("s", {"k": None})
        assert database.asked == [["a", "z", "b"]]


def test_with_versions_a_record_has_the_row_as_of_its_own_time() -> None:
    with StreamTester(stream().join(table(history=1000), on="k", how="left")) as t:
        for time, y in ((4, 1), (6, 2), (8, None), (5, 3)):
            set_row(t, "a", y, time)
        t.restart()
        assert [ask(t, "a", time)[0] for time in (9, 3, 4, 5, 7, 6, 8)] == [None, None, 1, 3, 2, 2, None]


def test_versions_that_newer_ones_followed_before_the_history_are_gone() -> None:
    with StreamTester(stream().join(table(history=2), on="k", how="left")) as t:
        for time in (0, 3, 5):
            set_row(t, "a", time, time)
        assert [ask(t, "a", time)[0] for time in (10, 0, 3, 4, 9, 8)] == [5, None, None, None, 5, 5]


def test_a_row_older_than_a_forgotten_deletion_counts_again_however_the_input_is_cut() -> None:
    records = [
        ("t", "a", 1, 5),
        ("t", "a", None, 10),
        ("s", "a", 1, 20),
        ("t", "a", 2, 7),
        ("s", "a", 2, 30),
        ("t", "a", 3, 40),
        ("s", "a", 3, 41),
        ("s", "a", 4, 39),
    ]
    wanted = [(1, None), (2, 2), (3, 3), (4, 2)]
    for size in (1, 2, 3, 8):
        with StreamTester(stream().join(table(history=4), on="k", how="left")) as t:
            made = [row for n in range(0, 8, size) for row in mixed(t, *records[n : n + size])]
        assert made == wanted, size


def test_what_nobody_can_ask_for_leaves_the_state() -> None:
    with StreamTester(stream().join(table(history=10), on="k", how="left")) as t:
        for time in range(0, 20_000, 10):
            mixed(t, ("t", f"k{time % 50}", time, time), ("t", f"gone{time}", None, time), ("s", "k0", 1, time))
        assert t.state()["rows"].item() < 1_000
        t.restart()
        assert ask(t, "k0", 19_990) == [19_950]


def test_with_grace_records_wait_and_are_joined_in_order_of_time() -> None:
    joined = stream().join(table(history=1000), on="k", how="left", grace=timedelta(milliseconds=5))
    with StreamTester(joined) as t:
        set_row(t, "a", 1, 0)
        assert ask(t, "a", 10) + ask(t, "a", 8) == []
        set_row(t, "a", 2, 9)
        set_row(t, "b", 1, 20)
        t.restart()
        assert ask(t, "a", 15) == [1, 2]
        assert ask(t, "a", 9) == [2]  # older than the grace: at once
        assert [r.timestamp for r in t.read()] == []
        t.close_input()
        assert [(r.timestamp, r.value["y"]) for r in t.read()] == [(15, 2)]


def test_a_silent_table_holds_no_window_back() -> None:
    joined = stream(key="k").join(table(), on="k", how="left")
    with StreamTester(joined.group_by("k").window(sl.tumbling("10ms")).agg(pl.len())) as t:
        ask_batch = [{"value": {"k": "a"}, "timestamp": time} for time in (5, 100, 5, 120)]
        t.send_batch("s", ask_batch, wrapped=True)
        assert [(r.timestamp, r.value["len"]) for r in t.read()] == [(9, 1), (109, 1)]
        assert len(t.late()) == t.metrics().late == 1  # judged at its own turn, also behind a join


@pytest.mark.parametrize("history", [None, 1000])
def test_tasks_of_partitions_have_tables_of_their_own(history: Any) -> None:
    with StreamTester(stream(key="k").join(table(history), on="k", how="left"), partitions=2) as t:
        t.send("t", {"k": "a", "x": 0, "y": 1}, timestamp=0, partition=0)
        t.send("s", {"k": "a", "x": 0}, timestamp=1, partition=1)
        t.send("s", {"k": "a", "x": 0}, timestamp=1, partition=0)
        assert [r.value["y"] for r in t.read()] == [None, 1]
    with StreamTester(stream().join(table(history), on="k", how="left"), partitions=2) as t:
        t.send("t", {"k": "a", "x": 0, "y": 1}, timestamp=0, partition=0)
        t.send("s", {"k": "a", "x": 0}, timestamp=1, partition=1)
        assert [r.value["y"] for r in t.read()] == [1]
