"""Where reading begins and ends: start=, bounded runs, and looks that leave no trace."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from confluent_kafka import Producer

import streamlab as sl
from tests.kafka.support import (
    Sent,
    assert_same,
    assert_settled,
    batch_answer,
    close_windows,
    committed,
    comparable,
    delays,
    flights,
    groups,
    results,
    send,
    send_flights,
    stream,
)

FLIGHTS = 6_000
HOUR = 3_600_000


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def source(bootstrap, topic):
    """Give a topic of flights to which nothing is added."""
    name = topic("flights")
    send_flights(bootstrap, name, flights(FLIGHTS))
    return name


# --- where a pipeline begins ---


@pytest.fixture(scope="module")
def aged(bootstrap, topic):
    """Give a topic with records of two hours ago, half an hour ago and now, and when now was."""
    name, now = topic("aged", partitions=2), time.time_ns() // 1_000_000
    ages = {"old": 2 * HOUR, "recent": HOUR // 2, "new": 0}
    send(bootstrap, name, [Sent(user_record(user), None, p, now - age) for user, age in ages.items() for p in (0, 1)])
    return name, now


def user_record(user: str) -> bytes:
    return json.dumps({"user": user}).encode()


def users(bootstrap: str, topic: str, **options: object) -> sl.StreamFrame:
    return sl.Kafka(bootstrap).stream(topic, schema={"user": pl.String}, **options)


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        ("earliest", ["new", "old", "recent"]),
        ("latest", []),
        ("1h", ["new", "recent"]),
        ("3h", ["new", "old", "recent"]),
        (timedelta(minutes=1), ["new"]),
        (lambda now: datetime.fromtimestamp(now / 1000, UTC) - timedelta(minutes=31), ["new", "recent"]),
        (lambda now: datetime.fromtimestamp(now / 1000, UTC) + timedelta(minutes=5), []),
    ],
    ids=["earliest", "latest", "1h", "3h", "timedelta", "datetime", "future"],
)
def test_a_pipeline_that_has_never_run_begins_where_start_says(bootstrap, aged, start, wanted):
    topic, now = aged
    begin = start(now) if callable(start) else start
    found = users(bootstrap, topic, start=begin).collect()
    assert found.group_by("user").len().sort("user").rows() == [(user, 2) for user in wanted]


def test_start_counts_once_later_runs_go_on_where_the_last_one_ended(bootstrap, topic):
    source = topic("later", partitions=2)
    send(bootstrap, source, [Sent(user_record("before"), None, p) for p in (0, 1)])
    got: list[pl.DataFrame] = []
    pipeline = sl.Pipeline([users(bootstrap, source, start="latest").sink_frame(got.append)], name=f"p-{source}")
    assert pipeline.run().records == 0
    send(bootstrap, source, [Sent(user_record("after"), None, p) for p in (0, 1)])
    assert pipeline.run().records == 2
    assert pipeline.run().records == 0
    assert pl.concat(got)["user"].to_list() == ["after", "after"]


# --- where a run ends ---


def test_a_bounded_run_ends_where_the_topic_ended_when_it_began(bootstrap, topic):
    source = topic("growing", partitions=2)
    send(bootstrap, source, [Sent(user_record("before"), None, p) for p in (0, 1)])
    got: list[pl.DataFrame] = []

    def add_more(frame: pl.DataFrame) -> None:
        got.append(frame)
        send(bootstrap, source, [Sent(user_record("meanwhile"), None, p) for p in (0, 1)])

    pipeline = sl.Pipeline([users(bootstrap, source).sink_frame(add_more)], name=f"p-{source}")
    assert pipeline.run().records == 2
    added = 2 * len(got)
    assert pipeline.run().records == added
    assert pl.concat(got)["user"].to_list() == ["before"] * 2 + ["meanwhile"] * added


def test_a_run_ends_behind_the_markers_of_transactions_and_reads_no_aborted_record(bootstrap, topic):
    source = topic("transactions", partitions=2)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": source, "log_level": 0})
    producer.init_transactions()
    for user, finish in (("kept", producer.commit_transaction), ("dropped", producer.abort_transaction)):
        producer.begin_transaction()
        for partition in (0, 1):
            producer.produce(source, user_record(user), partition=partition)
        producer.flush()
        finish()
    pipeline = sl.Pipeline([users(bootstrap, source).sink_table("users", key="user")], name=f"p-{source}")
    assert pipeline.run().records == 2
    assert sl.open_table(f"p-{source}", "users").frame()["user"].to_list() == ["kept"]
    assert pipeline.run().records == 0
    assert_settled(bootstrap, f"p-{source}", source)


# --- what comes along ---


def test_metadata_is_that_of_the_records(bootstrap, topic):
    source = topic("metadata", partitions=3)
    headers = (("trace", b"\x00\xff"), ("trace", b"2"), ("null", None))
    sent = [
        Sent(user_record("a"), b"\xfe\x00", 2, 1_357_000_000_001, headers),
        Sent(b"not json", b"k", 2, 1_357_000_000_002),
        Sent(user_record("b"), None, 0, 1_357_000_000_003),
        Sent(None, b"k", 0, 1_357_000_000_004),
        Sent(user_record("c"), b"", 0, 1_357_000_000_005),
    ]
    send(bootstrap, source, sent)
    found = users(bootstrap, source, metadata=True).collect().sort("user").to_dicts()
    assert [row.pop("user") for row in found] == ["a", "b", "c"]
    assert [int(row.pop("_timestamp").timestamp() * 1000) for row in found] == [
        1_357_000_000_000 + n for n in (1, 3, 5)
    ]
    assert found == [
        {"_topic": source, "_partition": 2, "_offset": 0, "_key": b"\xfe\x00", "_headers": [{"name": n, "value": v} for n, v in headers]},
        {"_topic": source, "_partition": 0, "_offset": 0, "_key": None, "_headers": []},
        {"_topic": source, "_partition": 0, "_offset": 2, "_key": b"", "_headers": []},
    ]  # fmt: skip


def test_streams_of_two_topics_are_windowed_together_and_both_committed(bootstrap, topic):
    sent = flights(FLIGHTS)
    parts = {topic("east", partitions=3): sent.gather_every(2), topic("west", partitions=1): sent.gather_every(2, 1)}
    sink, name = topic("delays"), f"both-{sent.height}"
    out = delays(sl.concat([stream(bootstrap, source, idle_timeout=None) for source in parts]))
    pipeline = sl.Pipeline([out.sink_kafka(sink)], name=name)
    for source, part in parts.items():  # one is far ahead of the other
        send_flights(bootstrap, source, part)
        pipeline.run()
    for source, partitions in zip(parts, (3, 1), strict=True):
        close_windows(bootstrap, source, partitions)
    pipeline.run()
    assert_same(results(bootstrap, sink), batch_answer(sent))
    for source in parts:
        assert_settled(bootstrap, name, source)
    assert len({mark for source in parts for mark in committed(bootstrap, name, source)[1]}) == 1


# --- looks ---


def test_looks_at_a_stream_join_no_group_and_commit_nothing(bootstrap, source):
    before = groups(bootstrap)
    out = delays(stream(bootstrap, source))
    assert_same(comparable(out.collect()), batch_answer(flights(FLIGHTS)))
    assert out.preview(5).height == 5
    assert out.preview(10_000, last="10m").height > 0
    query = out.show()
    assert query.name == "unnamed"
    query.stop()
    assert groups(bootstrap) == before
    assert not any("streamlab" in group for group in before)


def test_a_preview_counts_back_from_the_newest_record(bootstrap, source):
    sent = flights(FLIGHTS)
    newest = sent["departed"].max()
    for last, back in (("10m", timedelta(minutes=10)), ("2h", timedelta(hours=2))):
        found = stream(bootstrap, source).preview(FLIGHTS, last=last)
        # the first record of each partition that is not older, and all after it
        wanted = set(sent.filter(pl.col("departed") >= newest - back).select("carrier", "flight", "scheduled").rows())
        assert set(found.select("carrier", "flight", "scheduled").rows()) == wanted
