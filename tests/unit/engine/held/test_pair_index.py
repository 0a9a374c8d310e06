from __future__ import annotations

import random
from typing import Any

import numpy as np

from streamlab.engine.held.pair_index import PairIndex, cuts, pairs_of, parts_of


def test_a_pair_is_one_number_and_two_again() -> None:
    high, low = np.array([0, 1, (1 << 31) - 1]), np.array([(1 << 32) - 1, 0, 7])
    pairs = pairs_of(high, low)
    assert (pairs >= 0).all()
    assert [part.tolist() for part in parts_of(pairs)] == [high.tolist(), low.tolist()]


def test_rows_are_dense_and_a_free_one_is_given_again() -> None:
    index = PairIndex()
    assert index.insert(np.array([50, 60, 70])).tolist() == [0, 1, 2]
    index.release(np.array([1]))
    assert (len(index), index.pairs(np.array([0, 1, 2])).tolist()) == (2, [50, -1, 70])
    assert index.insert(np.array([80, 90])).tolist() == [1, 3]
    assert index.find(np.array([60, 80, 50, 90, 80])).tolist() == [-1, 1, 0, 3, 1]


def test_nothing_is_found_in_an_empty_index() -> None:
    assert PairIndex().find(np.array([5])).tolist() == [-1]
    assert PairIndex().find(np.empty(0, np.int64)).tolist() == []


def check_like_a_dict(index: Any, held: Any, some: Any) -> None:
    assert len(index) == len(held)
    assert index.find(np.array(some, np.int64)).tolist() == [held.get(pair, -1) for pair in some]


def test_it_agrees_with_a_dict_through_growth_and_releases() -> None:
    chance = random.Random(3)  # noqa: S311  # no secret
    index, held = PairIndex(), {}
    for _ in range(300):
        window, some = chance.randrange(12), sorted({chance.randrange(200) for _ in range(60)})
        pairs = [pair for pair in pairs_of(np.full(len(some), window), np.array(some)).tolist() if pair not in held]
        rows = index.insert(np.array(pairs, np.int64)).tolist()
        assert not set(rows) & set(held.values())
        held |= dict(zip(pairs, rows, strict=True))
        if chance.random() < 0.3:
            gone = [pair for pair in held if pair >> 32 == window]
            index.release(np.array([held.pop(pair) for pair in gone], np.int64))
        check_like_a_dict(index, held, [*held, *pairs, 5 << 40])
    assert max(held.values()) < 12 * 200, "rows of pairs that are gone are used again"


def test_many_pairs_of_windows_that_come_and_go_leave_no_garbage() -> None:
    index = PairIndex()
    for window in range(200):
        rows = index.insert(pairs_of(np.full(1_000, window), np.arange(1_000)))
        assert index.find(pairs_of(np.full(1_000, window), np.arange(1_000))).tolist() == rows.tolist()
        index.release(rows)
    assert index.estimated_size() < 200_000


def test_stretches_of_equal_numbers_are_found() -> None:
    assert cuts(np.empty(0, np.int64)) == []
    assert cuts(np.array([3])) == [(3, 0, 1)]
    assert cuts(np.array([3, 3, 1, 3])) == [(3, 0, 2), (1, 2, 3), (3, 3, 4)]
