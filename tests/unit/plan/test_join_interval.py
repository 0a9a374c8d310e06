"""What an interval join refuses when it is written, and what it says of itself."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import DurationError, PlanError, UnknownColumnError
from streamlab.plan import fingerprint


def stream(topic, **settings):
    schema = {"id": pl.Int64, "user": pl.String, "x": pl.Float64}
    return sl.Kafka("localhost:9092").stream(topic, schema=schema, **settings)


def join(**settings):
    return stream("l").join_interval(stream("r"), **({"on": "id", "after": "5m"} | settings))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"on": None}, PlanError, ["no key", "on="]),
        ({"on": "idd"}, UnknownColumnError, ["left side", "'idd'", "Did you mean 'id'?"]),
        ({"on": None, "left_on": "id", "right_on": "usr"}, UnknownColumnError, ["right side", "Did you mean 'user'?"]),
        ({"on": None, "left_on": "id", "right_on": "user"}, PlanError, ["'id' is Int64", "'user' is String", ".cast("]),
        ({"left_on": "id"}, PlanError, ["exclude each other"]),
        ({"on": ["id", "id"]}, PlanError, ["'id' twice"]),
        ({"how": "lefft"}, PlanError, ["how='lefft'", "Did you mean 'left'?"]),
        ({"after": None}, PlanError, ["before=", "after="]),
        ({"after": timedelta(seconds=-5)}, DurationError, ["after", "at least zero"]),
        ({"before": timedelta(seconds=-5)}, DurationError, ["before", "at least zero"]),
        ({"grace": timedelta(seconds=-1)}, DurationError, ["grace", "at least zero"]),
        ({"before": "5 min"}, DurationError, ["before: '5 min' is no duration"]),
        ({"before": "99999999w"}, PlanError, ["before", "must be from 0 to"]),
        ({"suffix": ""}, PlanError, ["'user'", "suffix="]),
        ({"name": "a/b"}, PlanError, ["'a/b' cannot be a name"]),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_written(settings, error, words):
    with pytest.raises(error) as caught:
        join(**settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_tables_are_refused_on_either_side():
    counts = stream("l").group_by("id").agg(pl.len().alias("n"))
    with pytest.raises(PlanError, match="right side is a StreamTable"):
        stream("r").join_interval(counts, on="id", after="1m")
    with pytest.raises(PlanError, match="not a StreamFrame"):
        stream("r").join_interval(pl.DataFrame(), on="id", after="1m")


def test_both_lengths_may_be_zero_where_that_is_said():
    assert join(after="0s").node.reach == 0


def test_columns_are_those_of_polars():
    assert join().columns == ["id", "user", "x", "user_right", "x_right"]
    assert join(on=["id", "user"], suffix="_r", how="full").columns == ["id", "user", "x", "x_r"]


def test_the_key_is_promised_on_where_both_sides_promise_it():
    def key(left, right, **settings):
        return stream("l", key=left).join_interval(stream("r", key=right), after="1m", **settings).node.key

    assert key("id", "id", on=["user", "id"]) == "id"
    assert key("id", None, on="id") is None
    assert key("user", "user", on="id") is None
    assert key("id", "user", on=["id", "user"]) is None


def test_it_says_what_it_costs():
    text = join(before="1m", grace="30s", how="outer").explain()
    assert "join_interval outer on id: right from 1m before left to 5m after, grace 30s [join-interval-on-id]" in text
    assert "keeps the rows of both sides for 6m30s" in text
    assert "left rows 5m30s, right rows 1m30s" in text
    assert "its watermark trails by 6m30s" in text
    assert "nulls" not in join().explain()


def test_all_that_changes_what_it_does_changes_its_fingerprint():
    kinds = [
        {},
        {"before": "1m"},
        {"after": "1m"},
        {"grace": "1m"},
        {"how": "left"},
        {"how": "full"},
        {"suffix": "_r"},
        {"on": "user"},
        {"name": "mine"},
    ]
    assert len({fingerprint.of_node(join(**kind).node) for kind in kinds}) == len(kinds)
    assert fingerprint.of_node(join(how="full").node) == fingerprint.of_node(join(how="outer").node)
