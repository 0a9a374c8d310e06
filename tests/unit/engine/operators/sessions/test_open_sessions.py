from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE
from streamlab.engine.operators.sessions.cut import NONE
from streamlab.engine.operators.sessions.open_sessions import OpenSessions, Sessions

KEYS = pl.Schema({LANE: pl.Int64, "k": pl.String})
KEPT = pl.Schema({"n": pl.Int64})


class Held:
    """Open sessions, and the frames that a store has of them."""

    def __init__(self) -> None:
        self.open, self.kept = OpenSessions(KEYS, KEPT), dict[str, pl.DataFrame]()

    def put(self, *sessions: Any, instead: Any = ()) -> Any:
        """Put sessions of (lane, key, first, last, n), instead of those in slots."""
        rows = pl.DataFrame(sessions, {**KEYS, "first": pl.Int64, "last": pl.Int64, **KEPT}, orient="row")
        keys = self.open.keys(rows)
        lane, first, last = (rows[name].to_numpy() for name in (LANE, "first", "last"))
        gone = np.array(instead, np.int64)
        touched, near, older = self.open.near(keys, first, 1 << 40)
        self.open.drop(gone)
        slots = self.open.put(Sessions(keys, lane, first, last, rows.select("n")), np.full(len(keys), NONE))
        self.open.link(touched, older, np.concatenate([near[~np.isin(near, gone)], slots]))
        return slots

    def expire(self, *before: Any) -> Any:
        gone = self.open.expire(np.array(before, np.int64))
        found = self.told(gone)
        self.open.release(gone.key)
        return found

    def told(self, sessions: Any) -> Any:
        keys = self.open.columns(sessions.key)["k"].to_list()
        return sorted(
            zip(
                sessions.lane.tolist(),
                keys,
                sessions.first.tolist(),
                sessions.last.tolist(),
                sessions.kept["n"],
                strict=True,
            ),
            key=str,
        )

    @property
    def all(self) -> Any:
        return self.told(self.open.take(self.open.all()))

    def commit(self) -> Any:
        put, dropped = self.open.changes()
        assert not put.keys() & self.kept.keys()
        self.kept |= put
        for name in dropped:
            del self.kept[name]
        return sorted(put), dropped

    def reopen(self, *before: Any, parts: Any = 2) -> None:
        progress, self.open = self.open.progress(), OpenSessions(KEYS, KEPT)
        cut = [(name, frame[at::parts]) for name, frame in sorted(self.kept.items()) for at in range(parts)]
        self.open.load(cut, progress, LANE, np.array(before, np.int64))


def test_sessions_go_when_the_watermark_of_their_lane_has_passed_their_end() -> None:
    held = Held()
    held.put((0, "a", 0, 10, 1), (0, None, 5, 20, 2), (1, "a", 0, 5, 3))
    assert held.expire(10, 0) == []
    assert held.expire(11, 0) == [(0, "a", 0, 10, 1)]
    assert held.expire(30, 6) == [(0, None, 5, 20, 2), (1, "a", 0, 5, 3)]
    assert len(held.open) == 0


def test_a_lane_without_a_watermark_yet_closes_nothing() -> None:
    held = Held()
    held.put((3, "a", 0, 10, 1))
    assert held.expire(100) == []
    assert held.expire(0, 0, 0, 11) == [(3, "a", 0, 10, 1)]


def test_a_session_that_grew_is_not_closed_at_the_end_it_had() -> None:
    held = Held()
    (slot,) = held.put((0, "a", 0, 10, 1))
    held.open.put(Sessions(*(np.array([v]) for v in (0, 0, 0, 50)), pl.DataFrame({"n": [2]})), np.array([slot]))
    assert held.expire(40) == []
    assert held.expire(51) == [(0, "a", 0, 50, 2)]


def test_a_slot_that_went_to_another_lanes_session_is_not_closed_with_the_first() -> None:
    held = Held()
    (slot,) = held.put((0, "a", 0, 10, 1))
    held.put((1, "b", 0, 10, 2), instead=[slot])
    assert held.expire(100, 0) == []
    assert held.all == [(1, "b", 0, 10, 2)]


def test_keys_without_sessions_are_forgotten() -> None:
    held = Held()
    for n in range(50):
        held.put(*((0, f"{n}-{i}", n, n, i) for i in range(100)))
        held.expire(n)
    assert len(held.open) == 100
    assert len(held.open._index) == 100


def test_it_goes_on_from_what_was_kept_without_what_has_closed_grown_or_merged_since() -> None:
    held = Held()
    slots = held.put((0, "a", 0, 10, 1), (0, "a", 30, 40, 2), (0, "b", 0, 90, 3), (1, None, 0, 9, 4), (0, "c", 0, 5, 5))
    held.commit()
    held.put((0, "a", 0, 45, 6), instead=slots[:2])  # it takes in two that were kept
    held.commit()
    held.expire(6, 0)
    held.commit()
    before = held.all
    assert before == [(0, "a", 0, 45, 6), (0, "b", 0, 90, 3), (1, None, 0, 9, 4)]
    held.reopen(6, 0)
    assert held.all == before
    assert held.expire(100, 100) == before
    held.commit()
    assert held.kept == {}


def test_names_go_on_after_everything_was_dropped_and_loaded() -> None:
    held = Held()
    held.put((0, "a", 0, 10, 1))
    assert held.commit() == (["000000000000"], [])
    held.expire(11)
    assert held.commit() == ([], ["000000000000"])
    held.reopen(11)
    held.put((0, "a", 20, 20, 1))
    assert held.commit() == (["000000000001"], [])


def test_what_was_loaded_is_not_written_again_and_its_runs_are_dropped_in_time() -> None:
    held = Held()
    held.put(*((0, str(n), 0, 10 + n, n) for n in range(40)))
    held.commit()
    held.put((0, "x", 0, 100, 1))
    held.commit()
    held.reopen(0)
    assert held.commit() == ([], [])
    held.expire(60)
    assert held.commit() == ([], ["000000000000"])
    held.reopen(60)
    assert held.all == [(0, "x", 0, 100, 1)]


def test_memory_is_flat_while_sessions_come_and_go() -> None:
    held, sizes = Held(), []
    for step in range(60):
        held.put(*((0, f"{step}-{i}", step * 10, step * 10, i) for i in range(500)))
        held.expire(step * 10 - 30)
        held.commit()
        sizes.append(held.open.estimated_size())
    assert max(sizes[30:]) <= 1.2 * max(sizes[10:20])
    assert sum(frame.height for frame in held.kept.values()) < 4 * len(held.open)
