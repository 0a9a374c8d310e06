"""Aggregations of tables, case by case."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.held.exact_sums import FloatSums, group_sums
from streamlab.testing import StreamTester

SCHEMA = {"k": pl.String, "g": pl.String, "x": pl.Float64}


def rows(**more: Any) -> Any:
    return sl.Kafka("x:1").table("rows", key="k", schema=SCHEMA, idle_timeout=None, **more)


def send(t: StreamTester, key: str, g: str | None, x: float | None = None, at: int = 0) -> list[Any]:
    value = None if g is None else {"k": key, "g": g, "x": x}
    t.send("rows", value, key=key, timestamp=at)
    return [(record.key, *list(record.value.values())[1:], record.timestamp) for record in t.read()]


@pytest.mark.parametrize("more", [{}, {"last": pl.col("k").last()}])
def test_the_old_group_comes_before_the_new_one_and_stays_at_zero(more: dict[str, pl.Expr]) -> None:
    with StreamTester(rows().group_by("g").agg(pl.len().alias("n"), **more).select("g", "n")) as t:
        assert send(t, "A", "green", at=10) == [("green", 1, 10)]
        assert send(t, "B", "green", at=9) == [("green", 2, 10)]
        assert send(t, "A", "blue", at=12) == [("green", 1, 12), ("blue", 1, 12)]
        assert send(t, "B", None, at=13) == [("green", 0, 13)]
        assert send(t, "B", None, at=14) == []
        assert send(t, "A", "blue", at=11) == [("blue", 1, 12)]


def test_without_groups_there_is_one_row() -> None:
    with StreamTester(rows().group_by().agg(pl.len().alias("n"), pl.col("x").sum().alias("s"))) as t:
        t.send_batch("rows", [{"k": "a", "x": 1}, {"k": "b", "x": 2}, {"k": "a", "x": 5}])
        assert [(record.key, record.value) for record in t.read()] == [(None, {"n": 2, "s": 7.0})]


def test_groups_may_be_worked_out_and_have_the_name_of_the_key() -> None:
    table = rows().group_by(pl.col("k").str.slice(0, 1)).agg(pl.col("g").str.join("").alias("all"))
    with StreamTester(table) as t:
        assert send(t, "ab", "1") == [("a", "1", 0)]
        assert send(t, "ac", "2") == [("a", "12", 0)]
        assert send(t, "ab", None) == [("a", "2", 0)]


@pytest.mark.parametrize("kept", [False, True])
def test_numbers_that_are_none_leave_no_trace(kept: bool) -> None:
    aggs = {"s": pl.col("x").sum(), "m": pl.col("x").mean(), "v": pl.col("x").var()}
    table = rows().group_by("g").agg(**aggs, **({"top": pl.col("x").max()} if kept else {})).select("g", "s", "m", "v")
    with StreamTester(table) as t:
        t.send_batch("rows", [{"k": "a", "g": "p", "x": 0.1}, {"k": "b", "g": "p", "x": 0.2}])
        t.read()
        send(t, "c", "p", 1e300)
        assert send(t, "c", None)[0][1:4] == pytest.approx((0.3, 0.15, 0.005))
        t.restart()
        assert send(t, "a", None)[0][1:3] == pytest.approx((0.2, 0.2))
        assert send(t, "b", None)[0][1:4] == (0.0, None, None)


def test_sums_of_large_and_small_numbers_are_exact_after_the_large_ones_went() -> None:
    sums = FloatSums.empty()
    sums.grow(1)
    slot, zero = np.array([0]), np.zeros(4, np.int64)
    sums.change(slot, zero, np.array([1e16, 1.0, 1e-3, -1e15]), np.ones(4), square=False)
    sums.change(slot, zero[:2], np.array([1e16, -1e15]), -np.ones(2), square=False)
    assert sums.at(slot).high.tolist() == [1.001]


def test_strange_numbers_count_while_they_are_there() -> None:
    sums, slot, one = FloatSums.empty(), np.array([0]), np.zeros(1, np.int64)

    def change(value: float, sign: float) -> float:
        sums.change(slot, one, np.array([value]), np.array([sign]), square=False)
        return float(sums.at(slot).high[0])

    assert change(2.5, 1) == 2.5
    assert change(np.inf, 1) == np.inf
    assert np.isnan(change(-np.inf, 1))
    assert change(np.inf, -1) == -np.inf
    assert np.isnan(change(np.nan, 1))
    assert change(-np.inf, -1) != change(-np.inf, -1)  # NaN
    assert np.isnan(change(-np.inf, 1))


def test_a_batch_is_summed_by_group_without_error_however_it_is_ordered() -> None:
    values = np.random.default_rng(7).normal(size=3_000) * 10.0 ** np.arange(3_000).clip(0, 16).repeat(1)
    group = np.arange(3_000) % 3
    found = group_sums(values, group, 3)
    for number in range(3):
        assert found.high[number] == math.fsum(values[group == number])
    assert group_sums(np.empty(0), np.empty(0, np.int64), 2).high.tolist() == [0.0, 0.0]
    assert group_sums(np.array([1e308, -1e308, 1.0]), np.zeros(3, np.int64), 1).high.tolist() == [1.0]


def test_state_of_rows_and_groups_comes_back_whole() -> None:
    table = rows().group_by("g").agg(pl.len().alias("n"), pl.col("x").std().alias("d"))
    with StreamTester(table) as one, StreamTester(table) as other:
        for number in range(200):
            given = (f"k{number % 37}", None if number % 11 == 0 else f"g{number % 5}", float(number))
            assert send(one, *given) == send(other, *given)
            if number % 20 == 0:
                other.restart()
        held = [t.state()["rows"].to_list() for t in (one, other)]
        assert held[0] == held[1] != [0]


def test_what_a_table_aggregation_costs_is_told() -> None:
    sums, kept = rows().group_by("g").agg(pl.len()), rows().group_by("g").agg(pl.col("x").max(), pl.len())
    assert "some numbers for each row" in sums.explain()
    assert 'works out each changed group anew from all of its rows, because of col("x").max()' in kept.explain()
    assert "one task over all partitions" in sums.explain()
    assert "one task per partition: rows of one k" in rows().group_by("k", "g").agg(pl.len()).explain()
