"""Pipelines over frames and files: the whole runtime without a broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import BadRecordError, PlanChangedError, PlanError, StateLockedError, StepError
from streamlab.state.folders import STATE_DIR

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60_000


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv(STATE_DIR, str(folder))
    return folder


def rows(minutes: range) -> pl.DataFrame:
    return pl.DataFrame({"user": ["a", "b"] * len(minutes), "ts": [m * MINUTE for m in minutes for _ in range(2)]})


def counts(frame: pl.DataFrame, **window: object) -> sl.StreamFrame:
    events = sl.from_frame(frame, event_time="ts", topic="events")
    return events.group_by("user").window(sl.tumbling("2m"), name="counts", **window).agg(pl.len().alias("n"))


def test_a_second_run_processes_what_was_added_since_and_a_third_nothing() -> None:
    def run(frame: pl.DataFrame) -> sl.Report:
        return sl.Pipeline([counts(frame).sink_table("counts")], name="jobs").run()

    first, second, third = run(rows(range(5))), run(rows(range(10))), run(rows(range(10)))
    assert (first.records, first.results) == (10, 4)
    assert (second.records, second.results) == (10, 4)
    assert (third.records, third.results) == (0, 0)
    table = sl.open_table("jobs", "counts").frame()
    assert table["n"].to_list() == [2] * 8


def test_a_window_that_is_open_when_a_run_stops_goes_on_in_the_next() -> None:
    for frame in (rows(range(1)), rows(range(2)), rows(range(3))):
        sl.Pipeline([counts(frame).sink_table("counts")], name="open").run()
    table = sl.open_table("open", "counts")
    assert table.frame().select("user", "n").sort("user").rows() == [("a", 2), ("b", 2)]


def test_a_changed_plan_shows_its_difference_and_stops_until_told() -> None:
    sl.Pipeline([counts(rows(range(5))).sink_table("counts")], name="changing").run()
    events = sl.from_frame(rows(range(9)), event_time="ts", topic="events")
    other = events.group_by("user").window(sl.tumbling("4m"), name="counts").agg(pl.len().alias("n"))
    changed = sl.Pipeline([other.sink_table("counts"), other.sink_table("more")], name="changing")
    with pytest.raises(PlanChangedError) as error:
        changed.run()
    assert "! counts: changed, would lose its state" in str(error.value)
    assert "= table:counts: unchanged, keeps its state" in str(error.value)
    assert "+ table:more: new, starts empty" in str(error.value)
    report = changed.run(reset=True)
    assert report.records == 8  # offsets stay
    assert changed.run().records == 0
    assert len(sl.open_table("changing", "counts")) == 6  # four of the old windows, two of the new


def test_a_filter_before_an_unchanged_step_is_a_changed_plan_too() -> None:
    sl.Pipeline([counts(rows(range(5))).sink_table("counts")], name="filtered").run()
    events = sl.from_frame(rows(range(5)), event_time="ts", topic="events").filter(pl.col("user") == "a")
    other = events.group_by("user").window(sl.tumbling("2m"), name="counts").agg(pl.len().alias("n"))
    with pytest.raises(PlanChangedError, match="What feeds the steps"):
        sl.Pipeline([other.sink_table("counts")], name="filtered").run()


def test_one_state_has_one_holder() -> None:
    pipeline = sl.Pipeline([counts(rows(range(5))).sink_table("counts")], name="held")
    query = pipeline.start()
    try:
        from streamlab.runtime.runner import Runner

        with pytest.raises(StateLockedError):
            Runner(pipeline.plan)
    finally:
        query.stop()


def test_a_query_of_the_same_name_replaces_the_running_one() -> None:
    pipeline = sl.Pipeline([counts(rows(range(5))).sink_table("counts")], name="replaced")
    first = pipeline.start()
    second = pipeline.start()
    assert (first.status, second.status) == ("stopped", "running")
    second.wait()
    assert first.report.records + second.report.records == 10


def test_a_failing_function_surfaces_in_the_handle_and_loses_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def explode(frame: pl.DataFrame) -> pl.DataFrame:
        raise ValueError("no such thing")

    events = sl.from_frame(rows(range(5)), event_time="ts", topic="events")
    broken = events.map_batches(explode, schema={"user": pl.String}).sink_table("t", key="user")
    query = sl.Pipeline([broken], name="fixed").start()
    with pytest.raises(StepError, match=r"map_batches .*explode: ValueError: no such thing"):
        query.wait()
    assert query.status == "failed"
    assert "no such thing" in repr(query)
    assert capfd.readouterr() == ("", "")
    fixed = events.map_batches(lambda frame: frame.select("user"), schema={"user": pl.String}).sink_table(
        "t", key="user"
    )
    assert sl.Pipeline([fixed], name="fixed").run().records == 10


def test_parquet_files_are_one_per_commit_and_what_never_counted_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sl.Pipeline([counts(rows(range(5))).sink_parquet(out)], name="files").run()
    (out / "files-0000000099.parquet").write_bytes(b"of a commit that never came to count")
    sl.Pipeline([counts(rows(range(9))).sink_parquet(out)], name="files").run()
    assert sorted(file.name for file in out.iterdir()) == ["files-0000000001.parquet", "files-0000000002.parquet"]
    assert pl.read_parquet(out / "*.parquet").height == 8


def test_records_are_processed_late_dead_letters_or_skipped(tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    good = [{"user": "a", "ts": m * MINUTE} for m in (0, 1, 9, 0, 10)]
    lines = [json.dumps(record) for record in good]
    lines[2:2] = ["", '{"user": "a", "ts": "soon"}', "{", '{"user": "a"}']
    file.write_text("\n".join(lines) + "\n")
    events = sl.from_ndjson(file, event_time="ts", schema={"user": pl.String, "ts": pl.Int64})
    windows = events.group_by("user").window(sl.tumbling("2m")).agg(pl.len().alias("n"))
    query = sl.Pipeline([windows.sink_table("t")], name="counted").start(until="latest")
    query.wait()
    report = query.report
    assert (report.records, report.late, report.dead_letters, report.skipped, report.processed) == (9, 1, 3, 1, 4)
    assert query.dead_letters["value"].to_list() == [b'{"user": "a", "ts": "soon"}', b"{", b'{"user": "a"}']
    assert query.dead_letters["offset"].to_list() == [3, 4, 5]
    assert query.late.select("user", "ts").rows() == [("a", 0)]
    assert query.late["watermark"].dt.epoch("ms").to_list() == [9 * MINUTE]


def test_on_error_raise_names_the_record(tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text('{"ts": 0}\n{"ts": 1.5}\n')
    events = sl.from_ndjson(file, event_time="ts", schema={"ts": pl.Int64}, on_error="raise")
    with pytest.raises(BadRecordError, match=r"events partition 0 offset 1: .*'ts'"):
        events.collect()


def test_parquet_is_replayed_in_batches(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    pl.DataFrame({"ts": range(50_000)}).write_parquet(file)
    events = sl.from_parquet(file, event_time="ts")
    assert events.collect()["ts"].to_list() == list(range(50_000))


def test_pandas_frames_are_frames() -> None:
    import pandas as pd

    events = sl.from_frame(pd.DataFrame({"ts": [0, 1]}), event_time="ts")
    assert events.collect()["ts"].to_list() == [0, 1]
    with pytest.raises(PlanError, match="list is no frame"):
        sl.from_frame([1], event_time="ts")


def test_two_streams_put_together_close_by_the_slower_one() -> None:
    a, b = (sl.from_frame(rows(r), event_time="ts", topic=name) for name, r in (("a", range(10)), ("b", range(3))))
    windows = sl.concat([a, b]).group_by("user").window(sl.tumbling("2m")).agg(pl.len().alias("n"))
    query = sl.Pipeline([windows.sink_table("t")], name="both").start(until="latest")
    query.wait()
    assert query.table("t")["n"].to_list() == [4, 4]
    assert query.lag().filter(pl.col("holds_watermark"))["topic"].to_list() == ["b"]


def test_pause_and_resume() -> None:
    query = sl.Pipeline([counts(rows(range(5))).sink_table("counts")], name="resting").start()
    query.pause()
    assert query.status == "paused"
    query.resume()
    assert query.status == "running"
    query.stop()
    assert query.status == "stopped"


def test_an_unnamed_query_leaves_nothing_behind(state: Path) -> None:
    query = counts(rows(range(5))).show()
    query.stop()
    assert not state.exists() or not list(state.glob("*/*"))


def test_repr_of_a_pipeline_says_what_it_is() -> None:
    pipeline = sl.Pipeline([counts(rows(range(5))).sink_table("counts")], name="said")
    assert repr(pipeline).startswith("Pipeline 'said' (plan ")
    assert "sink_table 'counts' by user, window_start, window_end" in repr(pipeline)
