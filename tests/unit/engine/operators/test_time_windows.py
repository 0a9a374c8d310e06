from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.batch import MADE, Rows
from streamlab.engine.operators.shared.covering import starts_of
from streamlab.engine.operators.time_windows import FinalWindows
from streamlab.engine.stream_time import Clock
from streamlab.engine.watermark import Gate
from streamlab.testing import StreamTester

SCHEMA = {"k": pl.String, "x": pl.Int64}
KEYS = ["b", "a", None]


def events(**settings: Any) -> Any:
    return sl.Kafka("localhost:9092").stream("events", schema=SCHEMA, **settings)


def counted(window: Any, *by: Any, **settings: Any) -> Any:
    return events(**settings).group_by(*by or ("k",)).window(window).agg(pl.len().alias("n"))


class Driven:
    """The operator with a source of its own, driven by batches of (time, key, value) or (time, key, value, partition)."""

    def __init__(self, stream: Any, *, laned: Any = False) -> None:
        self.node, self.clock, self.gate = stream.node, Clock(), Gate(laned=laned)
        self.operator = FinalWindows(stream.node, laned=laned)
        self.kept: dict[str, pl.DataFrame] = {}

    def send(self, *records: Any) -> Any:
        columns = [[r[n] if n < len(r) else 0 for r in records] for n in (0, 3)]
        time, partition, index = (np.array(c, np.int64) for c in (*columns, range(len(records))))
        data = pl.DataFrame({"k": [r[1] for r in records], "x": [r[2] for r in records]}, schema=SCHEMA)
        rows = Rows(data, time, partition, index, index)
        return self.operator.step([rows], self.gate.advance([self.clock.advance(rows)]))

    def commit(self) -> None:
        changes = self.operator.changes()
        assert not set(changes.put) & set(self.kept), "a name is never used twice"
        self.kept |= changes.put
        for name in changes.drop:
            self.kept.pop(name, None)

    def reopen(self, parts: Any = 1) -> None:
        """Load what was kept into a new operator, frames cut in parts."""
        progress = self.operator.progress()
        self.operator = FinalWindows(self.node, laned=self.operator.laned)
        cut = [
            (name, frame[at::parts] if parts > 1 else frame)
            for name, frame in sorted(self.kept.items())
            for at in range(parts)
        ]
        self.operator.load(cut, progress)


def found(output: Any) -> Any:
    return [tuple(row) for row in output.emitted.data.select("k", "n").rows()]


def columns(record: Any) -> Any:
    return record.value


def instant(milliseconds: Any) -> Any:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@pytest.mark.parametrize(
    ("window", "times", "starts"),
    [
        (sl.tumbling("10ms"), [0, 9, 10, 25], [0, 0, 10, 20]),
        (sl.tumbling("10ms", offset="3ms"), [0, 2, 3, 12, 13], [-7, -7, 3, 3, 13]),
        (sl.tumbling("1ms"), [0, 1, 2], [0, 1, 2]),
        (sl.tumbling("1d"), [1_700_000_000_000], [1_699_920_000_000]),
    ],
)
def test_windows_start_at_multiples_of_the_size_from_the_epoch(window: Any, times: Any, starts: Any) -> None:
    assert starts_of(np.array(times), window).tolist() == starts


def test_a_window_closes_once_the_watermark_reaches_its_end() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    assert found(driven.send((0, "a", 1), (9, "a", 1))) == []
    assert found(driven.send((10, "a", 1))) == [("a", 2)]


def test_a_window_with_grace_waits_for_it() -> None:
    driven = Driven(counted(sl.tumbling("10ms", grace="5ms")))
    assert found(driven.send((0, "a", 1))) == []
    assert found(driven.send((14, "a", 1), (9, "a", 1))) == []
    assert found(driven.send((15, "a", 1))) == [("a", 2)]


def test_rows_come_in_order_of_closing_time_then_key_nulls_first() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    assert found(driven.send((5, "b", 1))) == []
    made = driven.send(*[(5, key, 1) for key in KEYS], *[(15, key, 1) for key in KEYS], (30, "z", 1))
    assert found(made) == [(None, 1), ("a", 1), ("b", 2), (None, 1), ("a", 1), ("b", 1)]
    assert made.emitted.data["window_start"].to_list() == [instant(0)] * 3 + [instant(10)] * 3


def test_the_event_time_of_a_result_is_the_last_instant_of_its_window() -> None:
    made = Driven(counted(sl.tumbling("10ms"))).send((25, "a", 1), (31, "a", 1))
    assert made.emitted.time.tolist() == [29]
    assert made.emitted.index.tolist() == [MADE]
    assert made.emitted.data.row(0, named=True) == {
        "k": "a",
        "window_start": instant(20),
        "window_end": instant(30),
        "n": 1,
    }


def test_a_row_is_late_when_its_window_was_closed_right_after_its_own_record() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    made = driven.send((5, "a", 1), (20, "a", 2), (9, "a", 3), (15, "a", 4), (10, "a", 5), (21, "b", 6))
    assert made.late.data["x"].to_list() == [3, 4, 5]
    assert made.late.data["watermark"].to_list() == [instant(20)] * 3
    assert made.late.data["window_start"].to_list() == [instant(0), instant(10), instant(10)]
    assert made.late.data["window_end"].to_list() == [instant(10), instant(20), instant(20)]
    assert made.late.time.tolist() == [9, 15, 10]
    assert found(made) == [("a", 1)]


def test_a_record_before_a_jump_in_its_own_batch_is_in_time() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    made = driven.send((5, "a", 1), (6, "a", 2), (1_000, "a", 3))
    assert made.late.height == 0
    assert found(made) == [("a", 2)]


def test_an_offset_shifts_the_bounds_and_no_window_starts_before_the_epoch() -> None:
    with StreamTester(counted(sl.tumbling("10ms", offset="3ms"))) as t:
        for time in (0, 2, 3, 12, 13):
            t.send("events", {"k": "a"}, timestamp=time)
        t.restart()
        t.close_input()
        bounds = [
            (columns(r)["window_start"], columns(r)["window_end"], columns(r)["n"], r.timestamp) for r in t.read()
        ]
    assert bounds == [
        (instant(0), instant(3), 2, 2),
        (instant(3), instant(13), 2, 12),
        (instant(13), instant(23), 1, 22),
    ]


def test_late_rows_of_a_window_cut_at_the_epoch_have_its_bounds() -> None:
    with StreamTester(counted(sl.tumbling("10ms", offset="3ms"))) as t:
        t.send("events", {"k": "a"}, timestamp=50)
        t.send("events", {"k": "a"}, timestamp=1)
        (late,) = t.late()
    assert (columns(late)["window_start"], columns(late)["window_end"]) == (instant(0), instant(3))


def test_with_a_task_a_partition_each_closes_its_own_windows() -> None:
    driven = Driven(counted(sl.tumbling("10ms"), key="k"), laned=True)
    made = driven.send((5, "a", 1, 0), (5, "b", 1, 1), (20, "a", 1, 0), (6, "b", 1, 1))
    assert found(made) == [("a", 1)]
    made = driven.send((7, "a", 9, 0), (11, "b", 1, 1))
    assert found(made) == [("b", 2)]
    assert made.emitted.partition.tolist() == [1]
    assert made.late.data["x"].to_list() == [9]


def test_the_end_of_the_input_closes_every_window_in_order() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    driven.send((5, "a", 1), (25, "b", 1), (25, "a", 1), (21, "a", 1))
    rest = driven.operator.close()
    assert rest.data.select("k", "n").rows() == [("a", 2), ("b", 1)]
    assert driven.operator.close().height == 0


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("laned", [False, True])
def test_what_is_kept_is_what_is_held(laned: Any, parts: Any) -> None:
    stream = counted(sl.tumbling("10ms", grace="50ms"), key="k")
    driven, kept = (Driven(stream, laned=laned) for _ in range(2))
    for number in range(30):
        batch = [(number * 3 + shift, KEYS[(number + shift) % 3], number, shift % 2) for shift in range(4)]
        one, other = driven.send(*batch), kept.send(*batch)
        assert found(one) == found(other)
        if number % 2:
            kept.commit()
            kept.reopen(parts)
    assert driven.operator.close().data.equals(kept.operator.close().data)


def test_a_closed_window_is_dropped_whole() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    driven.send((5, "a", 1), (15, "a", 1))
    driven.commit()
    assert len(driven.kept) == 1
    driven.send((30, "a", 1))
    driven.commit()
    assert [name.split("/")[1] for name in driven.kept] == [f"{30:015d}"]


def test_a_window_that_opens_and_closes_between_two_commits_is_never_written() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    driven.send((5, "a", 1))
    driven.send((30, "a", 1))
    driven.commit()
    assert [name.split("/")[1] for name in driven.kept] == [f"{30:015d}"]


def test_a_window_is_kept_in_few_frames_however_often_it_is_committed() -> None:
    driven = Driven(counted(sl.tumbling("1h")))
    for number in range(200):
        driven.send((number, str(number % 40), 1))
        driven.commit()
    assert len(driven.kept) < 10
    assert sum(frame.height for frame in driven.kept.values()) < 100


def test_it_tells_how_much_it_holds() -> None:
    driven = Driven(counted(sl.tumbling("10ms")))
    assert driven.operator.holding().rows == 0
    assert driven.operator.holding().oldest is None
    driven.send((15, "a", 1), (16, "b", 1))
    holding = driven.operator.holding()
    assert (holding.rows, holding.windows, holding.oldest) == (2, 1, 10)
    assert holding.bytes > 0


def test_final_results_are_of_windows() -> None:
    with pytest.raises(TypeError, match="None is neither tumbling nor hopping"):
        FinalWindows(events().group_by("k").agg(pl.len()).node, laned=False)


KEY_TYPES = {
    "text": (pl.String, ["b", "", None, "a"], [None, "", "a", "b"]),
    "numbers": (pl.Int8, [1, -1, None], [None, -1, 1]),
    "large numbers": (pl.UInt64, [2**63, 1], [1, 2**63]),
    "fractions": (pl.Float64, [1.5, -1.5, None], [None, -1.5, 1.5]),
    "booleans": (pl.Boolean, [True, None, False], [None, False, True]),
    "days": (pl.Date, ["2020-01-02", "2020-01-01"], [datetime(2020, 1, d, tzinfo=UTC).date() for d in (1, 2)]),
    "lists": (pl.List(pl.Int64), [[1], [], None, [1, 2]], [None, [], [1], [1, 2]]),
    "structs": (pl.Struct({"a": pl.Int64}), [{"a": 1}, None, {"a": 0}], [None, {"a": 0}, {"a": 1}]),
    "categories": (pl.Enum(["z", "a"]), ["a", "z"], ["z", "a"]),
}


@pytest.mark.parametrize(("dtype", "sent", "order"), KEY_TYPES.values(), ids=KEY_TYPES)
def test_keys_of_any_type_are_groups_null_among_them(dtype: Any, sent: Any, order: Any) -> None:
    stream = sl.Kafka("localhost:9092").stream("events", schema={"k": dtype})
    with StreamTester(stream.group_by("k").window(sl.tumbling("1m")).agg(pl.len().alias("n"))) as t:
        for key in sent:
            t.send("events", {"k": key}, timestamp=0)
        t.restart()
        t.send_batch("events", [{"value": {"k": key}, "timestamp": 1} for key in sent], wrapped=True)
        t.close_input()
        assert [(r.key, columns(r)["n"]) for r in t.read()] == [(key, 2) for key in order]


def test_aggregations_that_keep_rows_see_them_in_order_of_arrival_across_restarts() -> None:
    stream = (
        events().group_by("k").window(sl.tumbling("1m")).agg(pl.col("x").implode(), pl.col("x").first().alias("first"))
    )
    with StreamTester(stream) as t:
        for value in (3, 1, None, 2):
            t.send("events", {"k": "a", "x": value}, timestamp=10 - (value or 0))
            t.restart()
        t.close_input()
        (record,) = t.read()
    assert columns(record)["x"] == [3, 1, None, 2]
    assert columns(record)["first"] == 3


# --- hopping ---

HOPS = sl.hopping("10ms", every="5ms")


def bounds(output: Any) -> Any:
    return [
        (*(int(at.timestamp() * 1000) for at in row[:2]), *row[2:])
        for row in output.select("window_start", "window_end", "n").rows()
    ]


def test_a_row_counts_in_every_window_that_covers_it() -> None:
    driven = Driven(counted(HOPS))
    assert driven.send((7, "a", 1), (11, "a", 1)).emitted.height == 1
    made = driven.send((30, "a", 1))
    assert bounds(made.emitted.data) == [(5, 15, 2), (10, 20, 1)]
    assert made.emitted.time.tolist() == [14, 19]


def test_a_row_may_be_late_for_one_window_and_in_time_for_another() -> None:
    driven = Driven(counted(HOPS))
    first = driven.send((3, "a", 1), (12, "a", 2), (7, "a", 3))
    assert bounds(first.emitted.data) == [(0, 10, 1)]
    assert bounds(first.late.data.with_columns(n="x")) == [(0, 10, 3)]
    assert first.late.data["watermark"].to_list() == [instant(12)]
    assert first.reached.tolist() == [0, 1, 2]
    assert bounds(driven.send((15, "a", 4)).emitted.data) == [(5, 15, 2)]


def test_a_row_that_is_late_for_all_windows_is_late_once_for_each() -> None:
    made = Driven(counted(HOPS)).send((40, "a", 1), (12, "a", 2), (41, "a", 3))
    assert bounds(made.late.data.with_columns(n="x")) == [(5, 15, 2), (10, 20, 2)]
    assert made.late.index.tolist() == [1, 1]
    assert made.reached.tolist() == [0, 2]


def test_windows_that_open_and_close_within_a_batch_have_its_rows() -> None:
    made = Driven(counted(HOPS)).send((7, "a", 1), (12, "b", 1), (100, "a", 1))
    assert bounds(made.emitted.data) == [(0, 10, 1), (5, 15, 1), (5, 15, 1), (10, 20, 1)]
    assert made.emitted.data["k"].to_list() == ["a", "a", "b", "b"]


def test_an_offset_of_hopping_windows_cuts_the_last_one_before_the_epoch() -> None:
    driven = Driven(counted(sl.hopping("10ms", every="5ms", offset="3ms")))
    driven.send((1, "a", 1), (4, "a", 1))
    assert bounds(driven.operator.close().data) == [(0, 8, 2), (3, 13, 1)]


def test_first_last_and_kept_rows_of_hopping_windows_go_by_arrival_across_restarts() -> None:
    aggregations = (pl.col("x").first().alias("first"), pl.col("x").last().alias("last"), pl.col("x").implode())
    for aggs in (aggregations[:2], aggregations):
        stream = events().group_by("k").window(sl.hopping("10ms", every="3ms", grace="20ms")).agg(*aggs)
        with StreamTester(stream) as t:
            for time, value in [(8, 1), (6, 2), (9, 3), (2, None), (7, 5)]:
                t.send("events", {"k": "a", "x": value}, timestamp=time)
                t.restart()
            t.close_input()
            found = {columns(r)["window_start"]: columns(r) for r in t.read()}
        assert [found[instant(0)][name] for name in ("first", "last")] == [1, 5]
        assert [found[instant(6)][name] for name in ("first", "last")] == [1, 5]
        assert [found[instant(9)][name] for name in ("first", "last")] == [3, 3]
        if len(aggs) > 2:  # kept rows too
            assert [found[instant(at)]["x"] for at in (0, 3, 9)] == [[1, 2, 3, None, 5], [1, 2, 3, 5], [3]]


def test_a_pane_goes_with_the_last_window_that_it_is_in() -> None:
    driven = Driven(counted(HOPS))
    most = 0
    for time in range(0, 3_000, 3):
        driven.send((time, str(time % 7), 1))
        driven.commit()
        most = max(most, driven.operator.holding().rows, len(driven.kept))
        holding = driven.operator.holding()
        assert (holding.windows, holding.oldest) == (min(2, time // 5 + 1), max(0, time // 5 * 5 - 5))
    assert most < 12  # rows of 15 ms, and frames for them


def test_windows_that_are_closed_are_not_emitted_again_after_a_restart() -> None:
    driven = Driven(counted(HOPS))
    driven.send((7, "a", 1), (12, "a", 1))
    driven.commit()
    driven.reopen()
    assert bounds(driven.send((15, "a", 1)).emitted.data) == [(5, 15, 2)]
    assert bounds(driven.operator.close().data) == [(10, 20, 2), (15, 25, 1)]
