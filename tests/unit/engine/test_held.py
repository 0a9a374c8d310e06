"""What operators tell of a key: the windows that are open, with their values as they stand now."""

from __future__ import annotations

import random

import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.aggregates import LANE
from streamlab.engine.operator import Telling, of_keys
from streamlab.runtime.inspection import told
from streamlab.testing import StreamTester

WINDOWS = [
    sl.tumbling("10s", grace="5s"),
    sl.tumbling("10s", offset="3s"),
    sl.hopping("10s", every="4s", grace="2s"),
    sl.session("5s", grace="1s"),
    sl.sliding("5s", grace="2s"),
]
AGGS = {"n": pl.len(), "total": pl.col("x").sum(), "last": pl.col("x").last()}


def events(*, keyed):
    return sl.Kafka("x:1").stream(
        "events", schema={"k": pl.String, "x": pl.Int64}, key="k" if keyed else None, idle_timeout=None
    )


def feed(tester, seed):
    """Send some records out of order, with batches and restarts anywhere."""
    rng, clock = random.Random(seed), 0  # noqa: S311  # nothing to guard
    for _ in range(30):
        records = []
        for _ in range(rng.randint(1, 6)):
            clock += rng.choice([0, 0, 500, 2_000])
            key = rng.choice(["a", "b", None])
            stamp = max(0, clock - rng.choice([0, 0, 1_000, 4_000]))
            records.append(
                {
                    "value": {"k": key, "x": rng.randint(0, 9)},
                    "timestamp": stamp,
                    "partition": [None, "a", "b"].index(key),
                }
            )
        tester.send_batch("events", records, wrapped=True)
        if rng.random() < 0.1:
            tester.restart()


def operator(tester):
    (place,) = tester._task.graph.stateful.values()
    assert isinstance(place.operator, Telling)
    return place.operator


def in_order(frame):
    return frame.sort("window_start", "window_end", "k").drop(LANE, strict=False)


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_what_is_held_is_what_would_be_emitted_if_the_input_ended(window, whole, keyed) -> None:
    aggs = {**AGGS, **({"middle": pl.col("x").median()} if whole else {})}
    made = events(keyed=keyed).group_by("k").window(window).agg(**aggs)
    for seed in range(3):
        with StreamTester(made, partitions=3) as t:
            feed(t, seed)
            t.read()
            held = operator(t).held(None)
            t.close_input()
            rest = pl.DataFrame([record.value for record in t.read()], schema=made.schema)
        assert rest.height
        assert in_order(held).equals(in_order(rest))


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_both_modes_hold_the_same_of_one_key_as_of_all(window, keyed) -> None:
    found = []
    for emit in ("final", "updates"):
        with StreamTester(events(keyed=keyed).group_by("k").window(window, emit=emit).agg(**AGGS), partitions=3) as t:
            feed(t, 7)
            whole = operator(t).held(None)
            for key in ("a", None):
                mine = operator(t).held(pl.DataFrame({"k": pl.Series([key], dtype=pl.String)}))
                assert in_order(mine).equals(in_order(whole.filter(pl.col("k").eq_missing(pl.lit(key)))))
            assert operator(t).held(pl.DataFrame({"k": ["z"]})).height == 0
            found.append(in_order(whole))
    assert found[0].equals(found[1])


@pytest.mark.parametrize("window", [*WINDOWS, None], ids=str)
def test_an_operator_that_has_seen_nothing_holds_nothing(window) -> None:
    groups = events(keyed=False).group_by("k")
    made = groups.agg(**AGGS) if window is None else groups.window(window).agg(**AGGS)
    with StreamTester(made) as t:
        assert operator(t).held(None).height == 0
        assert dict(operator(t).held(pl.DataFrame({"k": ["a"]})).drop(LANE).schema) == dict(made.schema)


def test_groups_without_a_window_and_one_group_of_all_rows() -> None:
    with StreamTester(events(keyed=False).group_by("k").agg(**AGGS), partitions=3) as t:
        feed(t, 1)
        results = {record.value["k"]: record.value for record in t.read()}
        (row,) = operator(t).held(pl.DataFrame({"k": ["a"]})).drop(LANE).rows(named=True)
        assert row == results["a"]
    with StreamTester(events(keyed=False).group_by().window(sl.tumbling("1h")).agg(**AGGS), partitions=3) as t:
        feed(t, 1)
        assert operator(t).held(pl.DataFrame()).height == operator(t).held(None).height == 1


def test_groups_that_expire_and_groups_of_a_table_are_told_too() -> None:
    with StreamTester(events(keyed=False).group_by("k").agg(**AGGS, ttl="1h"), partitions=3) as t:
        feed(t, 1)
        results = {record.value["k"]: record.value for record in t.read()}
        for key in ("a", None):
            found = operator(t).held(pl.DataFrame({"k": pl.Series([key], dtype=pl.String)}))
            assert found.drop(LANE).rows(named=True) == [results[key]]
        assert operator(t).held(None).height == 3
    newest = events(keyed=False).group_by("k").agg(x=pl.col("x").last(), name="newest")
    sizes = newest.group_by(odd=pl.col("x") % 2).agg(n=pl.len(), most=pl.col("x").max(), name="sizes")
    with StreamTester(sizes) as t:
        for key, x in (("a", 1), ("b", 3), ("a", 4)):
            t.send("events", {"k": key, "x": x})
        held = t._task.graph.stateful["sizes"].operator.held
        assert held(pl.DataFrame({"odd": [1]})).drop(LANE).rows() == [(1, 1)]
        assert sorted(held(None).drop(LANE).rows()) == [(0, 1), (1, 1)]
    sums = newest.group_by(odd=pl.col("x") % 2).agg(n=pl.len(), total=pl.col("x").sum(), name="sums")
    with StreamTester(sums) as t:
        for key, x in (("a", 1), ("b", 3), ("a", 4)):
            t.send("events", {"k": key, "x": x})
        assert "holds for odd=0: rows of the table=1, n=1, total=4" in told(t._task, 0)


def test_custom_state_is_told_as_text() -> None:
    made = (
        events(keyed=False)
        .group_by("k")
        .apply_state(lambda r, s: (r, [*s, r["x"][-1]]), schema={"k": pl.String, "x": pl.Int64}, state=[])
    )
    with StreamTester(made) as t:
        for x in (1, 2):
            t.send("events", {"k": "a", "x": x})
        assert operator(t).held(pl.DataFrame({"k": ["a"]})).rows() == [(0, "a", "[1, 2]")]


def test_keys_are_equal_as_group_by_has_it() -> None:
    rows = pl.DataFrame({"f": [0.0, float("nan"), None, 1.0], "n": range(4)})
    assert of_keys(rows, pl.DataFrame({"f": [-0.0]}))["n"].to_list() == [0]
    assert of_keys(rows, pl.DataFrame({"f": [float("nan")]}))["n"].to_list() == [1]
    assert of_keys(rows, pl.DataFrame({"f": [None]}, schema={"f": pl.Float64}))["n"].to_list() == [2]
    assert of_keys(rows, pl.DataFrame()).height == of_keys(rows, None).height == 4
