"""What `explain` shows, kept as text files, and what makes two plans the same.

The files are renewed with ``UPDATE_SNAPSHOTS=1 pytest tests/plans``: then look at the difference before it is committed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamlab as sl
from tests.plans.plans import PLANS, SCHEMA, fingerprints, flights

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("name", PLANS)
def test_explain_shows_what_it_showed(name: Any) -> None:
    shown = PLANS[name]().explain() + "\n"
    kept = HERE / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        kept.write_text(shown)
    assert shown == kept.read_text(), "look at the difference, and renew the file with UPDATE_SNAPSHOTS=1"


def test_every_snapshot_is_of_a_plan() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == set(PLANS)


def test_a_plan_has_the_same_fingerprint_whenever_and_wherever_it_is_built() -> None:
    here = fingerprints()
    assert fingerprints() == here
    program = "import json; from tests.plans.plans import fingerprints; print(json.dumps(fingerprints()))"
    for seed in ("1", "2"):  # of Python's string hashes
        made = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(made.stdout) == here


def test_different_plans_have_different_fingerprints() -> None:
    found = fingerprints()
    assert len(set(found.values())) == len(found)


def fingerprint(frame: Any, target: Any = "results") -> Any:
    return sl.Pipeline([frame.sink_parquet(target)]).fingerprint


def windowed(
    window: Any = None,
    *,
    by: Any = "carrier",
    emit: Any = "final",
    name: Any = None,
    agg: Any = None,
    stream: Any = None,
) -> Any:
    groups = (flights() if stream is None else stream).group_by(by)
    made = groups.window(window or sl.tumbling("1h"), emit=emit, name=name)
    return made.agg(pl.col("delay").mean().round(2) if agg is None else agg)


DELAY = pl.col("delay")
CHANGES = {
    "column of the schema": windowed(
        stream=sl.Kafka("x:1").stream("flights", schema={**SCHEMA, "more": pl.Int8}, event_time="time_hour")
    ),
    "type in the schema": windowed(
        stream=sl.Kafka("x:1").stream("flights", schema={**SCHEMA, "seats": pl.Int8}, event_time="time_hour")
    ),
    "topic": windowed(stream=flights("departures")),
    "event time": windowed(stream=flights(event_time=None)),
    "promised key": windowed(stream=flights(key="carrier")),
    "what becomes of bad records": windowed(stream=flights(on_error="skip")),
    "idle timeout": windowed(stream=flights(idle_timeout="5s")),
    "no idle timeout": windowed(stream=flights(idle_timeout=None)),
    "metadata": windowed(stream=flights(metadata=True)),
    "filter": windowed(stream=flights().filter(DELAY > 0)),
    "value in a filter": windowed(stream=flights().filter(DELAY > 1)),
    "infinity in a filter": windowed(stream=flights().filter(float("inf") > DELAY)),
    "other infinity in a filter": windowed(stream=flights().filter(float("-inf") > DELAY)),
    "not a number in a filter": windowed(stream=flights().filter(pl.lit(float("nan")) > DELAY)),
    "event time taken anew": windowed(stream=flights().with_event_time("time_hour")),
    "event time taken from elsewhere": windowed(stream=flights().with_event_time("seats")),
    "function": windowed(stream=flights().map_batches(lambda frame: frame, schema=SCHEMA)),
    "code of a function": windowed(stream=flights().map_batches(lambda frame: frame.head(), schema=SCHEMA)),
    "size of the windows": windowed(sl.tumbling("2h")),
    "grace": windowed(sl.tumbling("1h", grace="1s")),
    "offset": windowed(sl.tumbling("1h", offset="1s")),
    "grouping columns": windowed(by="dest"),
    "emit": windowed(emit="updates"),
    "name of the step": windowed(name="delays"),
    "digits of a rounded aggregation": windowed(agg=DELAY.mean().round(0)),
    "aggregation": windowed(agg=DELAY.max().round(2)),
    "degrees of freedom": windowed(agg=DELAY.std(ddof=0)),
    "other degrees of freedom": windowed(agg=DELAY.std()),
    "name of an aggregation": windowed(agg=DELAY.mean().round(2).alias("other")),
    "one aggregation more": flights()
    .group_by("carrier")
    .window(sl.tumbling("1h"))
    .agg(DELAY.mean().round(2), pl.len()),
    "no window": flights().group_by("carrier").agg(DELAY.mean().round(2)),
    "late rows": windowed().late,
    "two streams": windowed(stream=sl.concat([flights(), flights("south")])),
}


def test_each_change_of_what_a_plan_does_changes_its_fingerprint() -> None:
    base = fingerprint(windowed())
    assert fingerprint(windowed()) == base
    found = {name: fingerprint(frame) for name, frame in CHANGES.items()}
    assert {name for name, mark in found.items() if mark == base} == set()
    assert len(set(found.values())) == len(found)


def test_a_change_of_sink_changes_the_fingerprint() -> None:
    delays = windowed()
    sinks = [
        delays.sink_parquet("one"),
        delays.sink_parquet("two"),
        delays.sink_kafka("one"),
        delays.sink_kafka("two"),
        delays.sink_kafka("one", key="delay"),
        delays.sink_table("one"),
        delays.sink_table("one", key="carrier"),
        delays.sink_frame(print, name="one"),
        delays.sink_frame(repr, name="one"),
    ]
    assert len({sl.Pipeline([sink]).fingerprint for sink in sinks}) == len(sinks)
    assert sl.Pipeline(sinks[:1]).fingerprint != sl.Pipeline(sinks[:2]).fingerprint
    assert sl.Pipeline(sinks[:2]).fingerprint == sl.Pipeline(sinks[1::-1]).fingerprint


def test_what_changes_no_result_changes_no_fingerprint() -> None:
    base = fingerprint(windowed())
    elsewhere = sl.Kafka("other:9092", {"linger.ms": 5}).stream(
        "flights", schema=SCHEMA, event_time="time_hour", start="latest"
    )
    assert fingerprint(windowed(stream=elsewhere)) == base
    assert sl.Pipeline([windowed().sink_parquet("results")], name="named").fingerprint == base
    assert fingerprint(windowed(sl.tumbling("60m"))) == base
