"""A process that is told to be a job: bounded queries, lines about them, and an end that waits."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.runtime import job
from streamlab.runtime.query import running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a job that this process is, for the time of a test."""
    monkeypatch.setenv(job.JOB, str(tmp_path / "runs"))
    monkeypatch.setattr(job, "_current", None)
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "runs"


def last(path: Path) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in path.read_text().splitlines()]
    return list({line["run"]: line for line in told}.values())


def events(kafka: sl.Kafka, topic: str) -> sl.StreamFrame:
    rows = pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]})
    sl.Pipeline([sl.from_frame(rows, event_time="ts", topic="rows").sink_kafka(topic, kafka=kafka)]).run()
    return kafka.stream(topic, schema={"user": pl.String, "ts": pl.Int64}, event_time="ts")


def test_in_a_job_a_query_that_would_go_on_for_ever_ends_and_says_how(lines: Path) -> None:
    stream = events(sl.Kafka.embedded({"job.bounded": 2}), "job.bounded")
    query = sl.Pipeline([stream.sink_table("users", key="user")], name="job-bounded").start()
    assert query.wait(30)
    _, told = last(lines)
    assert (told["name"], told["status"], told["records"], told["error"]) == ("job-bounded", "stopped", 2, None)
    assert job.JOB not in os.environ


def test_the_end_waits_for_queries_stops_paused_ones_and_keeps_what_failed(lines: Path) -> None:
    go = threading.Event()
    rows = pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]})
    stream = sl.from_frame(rows, event_time="ts", topic="rows")

    def held(frame: pl.DataFrame) -> None:
        assert go.wait(30)

    def broken(frame: pl.DataFrame) -> None:
        raise OSError("disk full")

    sl.Pipeline([stream.sink_frame(held)], name="job-held").start()
    sl.Pipeline([stream.sink_frame(broken)], name="job-broken").start()
    threading.Timer(0.1, go.set).start()
    job.finish(now=False)
    assert [(run["name"], run["status"]) for run in last(lines)] == [("job-held", "stopped"), ("job-broken", "failed")]
    assert "disk full" in last(lines)[1]["error"]["message"]


def test_outside_of_a_job_nothing_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(job.JOB, raising=False)
    monkeypatch.setattr(job, "_current", None)
    assert job.bounded(None) is None
    job.finish(now=True)


def test_ctrl_c_while_a_pipeline_runs_waits_for_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("streamlab.runtime.runner.COMMIT_SECONDS", 1_000_000)  # only when it stops
    rows = pl.DataFrame({"user": ["a"] * 400_000, "ts": range(400_000)})
    stream = sl.from_frame(rows, event_time="ts", topic="rows")
    seen, waiting, wait = list[int](), threading.Event(), sl.Query.wait

    def waits(query: sl.Query, timeout: float | None = None) -> bool:
        waiting.set()
        return wait(query, timeout)

    def interrupts(frame: pl.DataFrame) -> None:
        if not seen:
            (query,) = running()
            assert waiting.wait(30)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # to where Ctrl-C goes
            assert query._runner._stop.wait(30)  # it was asked to stop while it works on this batch
        seen.append(frame.height)

    monkeypatch.setattr(sl.Query, "wait", waits)
    totals = stream.group_by("user").agg(pl.len().alias("n"))
    pipeline = sl.Pipeline([stream.sink_frame(interrupts), totals.sink_table("totals")], name="job-ctrl-c")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    assert sl.open_table("job-ctrl-c", "totals").frame()["n"].sum() == sum(seen)
