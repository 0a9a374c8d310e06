"""Rows of both sides beside each other, and what is due."""

from __future__ import annotations

import numpy as np
import polars as pl

from streamlab.engine.operators.shared.join_rows import beside, put, taken


def test_columns_that_are_one_come_from_the_row_that_is_there_if_their_types_are_equal():
    left = pl.DataFrame({"k": [1, None], "ts": pl.Series([5, None], dtype=pl.Int32)})
    right = pl.DataFrame({"i": [1, 2], "ts": [6, 7]})
    found = beside(left, right, np.array([True, False]), [("k", "i"), ("ts", "ts")], {})
    assert found.rows() == [(1, 5), (2, None)]


def test_what_is_due_is_told_with_its_lane():
    due = {}
    put(due, np.array([5, 6, 7]), np.array([0, 1, 2]), np.array([0, 2, 0]))
    time, number, lane = taken(due, np.array([7, 0, 7]))
    assert sorted(zip(time.tolist(), number.tolist(), lane.tolist(), strict=True)) == [(5, 0, 0), (6, 1, 2)]
    assert [len(part) for part in taken(due, np.array([7]))] == [0, 0, 0]
    assert taken({}, np.array([7]))[2].dtype == np.int64
