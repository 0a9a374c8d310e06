"""What the watermark is at each record's own turn."""

from __future__ import annotations

import numpy as np

from streamlab.engine.batch import MADE
from streamlab.engine.stream_time import ALWAYS, Signal
from streamlab.engine.turns import END, Turns
from streamlab.engine.watermark import Gate


def ints(*values):
    return np.array(values, np.int64)


def signal(partitions, times, index=None):
    """Return what a source says whose partitions stood at 0."""
    end = np.zeros(2, np.int64)
    np.maximum.at(end, partitions, times)
    places = np.arange(len(times)) if index is None else ints(*index)
    awake, quiet = np.full(2, ALWAYS), np.full(2, -(1 << 62))
    return Signal(places, ints(*partitions), ints(*times), np.zeros(2, np.int64), end, awake, quiet)


def test_a_deadline_is_judged_by_the_watermark_right_after_its_record():
    watermarks = Gate(laned=False).advance((signal([0, 1, 0, 1], [10, 5, 20, 30]),))
    turns = Turns(watermarks, ints(MADE, 0, 1, 2, 3), np.zeros(5, np.int64))
    assert turns.watermark.tolist() == [-(1 << 62), 0, 5, 5, 20]
    assert turns.passed(np.full(5, 4), np.arange(5)).tolist() == [False, False, True, True, True]
    assert turns.passed(ints(20, 19), ints(4, 4)).tolist() == [False, True]


def test_the_moment_of_a_deadline_is_the_record_that_moved_the_watermark_past_it():
    watermarks = Gate(laned=False).advance((signal([0, 1, 0, 1], [10, 5, 20, 30]),))
    turns = Turns(watermarks, ints(0, 3), np.zeros(2, np.int64))
    moments = turns.moments(ints(4, 5, 19, -1), np.zeros(4, np.int64))
    assert moments.tolist() == [1, 3, 3, MADE]
    assert turns.places(moments).tolist() == [1, 1, 1, 0]
    assert turns.places(ints(END)).tolist() == [2]


def test_each_lane_has_its_own():
    watermarks = Gate(laned=True).advance((signal([0, 1, 0, 1], [10, 5, 20, 30]),))
    turns = Turns(watermarks, np.arange(4), ints(0, 1, 0, 1))
    assert turns.watermark.tolist() == [10, 5, 20, 30]
    assert turns.moments(ints(9, 29, 4), ints(0, 1, 1)).tolist() == [0, 3, 1]


def test_two_sources_move_a_lane_together():
    both = signal([0, 0], [10, 20], [0, 2]), signal([0, 0], [5, 40], [1, 3])
    watermarks = Gate(laned=True).advance(both)
    turns = Turns(watermarks, np.arange(4), np.zeros(4, np.int64))
    assert turns.watermark.tolist() == [0, 5, 5, 20]
    assert turns.moments(ints(4, 5), ints(0, 0)).tolist() == [1, 3]
