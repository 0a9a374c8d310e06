"""What arrives where results go: topics, files, functions, tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

import streamlab as sl
from streamlab.connect.partitioner import murmur2
from tests.kafka.broker import consume_all
from tests.kafka.support import (
    CLOSING,
    SECONDS,
    Sent,
    assert_same,
    batch_answer,
    close_windows,
    comparable,
    delays,
    eventually,
    flights,
    send,
    send_flights,
    stream,
)

ROOT = Path(__file__).parents[2]
FLIGHTS = 10_000
HOUR = 3_600_000


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def source(bootstrap, topic):
    """Give a topic of flights to which nothing is added."""
    name = topic("flights", partitions=3)
    send_flights(bootstrap, name, flights(FLIGHTS))
    close_windows(bootstrap, name, partitions=3)
    return name


@pytest.fixture(scope="module")
def answer():
    return batch_answer(flights(FLIGHTS))


def settings_of(bootstrap: str, topic: str) -> dict[str, str]:
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.describe_configs([asked])[asked].result(SECONDS)
    return {name: str(entry.value) for name, entry in found.items()}


def java_partition(key: bytes, count: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % count


# --- topics ---


def test_results_are_keyed_json_stamped_with_event_time_where_a_java_client_would_put_them(bootstrap, source, answer):
    pipeline = sl.Pipeline([delays(stream(bootstrap, source)).sink_kafka(f"{source}-final")], name=f"final-{source}")
    pipeline.run()
    found = consume_all(bootstrap, f"{source}-final")
    assert len(found) == answer.height
    for message in found:
        row = json.loads(message.value())
        assert list(row) == ["carrier", "window_start", "window_end", "flights", "mean_delay"]
        assert message.key() == row["carrier"].encode()
        assert message.partition() == java_partition(message.key(), 3)
        end = pl.Series([row["window_end"]]).str.to_datetime(time_unit="ms", time_zone="UTC").dt.epoch("ms").item()
        assert message.timestamp()[1] == end - 1
    assert {message.partition() for message in found} == {0, 1, 2}
    made = settings_of(bootstrap, f"{source}-final")
    assert (made["retention.ms"], made["cleanup.policy"]) == ("-1", "delete")


def test_the_newest_record_of_every_key_of_an_updated_table_is_the_batch_answer(bootstrap, source, answer, monkeypatch):
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 1_500)
    updates = (
        stream(bootstrap, source)
        .group_by("carrier")
        .window(sl.tumbling("1h", grace="24h"), emit="updates", name="delays")
        .agg(pl.len().alias("flights"), pl.col("dep_delay").mean().alias("mean_delay"))
    )
    sl.Pipeline([updates.sink_kafka(f"{source}-updates")], name=f"updates-{source}").run()
    found = consume_all(bootstrap, f"{source}-updates")
    assert len(found) > answer.height
    newest = {message.key(): message for message in found}
    rows = []
    for key, message in newest.items():
        row = json.loads(message.value())
        parts = json.loads(key)
        assert list(parts) == ["carrier", "window_start", "window_end"]
        assert parts == {name: row[name] for name in parts}
        rows.append(row)
    for message in found:
        assert message.partition() == java_partition(message.key(), 3)
    table = pl.DataFrame(rows).filter(pl.col("carrier") != CLOSING)
    times = pl.col("window_start").str.to_datetime(time_unit="ms", time_zone="UTC")
    assert_same(comparable(table.with_columns(times)), answer)
    made = settings_of(bootstrap, f"{source}-updates")
    assert (made["retention.ms"], made["cleanup.policy"]) == ("-1", "compact")


def test_a_table_of_groups_is_keyed_by_json_even_for_one_column(bootstrap, source):
    totals = stream(bootstrap, source).group_by("carrier").agg(pl.len().alias("flights"))
    sl.Pipeline([totals.sink_kafka(f"{source}-totals")], name=f"totals-{source}").run()
    newest = {m.key(): json.loads(m.value()) for m in consume_all(bootstrap, f"{source}-totals")}
    counts = flights(FLIGHTS).group_by("carrier").len().rows()
    wanted = {b'{"carrier":"%s"}' % carrier.encode(): {"carrier": carrier, "flights": n} for carrier, n in counts}
    assert newest == {**wanted, b'{"carrier":"closing"}': {"carrier": CLOSING, "flights": 3}}


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("flight", [b"7", b"8", None]),
        ("carrier", ["Æ✈".encode(), None, b""]),
        (["carrier", "flight"], ['{"carrier":"Æ✈","flight":7}'.encode(), b'{"carrier":null,"flight":8}', b'{"carrier":"","flight":null}']),
        ("dep_delay", [b"1.5", None, b"-0.5"]),
        (None, [None, None, None]),
    ],
)  # fmt: skip
def test_a_key_is_the_text_of_one_column_or_a_json_object_of_several(bootstrap, topic, key, wanted):
    source = topic("keys", partitions=1)
    rows = [("Æ✈", 7, 1.5), (None, 8, None), ("", None, -0.5)]
    names, at = ("carrier", "flight", "dep_delay"), {"scheduled": "2013-01-01T10:00:00Z"}
    values = [json.dumps(dict(zip(names, row, strict=True)) | at).encode() for row in rows]
    send(bootstrap, source, [Sent(value, partition=0) for value in values])
    sl.Pipeline([stream(bootstrap, source).sink_kafka(f"{source}-out", key=key)], name=f"p-{source}").run()
    found = consume_all(bootstrap, f"{source}-out")
    assert [message.key() for message in found] == wanted
    assert [json.loads(message.value())["flight"] for message in found] == [7, 8, None]


def test_results_of_clocks_far_ahead_are_taken_too(bootstrap, topic):
    source = topic("ahead", partitions=1)
    values = [b'{"carrier":"AA","scheduled":"%d-01-01T00:00:00Z"}' % year for year in (2013, 2090, 2095)]
    send(bootstrap, source, [Sent(value) for value in values])
    sl.Pipeline([delays(stream(bootstrap, source)).sink_kafka(f"{source}-out")], name=f"p-{source}").run()
    assert [json.loads(m.value())["window_start"][:4] for m in consume_all(bootstrap, f"{source}-out")] == [
        "2013",
        "2090",
    ]


def test_late_rows_and_dead_letters_have_topics_that_keep_them_for_a_week_from_their_arrival(bootstrap, source):
    name = f"kept-{source}"
    sl.Pipeline([delays(stream(bootstrap, source)).sink_table("delays")], name=name).run()
    for topic in (f"{name}.late", f"{name}.dead-letters"):
        made = settings_of(bootstrap, topic)
        assert made["retention.ms"] == str(7 * 24 * HOUR)
        assert made["message.timestamp.type"] == "LogAppendTime"


def test_a_sink_topic_that_is_there_stays_as_it_is(bootstrap, topic, source):
    sink = topic("mine", partitions=2, config={"retention.ms": "86400000"})
    before = settings_of(bootstrap, sink)
    sl.Pipeline([stream(bootstrap, source).select("carrier").sink_kafka(sink, key="carrier")], name=f"p-{sink}").run()
    assert settings_of(bootstrap, sink) == before


# --- files ---


class PulledPlugError(Exception):
    """Stands for the end of the process between two steps of a commit."""


def test_parquet_has_a_file_for_each_commit_and_a_commit_done_again_overwrites_its_own(
    bootstrap, source, answer, tmp_path, monkeypatch
):
    folder, name = tmp_path / "files", f"files-{source}"
    pipeline = sl.Pipeline([delays(stream(bootstrap, source)).sink_parquet(folder)], name=name)
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 1_000)
    monkeypatch.setattr("streamlab.runtime.runner.COMMIT_SECONDS", 0)
    flushed = []

    def pull(step: str) -> None:
        flushed.extend(sorted(folder.iterdir()) if step == "flushed" else [])
        if step == "flushed" and len(set(flushed)) == 2:
            raise PulledPlugError

    with monkeypatch.context() as patch:
        patch.setattr("streamlab.runtime.checkpoint.reached", pull)
        with pytest.raises(PulledPlugError):
            pipeline.run()
    done, undone = sorted(folder.iterdir())
    before = undone.read_bytes()
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 1_200)  # other cuts, so other contents
    report = pipeline.run()

    files = sorted(folder.iterdir())
    assert files[0] == done
    assert [file.name for file in files] == sorted(f"{name}-{int(file.stem[-10:]):010d}.parquet" for file in files)
    assert len(files) > 2
    assert not undone.exists() or undone.read_bytes() != before
    assert report.results == sum(pl.read_parquet(file).height for file in files[1:])
    assert_same(comparable(pl.read_parquet(folder / "*.parquet")), answer)
    assert pipeline.run().results == 0
    assert sorted(folder.iterdir()) == files


# --- functions ---


def test_a_function_gets_every_batch_of_results(bootstrap, source, answer, monkeypatch):
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 1_500)
    got: list[pl.DataFrame] = []
    out = delays(stream(bootstrap, source))
    report = sl.Pipeline([out.sink_frame(got.append), out.sink_kafka(f"{source}-beside")], name=f"fn-{source}").run()
    assert len(got) > 1
    assert all(frame.schema == out.schema and frame.height for frame in got)
    assert_same(comparable(pl.concat(got)), answer)
    assert report.results == answer.height  # each counts once, in however many sinks it is
    assert len(consume_all(bootstrap, f"{source}-beside")) == answer.height


# --- tables ---


def test_a_table_is_read_by_another_process_while_the_query_runs(bootstrap, topic, answer):
    source = topic("flights", partitions=3)
    name = f"read-{source}"
    send_flights(bootstrap, source, flights(FLIGHTS))
    query = sl.Pipeline([delays(stream(bootstrap, source)).sink_table("delays")], name=name).start()
    close_windows(bootstrap, source, partitions=3)
    eventually(lambda: query.table("delays").height == answer.height, "all windows are in the table")
    eventually(lambda: read_elsewhere(name).height == answer.height, "the table is committed")
    assert query.status == "running"
    assert_same(comparable(read_elsewhere(name)), answer)
    assert_same(comparable(query.table("delays")), answer)
    query.stop()
    assert_same(comparable(sl.open_table(name, "delays").frame()), answer)
    first = answer.row(0, named=True)
    bounds = (first["window_start"], first["window_start"] + timedelta(hours=1))
    assert sl.open_table(name, "delays")[first["carrier"], *bounds]["flights"] == first["flights"]


def read_elsewhere(name: str) -> pl.DataFrame:
    code = "import sys, streamlab as sl; sl.open_table(sys.argv[1], 'delays').frame().write_parquet(sys.argv[2])"
    file = Path(os.environ["STREAMLAB_STATE_DIR"]) / "read.parquet"
    subprocess.run([sys.executable, "-c", code, name, file], cwd=ROOT, check=True)
    return pl.read_parquet(file)
