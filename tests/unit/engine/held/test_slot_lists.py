from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from streamlab.engine.held.slot_lists import SlotLists, spread


def lists_of(lists: SlotLists, slots: Any) -> Any:
    which, numbers = lists.of(np.array(slots))
    return [numbers[which == at].tolist() for at in range(len(slots))]


def test_a_slot_without_numbers_has_an_empty_list() -> None:
    lists = SlotLists()
    assert lists_of(lists, [0, 70]) == [[], []]
    assert lists.has(np.array([3])).tolist() == [False]


def test_numbers_stay_in_the_order_in_which_they_came_however_lists_grow_and_shrink() -> None:
    drawn, lists, expected = np.random.default_rng(1), SlotLists(), defaultdict[int, list[int]](list)
    stays, given = np.zeros(0, np.bool_), 0
    for _ in range(60):
        slots = drawn.integers(0, 40, drawn.integers(0, 50))
        numbers = given + np.arange(len(slots))
        given += len(slots)
        stays = np.concatenate([stays, np.ones(len(slots), np.bool_)])
        lists.add(slots, numbers)
        for slot, number in zip(slots.tolist(), numbers.tolist(), strict=True):
            expected[slot].append(number)
        if drawn.integers(0, 4) == 0:
            stays &= drawn.random(given) < 0.7
            lists.keep(stays)
            for slot in expected:
                expected[slot] = [number for number in expected[slot] if stays[number]]
        assert lists_of(lists, range(40)) == [expected[slot] for slot in range(40)]
        assert lists.has(np.arange(40)).tolist() == [bool(expected[slot]) for slot in range(40)]


def test_memory_follows_what_is_kept() -> None:
    lists = SlotLists()
    lists.add(np.zeros(100_000, np.int64), np.arange(100_000))
    large = lists.estimated_size()
    lists.keep(np.zeros(100_000, np.bool_))
    assert lists.estimated_size() < large / 100


def test_spread_of_nothing_is_nothing() -> None:
    none = np.empty(0, np.int64)
    assert spread(none, none).tolist() == spread(np.array([4]), np.array([0])).tolist() == []
