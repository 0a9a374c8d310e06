"""What de-duplication refuses when it is written, and what it says of itself."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import DurationError, PlanError, UnknownColumnError
from streamlab.plan import fingerprint


def stream(**settings):
    schema = {"id": pl.Int64, "x": pl.String}
    return sl.Kafka("localhost:9092").stream("e", schema=schema, **settings)


@pytest.mark.parametrize(
    ("columns", "within", "error", "words"),
    [
        (["idd"], "1m", UnknownColumnError, ["unique", "Did you mean 'id'?"]),
        (["id", "id"], "1m", PlanError, ["'id' is named twice"]),
        (["id"], timedelta(seconds=-1), DurationError, ["within", "at least zero"]),
        (["id"], "10 min", DurationError, ["within: '10 min' is no duration"]),
        (["id"], "99999999w", PlanError, ["within", "must be from 0"]),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_written(columns, within, error, words):
    with pytest.raises(error) as caught:
        stream().unique(*columns, within=within)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_columns_may_be_given_as_a_list():
    assert stream().unique(["id", "x"]).node.subset == ("id", "x")
    assert stream().unique().node.subset == ("id", "x")


def test_it_says_what_it_costs_and_what_is_outside_the_replay_law():
    text = stream().unique("id", within="10m").explain()
    assert "unique by id within 10m [unique-by-id]" in text
    assert "until the watermark is 10m past it" in text
    assert "partitions read in another order" in text
    assert "for ever" in stream().unique("id").explain()
    assert "partitions read in another order" not in stream(key="id").unique("id").explain()


def test_it_has_no_late_rows():
    with pytest.raises(PlanError, match="no row is ever late"):
        _ = stream().unique("id").late


def test_all_that_changes_what_it_does_changes_its_fingerprint():
    kinds = [(("id",), "1m"), (("id",), None), (("id", "x"), "1m"), (("x",), "1m")]
    marks = {fingerprint.of_node(stream().unique(*by, within=within).node) for by, within in kinds}
    assert len(marks) == len(kinds)
