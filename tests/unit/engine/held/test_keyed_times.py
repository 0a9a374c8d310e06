"""Rows by key and time, and how they go."""

from __future__ import annotations

import numpy as np
import polars as pl

from streamlab.engine.held.keyed_times import KeyedTimes, Side
from streamlab.engine.stream_time import NEVER

SCHEMA = pl.Schema({"id": pl.Int64(), "x": pl.Int64()})


def held(horizon=10):
    side = Side("left", SCHEMA, ["id"], horizon)
    return KeyedTimes(pl.Schema({"id": pl.Int64()}), side), side


def add(keyed, side, ids, times, lane=0):
    data = pl.DataFrame({"id": ids, "x": times}, schema=SCHEMA)
    lanes, asked = np.full(len(ids), lane), np.ones(len(ids), np.bool_)
    (slot,) = keyed.slots([(data.select("id"), lanes, asked)], insert=True)
    number = side.rows.append(data, np.array(times), lanes, slot)
    places = np.flatnonzero(slot >= 0)
    keyed.keep(side, places, np.array(times), lanes)
    side.index.add(slot[places], np.array(times)[places], number[places])
    return slot


def test_a_key_with_a_null_has_no_slot_and_keys_of_two_frames_share_theirs():
    keyed, _ = held()
    one, other = pl.DataFrame({"id": [1, None, 2]}), pl.DataFrame({"key": [2, 3]})
    zero, asked = np.zeros(3, np.int64), np.array([True, True, True])
    left, right = keyed.slots([(one, zero, asked), (other, zero[:2], np.array([True, False]))], insert=True)
    assert (left.tolist(), right.tolist()) == ([0, -1, 1], [1, -1])
    assert keyed.slots([(other, zero[:2], asked[:2])], insert=False)[0].tolist() == [1, -1]


def test_a_key_of_two_lanes_is_two():
    keyed, side = held()
    assert add(keyed, side, [1], [5], lane=0).tolist() != add(keyed, side, [1], [5], lane=1).tolist()


def test_rows_and_keys_go_in_a_sweep_and_slots_go_to_other_keys_only_then():
    keyed, side = held()
    add(keyed, side, [1, 2, 4], [0, 1, 50])
    keyed.sweep(np.array([12]))
    assert keyed.holding().rows == 1
    assert keyed.holding().windows == 1
    slot = add(keyed, side, [3], [60])
    assert slot.tolist() in ([0], [1])
    assert side.index.between(slot, np.array([0]), np.array([100]))[2].tolist() == [60]


def test_no_sweep_where_little_has_expired():
    keyed, side = held(horizon=100)
    add(keyed, side, list(range(100)), list(range(100)))
    keyed.sweep(np.array([0]))
    before = len(side.rows)
    keyed.sweep(np.array([10]))
    assert len(side.rows) == before == 100
    keyed.sweep(np.array([180]))
    assert len(side.index) == 20


def test_a_lane_that_stands_still_keeps_its_rows_while_those_of_others_go():
    keyed, side = held()
    add(keyed, side, [1], [5], lane=0)
    for step in range(50):
        add(keyed, side, [2] * 20, [20 * step] * 20, lane=1)
        keyed.sweep(np.array([NEVER, 20 * step]))
    assert len(side.rows) < 200
    assert 5 in side.rows.take(np.array([0]))["x"].to_list()


def test_all_comes_back_from_a_checkpoint():
    keyed, side = held()
    add(keyed, side, [1, None, 2], [5, 6, 7])
    changes, progress = keyed.changes(), keyed.progress()
    again, other = held()
    again.load(changes.put.items(), progress)
    (slot,) = again.slots([(pl.DataFrame({"id": [2]}), np.zeros(1, np.int64), np.array([True]))], insert=False)
    number, time = other.index.latest(slot, np.array([0]), np.array([9]))
    assert (number.tolist(), time.tolist()) == ([2], [7])
    assert list(changes.put) == ["left-000000000001"]
    assert again.holding().oldest == 5
