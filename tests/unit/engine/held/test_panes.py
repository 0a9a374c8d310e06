from __future__ import annotations

from typing import Any

import polars as pl

from streamlab.engine.held import panes
from streamlab.engine.held.panes import Panes


def summed(parts: Any) -> Any:
    return pl.concat(parts).group_by("k").agg(pl.col("n").sum())


def part(*keys: Any) -> Any:
    return pl.DataFrame({"k": keys, "n": [1] * len(keys)}, schema={"k": pl.Int64, "n": pl.Int64})


def total(held: Any, lane: Any, start: Any) -> Any:
    return dict(summed(held.parts(lane, start)).sort("k").rows())


class Disk:
    """What a store would hold."""

    def __init__(self) -> None:
        self.frames: dict[str, pl.DataFrame] = {}
        self.seen: set[str] = set()

    def commit(self, held: Any) -> Any:
        changes = held.changes()
        assert not set(changes.put) & self.seen, "a name is never used twice"
        self.seen |= set(changes.put)
        self.frames |= changes.put
        for name in changes.drop:
            del self.frames[name]
        return len(changes.put)


def test_panes_are_found_by_lane_in_order_of_their_starts() -> None:
    held = Panes(summed)
    for lane, start in [(1, 30), (0, 20), (1, -7), (1, 10), (1, 30)]:
        held.append(lane, start, part(lane))
    assert sorted(held.lanes()) == [0, 1]
    assert held.starts(1) == [-7, 10, 30]
    assert held.starts(1, 10, 30) == [10]
    assert held.starts(1, None, 11) == [-7, 10]
    assert held.starts(5) == []
    assert total(held, 1, 30) == {1: 2}


def test_a_pane_is_dropped_whole_in_memory_and_on_disk() -> None:
    held, disk = Panes(summed), Disk()
    for start in (0, 10, 20):
        held.append(0, start, part(start))
    assert disk.commit(held) == 3
    held.drop(0, 20)
    assert held.starts(0) == [20]
    assert disk.commit(held) == 0
    assert [frame["k"].to_list() for frame in disk.frames.values()] == [[20]]
    held.drop(0, 21)
    assert held.lanes() == []
    assert held.size() == (0, 0)


def test_what_did_not_change_is_not_written_again_and_few_frames_stay() -> None:
    held, disk = Panes(summed), Disk()
    written = 0
    for number in range(256):
        held.append(0, 0, part(number))
        before = set(disk.frames)
        disk.commit(held)
        written += sum(disk.frames[name].height for name in set(disk.frames) - before)
    assert len(disk.frames) <= 10
    assert written < 256 * 9
    assert total(held, 0, 0) == dict.fromkeys(range(256), 1)


def test_panes_come_back_from_frames_that_come_in_several_parts() -> None:
    held, disk = Panes(summed), Disk()
    for number in range(50):
        held.append(0, -7, part(number % 5))
        held.append(3, 10, part(number))
        disk.commit(held)
    again = Panes(summed)
    again.sequence = held.sequence
    again.load((name, frame[at::2]) for name, frame in sorted(disk.frames.items()) for at in range(2))
    assert total(again, 0, -7) == total(held, 0, -7) == dict.fromkeys(range(5), 10)
    assert total(again, 3, 10) == total(held, 3, 10)
    again.append(3, 10, part(7))
    assert disk.commit(again) == 1
    assert total(again, 3, 10)[7] == 2


def test_many_rows_are_put_together_before_the_next_checkpoint(monkeypatch: Any) -> None:
    monkeypatch.setattr(panes, "_MANY_ROWS", 10)
    held = Panes(summed)
    for _ in range(1_000):
        held.append(0, 0, part(1, 2, 3))
    assert held.size()[0] <= panes._OUTGROWN * 10 + 3
    assert total(held, 0, 0) == dict.fromkeys((1, 2, 3), 1_000)
