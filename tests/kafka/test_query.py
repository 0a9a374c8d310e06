"""A running query in the hands of a person: replaced, paused, stopped, asked how far it is, left to idle partitions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import streamlab as sl
from tests.kafka.broker import produce
from tests.kafka.support import (
    SECONDS,
    Sent,
    assert_settled,
    committed,
    delays,
    ends,
    eventually,
    flights,
    send,
    send_flights,
    stays,
    stream,
)

ROOT = Path(__file__).parents[2]
FLIGHTS = 4_000
MINUTE = 60_000
JANUARY = 1_357_000_020_000  # a whole minute


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def source(bootstrap, topic):
    name = topic("flights")
    send_flights(bootstrap, name, flights(FLIGHTS))
    return name


@pytest.fixture
def started():
    """Start pipelines; they are stopped at the end."""
    queries: list[sl.Query] = []

    def start(pipeline: sl.Pipeline) -> sl.Query:
        queries.append(pipeline.start())
        return queries[-1]

    yield start
    for query in queries:
        query.stop(SECONDS)


def pipeline_of(bootstrap: str, topic: str) -> sl.Pipeline:
    return sl.Pipeline([delays(stream(bootstrap, topic)).sink_table("delays")], name=f"p-{topic}")


def counts_of(bootstrap: str, topic: str, idle_timeout: str | None, size: str = "1m") -> sl.Pipeline:
    """Return windowed counts of records whose event time is their timestamp."""
    records = sl.Kafka(bootstrap).stream(topic, schema={"user": pl.String}, idle_timeout=idle_timeout)
    counts = records.group_by("user").window(sl.tumbling(size), name="counts").agg(pl.len().alias("n"))
    return sl.Pipeline([counts.sink_table("counts")], name=f"p-{topic}")


def at(partition: int, timestamp: int, user: str = "a") -> Sent:
    return Sent(json.dumps({"user": user}).encode(), None, partition, timestamp)


# --- start, stop, pause ---


def test_a_second_start_replaces_the_first_which_commits_what_it_did(bootstrap, source, started, monkeypatch):
    monkeypatch.setattr("streamlab.runtime.runner.COMMIT_SECONDS", 1_000_000)  # only when it stops
    first = started(pipeline_of(bootstrap, source))
    eventually(lambda: first.report.records == FLIGHTS, "the first query reads all")
    assert first.metrics.checkpoints == 0
    second = started(pipeline_of(bootstrap, source))
    assert (first.status, second.status) == ("stopped", "running")
    assert first.metrics.checkpoints == 1
    assert_settled(bootstrap, f"p-{source}", source)
    send_flights(bootstrap, source, flights(FLIGHTS + 500).tail(500))
    eventually(lambda: second.report.records == 500, "the second goes on where the first ended")
    first.stop()  # twice is no harm, and not the other one
    assert second.status == "running"


def test_a_query_stops_at_once_and_can_be_stopped_from_anywhere(bootstrap, source, started):
    query = started(pipeline_of(bootstrap, source))
    eventually(lambda: query.report.records == FLIGHTS, "all is read")
    began = time.monotonic()
    query.stop()
    assert time.monotonic() - began < 5  # 0.2 s on a quiet machine
    assert query.status == "stopped"
    assert query.error is None
    assert query.wait(0)
    assert_settled(bootstrap, f"p-{source}", source)


def test_while_a_query_is_paused_nothing_is_processed_and_its_lag_grows(bootstrap, source, started):
    query = started(pipeline_of(bootstrap, source))
    eventually(lambda: query.report.records == FLIGHTS, "all is read")
    query.pause()
    eventually(
        lambda: committed(bootstrap, f"p-{source}", source)[0] == ends(bootstrap, source), "what was done is committed"
    )
    assert query.lag()["lag"].sum() == 0
    send_flights(bootstrap, source, flights(2 * FLIGHTS).tail(FLIGHTS))
    assert query.lag()["lag"].sum() == FLIGHTS
    stays(lambda: query.report.records == FLIGHTS and query.status == "paused", "the query rests", 1)
    query.resume()
    assert query.status == "running"
    eventually(lambda: query.report.records == 2 * FLIGHTS, "it catches up")
    assert query.lag()["lag"].sum() == 0
    query.pause()
    query.stop()
    assert_settled(bootstrap, f"p-{source}", source)


# --- watermarks ---


def test_lag_shows_the_partition_that_holds_the_watermark(bootstrap, topic, started):
    source = topic("lag")
    times = [JANUARY + 3 * MINUTE, JANUARY, JANUARY + 2 * MINUTE]
    send(bootstrap, source, [at(partition, time) for partition, time in enumerate(times)])
    query = started(counts_of(bootstrap, source, "10m"))
    eventually(lambda: query.report.records == 3, "all is read")
    rows = query.lag().to_dicts()
    assert [row["holds_watermark"] for row in rows] == [False, True, False, False]
    assert [row["idle"] for row in rows] == [False, False, False, True]  # empty, so idle at once
    assert [(row["topic"], row["position"], row["end"], row["lag"]) for row in rows] == [(source, 1, 1, 0)] * 3 + [
        (source, 0, 0, 0)
    ]
    assert [None if row["event_time"] is None else int(row["event_time"].timestamp() * 1000) for row in rows] == [
        *times,
        None,
    ]
    assert query.report.results == 0


def test_partitions_that_fell_silent_stop_holding_windows_open(bootstrap, topic, started):
    source = topic("silent")
    send(bootstrap, source, [at(partition, JANUARY) for partition in range(4)])
    query = started(counts_of(bootstrap, source, "1s"))
    eventually(lambda: query.report.records == 4, "all is read")
    send(bootstrap, source, [at(2, JANUARY + minute * MINUTE) for minute in range(1, 4)])
    eventually(lambda: query.report.results == 3, "windows close once the other partitions are idle")
    assert query.table("counts").sort("window_start")["n"].to_list() == [4, 1, 1]
    holder = query.lag().filter(pl.col("holds_watermark"))["partition"].to_list()
    assert holder in ([2], [])  # by now it may be idle too
    send(bootstrap, source, [at(0, JANUARY + 2 * MINUTE), at(0, JANUARY + 3 * MINUTE)])
    eventually(lambda: query.report.records == 9, "a partition speaks again")
    assert (query.report.late, query.report.results) == (1, 3)  # judged by the watermark as it then stands


def test_without_an_idle_timeout_a_silent_partition_holds_windows_open_for_ever(bootstrap, topic, started):
    source = topic("patient")
    send(bootstrap, source, [at(partition, JANUARY) for partition in range(4)])
    query = started(counts_of(bootstrap, source, None))
    send(bootstrap, source, [at(2, JANUARY + minute * MINUTE) for minute in range(1, 4)])
    eventually(lambda: query.report.records == 7, "all is read")
    stays(lambda: query.report.results == 0, "no window closes", 2)


def test_the_last_window_of_a_live_stream_closes_by_the_wall_clock_and_that_of_a_history_does_not(
    bootstrap, topic, started
):
    live, history = topic("live"), topic("history")
    now = time.time_ns() // 1_000_000
    send(bootstrap, live, [at(partition, now) for partition in range(4)])
    send(bootstrap, history, [at(partition, JANUARY) for partition in range(4)])
    still, moving = (started(counts_of(bootstrap, name, "1s", size="1s")) for name in (history, live))
    eventually(lambda: moving.report.results == 1, "the window of the live stream closes")
    assert moving.table("counts")["n"].to_list() == [4]
    assert (still.report.records, still.report.results) == (4, 0)


# --- memory ---

RECORDS, RECORD_BYTES, BACKLOG = 500_000, 1_000, 500_000_000
PAUSED = """
import sys, threading
from pathlib import Path
import polars as pl, streamlab as sl
from streamlab.connect import kafka_source
from streamlab.runtime import pump

pump._QUEUE_BYTES, kafka_source._BATCH_BYTES = 8 << 20, 4 << 20
bootstrap, topic = sys.argv[1:]
small = {"queued.max.messages.kbytes": 8 << 10, "fetch.message.max.bytes": 1 << 20, "fetch.max.bytes": 4 << 20}
kafka = sl.Kafka(bootstrap, small)
users = kafka.stream(topic, schema={"user": pl.String}, idle_timeout=None)
pipeline = sl.Pipeline([users.group_by("user").agg(pl.len().alias("n")).sink_table("n")], name=f"p-{topic}")

def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

query = pipeline.start()
query.pause()
before, sizes, pause = rss(), [], threading.Event()
while len(sizes) < 40 or max(sizes[-20:]) - min(sizes[-20:]) > 1 << 20:
    pause.wait(0.1)
    sizes.append(rss() - before)
lag = query.lag()["lag"].sum()
query.resume()
while query.report.records < int(lag) and query.status == "running":
    pause.wait(0.1)
    sizes.append(rss() - before)
query.stop()
print(lag, query.report.records, max(sizes))
"""


def test_memory_stays_bounded_before_a_backlog_of_half_a_million_records(bootstrap, topic):
    source = topic("backlog", config={"compression.type": "uncompressed"})
    value = json.dumps({"user": "a", "note": "x" * (RECORD_BYTES - 25)}).encode()
    produce(bootstrap, source, ((None, value, JANUARY, number % 4) for number in range(RECORDS)))
    done = subprocess.run(
        [sys.executable, "-c", PAUSED, bootstrap, source],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ.copy(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    lag, records, grown = map(int, done.stdout.split())
    assert lag == records == RECORDS
    assert grown < BACKLOG // 3, f"{grown:,} bytes"  # 8 MB may wait in each of three queues
