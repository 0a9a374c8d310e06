from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamlab.engine.held.near import Lowest, Near

FAR = 1 << 53


@pytest.mark.parametrize("spread", [1, 1 << 20, 1 << 55])  # the last does not fit beside a key in one integer
def test_ranges_are_those_that_a_look_at_every_row_finds(spread: int) -> None:
    drawn = np.random.default_rng(1)
    key, time = drawn.integers(0, 1 << 8, 500), drawn.integers(-20, 20, 500) * spread
    near = Near(key, time)
    assert list(zip(near.key, near.time, strict=True)) == sorted(zip(key, time, strict=True))
    assert (key[near.order] == near.key).all()
    asked = drawn.integers(0, 1 << 8, 300)
    low, high = drawn.integers(-25, 25, 300) * spread - 1, drawn.integers(-25, 25, 300) * spread + 1
    first, last = near.between(asked, low, high)
    for one in range(300):
        inside = (near.key == asked[one]) & (near.time >= low[one]) & (near.time <= high[one])
        assert np.flatnonzero(inside).tolist() == list(range(first[one], last[one]))


def test_begins_are_the_first_rows_of_a_key_and_time() -> None:
    near = Near(np.array([1, 0, 1, 1]), np.array([5, 5, 5, FAR]))
    assert near.begins.tolist() == [True, True, False, True]


def test_no_rows_have_no_ranges() -> None:
    none = np.empty(0, np.int64)
    near = Near(none, none)
    first, last = near.between(np.array([0]), np.array([0]), np.array([FAR]))
    assert (first.tolist(), last.tolist(), near.begins.tolist()) == ([0], [0], [])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 33])
def test_the_lowest_of_every_range_is_found(count: Any) -> None:
    values = np.random.default_rng(count).integers(0, 100, count)
    ranges = np.array([(a, b) for a in range(count + 1) for b in range(a, count + 1)], np.int64)
    found = Lowest(values, 999).between(ranges[:, 0], ranges[:, 1])
    assert found.tolist() == [values[a:b].min(initial=999) for a, b in ranges]
