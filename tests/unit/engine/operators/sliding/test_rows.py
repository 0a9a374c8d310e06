from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from streamlab.engine.aggregates import LANE
from streamlab.engine.operators.sliding.rows import SlidingRows

PARTIALS = pl.Schema({"n": pl.Int64})
KEYS = pl.Schema({LANE: pl.Int64, "k": pl.String})


def summed(parts: pl.DataFrame, group: Any) -> pl.DataFrame:
    return parts.with_columns(pl.Series("g", group)).group_by("g", maintain_order=True).agg(pl.col("n").sum()).drop("g")


class Kept:
    """Rows, and what a store has of them."""

    def __init__(self, combined: Any = summed) -> None:
        self.rows, self.combined = SlidingRows(KEYS, PARTIALS, combined), combined
        self.store: dict[str, pl.DataFrame] = {}

    def add(self, *rows: Any, lane: int = 0) -> Any:
        """Add (key, time, since, n)."""
        keys = pl.DataFrame({LANE: [lane] * len(rows), "k": [row[0] for row in rows]}, schema=KEYS)
        times, since = (np.array([row[at] for row in rows], np.int64) for at in (1, 2))
        return self.rows.add(
            self.rows.slots(keys), times, since, pl.DataFrame({"n": [row[3] for row in rows]}, schema=PARTIALS)
        )

    def commit(self) -> None:
        changes = self.rows.changes()
        self.store |= changes.put
        for name in changes.drop:
            del self.store[name]

    def reopen(self) -> Kept:
        other = Kept(self.combined)
        other.rows.sequence = self.rows.sequence
        for name, frame in sorted(self.store.items()):
            other.rows.load(name, frame)
        other.store = dict(self.store)
        return other

    def all(self) -> Any:
        """Return (key, time, since, n) of all rows."""
        slots = np.flatnonzero(self.rows._known)
        _, numbers = self.rows.of(slots)
        keys = self.rows.keys(self.rows.slot[numbers])["k"].to_list()
        n = self.rows.partials(numbers)["n"].to_list()
        found = sorted(zip(keys, self.rows.time[numbers].tolist(), self.rows.since[numbers].tolist(), n, strict=True))
        assert len(found) == len(self.rows)
        return found


def test_rows_of_one_key_and_time_become_one_at_a_commit_and_stay_so() -> None:
    kept = Kept()
    kept.add(("a", 5, 0, 1), ("b", 5, 0, 2))
    kept.add(("a", 5, 0, 10), ("a", 6, 0, 3))
    kept.commit()
    assert kept.all() == [("a", 5, 0, 11), ("a", 6, 0, 3), ("b", 5, 0, 2)]
    kept.add(*(("a", 5, 0, 100) for _ in range(9)))
    kept.commit()
    assert kept.all()[0] == ("a", 5, 0, 911)
    assert kept.reopen().all() == kept.all()


def test_rows_that_are_late_for_some_windows_stay_apart() -> None:
    kept = Kept()
    kept.add(("a", 5, 0, 1), ("a", 5, 9, 2), ("a", 5, 9, 3))
    kept.commit()
    assert kept.all() == [("a", 5, 0, 1), ("a", 5, 9, 2), ("a", 5, 9, 3)]


def test_rows_that_are_kept_as_they_are_stay_apart() -> None:
    kept = Kept(None)
    kept.add(("a", 5, 0, 1), ("a", 5, 0, 2))
    kept.commit()
    assert len(kept.all()) == 2


def test_a_number_is_not_given_again_before_its_row_was_dropped_even_if_another_took_its_row_in() -> None:
    kept = Kept()
    first = kept.add(("a", 5, 0, 1), ("a", 5, 0, 2))
    kept.commit()
    kept.rows._sweep()
    others = kept.add(*((f"k{n}", n, 0, n) for n in range(50)))
    assert not set(first) & set(others)
    kept.rows.drop(first)
    kept.rows._sweep()
    again = kept.add(("c", 7, 0, 7), ("d", 8, 0, 8))
    assert set(again) == set(first)
    kept.rows.drop(others)
    assert kept.all() == [("c", 7, 0, 7), ("d", 8, 0, 8)]


def test_what_is_dropped_before_a_commit_is_never_written() -> None:
    kept = Kept()
    kept.rows.drop(kept.add(("a", 5, 0, 1)))
    kept.commit()
    assert kept.store == {}
    assert len(kept.rows._index) <= 1_000


@pytest.mark.parametrize("combined", [summed, None])
def test_any_course_of_things_keeps_the_same_rows_as_a_list_does(combined: Any) -> None:
    drawn, kept, expected = np.random.default_rng(3), Kept(combined), []
    for turn in range(150):
        fresh = [
            (f"k{drawn.integers(0, 6)}", turn + int(drawn.integers(0, 5)), int(drawn.integers(0, 9) == 0) * 7, 1)
            for _ in range(drawn.integers(0, 9))
        ]
        kept.add(*fresh, lane=0)
        expected += fresh
        if turn % 4 == 0:
            kept.commit()
        if turn % 30 == 29:
            kept.commit()
            kept = kept.reopen()
            _, old = kept.rows.of(np.flatnonzero(kept.rows._known))
            kept.rows.drop(old[kept.rows.time[old] < turn - 10])
        elif turn % 5 == 0:  # every number that was given, those too whose rows others took in
            numbers = np.setdiff1d(
                np.arange(kept.rows._given), np.concatenate([[-1], *kept.rows._free, *kept.rows._dead])
            )
            kept.rows.drop(numbers[kept.rows.time[numbers] < turn - 10])
        if turn % 30 == 29 or turn % 5 == 0:
            expected = [row for row in expected if row[1] >= turn - 10]
        assert totals(kept.all()) == totals(expected)


def totals(rows: Any) -> Any:
    found: dict[Any, int] = {}
    for *key, n in rows:
        found[tuple(key)] = found.get(tuple(key), 0) + n
    return found
