"""Groups that expire, against a model that judges every group at every record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import streamlab as sl
from tests.properties.harness import examples
from tests.properties.oracle import Source
from tests.properties.oracle_tables import Expiring
from tests.properties.playing_tables import TOPIC, Game, Shot, game, messages, play, shots

if TYPE_CHECKING:
    from tests.properties.oracle import Row

SCHEMA = {"k": pl.String, "x": pl.Int64}
VALUES = {"x": st.sampled_from([0, 1, 2, -5, None])}
PARTS = {"n": pl.len(), "top": pl.col("x").max(), "last": pl.col("x").last()}
ROWS = {**PARTS, "kinds": pl.col("x").n_unique()}


def values(rows: list[Row]) -> Row:
    xs = [row["x"] for row in rows]
    return {"n": len(rows), "top": max((x for x in xs if x is not None), default=None), "last": xs[-1]}


def with_kinds(rows: list[Row]) -> Row:
    return {**values(rows), "kinds": len({row["x"] for row in rows})}


def expiring(ttl: int, partitions: int, *, laned: bool, by_rows: bool) -> Game:
    key: dict[str, Any] = {"key": "k"} if laned else {}
    events = sl.Kafka("localhost:9092").stream(TOPIC, schema=SCHEMA, idle_timeout="10s", **key)
    made = events.group_by("k").agg(**(ROWS if by_rows else PARTS), ttl=f"{ttl}ms")
    source = Source(TOPIC, partitions, event_time=None, idle_timeout=10_000)
    node = Expiring(source, ["k"], with_kinds if by_rows else values, ttl, partitions=partitions if laned else None)
    return game(made, node, ("k",), partitions, ordered=False)


@given(shots(VALUES), st.sampled_from([1, 2, 7, 200]), st.sampled_from([1, 3]), st.booleans(), st.booleans())
@examples(100)
def test_a_group_goes_when_the_watermark_has_left_it_behind(
    volley: list[Shot], ttl: int, partitions: int, laned: bool, by_rows: bool
) -> None:
    play(expiring(ttl, partitions, laned=laned, by_rows=by_rows), volley, messages(volley, partitions, deletes=False))


@given(shots(VALUES), st.sampled_from([1, 7]))
@examples(40)
def test_what_is_held_is_what_still_lives(volley: list[Shot], ttl: int) -> None:
    made = expiring(ttl, 1, laned=False, by_rows=False)
    sent = messages(volley, 1, deletes=False)
    with made.tester as tester:
        for message in sent:
            made.batch([message])
        alive = [row for row in made.seen.values() if row is not None]
        assert tester.state()["rows"].to_list() == [len(alive)]
        assert sum(
            len(part)
            for parts in tester._task.graph.stateful["group-by-k"].operator._wheel._buckets.values()
            for part in parts
        ) <= len(alive)
