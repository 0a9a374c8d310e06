"""Custom state as it is written: what is refused, what it is called, and what makes two of them different."""

from __future__ import annotations

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError, UnknownColumnError

SCHEMA = {"user": pl.String, "total": pl.Int64}


def events(**settings):
    return sl.Kafka("x:1").stream("events", schema={"user": pl.String, "x": pl.Int64}, **settings)


def total(rows, state):
    rows = rows.select("user", total=pl.col("x").cum_sum() + state)
    return rows, rows["total"][-1]


def test_the_columns_are_those_promised_and_the_name_says_what_groups() -> None:
    made = events().group_by("user").apply_state(total, schema=SCHEMA, state=0)
    assert dict(made.schema) == SCHEMA
    assert (made.node.name, made.node.record_key, made.node.key) == ("apply-by-user", ("user",), None)
    assert events().group_by().apply_state(total, schema=SCHEMA).node.name == "apply"
    assert events().group_by("user").apply_state(total, schema=SCHEMA, name="totals").node.name == "totals"


def test_explain_says_what_it_costs_and_what_the_function_must_do() -> None:
    shown = events(key="user").group_by("user").apply_state(total, schema=SCHEMA, state=0).explain()
    assert "apply_state total by user [apply-by-user]" in shown
    assert "calls a Python function once per key and micro-batch" in shown
    assert "the function must make the same of any cut" in shown
    assert "one task per partition: rows of one user share a partition" in shown
    assert "one task over all partitions" in events().group_by("user").apply_state(total, schema=SCHEMA).explain()


def test_all_that_changes_what_it_does_changes_the_fingerprint() -> None:
    groups = events().group_by("user")
    made = [
        groups.apply_state(total, schema=SCHEMA, state=0),
        groups.apply_state(total, schema=SCHEMA, state=1),
        groups.apply_state(total, schema=SCHEMA, state={"n": 0}),
        groups.apply_state(total, schema=SCHEMA, state=pl.DataFrame({"n": [0]})),
        groups.apply_state(total, schema=SCHEMA, state=pl.DataFrame({"n": [1]})),
        groups.apply_state(total, schema={**SCHEMA, "total": pl.Int32}, state=0),
        groups.apply_state(lambda rows, state: (rows, state), schema=SCHEMA, state=0),
        groups.apply_state(total, schema=SCHEMA, state=0, name="other"),
        groups.apply_state(total, schema=SCHEMA, state=0, event_time="total"),
        events().group_by("x").apply_state(total, schema=SCHEMA, state=0, name="apply-by-user"),
    ]
    marks = [sl.Pipeline([one.sink_parquet("r")]).fingerprint for one in made]
    assert len(set(marks)) == len(marks)
    again = groups.apply_state(total, schema=SCHEMA, state=0)
    assert sl.Pipeline([again.sink_parquet("r")]).fingerprint == marks[0]


REFUSED = {
    "no function": (lambda g: g.apply_state(3, schema=SCHEMA), "3 is no function; it must take the rows of one key"),
    "no column": (lambda g: g.apply_state(total, schema={}), "schema= is empty; name the columns and types"),
    "no type": (lambda g: g.apply_state(total, schema={"a": "text"}), "apply_state: column 'a'"),
    "a name of the engine's": (
        lambda g: g.apply_state(total, schema={"__sl_x": pl.Int64}),
        "names that begin with '__sl_' are kept for the engine",
    ),
    "state of another kind": (lambda g: g.apply_state(total, schema=SCHEMA, state={1, 2}), r"the state has \{1, 2\}"),
    "state with numbers as keys": (lambda g: g.apply_state(total, schema=SCHEMA, state={1: 2}), "JSON has text keys"),
    "an event time that is no time": (
        lambda g: g.apply_state(total, schema=SCHEMA, event_time="user"),
        "event time 'user' is String; it must be Datetime, Date, or an integer",
    ),
    "a name that no state can have": (
        lambda g: g.apply_state(total, schema=SCHEMA, name="a/b"),
        "'a/b' cannot be a name",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_when_it_is_written(what) -> None:
    write, message = REFUSED[what]
    with pytest.raises(PlanError, match=message):
        write(events().group_by("user"))


def test_an_event_time_that_is_not_promised_is_named_with_its_near_miss() -> None:
    with pytest.raises(UnknownColumnError, match=r"no column 'totl'.*Did you mean 'total'"):
        events().group_by("user").apply_state(total, schema=SCHEMA, event_time="totl")


def test_an_unknown_grouping_column_is_named() -> None:
    with pytest.raises(UnknownColumnError, match=r"no column 'usr'.*Did you mean 'user'"):
        events().group_by("usr").apply_state(total, schema=SCHEMA)
