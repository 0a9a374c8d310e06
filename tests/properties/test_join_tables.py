"""Joins of two tables: the batch law against a naive oracle."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

import streamlab as sl
from tests.properties.harness import examples
from tests.properties.oracle_join_table import JoinedTables, TableSource
from tests.properties.playing_joins import IDLE, Joined, play, sent, volleys

SCHEMA = {"k": pl.String, "j": pl.Int64, "x": pl.Int64}


def milliseconds(value: Any) -> Any:
    return None if value is None else timedelta(milliseconds=value)


@st.composite
def joins(draw: Any, histories: Any) -> Joined:
    partitions = draw(st.sampled_from([1, 1, 2, 3]))
    keys = draw(st.sampled_from([("k",), ("k",), ("k", "j")]))
    how = draw(st.sampled_from(["inner", "left", "outer"]))
    kept = (draw(st.sampled_from(histories)), draw(st.sampled_from(histories)))
    idle = draw(st.sampled_from([None, IDLE]))
    kafka = sl.Kafka("localhost:9092")
    left, right = (
        kafka.table(topic, key=keys, schema=SCHEMA, idle_timeout=milliseconds(idle), history=milliseconds(history))
        for topic, history in zip(("l", "r"), kept, strict=True)
    )
    frame = left.join(right, on=list(keys), how=how, suffix="_r")
    nodes = [TableSource(name, partitions, event_time=None, idle_timeout=idle) for name in ("l", "r")]
    values = [name for name in SCHEMA if name not in keys]
    node = JoinedTables(
        *nodes,
        keys,
        keys,
        ({name: name for name in values}, {name: f"{name}_r" for name in values}),
        how=how,
        histories=kept,
        partitions=partitions if len(keys) == 1 else None,
    )
    promised = len(keys) == 1  # the one column that is a table's key is promised
    return Joined(frame, node, ("l", "r"), {"l": keys, "r": keys}, partitions, promised, is_table=True)


def law(histories: Any) -> Any:
    @examples(40)
    @given(plan=joins(histories), fired=volleys)
    def check(plan: Any, fired: Any) -> None:
        for record, shot in zip(sent(plan, fired), fired, strict=True):
            note(f"{record.message} {record.key!r} then {shot.then}")
        play(plan, fired)

    return check


test_the_last_rows_by_arrival = law([None])
test_rows_older_than_the_newest_change_nothing_where_versions_are_kept = law([None, 1, 2, 1000])
