"""Rows by slot and time."""

from __future__ import annotations

import numpy as np
import pytest

from streamlab.engine.held.time_index import TimeIndex


def naive(rows, slots, low, high):
    return sorted(
        (place, number, time)
        for place, (slot, least, most) in enumerate(zip(slots, low, high, strict=True))
        for number, (at, time) in enumerate(rows)
        if at == slot and least <= time <= most
    )


@pytest.mark.parametrize("far", [0, 1 << 43], ids=["packed", "wide"])
@pytest.mark.parametrize("step", [1, 7, 500])
def test_ranges_are_those_of_a_loop_over_all_rows(far, step):
    rng = np.random.default_rng(step)
    slots, times = rng.integers(0, 20, 500), rng.integers(0, 50, 500) + far
    index = TimeIndex()
    for at in range(0, 500, step):
        index.add(slots[at : at + step], times[at : at + step], np.arange(at, min(at + step, 500)))
    asked, low = rng.integers(0, 22, 60), rng.integers(-5, 60, 60) + far
    high = low + rng.integers(-2, 10, 60)
    found = sorted(zip(*(part.tolist() for part in index.between(asked, low, high)), strict=True))
    wanted = naive(list(zip(slots.tolist(), times.tolist(), strict=True)), asked, low, high)
    assert found == wanted
    there = {place for place, _, _ in wanted}
    assert index.any_between(asked, low, high).tolist() == [place in there for place in range(60)]
    newest = {place: max((t, n) for p, n, t in wanted if p == place) for place in there}
    number, time = index.latest(asked, low, high)
    assert list(zip(time.tolist(), number.tolist(), strict=True)) == [newest.get(p, (-1, -1)) for p in range(60)]


def test_an_index_becomes_wide_when_a_time_or_a_slot_is_too_large_to_be_packed():
    index = TimeIndex()
    index.add(np.array([1, 0]), np.array([5, 6]), np.array([0, 1]))
    index.add(np.array([0, 1 << 22]), np.array([253_370_764_799_999, 7]), np.array([2, 3]))
    _, rows, times = index.between(np.array([0, 1 << 22]), np.array([0, 0]), np.array([1 << 60, 1 << 60]))
    assert rows.tolist() == [1, 2, 3]
    assert times.tolist() == [6, 253_370_764_799_999, 7]
    assert index.keep(np.full((1 << 22) + 1, 7)).nonzero()[0].tolist() == [0, 1 << 22]
    assert len(index) == 2


def test_a_range_that_ends_beyond_what_is_packed_does_not_run_into_the_next_slot():
    index = TimeIndex()
    index.add(np.array([0, 1]), np.array([9, 0]), np.array([0, 1]))
    assert index.between(np.array([0]), np.array([0]), np.array([1 << 60]))[1].tolist() == [0]
    assert index.between(np.array([0]), np.array([1 << 50]), np.array([1 << 60]))[1].tolist() == []
    assert index.any_between(np.array([1]), np.array([-50]), np.array([-1])).tolist() == [False]


def test_old_rows_are_forgotten_and_slots_that_have_some_left_are_told():
    index = TimeIndex()
    index.add(np.array([0, 0, 1, 2]), np.array([1, 9, 2, 9]), np.arange(4))
    assert index.keep(np.array([5, 5, 10])).tolist() == [True, False, False]
    assert len(index) == 1


def test_rows_added_one_at_a_time_stay_in_few_runs():
    index = TimeIndex()
    for number in range(300):
        index.add(np.array([0]), np.array([300 - number]), np.array([number]))
    assert len(index._runs) < 10


def test_an_empty_index_has_nothing():
    none = np.empty(0, np.int64)
    index = TimeIndex()
    index.add(none, none, none)
    assert index.latest(np.array([0]), np.array([0]), np.array([5]))[0].tolist() == [-1]
    assert [len(part) for part in index.between(none, none, none)] == [0, 0, 0]
    assert index.estimated_size() == 0
