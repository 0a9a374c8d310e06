from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.operators.updates import Updates
from streamlab.plan.windows import sliding
from streamlab.testing import StreamTester

SCHEMA: dict[str, Any] = {"k": pl.String, "x": pl.Int64}
HOPS = sl.hopping("10ms", every="5ms")
x = pl.col("x")


def updates(*aggs: Any, window: Any = HOPS, **settings: Any) -> Any:
    groups = sl.Kafka("localhost:9092").stream("events", schema=SCHEMA, **settings).group_by("k")
    return groups.window(window, emit="updates").agg(*aggs or (pl.len().alias("n"),))


def milliseconds(moment: Any) -> Any:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def batch(tester: Any, *records: Any) -> Any:
    """Send (time, key, value) as one micro-batch and return what it changed: (key, start, ...)."""
    given = [{"value": {"k": key, "x": value}, "timestamp": time} for time, key, value in records]
    tester.send_batch("events", given, wrapped=True)
    return [(r.key[0], milliseconds(r.key[1]), *list(r.value.values())[3:]) for r in tester.read()]


def test_a_row_changes_every_window_that_covers_it() -> None:
    with StreamTester(updates()) as t:
        assert batch(t, (3, "a", 1)) == [("a", 0, 1)]
        assert batch(t, (7, "a", 1)) == [("a", 0, 2), ("a", 5, 1)]
        assert batch(t, (11, "a", 1), (12, "b", 1)) == [("a", 5, 2), ("a", 10, 1), ("b", 5, 1), ("b", 10, 1)]


def test_a_late_comer_changes_the_windows_that_are_still_open() -> None:
    with StreamTester(updates()) as t:
        batch(t, (3, "a", 1), (12, "b", 1))
        assert batch(t, (7, "a", 1)) == [("a", 5, 1)]
        (late,) = t.late()
        assert (milliseconds(late.value["window_start"]), late.timestamp) == (0, 7)
        assert (t.metrics().late, t.metrics().late_rows, t.metrics().processed) == (0, 1, 3)
        assert batch(t, (30, "b", 1), (2, "a", 1)) == [("b", 25, 1), ("b", 30, 1)]
        assert (t.metrics().late, t.metrics().late_rows, t.metrics().processed) == (1, 2, 4)


def test_a_late_comer_within_the_grace_is_an_update_of_its_window() -> None:
    with StreamTester(updates(window=sl.tumbling("10ms", grace="100ms"))) as t:
        assert batch(t, (3, "a", 1)) == [("a", 0, 1)]
        assert batch(t, (50, "a", 1)) == [("a", 50, 1)]
        assert batch(t, (4, "a", 1), (51, "a", 1), (5, "a", 1)) == [("a", 0, 3), ("a", 50, 2)]


def test_a_window_that_closes_within_a_batch_has_its_last_row() -> None:
    with StreamTester(updates()) as t:
        assert batch(t, (3, "a", 1), (4, "a", 1), (90, "b", 1)) == [("a", 0, 2), ("b", 85, 1), ("b", 90, 1)]
        assert t.state().select("rows", "windows").row(0)[1] == len(HOPS.lengths)


def alike(one: Any, other: Any) -> Any:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) if isinstance(one, float) else one == other


AGGREGATIONS = {
    "panes on disk": (pl.len(), x.sum(), x.max().alias("top"), x.std().alias("spread"), x.mean().alias("mean")),
    "windows on disk": (pl.len(), x.first(), x.last().alias("last")),
    "kept rows": (x.implode(), x.median().alias("middle")),
    "put together below each other": (x.cast(pl.String).cast(pl.Categorical).max().alias("most"), x.sum()),
    "of the key": (pl.col("k").min().alias("least"), pl.col("k").last().alias("last")),
}


@pytest.mark.parametrize("aggs", AGGREGATIONS.values(), ids=AGGREGATIONS)
@pytest.mark.parametrize(
    "window",
    [HOPS, sl.hopping("10ms", every="3ms", grace="20ms", offset="2ms"), sl.tumbling("10ms", grace="7ms")],
    ids=str,
)
@pytest.mark.parametrize("key", [None, "k"], ids=["one task", "a task a partition"])
def test_a_restart_changes_nothing(aggs: Any, window: Any, key: Any) -> None:
    chance = random.Random(5)  # noqa: S311  # no secret
    given = [
        [(n * 4 + chance.randrange(-9, 9), chance.choice("abc"), chance.randrange(9)) for _ in range(4)]
        for n in range(3, 30)
    ]
    found: list[list[Any]] = [[], []]
    for restarts, made in zip((False, True), found, strict=True):
        with StreamTester(updates(*aggs, window=window, key=key)) as t:
            for records in given:
                made.extend(batch(t, *records))
                if restarts:
                    t.restart()
            made.append(t.state().select("rows", "windows").row(0))
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        assert all(map(alike, one, other)), (one, other)


def test_what_polars_does_not_put_together_side_by_side_is_put_together_all_the_same() -> None:
    size = pl.col("x").cast(pl.String).cast(pl.Categorical)
    with StreamTester(updates(size.max().alias("most"), pl.len().alias("n"))) as t:
        batch(t, (1, "a", 3), (2, "b", 1))
        assert batch(t, (6, "c", 9), (3, "a", 2)) == [("c", 0, "9", 1), ("c", 5, "9", 1), ("a", 0, "3", 2)]


def test_keys_and_windows_that_are_gone_leave_nothing_behind() -> None:
    with StreamTester(updates()) as t:
        sizes = []
        for n in range(400):
            batch(t, *[(n * 20 + i, f"{n}-{i}", 1) for i in range(20)])
            sizes.append(t.state().select("rows", "bytes").row(0))
        operator = t._task.graph.stateful["hopping-10ms-5ms-by-k"].operator
    assert len(operator._groups.index) < 20  # those of one batch
    assert sizes[-1][0] <= max(rows for rows, _ in sizes[:3])
    assert sizes[-1][1] <= max(size for _, size in sizes[:200])


def test_updates_are_of_windows_whose_bounds_do_not_depend_on_the_rows() -> None:
    node = updates(window=sliding("1s")).node
    with pytest.raises(TypeError, match="sliding 1s is neither tumbling nor hopping"):
        Updates(node, laned=False)
