"""Rows in order of arrival."""

from __future__ import annotations

import numpy as np
import polars as pl

from streamlab.engine.batch import LAST, MADE, Rows, by_arrival, concat


def rows(*index, deleted=None):
    at = np.array(index)
    return Rows(pl.DataFrame({"x": at}), at, at, at, at, deleted)


def test_parts_come_in_order_of_arrival_and_the_first_part_first():
    one, other = rows(1, 3, LAST), rows(MADE, 2, 3)
    whole = concat([one, other], one.data.schema)
    assert whole.index.tolist() == [MADE, 1, 2, 3, 3, LAST]
    assert whole.data["x"].to_list() == whole.index.tolist()
    assert concat([one], one.data.schema) is one


def test_deletions_stay_with_their_rows():
    whole = concat([rows(3, 5), rows(4, deleted=np.array([True]))], pl.Schema({"x": pl.Int64}))
    assert whole.deleted.tolist() == [False, True, False]


def test_rows_that_are_in_order_are_not_copied():
    given = rows(1, 1, 3)
    assert by_arrival(given) is given
    assert by_arrival(rows(5, 1, 3)).index.tolist() == [1, 3, 5]
