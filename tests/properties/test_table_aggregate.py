"""Aggregations of tables against a model that works out each group anew from its rows, and against polars."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import streamlab as sl
from streamlab.testing import StreamTester
from tests.properties.harness import examples
from tests.properties.oracle import Source
from tests.properties.oracle_tables import Filtered, TableGroups
from tests.properties.playing_tables import TOPIC, Shot, game, messages, play, shots

if TYPE_CHECKING:
    from tests.properties.oracle import Row

SCHEMA = {"k": pl.String, "g": pl.String, "x": pl.Int64, "f": pl.Float64}
VALUES = {
    "g": st.sampled_from(["p", "q", None]),
    "x": st.sampled_from([0, 1, 2, -5, 1 << 40, None]),
    "f": st.sampled_from([0.1, -2.5, 1e6 + 0.3, 7.0, None]),
}
SUMS = {
    "n": pl.len(),
    "sx": pl.col("x").sum(),
    "cx": pl.col("x").count(),
    "nx": pl.col("x").null_count(),
    "mf": pl.col("f").mean(),
    "sf": pl.col("f").sum(),
    "vf": pl.col("f").var(),
    "df": pl.col("f").std(0),
    "big": (pl.col("x") > 1).sum(),
}
KEPT = {
    "n": pl.len(),
    "top": pl.col("x").max(),
    "first": pl.col("x").first(),
    "last": pl.col("k").last(),
    "all": pl.col("k").implode(),
    "kinds": pl.col("x").n_unique(),
}


def sums(rows: list[Row]) -> Row:
    xs = [row["x"] for row in rows if row["x"] is not None]
    fs = [row["f"] for row in rows if row["f"] is not None]
    return {
        "n": len(rows),
        "sx": sum(xs),
        "cx": len(xs),
        "nx": len(rows) - len(xs),
        "mf": statistics.fmean(fs) if fs else None,
        "sf": float(sum(fs)),
        "vf": statistics.variance(fs) if len(fs) > 1 else None,
        "df": statistics.pstdev(fs) if fs else None,
        "big": sum(x > 1 for x in xs),
    }


def kept(rows: list[Row]) -> Row:
    xs = [row["x"] for row in rows]
    return {
        "n": len(rows),
        "top": max((x for x in xs if x is not None), default=None),
        "first": xs[0] if xs else None,
        "last": rows[-1]["k"] if rows else None,
        "all": [row["k"] for row in rows],
        "kinds": len(set(xs)),
    }


def table() -> Any:
    return sl.Kafka("localhost:9092").table(TOPIC, key="k", schema=SCHEMA)


def source(partitions: int) -> Source:
    return Source(TOPIC, partitions, event_time=None, idle_timeout=30_000)


@given(shots(VALUES), st.sampled_from([1, 3]))
@examples(30)
def test_sums_that_rows_are_taken_out_of_are_those_of_the_rows_that_are_there(
    volley: list[Shot], partitions: int
) -> None:
    made = table().group_by("g").agg(**SUMS)
    node = TableGroups(source(partitions), ["k"], ["g"], sums)
    play(game(made, node, ("g",), partitions), volley, messages(volley, partitions, deletes=True))


@given(shots(VALUES), st.sampled_from([1, 3]))
@examples(30)
def test_groups_worked_out_from_their_rows_are_those_of_the_rows_that_are_there(
    volley: list[Shot], partitions: int
) -> None:
    made = table().group_by("g").agg(**KEPT)
    node = TableGroups(source(partitions), ["k"], ["g"], kept)
    play(game(made, node, ("g",), partitions), volley, messages(volley, partitions, deletes=True))


@given(shots(VALUES))
@examples(30)
def test_a_task_a_partition_gives_the_same_where_the_groups_hold_the_key(volley: list[Shot]) -> None:
    made = table().group_by("g", "k").agg(**SUMS)
    assert "one task per partition" in made.explain()
    node = TableGroups(source(2), ["k"], ["g", "k"], sums)
    play(game(made, node, ("g", "k"), 2), volley, messages(volley, 2, deletes=True))


@given(shots(VALUES), st.booleans())
@examples(30)
def test_rows_that_a_filter_lets_go_leave_their_groups(volley: list[Shot], by_rows: bool) -> None:
    small = table().filter(pl.col("x") < 3).with_columns(x=pl.col("x") * 2)
    made = small.group_by("g").agg(**(KEPT if by_rows else SUMS))

    def values(rows: list[Row]) -> Row:
        return (kept if by_rows else sums)([{**row, "x": row["x"] * 2} for row in rows])

    passing = Filtered(source(1), ["k"], lambda row: row["x"] is not None and row["x"] < 3)
    node = TableGroups(passing, ["k"], ["g"], values)
    play(game(made, node, ("g",), 1), volley, messages(volley, 1, deletes=True))


@given(shots(VALUES))
@examples(30)
def test_the_groups_that_have_rows_are_those_that_polars_makes_of_the_last_row_of_every_key(volley: list[Shot]) -> None:
    sent = messages(volley, 1, deletes=False)
    made = game(table().group_by("g").agg(**SUMS), TableGroups(source(1), ["k"], ["g"], sums), ("g",), 1)
    play(made, volley, sent)
    rows = pl.DataFrame([message.payload for message in sent], schema=SCHEMA).unique("k", keep="last")
    expected = rows.group_by("g").agg(pl.len().alias("n"), pl.col("x").sum().alias("sx")).sort("g").rows()
    held = [(key[0], row["n"], row["sx"]) for key, row in made.seen.items() if row and row["n"]]
    assert sorted(held, key=lambda row: (row[0] is not None, row[0])) == expected


@given(shots(VALUES))
@examples(30)
def test_counts_of_windows_can_be_counted_again(volley: list[Shot]) -> None:
    """A window whose count goes from 1 to 2 leaves the group of windows with one row."""
    events = sl.Kafka("localhost:9092").stream(TOPIC, schema=SCHEMA, idle_timeout=None)
    windows = events.group_by("k").window(sl.tumbling("10ms", grace="1h"), emit="updates").agg(pl.len().alias("n"))
    counts: dict[tuple[Any, int], int] = {}
    with StreamTester(windows.group_by("n").agg(windows=pl.len())) as tester:
        for message in messages(volley, 1, deletes=False):
            tester.send(TOPIC, message.payload, timestamp=message.timestamp)
            window = message.payload["k"], message.timestamp // 10
            counts[window] = counts.get(window, 0) + 1
            told = [(record.key, record.value["windows"]) for record in tester.read()]
            now, held = counts[window], list(counts.values())
            assert told == [(n, held.count(n)) for n in (now - 1, now) if n]
