"""A whole pipeline on real flights: what comes out is what polars computes over the whole input."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import streamlab as sl
from tests.kafka.broker import consume_all
from tests.kafka.support import (
    CLOSING,
    TIME,
    Sent,
    as_json,
    assert_same,
    assert_settled,
    batch_answer,
    close_windows,
    comparable,
    delays,
    flights,
    results,
    send,
    send_flights,
    stream,
)

if TYPE_CHECKING:
    from confluent_kafka import Message

FLIGHTS, PARTS = 200_000, 4


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


def test_bounded_runs_over_200_000_flights_give_the_batch_answer_each_window_once(bootstrap, topic):
    source, sink, sent = topic("flights"), topic("delays"), flights(FLIGHTS)
    out = delays(stream(bootstrap, source))
    pipeline = sl.Pipeline([out.sink_kafka(sink, key="carrier"), out.sink_table("delays")], name=f"batch-{source}")
    reports = []
    for part in sent.iter_slices(FLIGHTS // PARTS):
        assert send_flights(bootstrap, source, part) == FLIGHTS // PARTS
        reports.append(pipeline.run(until="latest"))
    before = results(bootstrap, sink).height
    reports += [pipeline.run(until="latest")]  # nothing new
    assert results(bootstrap, sink).height == before
    close_windows(bootstrap, source)
    reports += [pipeline.run(until="latest")]

    assert [report.records for report in reports] == [FLIGHTS // PARTS] * PARTS + [0, 4]
    assert all(report.results for report in reports[:PARTS])
    assert {(r.late, r.late_rows, r.dead_letters, r.skipped) for r in reports} == {(0, 0, 0, 0)}
    expected = batch_answer(sent)
    assert sum(report.results for report in reports) == expected.height
    assert_same(results(bootstrap, sink), expected)
    assert_same(comparable(sl.open_table(f"batch-{source}", "delays").frame()), expected)
    assert_settled(bootstrap, f"batch-{source}", source)


# --- the same with what does not fit ---

WINDOW = GRACE = timedelta(hours=1)
GOOD = b'{"carrier":"AA","flight":1,"scheduled":"2013-01-01T10:15:00Z","dep_delay":1.5}'
POISON = (
    b"",
    b"not json",
    b"[1, 2]",
    b"42",
    b'{"carrier": "AA", "flight"',
    b"\xff\xfe\x00",
    GOOD + b" and more",
    GOOD.replace(b'"AA"', b'{"code": "AA"}'),
    GOOD.replace(b'"flight":1', b'"flight":1.7'),
    GOOD.replace(b'"flight":1', b'"flight":"eleven"'),
    GOOD.replace(b'"flight":1', b'"flight":9223372036854775808'),
    GOOD.replace(b"1.5", b"true"),
    GOOD.replace(b"2013-01-01T10:15:00Z", b"yesterday"),
    GOOD.replace(b'"2013-01-01T10:15:00Z"', b"null"),
    GOOD.replace(b"2013", b"1913"),
    GOOD.replace(b'"scheduled"', b'"planned"'),
    b'{"carrier":"' + b"x" * 1_500_000 + b'","flight":[]}',
)
ODD_HEADERS = (("trace", b"\x00\xff"), ("trace", b"again"), ("empty", b""), ("null", None))


def mixed(frame: pl.DataFrame) -> list[Sent]:
    """Flights with bad records and records without a payload strewn in, each time in the same way."""
    chance = random.Random(7)  # noqa: S311  # a test needs the same records every time
    records: list[Sent] = []
    for carrier, payload in zip(frame["carrier"], as_json(frame), strict=True):
        if chance.random() < 0.01:
            headers = (*ODD_HEADERS, ("bad", b"1"))
            records.append(Sent(chance.choice(POISON[:-1]), chance.choice([None, b"\xfe", b"AA"]), headers=headers))
        if chance.random() < 0.01:
            records.append(Sent(None, carrier.encode()))
        records.append(Sent(payload, carrier.encode()))
    return [*records, Sent(POISON[-1], b"AA", headers=(("bad", b"1"),))]


def judged(messages: list[Message]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the good records of a topic that are in time, and the late ones; each partition has a watermark of its own."""
    in_time: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []
    reached: dict[int | None, datetime] = {}
    for message in messages:
        value = message.value()
        if value is None or is_bad(message):
            continue
        row = json.loads(value)
        row["scheduled"] = at = datetime.fromisoformat(row["scheduled"])
        reached[message.partition()] = max(reached.get(message.partition(), at), at)
        row["window_start"] = at.replace(minute=0, second=0)
        row["window_end"] = row["window_start"] + WINDOW
        row["watermark"] = reached[message.partition()]
        (late if row["window_end"] + GRACE <= row["watermark"] else in_time).append(row)
    return in_time, late


def is_bad(message: Message) -> bool:
    return "bad" in dict(message.headers() or ())


@pytest.fixture(scope="module")
def strewn(bootstrap, topic):
    """Produce flights with all that can be wrong among them, and return the topic."""
    source = topic("mixed", config={"max.message.bytes": "4000000"})
    send(bootstrap, source, mixed(flights(20_000)))
    close_windows(bootstrap, source)
    return source


@pytest.fixture(scope="module")
def truth(bootstrap, strewn):
    """Return the topic's messages, and which of its flights are in time and which late."""
    messages = consume_all(bootstrap, strewn)
    return messages, *judged(messages)


def run_in_parts(pipeline: sl.Pipeline, monkeypatch: pytest.MonkeyPatch) -> sl.Report:
    """Run to the end with small fetches and a commit after each."""
    monkeypatch.setattr("streamlab.connect.kafka_source._BATCH", 1_500)
    monkeypatch.setattr("streamlab.runtime.runner.COMMIT_SECONDS", 0)
    return pipeline.run(until="latest")


def test_every_record_is_processed_or_late_or_a_dead_letter_or_skipped(bootstrap, topic, strewn, truth, monkeypatch):
    sink, name = topic("delays"), f"mixed-{strewn}"
    messages, in_time, late = truth
    bad = [message for message in messages if is_bad(message)]
    nulls = sum(message.value() is None for message in messages)
    assert min(len(bad), nulls, len(late)) > 100

    out = delays(stream(bootstrap, strewn, key="carrier"), grace="1h")
    report = run_in_parts(sl.Pipeline([out.sink_kafka(sink)], name=name), monkeypatch)

    assert report.records == len(messages) == len(in_time) + len(late) + len(bad) + nulls
    assert (report.processed, report.late, report.late_rows) == (len(in_time), len(late), len(late))
    assert (report.dead_letters, report.skipped) == (len(bad), nulls)
    flown = pl.DataFrame([row for row in in_time if row["carrier"] != CLOSING]).cast({"scheduled": TIME})
    assert_same(results(bootstrap, sink), batch_answer(flown))
    assert_settled(bootstrap, name, strewn)
    assert rows_of(late) == rows_of(read_late(bootstrap, f"{name}.late"))
    assert letters_of(consume_all(bootstrap, f"{name}.dead-letters")) == wanted_letters(strewn, bad)


def read_late(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    rows = [json.loads(message.value() or b"") for message in consume_all(bootstrap, topic)]
    assert {row.pop("step") for row in rows} == {"delays"}
    times = ("scheduled", "window_start", "window_end", "watermark")
    return [row | {name: datetime.fromisoformat(row[name]) for name in times} for row in rows]


def rows_of(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(str(sorted(row.items())) for row in rows)


def wanted_letters(topic: str, bad: list[Message]) -> list[tuple[Any, ...]]:
    """Return place, key, value and own headers of records that must be dead letters."""
    place = [(topic, m.partition(), m.offset(), m.key(), m.value(), tuple(m.headers() or ())) for m in bad]
    return sorted(place, key=lambda letter: letter[1:3])


def letters_of(letters: list[Message]) -> list[tuple[Any, ...]]:
    """Return the same of dead letters, by what their headers say."""
    found = []
    for letter in letters:
        headers = letter.headers() or []
        own, said = headers[:-5], dict(headers[-5:])
        assert list(said) == [f"streamlab.{name}" for name in ("topic", "partition", "offset", "step", "error")]
        assert said["streamlab.step"] == b"decode"
        assert said["streamlab.error"]
        place = (said["streamlab.topic"].decode(), int(said["streamlab.partition"]), int(said["streamlab.offset"]))
        found.append((*place, letter.key(), letter.value(), tuple(own)))
    return sorted(found, key=lambda letter: letter[1:3])


def test_bad_records_that_are_skipped_are_counted_and_change_nothing_else(bootstrap, topic, strewn, truth, monkeypatch):
    sink, name = topic("delays"), f"skipping-{strewn}"
    messages, in_time, late = truth
    out = delays(stream(bootstrap, strewn, key="carrier", on_error="skip"), grace="1h")
    report = run_in_parts(sl.Pipeline([out.sink_kafka(sink)], name=name), monkeypatch)
    assert (report.records, report.processed, report.late) == (len(messages), len(in_time), len(late))
    assert (report.dead_letters, report.skipped) == (0, len(messages) - len(in_time) - len(late))
    assert consume_all(bootstrap, f"{name}.dead-letters") == []
