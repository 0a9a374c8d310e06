from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from streamlab.engine.operators.sessions import cut as session_cut
from streamlab.engine.operators.sessions.cut import NONE, Horizon, Pieces, cut


class Seen:
    """Where the horizon stands at the turn of each row, and which rows were asked for."""

    def __init__(self, *seen: Any) -> None:
        self.seen, self.asked = np.array(seen, np.int64), list[int]()

    def at(self, rows: Any) -> Any:
        self.asked += rows.tolist()
        return self.seen[rows]

    @property
    def horizon(self) -> Any:
        return Horizon(np.full(len(self.seen), self.seen.max()), self.at)


def sessions(rows: Any, seen: Any, opened: Any = (), gap: Any = 10) -> Any:
    """Return bounds and members of the sessions, and the rows that are late; rows are times, or (key, time)."""
    rows = [row if isinstance(row, tuple) else (0, row) for row in rows]
    opened = [piece if len(piece) > 2 else (0, *piece) for piece in opened]
    pieces = [*opened, *((key, time, time) for key, time in rows)]
    columns = [np.array(column, np.int64) for column in zip(*pieces, strict=True)]
    found = cut(Pieces(*columns, len(opened)), gap, seen.horizon)
    names = [*(f"s{n}" for n in range(len(opened))), *range(len(rows))]
    groups = {
        (int(found.key[g]), int(found.first[g]), int(found.last[g])): [
            name for name, group in zip(names, found.group, strict=True) if group == g
        ]
        for g in range(len(found.key))
    }
    return groups, [n for n, group in enumerate(found.group[len(opened) :]) if group == NONE]


def always(*rows: Any) -> Any:
    return Seen(*[-1000] * len(rows))


@pytest.mark.parametrize("room", [session_cut._ROOM, 1], ids=["packed", "by columns"])
def test_rows_are_cut_where_more_than_the_gap_lies_between_them(room: Any) -> None:
    rows = [(1, 0), (0, 21), (0, 0), (1, 10), (0, 10), (0, 21)]
    with patch.object(session_cut, "_ROOM", room):
        groups, late = sessions(rows, always(*rows))
    assert groups == {(0, 0, 10): [2, 4], (0, 21, 21): [1, 5], (1, 0, 10): [0, 3]}
    assert not late


@pytest.mark.parametrize("room", [session_cut._ROOM, 1], ids=["packed", "by columns"])
def test_open_sessions_are_joined_with_what_is_near_and_left_out_where_nothing_is(room: Any) -> None:
    opened = [(0, 50), (61, 70), (100, 100), (1, 0, 5)]
    with patch.object(session_cut, "_ROOM", room):
        groups, _ = sessions([30, 55, 130], always(1, 2, 3), opened)
    assert groups == {(0, 0, 70): ["s0", "s1", 0, 1], (0, 130, 130): [2]}


def test_times_so_far_apart_that_key_and_time_fit_in_no_integer_are_cut_all_the_same() -> None:
    rows = [(1 << 20, 0), (1 << 20, 253_370_764_799_999), (3, 5), (1 << 20, 10)]
    groups, _ = sessions(rows, always(*rows))
    assert groups[1 << 20, 0, 10] == [0, 3]
    assert len(groups) == 3


def test_the_watermark_at_single_rows_is_asked_for_only_where_its_end_leaves_a_doubt() -> None:
    seen = Seen(-10, 0, 9)
    groups, _ = sessions([0, 10, 20], seen)
    assert groups == {(0, 0, 20): [0, 1, 2]}
    assert seen.asked == [0, 1]  # at the end 0 is closed, but 10, which 20 came to, is not
    calm = Seen(-5, -1, 0)
    sessions([0, 10, 20], calm, gap=10)
    assert not calm.asked


def test_a_row_does_not_join_a_session_that_had_closed_at_its_turn() -> None:
    assert sessions([0, 10], Seen(-10, 1)) == ({(0, 0, 0): [0], (0, 10, 10): [1]}, [])
    assert sessions([0, 10], Seen(-10, 0)) == ({(0, 0, 10): [0, 1]}, [])
    assert sessions([60], Seen(51), [(0, 50)]) == ({(0, 60, 60): [0]}, [])


def test_a_row_that_is_too_late_for_itself_joins_a_session_that_is_open() -> None:
    assert sessions([40], Seen(45), [(50, 60)]) == ({(0, 40, 60): ["s0", 0]}, [])
    assert sessions([39], Seen(45), [(50, 60)]) == ({}, [0])
    assert sessions([55], Seen(60), [(50, 60)]) == ({(0, 50, 60): ["s0", 0]}, [])
    assert sessions([55], Seen(61), [(50, 60)]) == ({}, [0])


def test_a_row_that_bridges_a_closed_session_and_an_open_one_joins_the_open_one_only() -> None:
    assert sessions([10], Seen(5), [(0, 0), (20, 20)]) == ({(0, 10, 20): ["s1", 0]}, [])


def test_of_two_rows_that_are_late_the_second_does_not_join_the_first() -> None:
    assert sessions([0, 5], Seen(20, 20)) == ({}, [0, 1])


def test_a_session_that_lives_on_through_later_rows_takes_what_comes_in_between() -> None:
    rows = [0, 10, 20, 5]  # 5 came when 0 alone would have been closed, and 10 too
    assert sessions(rows, Seen(-20, -10, 0, 15)) == ({(0, 0, 20): [0, 1, 2, 3]}, [])
    assert sessions(rows, Seen(-20, -10, 0, 21)) == ({(0, 0, 20): [0, 1, 2]}, [3])


def test_a_stretch_of_time_may_hold_a_closed_session_late_rows_and_an_open_session() -> None:
    rows = [0, 8, 15, 3, 16]
    seen = Seen(-10, -2, 9, 9, 10)  # 0 and 8 have closed when 15 comes; 3 is late
    assert sessions(rows, seen) == ({(0, 0, 8): [0, 1], (0, 15, 16): [2, 4]}, [3])


def test_merges_of_merges_end_in_one_session() -> None:
    rows = [100, 80, 90, 60, 70, 40, 50, 120, 110, 0]
    seen = Seen(*[-10] * 9, 50)
    groups, late = sessions(rows, seen)
    assert groups == {(0, 40, 120): list(range(9))}
    assert late == [9]
    with patch.object(
        session_cut, "_failed", lambda _pieces, order, *_: np.arange(len(order))
    ):  # one by one all the same
        assert sessions(rows, seen) == (groups, late)
