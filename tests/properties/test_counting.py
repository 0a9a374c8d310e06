"""Exact counting: records = processed + late + dead letters + skipped, whatever becomes of their rows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

import streamlab as sl
from streamlab.testing import StreamTester
from tests.properties.harness import examples, started
from tests.properties.oracle import LateRows
from tests.properties.records import messages, volleys
from tests.properties.strategies import aggregated, circumstances, sources, stepped, together

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ENDS = ["rows", "final", "updates", "table", "late", "final-final"]


@st.composite
def pipelines(draw: Any) -> Any:
    """Draw a plan of several sinks that share their sources: a record may be late for one, bad for another, used by a third."""
    plan = replace(draw(circumstances()), skips_bad=draw(st.booleans()))
    source = draw(sources(plan, keyed=draw(st.booleans())))
    found = []
    for number, end in enumerate(draw(st.lists(st.sampled_from(ENDS), min_size=2, max_size=3))):
        branch = draw(stepped(source, 3))
        if draw(st.integers(0, 3)) == 0 and not source.joined:
            branch = together([branch, draw(stepped(source, 2))])
        found.append(draw(ended(branch, plan, end, f"step{number}")))
    return replace(plan, branches=tuple(found))


@st.composite
def ended(draw: Any, branch: Any, plan: Any, end: Any, name: Any) -> Any:
    """Put after a branch what it is to end in."""
    if end == "rows":
        return branch
    first, _, second = end.partition("-")
    final, windowed = first in {"final", "late"}, first != "table"
    made = draw(aggregated(branch, plan, final=final, windowed=windowed, name=name))
    if first == "late":
        return replace(branch, frame=made.frame.late, node=LateRows(made.node))
    return draw(aggregated(made, plan, final=True, name=f"{name}-second")) if second else made


@examples(60)
@given(plan=pipelines(), fired=volleys)
def test_every_record_is_counted_once_as_processed_late_dead_or_skipped(plan: Any, fired: Any) -> None:
    sent = messages(plan, fired)
    side = started(plan)
    note("\n".join(map(str, sent)))
    with side.tester as tester:
        for number, (message, shot) in enumerate(zip(sent, fired, strict=True), 1):
            side.batch([message], counts_only=True)
            if shot.then.isdigit():
                side.advance(int(shot.then), counts_only=True)
            counted = tester.metrics()
            parts = (counted.processed, counted.late, counted.dead_letters, counted.skipped)
            assert sum(parts) == counted.records == number
            assert min(parts) >= 0


@examples(60)
@given(plan=pipelines(), fired=volleys)
def test_counts_are_the_same_however_the_input_is_cut(plan: Any, fired: Any) -> None:
    sent = messages(plan, fired)
    note("\n".join(map(str, sent)))
    side = started(plan)
    with side.tester:
        batch = []
        for message, shot in zip(sent, fired, strict=True):
            batch.append(message)
            if shot.then != "join":
                side.batch(batch, counts_only=True)
                batch = []
            if shot.then == "restart":
                side.restart()
            elif shot.then.isdigit():
                side.advance(int(shot.then), counts_only=True)
        side.batch(batch, counts_only=True)


def stream(**settings: Any) -> Any:
    return sl.Kafka("localhost:9092").stream("events", schema={"k": pl.String, "t": pl.Int64}, **settings)


def counted(tester: Any) -> Any:
    found = tester.metrics()
    return found.records, found.processed, found.late, found.late_rows, found.dead_letters, found.skipped


def test_a_record_that_two_steps_find_bad_is_one_dead_letter() -> None:
    events = stream()
    sinks = [
        events.with_event_time(pl.col("t") + shift).group_by("k").window(sl.tumbling("1s"), name=name).agg(pl.len())
        for name, shift in (("one", 0), ("two", 1))
    ]
    with StreamTester(sl.Pipeline([sink.sink_table(str(n)) for n, sink in enumerate(sinks)])) as t:
        t.send("events", {"k": "a", "t": None})
        assert t.dead_letters().height == 1
        assert counted(t) == (1, 0, 0, 0, 1, 0)


def test_a_record_that_is_bad_for_one_step_and_late_for_another_is_a_dead_letter() -> None:
    events = stream()
    used = events.group_by("k").window(sl.tumbling("1s"), name="used").agg(pl.len())
    bad = events.with_event_time("t").group_by("k").window(sl.tumbling("1s"), name="bad").agg(pl.len())
    with StreamTester(sl.Pipeline([used.sink_table("used"), bad.sink_table("bad")])) as t:
        t.send("events", {"k": "a", "t": 0}, timestamp=5_000)
        t.send("events", {"k": "a", "t": None}, timestamp=0)
        assert counted(t) == (2, 1, 0, 1, 1, 0)


def test_a_record_that_is_late_for_one_step_only_is_processed() -> None:
    events = stream()
    strict = events.group_by("k").window(sl.tumbling("1s"), name="strict").agg(pl.len())
    patient = events.group_by("k").window(sl.tumbling("1s", grace="1m"), name="patient").agg(pl.len())
    with StreamTester(sl.Pipeline([strict.sink_table("strict"), patient.sink_table("patient")])) as t:
        t.send("events", {"k": "a", "t": 0}, timestamp=5_000)
        t.send("events", {"k": "a", "t": 0}, timestamp=0)
        assert counted(t) == (2, 2, 0, 1, 0, 0)


def test_a_record_of_which_one_row_is_late_and_another_in_time_is_processed() -> None:
    events = sl.Kafka("localhost:9092").stream("events", schema={"t": pl.List(pl.Int64)})
    counts = events.explode("t").with_event_time("t").group_by().window(sl.tumbling("1s")).agg(pl.len())
    with StreamTester(counts) as t:
        t.send("events", {"t": [5_000]})
        t.send("events", {"t": [0, 5_001]})
        assert counted(t) == (2, 2, 0, 1, 0, 0)
        t.send("events", {"t": [0, 1]})
        assert counted(t) == (3, 2, 1, 3, 0, 0)


def test_a_record_without_a_payload_is_skipped_and_says_nothing_about_time() -> None:
    with StreamTester(stream().group_by("k").window(sl.tumbling("1s")).agg(pl.len())) as t:
        t.send("events", {"k": "a", "t": 0}, timestamp=0)
        t.send("events", None, timestamp=90_000)
        t.send("events", {"k": "a", "t": 0}, timestamp=1)
        assert counted(t) == (3, 2, 0, 0, 0, 1)
        assert t.read() == []


def test_the_report_of_a_bounded_run_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))
    rows = [{"k": "a", "t": time} for time in (0, 5_000, 6_000, 1, 7_000, None, -1)]
    lines = [json.dumps(row) for row in rows] + ["nope", "", '{"k": 1, "t": 1.5}']
    path = tmp_path / "events.ndjson"
    path.write_text("\n".join(lines) + "\n")
    events = sl.from_ndjson(path, event_time="t", schema={"k": pl.String, "t": pl.Int64})
    counts = events.group_by("k").window(sl.tumbling("1s")).agg(pl.len().alias("n"))
    report = sl.Pipeline([counts.sink_table("counts")], name="adds-up").run(until="latest")
    found = (report.records, report.processed, report.late, report.late_rows, report.dead_letters, report.skipped)
    assert found == (10, 4, 1, 1, 4, 1)
    assert report.results == 3
