from __future__ import annotations

import random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from streamlab.engine.operators.sessions import lists as session_lists
from streamlab.engine.operators.sessions.cut import NONE
from streamlab.engine.operators.sessions.lists import SessionLists


def array(*values: Any) -> Any:
    return np.array(values, np.int64)


def lists(**sessions: Any) -> Any:
    """Return lists of sessions given as name=(key, last), with the numbers of the names."""
    made = SessionLists()
    made.grow(16)
    numbers = {name: number for number, name in enumerate(sessions)}
    for name, (key, last) in sessions.items():
        made.key[numbers[name]], made.last[numbers[name]] = key, last
    keys = np.unique([key for key, _ in sessions.values()])
    made.hold(int(keys.max()))
    made.link(keys, np.full(len(keys), NONE), array(*numbers.values()))
    return made


def found(made: Any, keys: Any, times: Any, gap: Any = 10) -> Any:
    touched, sessions, older = made.near(array(*keys), array(*times), gap)
    return touched.tolist(), sorted(sessions.tolist()), older.tolist()


@pytest.mark.parametrize("steps", [0, 1, 64])
def test_the_sessions_near_to_rows_are_those_that_end_after_the_earliest_of_them_less_the_gap(steps: Any) -> None:
    made = lists(a=(0, 10), b=(0, 30), c=(0, 50), d=(1, 5))
    with patch.object(session_lists, "_STEPS", steps):
        assert found(made, [0], [100]) == ([0], [], [2])
        assert found(made, [0, 0, 1], [60, 41, 15]) == ([0, 1], [2, 3], [1, NONE])
        assert found(made, [0], [40]) == ([0], [1, 2], [0])
        assert found(made, [0], [0]) == ([0], [0, 1, 2], [NONE])


def test_a_key_without_sessions_has_none() -> None:
    made = lists(a=(0, 10))
    made.hold(7)
    assert found(made, [7], [100]) == ([7], [], [NONE])
    assert made.empty(array(7, 0, 7)).tolist() == [7]


def test_what_is_linked_takes_the_place_of_what_was_near_and_the_older_ones_stay() -> None:
    made = lists(a=(0, 10), b=(0, 30), c=(0, 50))
    made.key[3], made.last[3] = 0, 60
    made.link(array(0), array(0), array(3))
    assert found(made, [0], [0]) == ([0], [0, 3], [NONE])
    made.unlink(array(0))
    assert found(made, [0], [0]) == ([0], [3], [NONE])
    made.unlink(array(3))
    assert made.empty(array(0)).tolist() == [0]


@pytest.mark.parametrize("steps", [0, 2, 64])
def test_lists_tell_the_same_as_a_dict_whatever_is_linked_and_unlinked(steps: Any) -> None:
    chance = random.Random(3)  # noqa: S311  # nothing secret
    made, known = SessionLists(), dict[int, dict[int, int]]()
    made.grow(4_000)
    made.hold(5)
    free, clock = list(range(4_000)), 1_000
    with patch.object(session_lists, "_STEPS", steps):
        for _ in range(300):
            clock += 20
            keys = [chance.randrange(6) for _ in range(chance.randint(1, 5))]
            times = [clock - chance.randint(0, 200) for _ in keys]
            touched, near, older = made.near(array(*keys), array(*times), 10)
            low = {key: min(t for k, t in zip(keys, times, strict=True) if k == key) - 10 for key in keys}
            held = {key: known.setdefault(key, {}) for key in low}
            assert sorted(near.tolist()) == sorted(
                s for k, of in held.items() for s, last in of.items() if last >= low[k]
            )
            rest = {
                k: max((last, s) for s, last in [(NONE, NONE), *of.items()] if last < low[k])[1]
                for k, of in held.items()
            }
            assert dict(zip(touched.tolist(), older.tolist(), strict=True)) == rest
            made.key[near], new = NONE, []
            for key, last in low.items():
                session = free.pop()
                made.key[session], made.last[session] = key, clock + last % 7
                known[key] = {s: last_ for s, last_ in known[key].items() if s not in near} | {
                    session: int(made.last[session])
                }
                new.append(session)
            made.link(touched, older, array(*new))
            gone = [s for of in known.values() for s, last in of.items() if last < clock - 100]
            made.unlink(array(*gone))
            known = {key: {s: last for s, last in of.items() if s not in gone} for key, of in known.items()}
            made.key[gone] = NONE
            assert made.empty(array(*known)).tolist() == sorted(key for key, of in known.items() if not of)
