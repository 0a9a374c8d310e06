"""Topics as tables: compacted, with tombstones, written in transactions, read to their end before anything else, also after kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import ConfigResource, ResourceType

import streamlab as sl
from tests.kafka.broker import admin_of, consume_all
from tests.kafka.support import SECONDS, Sent, send

ROOT = Path(__file__).parents[2]
SCHEMA = {"id": pl.String, "v": pl.Int64}
KEYS, GONE, EVENTS = 2_000, 100, 500


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


def row(number, value):
    return json.dumps({"id": f"k{number}", "v": value}).encode()


@pytest.fixture
def house(bootstrap, topic):
    """Give a topic of rows, each written twice and a hundred deleted, and one of events that were there before."""
    rows, events = topic("rows"), topic("events")
    key = [f"k{number}".encode() for number in range(KEYS)]
    send(bootstrap, events, [Sent(row(n, n), key[n], n % 4) for n in range(EVENTS)])
    for factor in (1, 10):
        send(bootstrap, rows, [Sent(row(n, n * factor), key[n], n % 4) for n in range(KEYS)])
    send(bootstrap, rows, [Sent(None, key[n], n % 4) for n in range(GONE)])
    return rows, events


def pipeline_of(bootstrap, topics, folder):
    """Return the pipeline that is killed: events beside a table, and counts of the table."""
    rows, events = topics.split(",")
    kafka = sl.Kafka(bootstrap)
    table = kafka.table(rows, key="id", schema=SCHEMA)
    joined = kafka.stream(events, schema=SCHEMA).join(table, on="id", how="left")
    counts = table.group_by(odd=pl.col("v") % 20).agg(pl.len().alias("n"), pl.col("v").sum().alias("s"))
    sinks = [joined.sink_parquet(Path(folder) / "joined"), counts.sink_table("counts"), table.sink_table("rows")]
    return sl.Pipeline(sinks, name=f"t-{rows}")


def test_a_pipeline_killed_while_it_loads_goes_on_loading_before_it_joins(bootstrap, house, tmp_path):
    arguments = ["tests.kafka.test_tables", bootstrap, ",".join(house), str(tmp_path)]
    for step, nth in (("promoted", 1), ("flushed", 2)):  # a commit has a thousand records, the table four thousand
        command = [sys.executable, "-m", "tests.kafka.kill_worker", *arguments, step, str(nth)]
        assert subprocess.run(command, cwd=ROOT, check=False, timeout=SECONDS).returncode == -signal.SIGKILL
    assert not list((tmp_path / "joined").glob("*.parquet"))
    pipeline = pipeline_of(bootstrap, ",".join(house), tmp_path)
    assert pipeline.run().records < 2 * KEYS + GONE + EVENTS
    found = pl.read_parquet(tmp_path / "joined" / "*.parquet").sort("v")
    assert found["id"].to_list() == [f"k{n}" for n in range(EVENTS)]
    assert found["v_right"].to_list() == [None if n < GONE else n * 10 for n in range(EVENTS)]
    expected = pl.DataFrame({"v": range(GONE * 10, KEYS * 10, 10)})
    by_group = expected.group_by(odd=pl.col("v") % 20).agg(
        pl.len().cast(pl.Int64).alias("n"), pl.col("v").sum().alias("s")
    )
    held = sl.open_table(f"t-{house[0]}", "counts").frame().select("odd", pl.col("n").cast(pl.Int64), "s")
    assert held.filter(pl.col("n") > 0).sort("odd").rows() == by_group.sort("odd").rows()
    assert sl.open_table(f"t-{house[0]}", "rows").frame().height == KEYS - GONE
    assert pipeline.run().records == 0


def test_a_table_goes_to_a_compacted_topic_as_upserts_and_tombstones(bootstrap, house):
    rows, out = house[0], f"{house[0]}-out"
    table = sl.Kafka(bootstrap).table(rows, key="id", schema=SCHEMA)
    small = table.filter(pl.col("v") < 10_000)
    sl.Pipeline([small.sink_kafka(out)], name=f"c-{rows}").run()
    admin = admin_of(bootstrap)
    resource = ConfigResource(ResourceType.TOPIC, out)
    assert admin.describe_configs([resource])[resource].result()["cleanup.policy"].value == "compact"
    newest = {message.key(): message.value() for message in consume_all(bootstrap, out)}
    assert len(newest) == KEYS
    left = sorted(json.loads(value)["v"] for value in newest.values() if value is not None)
    assert left == list(range(GONE * 10, 10_000, 10))
    back = sl.Kafka(bootstrap).table(out, key="id", schema=SCHEMA)
    assert sorted(back.collect().rows()) == sorted(small.collect().rows())
    for deleted in admin.delete_topics([out]).values():
        deleted.result()


def test_a_table_is_read_to_its_end_behind_the_markers_of_transactions(bootstrap, topic):
    rows, events = topic("rows", partitions=2), topic("events", partitions=1)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": rows})
    producer.init_transactions(30)
    for value, commit in ((1, True), (2, True), (3, False)):
        producer.begin_transaction()
        for number in range(10):
            producer.produce(rows, row(number, value), f"k{number}".encode(), number % 2)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    send(bootstrap, events, [Sent(row(number, 0), None, 0) for number in range(10)])
    kafka = sl.Kafka(bootstrap)
    joined = kafka.stream(events, schema=SCHEMA).join(kafka.table(rows, key="id", schema=SCHEMA), on="id")
    assert joined.collect()["v_right"].to_list() == [2] * 10
