from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.batch import Rows
from streamlab.engine.operators.table_sink import Table
from streamlab.testing import StreamTester

SCHEMA: dict[str, Any] = {"k": pl.String, "x": pl.Int64, "f": pl.Float64, "l": pl.List(pl.Int64)}
x = pl.col("x")


def events(**settings: Any) -> Any:
    return sl.Kafka("localhost:9092").stream("events", schema=SCHEMA, **settings)


def updates(*aggs: Any, by: Any = ("k",), window: Any = None, **settings: Any) -> Any:
    groups = events(**settings).group_by(*by)
    return groups.window(window or sl.tumbling("10ms"), emit="updates").agg(*aggs or (pl.len().alias("n"),))


def columns(record: Any) -> Any:
    return record.value


def instant(milliseconds: Any) -> Any:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def batch(tester: Any, *records: Any) -> Any:
    """Send (time, key, value) as one micro-batch and return what it changed."""
    given = [{"value": {"k": key, "x": value}, "timestamp": time} for time, key, value in records]
    tester.send_batch("events", given, wrapped=True)
    return tester.read()


def test_a_groups_row_comes_each_time_it_changes_with_the_newest_event_time_in_it() -> None:
    with StreamTester(updates()) as t:
        made = [batch(t, record)[0] for record in [(5, "a", 1), (3, "a", 1), (7, "b", 1)]]
    assert [(r.key, r.value["n"], r.timestamp) for r in made] == [
        (("a", instant(0), instant(10)), 1, 5),
        (("a", instant(0), instant(10)), 2, 5),
        (("b", instant(0), instant(10)), 1, 7),
    ]


def test_within_a_batch_only_the_last_row_of_a_group_comes() -> None:
    with StreamTester(updates()) as t:
        made = batch(t, (5, "a", 1), (6, "b", 1), (7, "a", 1), (12, "a", 1), (1, None, 1))
    # 12 is in the next window, and closes the first one for the last record
    assert sorted((r.key[0], r.key[1], r.value["n"]) for r in made) == [
        ("a", instant(0), 2),
        ("a", instant(10), 1),
        ("b", instant(0), 1),
    ]


def test_a_window_takes_rows_within_its_grace_and_none_after() -> None:
    with StreamTester(updates(window=sl.tumbling("10ms", grace="5ms"))) as t:
        assert batch(t, (5, "a", 1), (14, "a", 1), (6, "a", 1))[0].value["n"] == 2
        assert [r.key[1] for r in batch(t, (15, "a", 1), (7, "a", 1))] == [instant(10)]
        (late,) = t.late()
        assert (columns(late)["x"], late.timestamp, columns(late)["watermark"]) == (1, 7, instant(15))


def test_a_closed_window_leaves_the_state() -> None:
    with StreamTester(updates()) as t:
        batch(t, (5, "a", 1), (6, "b", 1))
        assert t.state()["rows"].item() == 2
        batch(t, (35, "a", 1))
        t.restart()
        assert t.state().select("rows", "windows").row(0) == (1, 1)
        batch(t, (50, "c", 1))
        assert t.state().select("rows", "windows").row(0) == (1, 1)


def test_a_window_may_open_again_for_nobody() -> None:
    with StreamTester(updates()) as t:
        batch(t, (5, "a", 1))
        t.restart()
        batch(t, (20, "a", 1))
        assert batch(t, (5, "a", 1)) == []
        assert len(t.late()) == 1


def test_a_table_for_ever_goes_on_where_it_was() -> None:
    with StreamTester(events().group_by("k").agg(x.sum(), pl.len().alias("n"))) as t:
        batch(t, (5, "a", 1), (1_000_000, "b", 2))
        t.restart()
        (made,) = batch(t, (0, "a", 10))
        assert (made.key, made.value, made.timestamp) == ("a", {"k": "a", "x": 11, "n": 2}, 5)
        assert t.late() == []


def test_a_table_without_grouping_columns_has_one_row() -> None:
    with StreamTester(events().group_by().agg(pl.len())) as t:
        batch(t, (5, "a", 1))
        t.restart()
        (made,) = batch(t, (6, "b", 1), (7, None, 1))
        assert (made.key, made.value) == (None, {"len": 3})


def test_what_is_counted_needs_no_column() -> None:
    for by in ((), ("k",)):
        with StreamTester(events().group_by(*by).agg(pl.len())) as t:
            batch(t, (5, "a", 1), (5, "a", 1))
            assert batch(t, (5, "a", 1))[0].value["len"] == 3


def test_rows_are_counted_where_they_are_kept_for_the_sake_of_the_key_alone() -> None:
    with StreamTester(events().group_by("k").agg(pl.len(), pl.col("k").n_unique().alias("kinds"))) as t:
        batch(t, (5, "a", 1), (5, "a", 1))
        t.restart()
        (made,) = batch(t, (5, "a", 1))
        assert made.value == {"k": "a", "len": 3, "kinds": 1}


def test_kept_rows_stay_in_order_of_arrival_nulls_and_lists_among_them() -> None:
    stream = events().group_by("k").agg(pl.len(), x.implode(), pl.col("l").implode(), pl.col("f").median())
    with StreamTester(stream) as t:
        for number, items in enumerate([[1, 2], [], None, [3]]):
            t.send("events", {"k": "a", "x": None if number == 1 else number, "l": items, "f": number}, timestamp=0)
            t.restart()
        *_, made = t.read()
    assert made.value == {"k": "a", "len": 4, "x": [0, None, 2, 3], "l": [[1, 2], [], None, [3]], "f": 1.5}


@pytest.mark.parametrize("aggs", [(pl.len(), x.sum(), pl.col("f").std()), (pl.len(), x.median(), pl.col("f").std())])
def test_updates_of_many_keys_are_those_of_polars(aggs: Any) -> None:
    rows = [{"k": str(n * 7 % 97), "x": n, "f": n / 4} for n in range(1_000)]
    with StreamTester(sl.Pipeline([events().group_by("k").agg(*aggs).sink_table("t")])) as t:
        for at in range(0, 1_000, 125):
            t.send_batch("events", rows[at : at + 125])
            t.restart()
        found = t.table("t").sort("k")
    wanted = pl.DataFrame(rows).group_by("k").agg(*aggs).sort("k")
    assert found["k"].equals(wanted["k"])
    for name in wanted.columns[1:]:
        assert found[name].to_list() == pytest.approx(wanted[name].to_list(), rel=1e-9)


def test_a_task_a_partition_has_groups_of_its_own() -> None:
    """The promise is broken here on purpose: it shows where groups live."""
    with StreamTester(updates(key="k"), partitions=2) as t:
        for partition in (0, 1, 0):
            t.send("events", {"k": "a"}, timestamp=5, partition=partition)
        assert [columns(r)["n"] for r in t.read()] == [1, 1, 2]


# --- table sinks ---


def table(by: Any = ("k",)) -> Any:
    sink = events().select("k", "x").sink_table("t", key=list(by))
    return Table(sink.node)


def rows(*records: Any) -> Any:
    """Return rows of (key, value), or (key, value, whether it is deleted)."""
    data = pl.DataFrame(
        {"k": [r[0] for r in records], "x": [r[1] for r in records]}, schema={"k": pl.String, "x": pl.Int64}
    )
    place = np.arange(len(records))
    made = Rows(data, place, place, place, place)
    gone = np.array([len(r) > 2 and r[2] for r in records])
    return replace(made, deleted=gone) if gone.any() else made


def test_the_newest_row_of_every_key_is_kept() -> None:
    held = table()
    held.upsert(rows(("a", 1), ("b", 2), ("a", 3)))
    held.upsert(rows((None, 4), ("b", 5)))
    assert sorted(held.frame().rows(), key=str) == [("a", 3), ("b", 5), (None, 4)]


def test_a_deletion_takes_the_key_away_and_what_comes_after_it_in_the_batch_counts() -> None:
    held = table()
    held.upsert(rows(("a", 1), ("b", 2), ("c", 3)))
    held.upsert(rows(("a", None, True), ("b", None, True), ("b", 9), ("c", 7), ("c", None, True), ("d", None, True)))
    assert held.frame().rows() == [("b", 9)]


def test_a_table_comes_back_as_it_was_kept() -> None:
    held = table(("k", "x"))
    kept: dict[str, pl.DataFrame] = {}
    for number in range(20):
        held.upsert(rows((str(number % 7), number % 3, number % 5 == 0)))
        changes = held.changes()
        kept |= changes.put
        for name in changes.drop:
            kept.pop(name)
    again = table(("k", "x"))
    again.load(sorted(kept.items()), held.progress())
    assert sorted(again.frame().rows()) == sorted(held.frame().rows())
    assert again.holding().rows == held.holding().rows == held.frame().height > 0


def test_a_table_sink_of_a_stream_keeps_the_last_row_of_the_key_it_was_given() -> None:
    sink = events().select("k", "x").sink_table("latest", key="k")
    with StreamTester(sl.Pipeline([sink])) as t:
        batch(t, (5, "a", 1), (6, "b", 2))
        t.restart()
        batch(t, (1, "a", 3))
        assert sorted(t.table("latest").rows()) == [("a", 3), ("b", 2)]
        assert t.state().filter(pl.col("step") == "table:latest")["rows"].item() == 2
