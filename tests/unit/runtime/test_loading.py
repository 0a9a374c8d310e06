"""Tables are read to their end before the first record of a stream, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
from confluent_kafka import Producer

import streamlab as sl
from streamlab.connect.source import Fetched, OutageError, Records
from streamlab.connect.tables_first import TablesFirst
from streamlab.errors import RunError
from streamlab.plan.pipeline import Plan
from streamlab.plan.sinks import Sink
from streamlab.runtime import checkpoint, promises
from streamlab.runtime.tasks import Task
from streamlab.state.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = {"k": pl.String, "v": pl.Int64}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def house() -> tuple[sl.Kafka, str, str]:
    """Give an embedded broker with 3,000 rows of a table, 100 of them deleted again, and 1,000 events that were there before."""
    rows, events = (f"{hint}-{uuid4().hex[:8]}" for hint in ("rows", "events"))
    kafka = sl.Kafka.embedded({rows: 3, events: 2})
    send(kafka, events, {f"k{n}": n for n in range(1_000)})
    send(kafka, rows, {f"k{n}": -1 for n in range(1_000)} | {})
    send(kafka, rows, {f"k{n}": n * 10 for n in range(1_000)})
    send(kafka, rows, {f"k{n}": None for n in range(100)})
    return kafka, rows, events


def send(kafka: sl.Kafka, topic: str, values: dict[str, int | None]) -> None:
    producer = Producer({"bootstrap.servers": kafka.cluster.bootstrap})
    for key, value in values.items():
        payload = None if value is None else json.dumps({"k": key, "v": value}).encode()
        producer.produce(topic, payload, key.encode())
    producer.flush()


def joined(house: tuple[sl.Kafka, str, str]) -> Any:
    kafka, rows, events = house
    return kafka.stream(events, schema=SCHEMA).join(kafka.table(rows, key="k", schema=SCHEMA), on="k", how="left")


def expected() -> list[tuple[str, int, int | None]]:
    return sorted((f"k{n}", n, None if n < 100 else n * 10) for n in range(1_000))


def test_every_event_finds_the_row_that_the_table_had_when_all_of_it_was_read(house: Any) -> None:
    assert sorted(joined(house).collect().rows()) == expected()
    kafka, rows, _ = house
    table = kafka.table(rows, key="k", schema=SCHEMA)
    assert sorted(table.collect()["v"]) == [n * 10 for n in range(100, 1_000)]
    assert table.preview(2_000).height == 900


def test_a_look_at_a_few_events_has_all_of_the_table_beside_them(house: Any) -> None:
    found = joined(house).preview(1_000, last="1h")
    assert sorted(found.rows()) == expected()


def test_a_pipeline_reads_its_tables_once_and_goes_on_with_what_comes(house: Any) -> None:
    kafka, rows, events = house
    seen: list[pl.DataFrame] = []
    pipeline = sl.Pipeline([joined(house).sink_frame(seen.append)], name=f"p-{uuid4().hex[:8]}")
    report = pipeline.run()
    assert report.records == 3_100 - 1_000 + 1_000
    assert sorted(pl.concat(seen).rows()) == expected()
    seen.clear()
    send(kafka, rows, {"k1": 7})
    assert pipeline.run().records == 1
    send(kafka, events, {"k1": 1, "k2": 2})
    assert pipeline.run().records == 2
    assert sorted(pl.concat(seen).rows()) == [("k1", 1, 7), ("k2", 2, None)]


def test_a_table_goes_to_a_compacted_topic_with_tombstones_and_comes_back_the_same(house: Any) -> None:
    kafka, rows, _ = house
    out = f"out-{uuid4().hex[:8]}"
    kafka = sl.Kafka.embedded({out: 3})
    large = kafka.table(rows, key="k", schema=SCHEMA).filter(pl.col("v") >= 5_000)
    sl.Pipeline([large.sink_kafka(out)]).run()
    back = kafka.table(out, key="k", schema=SCHEMA)
    assert sorted(back.collect().rows()) == sorted(large.collect().rows())
    assert back.collect().height == 500


def test_a_table_that_stays_can_be_a_sink_table(house: Any) -> None:
    kafka, rows, _ = house
    name = f"p-{uuid4().hex[:8]}"
    pipeline = sl.Pipeline([kafka.table(rows, key="k", schema=SCHEMA).sink_table("rows")], name=name)
    query = pipeline.start(until="latest")
    assert query.wait()
    assert query.table("rows").height == 900
    send(kafka, rows, {"k500": None})
    query = pipeline.start(until="latest")
    assert query.wait()
    assert query.table("rows").height == 899


# --- interrupted ---


def test_a_task_that_was_interrupted_while_loading_goes_on_loading(tmp_path: Path) -> None:
    kafka = sl.Kafka("x:1")
    stream = kafka.stream("events", schema=SCHEMA).join(kafka.table("rows", key="k", schema=SCHEMA), on="k")
    plan = Plan((Sink(stream.node, "memory", "r"),))
    bounds = {"rows": {0: (0, 10), 1: (3, 3)}, "events": {0: (0, 5)}}

    def opened(store: SqliteStore, at: int, more: int = 0) -> Task:
        checkpoint.recover(store, None, None)
        task = Task(plan, store)
        task.load()
        ends = {**bounds, "rows": {0: (0, 10 + more), 1: (3, 3 + more)}}
        task.assign(ends, {"rows": {0: at, 1: 3}, "events": {0: 0}})
        return task

    store = SqliteStore(tmp_path / "state.db", durable=False)
    task = opened(store, 0)
    assert task.to_load() == {"rows": {0: 10, 1: 3}}
    task.positions["rows"][0] = 4
    checkpoint.commit(task, lambda _: None, None)
    task = opened(store, 4, more=90)
    assert task.to_load() == {"rows": {0: 10, 1: 3}}  # what came since is no part of it
    task.positions["rows"][0] = 10
    assert task.to_load() == {}
    checkpoint.commit(task, lambda _: None, None)
    assert opened(store, 10, more=90).to_load() == {}
    store.close()


class Topics:
    """A feed that hands out a record a fetch."""

    decides = False

    def __init__(self) -> None:
        self.starts: list[tuple[Any, Any]] = []
        self.away = 0

    def start(self, offsets: Any, until: Any) -> None:
        if self.starts and self.away:
            self.away -= 1
            raise OutageError("away")
        self.starts.append((offsets, until))
        self._at, self._until = {topic: dict(at) for topic, at in offsets.items()}, until

    def fetch(self, timeout: float) -> Fetched:
        places = [(t, p) for t, ps in self._at.items() for p in ps if self._at[t][p] < self._until[t][p]]
        records = ()
        if places:
            topic, partition = places[0]
            one = np.array([self._at[topic][partition]])
            records = (Records(topic, [b"{}"], None, np.array([partition]), one, np.array([0]), None),)
            self._at[topic][partition] += 1
        finished = all(at >= self._until[t][p] for t, ps in self._at.items() for p, at in ps.items())
        return Fetched(records, {t: dict(ps) for t, ps in self._at.items()}, {}, 0, finished=finished)


@pytest.mark.parametrize("away", [0, 2])
def test_the_others_begin_when_the_tables_have_come(away: int) -> None:
    topics = Topics()
    topics.away = away
    feed = TablesFirst(topics)
    feed.load({"rows": {0: 2, 1: 1}})
    feed.start({"rows": {0: 0, 1: 0}, "events": {0: 7}}, {"rows": {0: 3, 1: 1}, "events": {0: 9}})
    order, finished = [], False
    while not finished:
        fetched = feed.fetch(0)
        order += [(records.topic, int(records.partition[0]), int(records.offset[0])) for records in fetched.records]
        finished = fetched.finished
    assert order[:3] == [("rows", 0, 0), ("rows", 0, 1), ("rows", 1, 0)]
    assert sorted(order[3:]) == [("events", 0, 7), ("events", 0, 8), ("rows", 0, 2)]
    assert topics.starts[1][0] == {"rows": {0: 2, 1: 1}, "events": {0: 7}}


def test_without_tables_to_load_all_begin_at_once() -> None:
    topics = Topics()
    feed = TablesFirst(topics)
    feed.start({"events": {0: 0}}, {"events": {0: 1}})
    assert feed.fetch(0).finished


# --- promises ---


def test_a_key_that_records_do_not_follow_stops_the_start(house: Any) -> None:
    kafka, _, events = house
    counts = kafka.stream(events, schema=SCHEMA, key="k").group_by("k").agg(pl.len().alias("n"))
    assert sl.Pipeline([counts.sink_table("n")]).run().records == 1_000
    producer = Producer({"bootstrap.servers": kafka.cluster.bootstrap})
    for partition in (0, 1):
        producer.produce(events, json.dumps({"k": "stray", "v": 1}).encode(), partition=partition)
    producer.flush()
    with pytest.raises(
        RunError, match=r"key='k': 'stray' is in partitions \[0, 1\].*send records keyed by it, or leave key= out"
    ):
        sl.Pipeline([counts.sink_table("n")]).run()
    promises.check(
        Plan((Sink(kafka.stream(events, schema=SCHEMA, key="k").node, "memory", "r"),))
    )  # nothing relies on it


def test_a_table_whose_key_is_in_two_partitions_stops_what_goes_by_it(house: Any) -> None:
    kafka, rows, _ = house
    by_key = kafka.table(rows, key="k", schema=SCHEMA).group_by("k").agg(pl.len().alias("n"))
    producer = Producer({"bootstrap.servers": kafka.cluster.bootstrap})
    for partition in (0, 1):
        producer.produce(rows, json.dumps({"k": "stray", "v": 1}).encode(), b"x", partition)
    producer.flush()
    with pytest.raises(RunError, match=r"'stray' is in partitions \[0, 1\]"):
        sl.Pipeline([by_key.sink_table("n")]).run()
