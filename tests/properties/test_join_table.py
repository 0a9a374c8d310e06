"""Joins of streams with tables: the batch law against a naive oracle, and agreement with polars."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

import streamlab as sl
from tests.properties.aggregations import FUNCTIONS
from tests.properties.harness import examples
from tests.properties.oracle import Aggregate, Aggregation, Source
from tests.properties.oracle_join_table import Enriched, TableSource
from tests.properties.playing_joins import IDLE, Joined, play, sent, volleys
from tests.properties.strategies import windows, written_window

SCHEMA = {"k": pl.String, "j": pl.Int64, "x": pl.Int64}


def milliseconds(value: Any) -> Any:
    return None if value is None else timedelta(milliseconds=value)


@st.composite
def joins(draw: Any, versions: Any) -> Joined:
    """Draw a join of a stream with a table; `versions` is "none", "kept" or "grace"."""
    partitions = draw(st.sampled_from([1, 1, 2, 3]))
    keys = draw(st.sampled_from([("k",), ("k",), ("k", "j")]))
    promised = len(keys) == 1 and draw(st.booleans())
    how = draw(st.sampled_from(["inner", "left"]))
    history = None if versions == "none" else draw(st.sampled_from([1, 2, 4, 1000]))
    grace = draw(st.sampled_from([0, 1, 2, 6])) if versions == "grace" else None
    idle = draw(st.sampled_from([None, IDLE]))
    kafka = sl.Kafka("localhost:9092")
    stream = kafka.stream("s", schema=SCHEMA, key="k" if promised else None, idle_timeout=milliseconds(idle))
    table = kafka.table("t", key=keys, schema=SCHEMA, idle_timeout=milliseconds(idle), history=milliseconds(history))
    frame = stream.join(table, on=list(keys), how=how, suffix="_t", grace=milliseconds(grace))
    nodes = [
        kind(name, partitions, event_time=None, idle_timeout=idle) for kind, name in ((Source, "s"), (TableSource, "t"))
    ]
    node = Enriched(
        *nodes,
        keys,
        keys,
        {name: f"{name}_t" for name in SCHEMA if name not in keys},
        how=how,
        history=history,
        grace=grace,
        partitions=partitions if promised else None,
    )
    return Joined(frame, node, ("s", "t"), {"t": keys}, partitions, promised)


def law(versions: Any) -> Any:
    @examples(40)
    @given(plan=joins(versions), fired=volleys)
    def check(plan: Any, fired: Any) -> None:
        for record, shot in zip(sent(plan, fired), fired, strict=True):
            note(f"{record.message} {record.key!r} then {shot.then}")
        play(plan, fired)

    return check


test_the_last_row_by_arrival = law("none")
test_the_row_as_of_the_records_time = law("kept")
test_records_that_wait = law("grace")


# --- joins among other steps ---


@st.composite
def chains(draw: Any) -> Joined:
    """Draw a plan in which a join stands before or after other steps."""
    partitions, promised = draw(st.sampled_from([1, 1, 2, 3])), draw(st.booleans())
    shape = draw(
        st.sampled_from(["window after", "window after grace", "join after window", "two joins", "table twice"])
    )
    how, history = draw(st.sampled_from(["inner", "left"])), draw(st.sampled_from([2, 1000]))
    kafka = sl.Kafka("localhost:9092")
    stream = kafka.stream("s", schema=SCHEMA, key="k" if promised else None, idle_timeout=None)
    source = Source("s", partitions, event_time=None, idle_timeout=None)
    lanes = partitions if promised else None

    def table(topic: Any, kept: Any) -> Any:
        frame = kafka.table(topic, key="k", schema=SCHEMA, idle_timeout=None, history=milliseconds(kept))
        return frame, TableSource(topic, partitions, event_time=None, idle_timeout=None)

    def joined(left: Any, right: Any, suffix: Any, kept: Any, grace: Any = None) -> Any:
        frame = left[0].join(right[0], on="k", how=how, suffix=suffix, grace=milliseconds(grace), name=f"join{suffix}")
        values = {"j": f"j{suffix}", "x": f"x{suffix}"}
        values = {name: told if name in left[0].columns else name for name, told in values.items()}
        options = {"how": how, "history": kept, "grace": grace, "partitions": lanes}
        return frame, Enriched(left[1], right[1], ("k",), ("k",), values, **options)

    def windowed(left: Any, column: Any) -> Any:
        window = draw(windows(1))
        groups = left[0].group_by("k").window(written_window(window), emit="final", name="window")
        frame = groups.agg(pl.len().alias("n"), pl.col(column).max().alias("most"))
        made = [Aggregation("n", column, len), Aggregation("most", column, FUNCTIONS["max"])]
        return frame, Aggregate(left[1], ("k",), made, window=window, final=True, partitions=lanes)

    first, second = table("t", history), table("u", None)
    begin = stream, source
    if shape == "window after":
        made = windowed(joined(begin, first, "_t", history), "x_t")
    elif shape == "window after grace":
        made = windowed(joined(begin, first, "_t", history, draw(st.sampled_from([0, 2, 6]))), "x_t")
    elif shape == "join after window":
        made = joined(windowed(begin, "x"), first, "_t", history)
    elif shape == "two joins":
        made = joined(joined(begin, first, "_t", history), second, "_u", None)
    else:
        made = joined(joined(begin, first, "_t", history), first, "_u", history)
    topics = ("s", "t", "u") if shape == "two joins" else ("s", "t")
    return Joined(
        made[0],
        made[1],
        topics,
        dict.fromkeys(topics[1:], ("k",)),
        partitions,
        promised,
    )


@examples(40)
@given(plan=chains(), fired=volleys)
def test_joins_among_other_steps_keep_event_times_and_watermarks(plan: Any, fired: Any) -> None:
    for record, shot in zip(sent(plan, fired), fired, strict=True):
        note(f"{record.message} {record.key!r} then {shot.then}")
    play(plan, fired)
