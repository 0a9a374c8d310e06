from __future__ import annotations

import random
from typing import Any

import numpy as np

from streamlab.engine.held.due import Due


def put(due: Any, *pairs: Any) -> None:
    due.put(*(np.array(column, np.int64) for column in zip(*pairs, strict=True)))


def taken(due: Any, before: Any) -> Any:
    return sorted(zip(*(column.tolist() for column in due.take(before)), strict=True))


def test_what_has_passed_is_taken_off_once_and_the_moment_itself_has_not_passed() -> None:
    due = Due()
    put(due, (30, 3), (10, 1), (20, 2))
    assert taken(due, 20) == [(10, 1)]
    assert taken(due, 20) == []
    assert taken(due, 31) == [(20, 2), (30, 3)]
    assert len(due) == 0


def test_nothing_is_put_and_nothing_taken() -> None:
    due = Due()
    due.put(np.empty(0, np.int64), np.empty(0, np.int64))
    assert taken(due, 1 << 62) == []


def test_it_tells_the_same_as_a_list_whatever_is_put_and_taken() -> None:
    chance = random.Random(5)  # noqa: S311  # nothing secret
    due, known, clock = Due(), [], 0
    for number in range(400):
        pairs = [(clock + chance.randint(0, 300), number) for _ in range(chance.choice([1, 1, 5, 40]))]
        put(due, *pairs)
        known += pairs
        if number % 3 == 0:
            clock += chance.randint(0, 60)
            assert taken(due, clock) == sorted(pair for pair in known if pair[0] < clock)
            known = [pair for pair in known if pair[0] >= clock]
    assert len(due) == len(known)


def test_the_number_of_runs_grows_with_the_logarithm_of_what_is_held() -> None:
    due = Due()
    for number in range(2_000):
        put(due, (number * 7919 % 2_000, number))
    assert len(due._runs) <= 12


def test_what_was_taken_off_is_not_kept_in_memory() -> None:
    due = Due()
    put(due, *((number, number) for number in range(10_000)))
    for before in range(0, 9_900, 100):
        due.take(before)
    assert len(due) == 200
    assert due.estimated_size() == 200 * 16
    (times, numbers) = due._runs[0]
    assert all(array.base is None or len(array.base) <= 2 * 200 for array in (times, numbers))
