"""A broker goes away under a running query and comes back: the query goes on by itself, and nothing is lost."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import polars as pl
import pytest
from confluent_kafka import Producer

import streamlab as sl
from streamlab.errors import BrokerError
from tests.kafka.broker import Broker, consume_all, create_topic
from tests.kafka.support import (
    SECONDS,
    as_json,
    assert_at_least_once,
    assert_same,
    assert_settled,
    assert_silent,
    batch_answer,
    close_windows,
    comparable,
    delays,
    eventually,
    flights,
    results,
    send_flights,
    stays,
    stream,
)

FLIGHTS, PART = 12_000, 4_000
OUTAGE, IDLE_SECONDS = 15.0, 5
SMALL_FETCHES = {
    "queued.min.messages": 100,
    "queued.max.messages.kbytes": 64,
    "fetch.message.max.bytes": 20_000,
    "fetch.max.bytes": 1_000_000,
}


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def only_broker(own_broker):
    return own_broker()


@pytest.fixture
def broker(only_broker):
    """Give the file's broker, running before and after each test."""
    if not only_broker.running:
        only_broker.start()
    return only_broker


@pytest.fixture
def source(broker):
    return create_topic(broker.bootstrap, "flights")


class Gate:
    """Holds a commit after it was staged, so that a test can take the broker away from under it."""

    def __init__(self) -> None:
        self.held, self._go, self._armed = threading.Event(), threading.Event(), True

    def reached(self, step: str) -> None:
        if step == "staged" and self._armed:
            self._armed = False
            self.held.set()
            assert self._go.wait(SECONDS)

    def open(self) -> None:
        self._go.set()


@pytest.fixture
def gate(monkeypatch):
    gate = Gate()
    monkeypatch.setattr("streamlab.runtime.checkpoint.reached", gate.reached)
    monkeypatch.setattr("streamlab.runtime.runner.COMMIT_SECONDS", 0)
    yield gate
    gate.open()


def pipeline_of(broker: Broker, source: str, settings: dict[str, int] | None = None) -> sl.Pipeline:
    kafka = sl.Kafka(broker.bootstrap, settings)
    out = delays(stream(kafka, source, idle_timeout="10s"))
    return sl.Pipeline([out.sink_kafka(f"{source}-out"), out.sink_table("delays")], name=f"p-{source}")


def assert_nothing_lost(broker: Broker, source: str) -> None:
    expected = batch_answer(flights(FLIGHTS))
    assert_at_least_once(results(broker.bootstrap, f"{source}-out"), expected)
    assert_same(comparable(sl.open_table(f"p-{source}", "delays").frame()), expected)
    assert_settled(broker.bootstrap, f"p-{source}", source)


def patient_producer(broker: Broker) -> Producer:
    return Producer(
        {"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True}
        | {"log_level": 0, "reconnect.backoff.max.ms": 200}
    )


def test_a_commit_that_falls_into_an_outage_of_15_seconds_is_made_when_the_broker_is_back(broker, source, gate, capfd):
    first, second, third = flights(FLIGHTS).iter_slices(PART)
    send_flights(broker.bootstrap, source, first)
    query = pipeline_of(broker, source).start()
    others = patient_producer(broker)
    assert gate.held.wait(SECONDS)
    broker.kill()
    gate.open()
    for carrier, payload in zip(
        second["carrier"], as_json(second), strict=True
    ):  # others go on producing, into their buffer
        others.produce(source, payload, carrier.encode())
    stays(lambda: query.status == "running", "the query runs on", OUTAGE)
    assert query.metrics.checkpoints == 0
    broker.start()
    assert others.flush(SECONDS) == 0
    eventually(lambda: query.report.records == 2 * PART, "what was produced in the outage arrives")
    send_flights(broker.bootstrap, source, third)
    close_windows(broker.bootstrap, source)
    eventually(lambda: query.report.records == FLIGHTS + 4, "what was produced after it arrives")
    assert query.status == "running"
    query.stop()
    # silent for longer than idle_timeout, but nobody could be heard: no partition was left behind
    assert (query.status, query.report.late) == ("stopped", 0)
    assert_nothing_lost(broker, source)
    assert_silent(capfd)


def test_a_broker_that_is_stopped_in_order_is_not_missed_and_time_stands_still_without_it(broker, source):
    topic = create_topic(broker.bootstrap, "live")
    first, second = flights(FLIGHTS).iter_slices(FLIGHTS // 2)
    send_flights(broker.bootstrap, source, first)  # before the start: an empty partition is idle at once
    query, live = pipeline_of(broker, source).start(), live_query(broker, topic)
    others = patient_producer(broker)
    now = mid_second()
    for partition in range(4):
        others.produce(topic, b'{"user":"a"}', partition=partition, timestamp=now)
    assert others.flush(SECONDS) == 0
    eventually(lambda: live.report.records == 4, "live records arrive")
    broker.stop()
    others.produce(topic, b'{"user":"b"}', partition=0, timestamp=mid_second())
    stays(lambda: live.status == query.status == "running", "the queries run on", IDLE_SECONDS)
    assert live.report.results == 0
    broker.start()
    assert others.flush(SECONDS) == 0
    send_flights(broker.bootstrap, source, second)
    close_windows(broker.bootstrap, source)
    eventually(lambda: query.report.records == FLIGHTS + 4, "all records arrive")
    eventually(lambda: live.report.results == 2, "the windows of live records close by the wall clock")
    assert query.status == live.status == "running"
    query.stop()
    live.stop()
    assert (live.report.records, live.report.late) == (5, 0)
    assert_nothing_lost(broker, source)


def mid_second() -> int:
    """Return the middle of the present second, and so of a window, in milliseconds."""
    return time.time_ns() // 1_000_000_000 * 1_000 + 500


def live_query(broker: Broker, topic: str) -> sl.Query:
    """Return a running query over present records whose windows close when all partitions have been idle for some seconds."""
    events = sl.Kafka(broker.bootstrap).stream(topic, schema={"user": pl.String}, idle_timeout=f"{IDLE_SECONDS}s")
    counts = events.group_by("user").window(sl.tumbling("1s")).agg(pl.len().alias("n"))
    return sl.Pipeline([counts.sink_table("counts")], name=f"p-{topic}").start()


def test_a_bounded_run_waits_for_its_broker_and_reads_to_its_end(broker, gate, monkeypatch):
    monkeypatch.setattr("streamlab.runtime.pump._QUEUE_BYTES", 50_000)
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 200)
    source = create_topic(broker.bootstrap, "flights", config={"compression.type": "uncompressed"})
    for part in flights(FLIGHTS).iter_slices(FLIGHTS // 6):  # small batches: a fetch takes at least one
        send_flights(broker.bootstrap, source, part)
    close_windows(broker.bootstrap, source)
    query = pipeline_of(broker, source, SMALL_FETCHES).start(until="latest")
    assert gate.held.wait(SECONDS)
    broker.kill()
    gate.open()
    stays(lambda: query.status == "running" and query.report.records < FLIGHTS, "the run waits", 3)
    broker.start()
    assert query.wait(SECONDS)
    assert query.report.records == FLIGHTS + 4
    assert_nothing_lost(broker, source)


def test_queries_that_are_stopped_in_an_outage_end_and_say_what_was_not_committed(
    broker, source, gate, capfd, monkeypatch
):
    monkeypatch.setattr("streamlab.runtime.runner.STOP_SECONDS", 1.0)
    monkeypatch.setattr("streamlab.connect.kafka_sink._FLUSH_SECONDS", 0.5)
    send_flights(broker.bootstrap, source, flights(FLIGHTS))
    query = pipeline_of(broker, source).start()
    assert gate.held.wait(SECONDS)
    resting = pipeline_of(broker, create_topic(broker.bootstrap, "empty")).start()
    broker.kill()
    gate.open()
    resting.stop(SECONDS)
    assert (resting.status, resting.error) == ("stopped", None)
    query.stop(SECONDS)
    assert query.status == "failed"
    words = rf"^{broker.bootstrap}: ([\d,]+ records are undelivered|cannot commit offsets)"
    with pytest.raises(BrokerError, match=words):
        query.wait()
    broker.start()
    close_windows(broker.bootstrap, source)
    assert pipeline_of(broker, source).run().records == FLIGHTS + 4
    assert_nothing_lost(broker, source)
    assert_silent(capfd)


def test_a_producer_that_is_full_in_an_outage_holds_up_neither_the_query_nor_its_stop(
    broker, source, gate, monkeypatch
):
    monkeypatch.setattr("streamlab.connect.kafka_sink.STOP_SECONDS", 1.0)
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 1_000)
    kafka = sl.Kafka(broker.bootstrap, {"queue.buffering.max.messages": 500})
    copied = stream(kafka, source).select("carrier", "flight").sink_kafka(f"{source}-copy")
    pipeline = sl.Pipeline([copied], name=f"p-{source}")
    send_flights(broker.bootstrap, source, flights(FLIGHTS))
    query = pipeline.start()
    assert gate.held.wait(SECONDS)
    broker.kill()
    gate.open()
    stays(lambda: query.status == "running", "it waits for room", 2)
    query.stop(SECONDS)
    assert isinstance(query.error, BrokerError)
    broker.start()
    pipeline.run()
    wanted = Counter(flights(FLIGHTS).select("carrier", "flight").rows())
    copies = [json.loads(message.value() or b"") for message in consume_all(broker.bootstrap, f"{source}-copy")]
    assert not wanted - Counter((copy["carrier"], copy["flight"]) for copy in copies)
    assert_settled(broker.bootstrap, f"p-{source}", source)
