"""Summaries of bounded size: how far off they are, and that neither order nor cut changes them."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from streamlab.plan.sketch_distinct import Distinct
from streamlab.plan.sketch_frequent import Frequent
from streamlab.plan.sketch_quantile import Quantile
from streamlab.plan.sketches import merge, merge_pairs

DISTINCT, MEDIAN, TOP = Distinct.within(0.02), Quantile(0.5, 0.01), Frequent(5, 100)


def lists(*values, dtype=None):
    return pl.Series([list(v) for v in values], dtype=None if dtype is None else pl.List(dtype))


def in_parts(sketch, values, cuts, *, dtype=None):
    """Return the summary of values that were cut at places, put together in a random tree."""
    rng = np.random.default_rng(len(cuts))
    edges = [0, *sorted(cuts), len(values)]
    parts = [values[a:b] for a, b in pairwise(edges)]
    rng.shuffle(parts)
    held = list(sketch.start(lists(*parts, dtype=dtype)))
    inner = sketch.start(lists(*parts, dtype=dtype)).dtype
    while len(held) > 1:
        some = int(rng.integers(2, len(held) + 1))
        merged = merge(sketch, pl.Series([[one.to_list() for one in held[:some]]], dtype=pl.List(inner)))
        held = [*held[some:], merged[0]]
    return held[0].to_list()


# --- distinct values ---


@pytest.mark.parametrize("count", [0, 1, 2, 100, 1023])
def test_few_distinct_values_are_counted_exactly(count) -> None:
    values = [f"user-{n}" for n in range(count)]
    assert DISTINCT.finish(DISTINCT.start(lists(values * 3, dtype=pl.String))).to_list() == [count]


@pytest.mark.parametrize("error", [0.005, 0.02, 0.1, 0.25])
def test_the_standard_error_is_as_stated(error) -> None:
    sketch = Distinct.within(error)
    offs = []
    for count in (sketch._size // 4, sketch._size, 3 * sketch._size, 20 * sketch._size):
        for seed in range(2 if error < 0.01 else 20):
            first = 10_000_000 * seed + count
            found = sketch.finish(sketch.start(lists(range(first, first + count))))[0]
            offs.append(found / count - 1)
    assert math.sqrt(np.mean(np.square(offs))) < 1.25 * error
    assert abs(np.mean(offs)) < error / 2


def test_distinct_values_are_a_function_of_the_values_alone() -> None:
    rng = np.random.default_rng(3)
    for count in (5, 900, 1023, 1024, 1100, 6000):
        values = rng.integers(0, count, 3 * count).tolist()
        whole = DISTINCT.start(lists(values))[0].to_list()
        for cuts in ([1], [count], sorted(rng.integers(0, 3 * count, 20).tolist())):
            assert in_parts(DISTINCT, values, cuts, dtype=pl.Int64) == whole


def test_groups_of_few_and_of_many_distinct_values_do_not_mix() -> None:
    few, many, none = range(10), range(5_000), range(0)
    alone = [DISTINCT.start(lists(one, dtype=pl.Int64))[0].to_list() for one in (few, many, none, many, few)]
    held = DISTINCT.start(lists(few, many, none, many, few))
    assert held.to_list() == alone
    pairs = pl.Series([[alone[0], alone[1]], [alone[2]], [], [alone[4], alone[4]]], dtype=pl.List(held.dtype))
    merged = merge(DISTINCT, pairs)
    assert merged.to_list() == [alone[1], [], [], alone[0]]
    assert DISTINCT.finish(merged).to_list()[1:] == [0, 0, 10]


def test_distinct_values_take_no_more_room_than_stated() -> None:
    assert DISTINCT.start(lists(range(200_000))).estimated_size() < 4.4 / 0.02**2
    assert DISTINCT.start(lists(range(10))).list.len()[0] == 10


def test_a_null_is_a_distinct_value_as_it_is_for_polars() -> None:
    assert DISTINCT.finish(DISTINCT.start(pl.Series([["a", None, None, "b"]]))).to_list() == [3]


# --- quantiles ---

SHAPES = {
    "lognormal": lambda rng: rng.lognormal(3, 2, 20_000),
    "both signs": lambda rng: rng.normal(0, 100, 20_000),
    "negative": lambda rng: -rng.pareto(1.1, 20_000),
    "whole numbers": lambda rng: rng.integers(-50, 50, 20_000).astype(float),
    "tiny": lambda rng: rng.random(5_000) * 1e-300,
    "huge": lambda rng: rng.random(5_000) * 1.7e308,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("error", [0.001, 0.01, 0.2])
def test_a_quantile_is_as_near_as_stated(shape, error) -> None:
    values = SHAPES[shape](np.random.default_rng(5))
    for share in (0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0):
        sketch = Quantile(share, error)
        found = sketch.finish(sketch.start(lists(values.tolist())))[0]
        wanted = pl.Series(values).quantile(share, "lower")
        assert abs(found - wanted) <= (error + 1e-9) * abs(wanted), (share, found, wanted)


def test_a_quantile_is_a_function_of_the_values_alone() -> None:
    rng = np.random.default_rng(6)
    values = [*rng.lognormal(0, 3, 500).tolist(), *(-rng.lognormal(0, 3, 500)).tolist(), 0.0, math.inf, -math.inf]
    rng.shuffle(values)
    whole = MEDIAN.start(lists(values))[0].to_list()
    for cuts in ([1], [500], sorted(rng.integers(0, 1003, 30).tolist())):
        assert in_parts(MEDIAN, values, cuts, dtype=pl.Float64) == whole


def test_values_of_more_magnitudes_than_there_is_room_for_are_zero_nearest_to_it_whatever_the_cut() -> None:
    values = [sign * 10.0 ** (n / 60) for n in range(-18_000, 18_000, 7) for sign in (1, -1)]
    np.random.default_rng(7).shuffle(values)
    whole = MEDIAN.start(lists(values))[0].to_list()
    assert len(whole) == 2 * (MEDIAN.capacity + 1)
    for cuts in ([1], [2_000], [100, 200, 300, 4_000, 4_500, 5_000]):
        assert in_parts(MEDIAN, values, cuts, dtype=pl.Float64) == whole
    assert sum(whole[1::2]) == len(values)
    top = Quantile(0.95, 0.01)
    wanted = sorted(values)[int(0.95 * (len(values) - 1))]
    assert math.isclose(top.finish(top.start(lists(values)))[0], wanted, rel_tol=0.0101)


def test_a_quantile_leaves_nulls_out_and_sorts_what_is_no_number_above_all_others() -> None:
    values = pl.Series([[1.0, None, math.nan], [None], [], [-math.inf, 5.0], [math.nan, math.inf], [-0.0, 0.0]])
    top, low = Quantile(1.0, 0.01), Quantile(0.0, 0.01)
    found = top.finish(top.start(values)).to_list()
    assert math.isnan(found[0])
    assert found[1:3] == [None, None]
    assert math.isnan(found[4])
    assert low.finish(low.start(values)).round(1).to_list() == [1.0, None, None, -math.inf, math.inf, 0.0]


# --- the most frequent values ---


def test_counts_are_exact_while_there_is_room_and_ties_go_by_value() -> None:
    values = [*"cab", *"cab", *"zz", None, None]
    assert TOP.finish(TOP.start(lists(values)))[0].to_list() == [
        {"value": None, "count": 2},
        *({"value": name, "count": 2} for name in "abcz"),
    ]
    rng = np.random.default_rng(8)
    many = rng.integers(0, 100, 5_000).tolist()
    whole = sorted(Counter(many).items(), key=lambda item: (-item[1], item[0]))[:5]
    for cuts in ([1], [2_500], sorted(rng.integers(0, 5_000, 20).tolist())):
        held = pl.Series([in_parts(TOP, many, cuts, dtype=pl.Int64)], dtype=TOP.held(pl.Int64()))
        assert [tuple(item.values()) for item in TOP.finish(held)[0].to_list()] == whole


def test_with_more_distinct_values_counts_lack_no_more_than_stated_and_none_is_too_high() -> None:
    rng = np.random.default_rng(9)
    values = rng.zipf(1.2, 50_000).clip(max=10**6).tolist()
    exact = Counter(values)
    bound = len(values) / (TOP.capacity + 1)
    for cuts in ([], list(range(500, 50_000, 500)), sorted(rng.integers(0, 50_000, 40).tolist())):
        held = in_parts(TOP, values, cuts, dtype=pl.Int64)
        assert len(held) <= TOP.capacity
        found = {item["value"]: item["count"] for item in held}
        for value, count in exact.items():
            assert count - bound <= found.get(value, 0) <= count


def test_zeros_of_both_signs_are_one_value() -> None:
    held = TOP.start(lists([0.0, -0.0, 1.0]))
    assert [(item["value"], item["count"]) for item in TOP.finish(held)[0]] == [(0.0, 2), (1.0, 1)]
    assert math.copysign(1, TOP.finish(TOP.start(lists([-0.0])))[0][0]["value"]) == 1


def test_groups_without_values_have_empty_summaries() -> None:
    for sketch in (DISTINCT, MEDIAN, TOP):
        held = sketch.start(lists([], [1], []))
        assert held.list.len().to_list()[::2] == [0, 0]
        nothing = sketch.start(pl.Series([], dtype=pl.List(pl.Int64)))
        assert nothing.dtype == held.dtype == sketch.held(pl.Int64())
        assert len(sketch.finish(nothing)) == len(merge(sketch, nothing.implode().head(0))) == 0
        assert sketch.finish(held).dtype == sketch.found(held.dtype)


@pytest.mark.parametrize("sketch", [DISTINCT, MEDIAN, TOP], ids=["distinct", "quantile", "top"])
def test_two_summaries_side_by_side_are_put_together_row_by_row(sketch) -> None:
    one, other = sketch.start(lists([1, 2], range(3_000), [], [7])), sketch.start(lists([2, 3], [5], [4], range(3_000)))
    found = merge_pairs(sketch, pl.DataFrame({"a": one, "b": other}).to_struct())
    both = [[a, b] for a, b in zip(one.to_list(), other.to_list(), strict=True)]
    assert found.list.sort().to_list() == merge(sketch, pl.Series(both, dtype=pl.List(one.dtype))).list.sort().to_list()
    nothing = pl.DataFrame({"a": pl.Series([None] * 4, dtype=one.dtype), "b": other}).to_struct()
    assert sketch.finish(merge_pairs(sketch, nothing)).to_list() == sketch.finish(other).to_list()
