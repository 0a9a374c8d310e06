"""What an as-of join refuses when it is written, and what it says of itself."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import DurationError, PlanError, UnknownColumnError
from streamlab.plan import fingerprint


def stream(topic, event_time="ts", **settings):
    schema = {"id": pl.Int64, "user": pl.String, "ts": pl.Datetime("ms", "UTC"), "at": pl.Int64}
    return sl.Kafka("localhost:9092").stream(topic, schema=schema, event_time=event_time, **settings)


def join(**settings):
    return stream("l").join_asof(stream("r"), **({"on": "ts", "by": "id", "tolerance": "1h"} | settings))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"by": None}, PlanError, ["no common key", "by_left="]),
        ({"by": "idd"}, UnknownColumnError, ["Did you mean 'id'?"]),
        ({"by": None, "by_left": "id"}, PlanError, ["belong together"]),
        ({"by_left": "id", "by_right": "id"}, PlanError, ["exclude each other"]),
        ({"by": None, "by_left": "id", "by_right": "user"}, PlanError, ["'id' is Int64", "'user' is String"]),
        ({"on": "tss"}, UnknownColumnError, ["'tss'", "Did you mean 'ts'?"]),
        ({"on": "user"}, PlanError, ["'user' is String", "must be Datetime"]),
        ({"on": "at"}, PlanError, ["on='at' is not the event time", "'ts'", ".with_event_time('at')"]),
        ({"on": ["ts"]}, PlanError, ["no column name"]),
        ({"on": None, "left_on": "ts"}, PlanError, ["belong together"]),
        ({"tolerance": None}, PlanError, ["no tolerance", "for ever"]),
        ({"tolerance": "0s"}, DurationError, ["tolerance", "more than zero"]),
        ({"tolerance": timedelta(seconds=-1)}, DurationError, ["tolerance", "more than zero"]),
        ({"tolerance": 3600}, DurationError, ["tolerance: 3600 is no duration"]),
        ({"tolerance": "99999999w"}, PlanError, ["tolerance", "differences of event times"]),
        ({"grace": timedelta(seconds=-1)}, DurationError, ["grace", "at least zero"]),
        ({"strategy": "nearest"}, PlanError, ["'nearest'", '"backward"', ".join_interval("]),
        ({"suffix": ""}, PlanError, ["'user'", "suffix="]),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_written(settings, error, words):
    with pytest.raises(error) as caught:
        join(**settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_column_of_event_time_is_followed_through_the_steps_before():
    right = stream("r")
    moved = right.with_event_time("at")
    assert stream("l").join_asof(moved, left_on="ts", right_on="at", by="id", tolerance="1h").columns[-1] == "ts_right"
    with pytest.raises(PlanError, match="its event time is 'at'"):
        stream("l").join_asof(moved, on="ts", by="id", tolerance="1h")
    named = right.rename({"ts": "when"}).filter(pl.col("id") > 0)
    stream("l").join_asof(named, left_on="ts", right_on="when", by="id", tolerance="1h")
    with pytest.raises(PlanError, match="'when'"):
        stream("l").join_asof(named, left_on="ts", right_on="at", by="id", tolerance="1h")
    with pytest.raises(PlanError, match="record timestamp"):
        stream("l").join_asof(stream("r", event_time=None), on="ts", by="id", tolerance="1h")
    made = right.with_event_time(pl.col("at") + 1)
    stream("l").join_asof(made, left_on="ts", right_on="at", by="id", tolerance="1h")  # it cannot be told


def test_tables_are_refused_on_either_side():
    counts = stream("l").group_by("id").agg(pl.len().alias("n"))
    with pytest.raises(PlanError, match="right side is a StreamTable"):
        stream("r").join_asof(counts, by="id", tolerance="1h")


def test_columns_are_those_of_polars():
    assert join().columns == ["id", "user", "ts", "at", "user_right", "at_right"]
    assert join(on=None).columns == ["id", "user", "ts", "at", "user_right", "ts_right", "at_right"]


def test_it_says_what_it_costs_and_what_is_outside_the_replay_law():
    text = join(grace="1m").explain()
    assert "join_asof by id: newest right row of the last 1h, grace 1m [join-asof-by-id]" in text
    assert "keeps right rows for 1h1m" in text
    assert "the last to arrive counts" in text
    both = stream("l", key="id").join_asof(stream("r", key="id"), by="id", tolerance="1h")
    assert both.node.key == "id"
    assert "the last to arrive counts" not in both.explain()


def test_all_that_changes_what_it_does_changes_its_fingerprint():
    kinds = [{}, {"tolerance": "2h"}, {"grace": "1m"}, {"on": None}, {"suffix": "_r"}, {"by": "user"}, {"name": "mine"}]
    assert len({fingerprint.of_node(join(**kind).node) for kind in kinds}) == len(kinds)
