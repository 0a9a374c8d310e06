"""Frames as tables: given out once, and what differs after a restart with other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError
from streamlab.plan.pipeline import Plan
from streamlab.plan.sinks import Sink
from streamlab.runtime import checkpoint
from streamlab.runtime.tasks import Task
from streamlab.state.sqlite import SqliteStore
from streamlab.testing import StreamTester

if TYPE_CHECKING:
    from pathlib import Path

FIRST = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", None]})


def given_out(folder: Path, frame: pl.DataFrame, *, commit: bool = True) -> list[Any]:
    """Return what a run with this frame gives out: (key, name or "gone")."""
    table = sl.table_from_frame(frame, key="id")
    store = SqliteStore(folder / "state.db", durable=False)
    try:
        checkpoint.recover(store, None, None)
        task = Task(Plan((Sink(table.node, "memory", "r"),)), store)
        task.load()
        found = []
        for _ in range(2):  # the second time there is nothing
            for rows in task.tick().sinks.values():
                gone = [False] * rows.height if rows.deleted is None else rows.deleted.tolist()
                found += [
                    (row[0], "gone" if dead else row[1]) for row, dead in zip(rows.data.rows(), gone, strict=True)
                ]
        if commit:
            checkpoint.commit(task, lambda _: None, None)
    finally:
        store.close()
    return found


def test_rows_are_given_out_once_and_after_a_restart_only_what_differs(tmp_path: Path) -> None:
    assert given_out(tmp_path, FIRST) == [(1, "a"), (2, "b"), (3, None)]
    assert given_out(tmp_path, FIRST) == []
    other = pl.DataFrame({"id": [4, 2, 3], "name": ["d", "B", None]})
    assert given_out(tmp_path, other) == [(1, "gone"), (4, "d"), (2, "B")]
    assert sorted(given_out(tmp_path, other.clear())) == [(2, "gone"), (3, "gone"), (4, "gone")]
    assert given_out(tmp_path, FIRST) == [(1, "a"), (2, "b"), (3, None)]


def test_what_was_given_out_before_a_crash_is_given_out_again(tmp_path: Path) -> None:
    assert given_out(tmp_path, FIRST, commit=False) == given_out(tmp_path, FIRST) != []


def test_of_rows_with_one_key_the_last_counts_and_null_keys_are_left_out() -> None:
    frame = pl.DataFrame({"id": [1, None, 1, 2], "n": [1, 2, 3, 4]})
    assert sl.table_from_frame(frame, key="id").collect().rows() == [(1, 3), (2, 4)]


def test_a_table_of_key_columns_alone_is_a_set() -> None:
    with StreamTester(sl.table_from_frame(FIRST.select("id"), key="id")) as t:
        assert [record.key for record in t.read()] == [1, 2, 3]
        t.restart()
        assert t.read() == []


def test_pandas_frames_are_taken_and_other_things_refused() -> None:
    assert sl.table_from_frame(pd.DataFrame({"id": [1], "n": [2]}), key="id").collect().rows() == [(1, 2)]
    for wrong, said in ((7, "no frame"), (pl.DataFrame({"x": [object()]}), "Python objects")):
        with pytest.raises(PlanError, match=said):
            sl.table_from_frame(wrong, key="x")
    with pytest.raises(PlanError, match=r"no column 'ids'.*Did you mean 'id'"):
        sl.table_from_frame(FIRST, key="ids")
    with pytest.raises(PlanError, match="key is empty"):
        sl.table_from_frame(FIRST, key=[])


def test_two_different_frames_need_two_names() -> None:
    one, other = (sl.table_from_frame(frame, key="id") for frame in (FIRST, FIRST.head(1)))
    sinks = [one.sink_table("one"), other.sink_table("other")]
    with pytest.raises(PlanError, match="two different static tables are named 'static-by-id'"):
        sl.Pipeline(sinks)
    named = sl.table_from_frame(FIRST.head(1), key="id", name="short").sink_table("other")
    assert sl.Pipeline([one.sink_table("one"), named]).run().results == 4


def test_a_static_table_holds_no_watermark_back() -> None:
    table = sl.table_from_frame(FIRST, key="id")
    stream = sl.Kafka("x:1").stream("t", schema={"id": pl.Int64}, idle_timeout=None)
    counts = stream.group_by("id").window(sl.tumbling("1s")).agg(pl.len().alias("n"))
    with StreamTester(sl.Pipeline([counts.sink_frame(print, name="a"), table.sink_frame(print, name="b")])) as t:
        t.read()
        t.send("t", {"id": 1}, timestamp=0)
        t.send("t", {"id": 1}, timestamp=1_000)
        assert [record.timestamp for record in t.read()] == [999]
