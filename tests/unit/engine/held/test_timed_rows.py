"""Rows held for some time."""

from __future__ import annotations

import numpy as np
import polars as pl

from streamlab.engine.held.timed_rows import TimedRows

SCHEMA = pl.Schema({"x": pl.Int64(), "s": pl.String()})


def filled(*heights, name="left"):
    rows = TimedRows(SCHEMA, name)
    for height in heights:
        add(rows, height)
    return rows


def add(rows, height, stays=None):
    first = rows.next
    data = pl.DataFrame({"x": range(first, first + height), "s": [f"row {n}" for n in range(first, first + height)]})
    number = rows.append(data.cast(SCHEMA), np.arange(first, first + height) * 10, np.zeros(height, np.int64))
    rows.settle(np.ones(height, np.bool_) if stays is None else np.array(stays))
    return number


def xs(rows, *numbers):
    return rows.take(np.array(numbers, np.int64))["x"].to_list()


def restored(rows, put):
    again = TimedRows(SCHEMA, "left")
    again.load([(name, part) for name, frame in put.items() for part in frame.iter_slices(2)], rows.progress())
    return again


def test_rows_are_found_by_number_in_any_order_and_nulls_for_none():
    rows = filled(3, 2, 4)
    assert xs(rows, 8, 0, -1, 4, 4) == [8, 0, None, 4, 4]
    assert xs(rows) == []
    assert rows.take(np.array([-1, -1])).schema == SCHEMA
    assert TimedRows(SCHEMA, "left").take(np.array([-1]))["s"].to_list() == [None]


def test_rows_that_do_not_stay_keep_their_numbers_to_themselves():
    rows = filled()
    add(rows, 4, [True, False, True, False])
    add(rows, 2, [False, False])
    add(rows, 1)
    assert (xs(rows, 0, 2, 6), len(rows), rows.next) == ([0, 2, 6], 3, 7)


def test_a_block_whose_rows_have_all_expired_is_dropped_and_one_that_lost_most_is_written_anew():
    rows = filled(10)
    put, _ = rows.changes()
    (name,) = put
    rows.drop_before(np.array([40]))
    assert rows.changes() == ({}, [])  # six of ten are left
    rows.drop_before(np.array([70]))
    put, gone = rows.changes()
    assert gone == [name]
    assert [frame.height for frame in put.values()] == [3]
    assert xs(rows, 9, 7) == [9, 7]
    rows.drop_before(np.array([1000]))
    assert rows.changes() == ({}, list(put))
    assert len(rows) == 0


def test_a_commit_writes_what_came_since_the_last_and_small_blocks_again():
    rows, kept, written = filled(), {}, 0
    for _ in range(64):
        add(rows, 10)
        put, gone = rows.changes()
        kept |= put
        written += sum(frame.height for frame in put.values())
        for name in gone:
            del kept[name]
        assert sum(frame.height for frame in kept.values()) == len(rows)
    assert len(kept) <= 7
    assert written <= 640 * 7
    assert rows.changes() == ({}, [])


def test_rows_come_back_from_the_frames_of_a_checkpoint():
    rows = filled(5)
    put, _ = rows.changes()
    again = restored(rows, put)
    add(again, 2)
    assert xs(again, 6, 0, 4) == [6, 0, 4]
    fresh, gone = again.changes()
    assert not set(fresh) & set(put)
    assert [name for name in gone if name not in put] == []


def test_numbers_and_names_go_on_where_nothing_is_left():
    rows = filled(5)
    rows.changes()
    rows.drop_before(np.array([1000]))
    again = restored(rows, {})
    assert add(again, 1).tolist() == [5]
    assert list(again.changes()[0]) == ["left-000000000002"]


def test_each_lane_has_a_time_of_its_own():
    rows = TimedRows(SCHEMA, "left")
    data = pl.DataFrame({"x": [0, 1, 2], "s": ["", "", ""]}).cast(SCHEMA)
    rows.append(data, np.array([5, 5, 5]), np.array([0, 1, 0]))
    rows.settle(np.ones(3, np.bool_))
    rows.drop_before(np.array([6, 0]))
    assert (len(rows), xs(rows, 1)) == (1, [1])


def test_a_text_that_is_kept_does_not_keep_the_batch_it_came_in():
    rows = TimedRows(SCHEMA, "left")
    data = pl.DataFrame({"x": range(5_000), "s": ["a text that is long enough to be elsewhere" * 10] * 5_000})
    rows.append(data, np.arange(5_000), np.zeros(5_000, np.int64))
    rows.settle(np.arange(5_000) < 1)
    assert rows.estimated_size() < 10_000
