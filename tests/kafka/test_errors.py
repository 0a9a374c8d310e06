"""What goes wrong is said in words that help, where the user looks for it, and nothing is lost by it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import streamlab as sl
from streamlab.errors import (
    BadRecordError,
    BrokerError,
    PlanChangedError,
    PlanError,
    RunError,
    StateError,
    StepError,
    UnknownTopicError,
)
from streamlab.state.folders import find_pipeline
from tests.kafka.support import (
    CLOSING,
    SCHEMA,
    SECONDS,
    Sent,
    assert_same,
    assert_settled,
    assert_silent,
    batch_answer,
    close_windows,
    committed,
    comparable,
    delays,
    ends,
    eventually,
    flights,
    head,
    results,
    send,
    send_flights,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

ROOT = Path(__file__).parents[2]
FLIGHTS = 4_000
WRONG = b'{"carrier":"AA","flight":"eleven","scheduled":"2013-01-01T10:00:00Z","dep_delay":1}'


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def source(bootstrap, topic):
    name = topic("flights", partitions=2)
    send_flights(bootstrap, name, flights(FLIGHTS))
    return name


def pipeline_of(kafka: sl.Kafka | str, topic: str, **options: object) -> sl.Pipeline:
    out = delays(stream(kafka, topic, **options))
    return sl.Pipeline([out.sink_kafka(f"{topic}-out"), out.sink_table("delays")], name=f"p-{topic}")


def message_of(error: BaseException | None) -> str:
    """Return the whole message, checked for what no message should have."""
    text = str(error)
    assert text.strip()
    assert "Traceback" not in text
    assert "KafkaError{" not in text
    return text


# --- brokers and topics ---


def test_a_broker_that_is_not_there_is_named_within_ten_seconds():
    kafka = sl.Kafka("127.0.0.1:1")
    nobody = delays(stream(kafka, "flights"))
    ways = (
        sl.Pipeline([nobody.sink_table("t")], name="nobody").start,
        sl.Pipeline([nobody.sink_table("t")], name="nobody-else").run,
        nobody.show,
        nobody.preview,
        nobody.collect,
        lambda: kafka.stream("flights"),
        kafka.topics,
    )
    began = time.monotonic()
    with ThreadPoolExecutor(len(ways)) as threads:
        asked = [threads.submit(way) for way in ways]
    assert time.monotonic() - began < 10 + 5  # and what a busy machine adds
    for answer in asked:
        with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1\b.*Connection refused.*is the broker running") as caught:
            answer.result()
        message_of(caught.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda kafka, topic: pipeline_of(kafka, topic).start(),
        lambda kafka, topic: stream(kafka, topic).collect(),
        lambda kafka, topic: kafka.stream(topic),
    ],
    ids=["start", "collect", "infer"],
)
def test_a_misspelt_topic_is_named_with_the_one_that_was_meant(bootstrap, source, ask):
    with pytest.raises(UnknownTopicError, match=rf"no topic '{source[:-1]}' at {bootstrap}.*Did you mean '{source}'\?"):
        ask(sl.Kafka(bootstrap), source[:-1])


def test_a_schema_cannot_be_inferred_from_an_empty_topic(bootstrap, topic):
    empty = topic("empty")
    with pytest.raises(PlanError, match=rf"stream '{empty}': the topic is empty.*give schema="):
        sl.Kafka(bootstrap).stream(empty)


def test_settings_that_contradict_each_other_are_a_mistake_in_the_plan(bootstrap, source):
    kafka = sl.Kafka(bootstrap, {"fetch.max.bytes": 100_000})
    with pytest.raises(PlanError, match=r"Kafka settings: .*`fetch\.max\.bytes` must be >= `message\.max\.bytes`"):
        pipeline_of(kafka, source).start()


def test_a_topic_that_is_deleted_under_a_running_query_ends_it(bootstrap, source):
    quick = {"topic.metadata.refresh.interval.ms": 200, "topic.metadata.propagation.max.ms": 1_000}
    query = pipeline_of(sl.Kafka(bootstrap, quick), source).start()
    eventually(lambda: query.report.records == FLIGHTS, "the flights are read")
    delete(bootstrap, source)
    eventually(lambda: query.status == "failed", "the query ends")
    assert isinstance(query.error, UnknownTopicError)
    assert f"no topic {source!r}" in message_of(query.error)
    make(bootstrap, source)  # those of a test run are deleted at its end


def delete(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result()
    eventually(lambda: topic not in admin.list_topics(timeout=SECONDS).topics, f"{topic} is deleted")


def make(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 2, config={"retention.ms": "-1"})])[topic].result()
    eventually(lambda: topic in admin.list_topics(timeout=SECONDS).topics, f"{topic} is made")


# --- records ---


def test_a_value_of_the_wrong_type_says_column_found_and_expected(bootstrap, topic):
    source = topic("wrong", partitions=1)
    send(bootstrap, source, [Sent(WRONG, b"AA")])
    query = pipeline_of(bootstrap, source).start(until="latest")
    assert query.wait(SECONDS)
    (letter,) = query.dead_letters.to_dicts()
    assert (letter["topic"], letter["partition"], letter["offset"]) == (source, 0, 0)
    assert (letter["key"], letter["value"], letter["step"]) == (b"AA", WRONG, "decode")
    assert letter["error"] == "column 'flight': found 'eleven', expected a whole number (Int64)"


def test_with_raise_a_bad_record_ends_the_query_and_is_met_again(bootstrap, source):
    send(bootstrap, source, [Sent(WRONG, partition=1)])
    at = ends(bootstrap, source)[1] - 1
    for _ in range(2):
        query = pipeline_of(bootstrap, source, on_error="raise").start()
        words = rf"{source} partition 1 offset {at}: decode: column 'flight': found 'eleven', expected a whole number"
        with pytest.raises(BadRecordError, match=words):
            query.wait(SECONDS)
        assert query.status == "failed"
        assert query.error is not None
        assert words.replace("\\", "") in message_of(query.error)
        assert "BadRecordError" in repr(query)
    offsets, _ = committed(bootstrap, f"p-{source}", source)
    assert offsets.get(1, 0) <= at


# --- state ---


def test_a_state_folder_that_cannot_be_written_names_it_and_the_variable(bootstrap, source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(
        StateError, match=rf"cannot be kept in {tmp_path}/file/state/.*Not a directory.*STREAMLAB_STATE_DIR"
    ):
        pipeline_of(bootstrap, source).start()


def test_state_of_another_plan_is_shown_as_a_difference_and_reset_keeps_what_is_unchanged(bootstrap, source):
    def plan(grace: str) -> sl.Pipeline:
        flown = stream(bootstrap, source)
        kept, changed = delays(flown, name="kept"), delays(flown, grace=grace, name="changed")
        return sl.Pipeline([kept.sink_table("kept"), changed.sink_table("changed")], name=f"p-{source}")

    plan("24h").run()
    with pytest.raises(PlanChangedError) as caught:
        plan("48h").start()
    text = message_of(caught.value)
    assert "  = kept: unchanged, keeps its state" in text
    assert "  ! changed: changed, would lose its state" in text
    assert "start(reset=True)" in text
    with pytest.raises(PlanChangedError):
        plan("48h").run()
    close_windows(bootstrap, source, partitions=2)
    report = plan("48h").run(reset=True)
    assert report.records == 2  # offsets stay
    answer = batch_answer(flights(FLIGHTS))
    assert_same(comparable(sl.open_table(f"p-{source}", "kept").frame()), answer)
    lost = sl.open_table(f"p-{source}", "changed").frame()
    assert 0 < lost.height < answer.height  # only what had been closed before
    assert plan("48h").run().records == 0
    assert_settled(bootstrap, f"p-{source}", source)


def test_a_second_process_on_the_same_state_is_told_who_has_it(bootstrap, source):
    query = pipeline_of(bootstrap, source).start()
    code = "import sys, streamlab as sl; from tests.kafka.test_errors import pipeline_of; pipeline_of(*sys.argv[1:]).start()"
    other = subprocess.run(
        [sys.executable, "-c", code, bootstrap, source], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert f"StateLockedError: {find_pipeline(f'p-{source}')[0]}" in other.stderr
    assert f"process {os.getpid()} on host" in other.stderr
    assert query.status == "running"
    query.stop()


def test_an_offset_that_retention_deleted_is_named_with_what_is_lost(bootstrap, source):
    pipeline_of(bootstrap, source).run()
    before = ends(bootstrap, source)
    send_flights(bootstrap, source, flights(2 * FLIGHTS).tail(FLIGHTS))
    delete_records(bootstrap, source)
    lost = {p: end - before[p] for p, end in ends(bootstrap, source).items()}
    with pytest.raises(
        RunError, match=rf"{source} partition 0: offset {before[0]:,} is gone; {lost[0]:,} records are lost"
    ) as caught:
        pipeline_of(bootstrap, source).run()
    assert f"streamlab reset p-{source}" in message_of(caught.value)
    assert committed(bootstrap, f"p-{source}", source)[0] == before


def delete_records(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    places = [TopicPartition(topic, partition, offset) for partition, offset in ends(bootstrap, topic).items()]
    for deleted in admin.delete_records(places).values():
        deleted.result()


def test_records_that_are_deleted_before_a_running_query_came_to_them_end_it(bootstrap, topic, monkeypatch):
    source = topic("falling-behind", partitions=1, config={"compression.type": "uncompressed"})
    for part in flights(FLIGHTS).iter_slices(FLIGHTS // 8):  # small batches: a fetch takes at least one
        send_flights(bootstrap, source, part)
    monkeypatch.setattr("streamlab.runtime.pump._QUEUE_BYTES", 10_000)
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 100)
    small = {"queued.min.messages": 10, "queued.max.messages.kbytes": 10, "fetch.message.max.bytes": 10_000}
    query = pipeline_of(sl.Kafka(bootstrap, small), source).start()
    query.pause()
    delete_records(bootstrap, source)
    query.resume()
    eventually(lambda: query.status == "failed", "the query ends")
    assert re.search(rf"{source} partition 0: offset [\d,]+ is gone; [\d,]+ records are lost", message_of(query.error))


def test_a_topic_that_was_made_anew_is_not_taken_for_the_old_one(bootstrap, source):
    pipeline_of(bootstrap, source).run()
    delete(bootstrap, source)
    make(bootstrap, source)
    send_flights(bootstrap, source, flights(100))
    with pytest.raises(
        StateError, match=rf"group 'p-{source}': .*the topic was deleted and made anew.*streamlab reset"
    ):
        pipeline_of(bootstrap, source).run()


def test_state_that_was_removed_while_the_group_has_offsets_is_not_begun_anew_silently(bootstrap, source):
    pipeline_of(bootstrap, source).run()
    shutil.rmtree(find_pipeline(f"p-{source}")[0])
    with pytest.raises(
        StateError, match=rf"group 'p-{source}': .*no state on disk.*STREAMLAB_STATE_DIR.*streamlab reset"
    ):
        pipeline_of(bootstrap, source).run()


def test_a_group_that_another_program_commits_to_is_refused(bootstrap, source):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"p-{source}"})
    consumer.commit(offsets=[TopicPartition(source, 0, 7)], asynchronous=False)
    consumer.close()
    with pytest.raises(StateError, match=r"another program commits to it.*another name"):
        pipeline_of(bootstrap, source).run()


# --- functions ---


def broken(_: pl.DataFrame) -> pl.DataFrame:
    raise ValueError("no such airport")


def fragile(frame: pl.DataFrame) -> pl.DataFrame:
    return broken(frame) if (frame["carrier"] == CLOSING).any() else frame


def mended(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def mapped(bootstrap: str, source: str, function: Callable[[pl.DataFrame], pl.DataFrame]) -> sl.Pipeline:
    out = delays(stream(bootstrap, source).map_batches(function, schema=SCHEMA))
    return sl.Pipeline([out.sink_kafka(f"{source}-out"), out.sink_table("delays")], name=f"p-{source}")


def test_a_failing_function_is_named_with_its_step_and_nothing_is_lost_once_it_is_mended(bootstrap, source, capfd):
    assert mapped(bootstrap, source, fragile).run().records == FLIGHTS
    close_windows(bootstrap, source, partitions=2)
    threads = threading.active_count()
    query = mapped(bootstrap, source, fragile).start()
    with pytest.raises(StepError, match=r"^map_batches fragile: ValueError: no such airport$"):
        query.wait(SECONDS)
    assert (query.status, query.report.records) == ("failed", 0)
    assert threading.active_count() == threads
    query.stop()  # of no use, and no harm
    with pytest.raises(PlanChangedError, match=r"  = delays: unchanged, keeps its state\n.*\n?  What feeds the steps"):
        mapped(bootstrap, source, mended).start()
    assert mapped(bootstrap, source, mended).run(reset=True).records == 2
    assert_same(results(bootstrap, f"{source}-out"), batch_answer(flights(FLIGHTS)))
    assert_settled(bootstrap, f"p-{source}", source)
    assert_silent(capfd)


def test_a_failing_sink_function_is_named(bootstrap, source, capfd):
    query = sl.Pipeline([stream(bootstrap, source).sink_frame(broken)], name=f"p-{source}").start()
    with pytest.raises(StepError, match=r"^sink_frame 'broken': ValueError: no such airport$"):
        query.wait(SECONDS)
    assert head(f"p-{source}") is None
    assert_silent(capfd)
