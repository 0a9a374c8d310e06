from __future__ import annotations

from typing import Any

import numpy as np

from streamlab.engine.operators.sessions import runs as session_runs
from streamlab.engine.operators.sessions.runs import SessionRuns, newest


def array(*values: Any) -> Any:
    return np.array(values, np.int64)


def runs(size: Any = 1_000) -> Any:
    made = SessionRuns()
    made.grow(size)
    return made


def written(made: Any) -> Any:
    number, slots, dropped = made.write()
    return number, slots.tolist(), dropped


def test_a_run_has_what_changed_since_the_one_before() -> None:
    made = runs()
    made.change(np.arange(100))
    assert written(made) == (0, list(range(100)), [])
    made.change(array(7, 200))
    assert written(made) == (1, [7, 200], [])
    assert written(made) == (2, [], [])


def test_what_is_free_again_is_not_written() -> None:
    made = runs()
    made.change(array(1, 2))
    made.forget(array(1))
    assert written(made) == (0, [2], [])


def test_few_runs_are_left_alone() -> None:
    made = runs()
    for number in range(9):
        made.change(np.arange(number * 10, number * 10 + 10))
        assert written(made)[2] == []


def test_of_many_a_run_that_outgrows_half_of_the_one_before_takes_its_live_rows_in(monkeypatch: Any) -> None:
    monkeypatch.setattr(session_runs, "_FEW", 0)
    made = runs()
    made.change(np.arange(10))
    made.write()
    made.forget(array(3))
    made.change(array(20, 21, 22, 23, 4))
    assert written(made) == (1, [0, 1, 2, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23], [0])


def test_a_run_is_dropped_once_all_its_sessions_have_gone_or_changed() -> None:
    made = runs()
    made.change(np.arange(100))
    made.write()
    made.change(array(500, 501))
    made.write()
    made.forget(array(500))
    made.change(array(501))
    assert written(made) == (2, [501], [1])
    made.forget(np.arange(100))
    assert written(made) == (3, [], [0])


def test_a_run_with_few_live_rows_left_is_written_anew() -> None:
    made = runs()
    made.change(np.arange(100))
    made.write()
    made.forget(np.arange(70))
    assert written(made) == (1, [], [])
    made.forget(np.arange(70, 80))
    assert written(made) == (1, list(range(80, 100)), [0])


def test_a_slot_that_went_to_another_session_is_not_taken_for_the_old_one() -> None:
    made = runs()
    made.change(np.arange(100))
    made.write()
    made.forget(np.arange(80))
    made.change(array(5))
    assert written(made) == (1, [5, *range(80, 100)], [0])


def test_the_rows_kept_do_not_outgrow_the_sessions_however_long_it_goes_on() -> None:
    made, rows = runs(10_000), {}
    for step in range(500):
        made.change(np.arange(step * 10, step * 10 + 15) % 10_000)
        made.forget(np.arange(max(0, step * 10 - 300), max(0, step * 10 - 290)) % 10_000)
        number, slots, dropped = made.write()
        rows[number] = len(slots)
        for gone in dropped:
            del rows[gone]
    assert sum(rows.values()) < 4 * 320
    assert len(rows) < 20


def test_what_lies_within_a_newer_row_of_its_key_is_not_the_newest() -> None:
    key, first, last = array(1, 1, 1, 1, 2), array(0, 20, 0, 90, 0), array(10, 30, 30, 90, 10)
    assert newest(key, first, last, array(1, 1, 2, 1, 1)).tolist() == [False, False, True, True, True]


def test_of_rows_with_the_same_bounds_the_one_of_the_last_run_is_the_newest() -> None:
    assert newest(array(0, 0, 0), array(5, 5, 5), array(9, 9, 9), array(4, 11, 7)).tolist() == [False, True, False]
