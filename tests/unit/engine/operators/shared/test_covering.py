from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import streamlab as sl
from streamlab.engine.operators.shared.covering import closed_by, covering, panes_of, spread


def starts(time: Any, window: Any) -> Any:
    """Return the starts of the windows that cover a time, by trying them all; none begins at or before -every."""
    every = window.every
    some = range(window.offset - every * 40, time + 1, every)
    return [start for start in some if start > -every and start <= time < start + window.size and start > -window.size]


WINDOWS = [
    sl.tumbling("10ms"),
    sl.tumbling("10ms", offset="3ms"),
    sl.hopping("10ms", every="5ms"),
    sl.hopping("10ms", every="5ms", offset="3ms"),
    sl.hopping("10ms", every="3ms"),
    sl.hopping("10ms", every="10ms"),
    sl.hopping("10ms", every="1ms"),
    sl.hopping("7ms", every="5ms", offset="4ms"),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_time_is_covered_by_each_window_that_begins_at_most_its_size_before(window: Any) -> None:
    times = np.arange(60)
    first, last = covering(times, window)
    for time, low, high in zip(times.tolist(), first.tolist(), last.tolist(), strict=True):
        assert list(range(low, high + 1, window.every)) == starts(time, window)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_no_window_is_left_out_and_none_begins_before_the_epoch_but_the_one_that_an_offset_cuts(window: Any) -> None:
    first, last = covering(np.arange(60), window)
    assert (first <= last).all()
    assert first.min() == (window.offset - window.every if window.offset else 0)


def test_without_an_offset_the_first_times_are_in_fewer_windows() -> None:
    first, last = covering(np.array([0, 4, 5, 9, 10]), sl.hopping("10ms", every="5ms"))
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == [(0, 0), (0, 0), (0, 5), (0, 5), (5, 10)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_all_times_of_a_pane_are_in_the_same_windows(window: Any) -> None:
    times = np.arange(60)
    panes, (first, last) = panes_of(times, window), covering(times, window)
    in_pane: dict[int, set[Any]] = {}
    for pane, low, high in zip(panes.tolist(), first.tolist(), last.tolist(), strict=True):
        in_pane.setdefault(pane, set()).add((low, high))
    assert all(len(kinds) == 1 for kinds in in_pane.values())
    again = covering(np.array(sorted(in_pane)), window)
    assert list(zip(*(part.tolist() for part in again), strict=True)) == [
        in_pane[pane].pop() for pane in sorted(in_pane)
    ]


def test_a_tumbling_window_is_one_pane() -> None:
    times = np.arange(60)
    window = sl.tumbling("10ms", offset="3ms")
    assert panes_of(times, window).tolist() == covering(times, window)[1].tolist()


def test_a_watermark_closes_the_windows_whose_end_and_grace_it_has_reached() -> None:
    window = sl.hopping("10ms", every="5ms", grace="2ms")
    assert closed_by(np.array([11, 12, 16, 17]), window).tolist() == [-5, 0, 0, 5]


def test_starts_are_spread_from_low_to_high() -> None:
    which, found = spread(np.array([0, 10, 5]), np.array([10, 5, 5]), 5)
    assert which.tolist() == [0, 0, 0, 2]
    assert found.tolist() == [0, 5, 10, 5]
    assert [len(part) for part in spread(np.array([5]), np.array([0]), 5)] == [0, 0]
