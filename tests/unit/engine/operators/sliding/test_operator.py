from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.batch import MADE, Rows
from streamlab.engine.operators.sliding.operator import FinalSliding, SlidingUpdates
from streamlab.engine.stream_time import Clock
from streamlab.engine.watermark import Gate
from streamlab.testing import StreamTester

SCHEMA = {"k": pl.String, "x": pl.Int64}


def milliseconds(count: int) -> timedelta:
    return timedelta(milliseconds=count)


def slid(*aggs: Any, size: int = 10, grace: int = 0, emit: Any = "final", by: Any = ("k",), **settings: Any) -> Any:
    events = sl.Kafka("localhost:9092").stream("events", schema=SCHEMA, **settings)
    window = sl.sliding(milliseconds(size), grace=milliseconds(grace))
    return events.group_by(*by).window(window, emit=emit).agg(*aggs or (pl.col("x").implode().alias("xs"),))


def start_of(record: Any) -> int:
    return round(record.value["window_start"].timestamp() * 1000)


def told(tester: Any, *, key: bool = False) -> Any:
    """Return the results since the last time: start of the window, then key and values."""
    found = []
    for record in tester.read():
        values = [
            value for name, value in record.value.items() if not name.startswith("window_") and (key or name != "k")
        ]
        found.append((start_of(record), *values))
    return found


def send(tester: Any, *records: Any, partition: int = 0) -> None:
    """Send (time, value) or (time, value, key), each as a batch of its own."""
    for time, value, *key in records:
        row = {"k": key[0] if key else "a", "x": value}
        tester.send("events", row, timestamp=time, partition=partition)


def send_together(tester: Any, *records: Any) -> None:
    given = [{"value": {"k": key[0] if key else "a", "x": x}, "timestamp": t} for t, x, *key in records]
    tester.send_batch("events", given, wrapped=True)


# --- which windows there are ---


def test_a_record_has_the_window_that_ends_with_it_and_one_right_after_it_where_that_is_not_empty() -> None:
    with StreamTester(slid()) as t:
        send(t, (100, 1), (104, 2), (130, 3))
        t.close_input()
        assert told(t) == [(90, [1]), (94, [1, 2]), (101, [2]), (120, [3])]


def test_both_bounds_of_a_window_belong_to_it() -> None:
    with StreamTester(slid()) as t:
        send(t, (100, 1), (110, 2), (121, 3))
        t.close_input()
        assert told(t) == [(90, [1]), (100, [1, 2]), (101, [2]), (111, [3])]


def test_no_window_starts_before_the_epoch() -> None:
    with StreamTester(slid()) as t:
        send(t, (0, 1), (4, 2), (10, 3))
        t.close_input()
        assert told(t) == [(0, [1, 2, 3]), (1, [2, 3]), (5, [3])]


def test_records_of_one_time_share_their_windows() -> None:
    with StreamTester(slid()) as t:
        send(t, (100, 1), (100, 2), (105, 3), (105, 4))
        t.close_input()
        assert told(t) == [(90, [1, 2]), (95, [1, 2, 3, 4]), (101, [3, 4])]


def test_a_record_out_of_order_goes_into_the_windows_around_it_and_makes_its_own() -> None:
    with StreamTester(slid(grace=20)) as t:
        send(t, (100, 1), (108, 2), (104, 3))
        t.close_input()
        assert told(t) == [(90, [1]), (94, [1, 3]), (98, [1, 2, 3]), (101, [2, 3]), (105, [2])]


def test_windows_that_hold_the_same_bounds_from_both_sides_are_one() -> None:
    with StreamTester(slid()) as t:
        send(t, (100, 1), (111, 2))  # the window after 100 ends with 111
        t.close_input()
        assert told(t) == [(90, [1]), (101, [2])]


def test_null_is_a_key_like_any_other_and_without_keys_all_rows_are_one_group() -> None:
    with StreamTester(slid(pl.len().alias("n"))) as t:
        send(t, (100, 1, None), (101, 1, "b"), (102, 1, None))
        t.close_input()
        assert told(t, key=True) == [(90, None, 1), (91, "b", 1), (92, None, 2), (101, None, 1)]
    with StreamTester(slid(pl.len().alias("n"), by=())) as t:
        send(t, (100, 1, None), (101, 1, "b"))
        t.restart()
        t.close_input()
        assert told(t) == [(90, 1), (91, 2), (101, 1)]


# --- when they close ---


def test_a_window_closes_once_its_end_and_grace_lie_before_the_watermark() -> None:
    with StreamTester(slid(grace=5)) as t:
        send(t, (100, 1), (105, 2))
        assert told(t) == []
        send(t, (106, 3))
        (record,) = t.read()
        assert (start_of(record), record.timestamp, record.key) == (90, 100, "a")


def test_windows_that_close_together_come_by_their_start_and_then_by_key() -> None:
    with StreamTester(slid(pl.len().alias("n"))) as t:
        send_together(t, (103, 1, "b"), (103, 1, None), (103, 1, "a"), (101, 1, "c"), (200, 1, "z"))
        assert told(t, key=True) == [(93, None, 1), (93, "a", 1), (93, "b", 1)]
        assert [record.value["k"] for record in t.late()] == ["c"]


def test_event_time_of_a_result_is_the_end_of_its_window_so_that_windows_over_it_lose_nothing() -> None:
    first = slid(pl.len().alias("n"), grace=30)
    second = first.group_by("k").window(sl.sliding(milliseconds(5)), name="second").agg(pl.col("n").sum())
    with StreamTester(second) as t:
        send(t, (100, 1), (131, 1), (102, 1), (200, 1), (300, 1))
        t.close_input()
        assert t.late() == []
        assert told(t)[:3] == [(95, 1), (97, 3), (101, 2)]


# --- late ---


def test_a_record_that_is_late_for_its_own_window_still_counts_for_windows_that_are_open() -> None:
    with StreamTester(slid()) as t:
        send(t, (100, 1), (106, 2), (98, 3))
        (late,) = t.late()
        assert late.timestamp == 98
        assert late.value is not None
        bounds = [round(late.value[name].timestamp() * 1000) for name in ("window_start", "window_end", "watermark")]
        assert bounds == [88, 98, 106]
        t.close_input()
        assert told(t) == [(90, [1]), (96, [1, 2, 3]), (99, [1, 2]), (101, [2])]
        counted = t.metrics()
        assert (counted.records, counted.processed, counted.late, counted.late_rows) == (3, 3, 0, 1)


def test_a_record_that_finds_no_open_window_leaves_no_trace() -> None:
    with StreamTester(slid(grace=5)) as t:
        send(t, (120, 1, "b"), (107, 2), (116, 3))  # the watermark is 120: windows that end before 115 are closed
        t.close_input()
        assert told(t) == [(106, [3]), (110, [1])]
        counted = t.metrics()
        assert (counted.processed, counted.late, counted.late_rows) == (2, 1, 1)


def test_a_late_record_may_open_the_window_that_follows_another_one() -> None:
    with StreamTester(slid()) as t:
        send(t, (100, 1), (108, 0, "b"), (105, 2), (107, 3))
        assert len(t.late()) == 2
        t.close_input()
        assert told(t, key=True) == [(90, "a", [1]), (98, "b", [0]), (101, "a", [2, 3]), (106, "a", [3])]


def test_a_record_too_old_for_every_window_is_late_once() -> None:
    with StreamTester(slid()) as t:
        send(t, (100, 1), (89, 2))
        assert len(t.late()) == 1
        t.close_input()
        assert told(t) == [(90, [1])]


@pytest.mark.parametrize("emit", ["final", "updates"])
def test_a_batch_gives_what_its_records_give_one_by_one(emit: Any) -> None:
    drawn = np.random.default_rng(5)
    times = np.arange(300) // 2 + 50 - drawn.choice([0, 0, 1, 3, 9, 25], 300)
    records = [(int(time), n, "ab"[n % 2]) for n, time in enumerate(times)]
    found = []
    for put in (send, send_together):
        with StreamTester(slid(emit=emit, grace=4)) as t:
            put(t, *records)
            t.close_input()
            results = [(start_of(r), r.value["k"], r.value["xs"], r.timestamp) for r in t.read()]
            late = [(r.timestamp, r.value["x"], r.value["watermark"]) for r in t.late()]
            found.append((results if emit == "final" else {r[:2]: r for r in results}, late))
    assert found[0] == found[1]
    assert len(found[0][1]) > 20


# --- updates ---


def test_updates_are_the_windows_that_changed_with_the_newest_event_time_in_them() -> None:
    with StreamTester(slid(emit="updates", grace=50)) as t:
        send(t, (100, 1))
        assert told(t) == [(90, [1])]
        send(t, (104, 2))
        assert told(t) == [(94, [1, 2]), (101, [2])]
        send(t, (98, 3))
        results = {start_of(r): (r.value["xs"], r.timestamp) for r in t.read()}
        assert results == {88: ([3], 98), 90: ([1, 3], 100), 94: ([1, 2, 3], 104), 99: ([1, 2], 104)}


def test_a_window_that_closes_within_the_batch_is_still_told_of() -> None:
    with StreamTester(slid(pl.len().alias("n"), emit="updates")) as t:
        send_together(t, (100, 1), (101, 1), (200, 1))
        assert told(t) == [(90, 1), (91, 2), (101, 1), (190, 1)]
        assert t.state()["rows"].to_list() == [1]


def test_a_window_that_was_there_is_not_told_of_again_because_a_row_now_begins_it() -> None:
    with StreamTester(slid(pl.len().alias("n"), emit="updates", grace=50)) as t:
        send(t, (111, 1))
        assert told(t) == [(101, 1)]
        send(t, (100, 1))
        assert told(t) == [(90, 1)]


# --- aggregations ---


def test_what_goes_by_arrival_goes_by_it_in_every_window() -> None:
    aggs = [pl.col("x").first().alias("first"), pl.col("x").last().alias("last"), pl.len().alias("n")]
    with StreamTester(slid(*aggs, grace=50)) as t:
        send(t, (108, 1), (100, 2))
        t.restart()
        send_together(t, (104, 3), (100, 4))
        t.close_input()
        assert told(t) == [(90, 2, 4, 2), (94, 2, 4, 3), (98, 1, 4, 4), (101, 1, 3, 2), (105, 1, 1, 1)]


def test_aggregations_of_all_kinds_agree_with_polars() -> None:
    x = pl.col("x")
    aggs = [
        x.sum().alias("sum"), x.mean().alias("mean"), x.std().alias("std"), x.min().alias("min"), x.count().alias("count"),
        x.filter(x > 50).max().alias("odd"),
    ]  # fmt: skip
    whole = [*aggs, x.median().alias("median"), pl.col("k").first().alias("key")]
    times = np.sort(np.random.default_rng(3).integers(0, 90, 60))
    frame = pl.DataFrame({"k": ["a"] * 60, "t": times, "x": np.random.default_rng(4).integers(0, 99, 60)})
    for chosen in (aggs, whole):
        with StreamTester(slid(*chosen)) as t:
            send_together(t, *frame.select("t", "x").rows())
            t.close_input()
            for record in t.read():
                start = start_of(record)
                rows = frame.filter(pl.col("t").is_between(start, start + 10))
                (expected,) = rows.select(chosen).to_dicts()
                for name, value in expected.items():
                    found = record.value[name]
                    assert found == value if value is None or name == "key" else found == pytest.approx(value, rel=1e-9)


def test_a_grouping_column_may_be_aggregated() -> None:
    with StreamTester(slid(pl.col("k").first().alias("key"), pl.len().alias("n"))) as t:
        send(t, (100, 1, "é"), (101, 1, "é"))
        t.close_input()
        assert told(t) == [(90, "é", 1), (91, "é", 2), (101, "é", 1)]


def test_windows_that_overlap_much_are_put_together_from_blocks() -> None:
    count = 3_000
    x = np.random.default_rng(2).integers(-50, 50, count)
    sums = np.concatenate([[0], np.cumsum(x)])
    for emit in ("final", "updates"):
        with StreamTester(slid(pl.col("x").sum(), pl.col("x").max().alias("max"), size=500, emit=emit)) as t:
            send_together(t, *((10_000 + n, int(value)) for n, value in enumerate(x)))
            t.close_input()
            found = {start_of(r) - 10_000: (r.value["x"], r.value["max"]) for r in t.read()}
        starts = range(-500, count)
        bounds = {start: (max(start, 0), min(start + 501, count)) for start in starts}
        assert found == {s: (sums[to] - sums[of], x[of:to].max()) for s, (of, to) in bounds.items()}


def test_a_late_row_stays_out_of_the_windows_it_missed_where_blocks_are_used() -> None:
    records = [(1_000 + n, 1) for n in range(200)]
    late = [(1_080, 1_000)]
    with StreamTester(slid(pl.col("x").sum(), size=150, grace=0)) as t:
        send_together(t, *records, *late)
        t.close_input()
        found = dict(told(t))
    for start, total in found.items():
        rows = sum(start <= time <= start + 150 for time, _ in records)
        in_time = start <= 1_080 and start + 150 >= 1_199
        assert total == rows + (1_000 if in_time else 0), start


# --- state ---


class Driven:
    """The operator with a source of its own, driven by batches of (time, key, value) or (time, key, value, partition)."""

    def __init__(self, kind: Any = FinalSliding, *, laned: Any = False, **settings: Any) -> None:
        emit = "final" if kind is FinalSliding else "updates"
        self.node, self.clock, self.gate = (
            slid(pl.col("x").sum(), emit=emit, **settings).node,
            Clock(),
            Gate(laned=laned),
        )
        self.kind, self.laned = kind, laned
        self.operator = kind(self.node, laned=laned)
        self.kept: dict[str, pl.DataFrame] = {}

    def send(self, *records: Any) -> Any:
        columns = [[r[n] if n < len(r) else 0 for r in records] for n in (0, 3)]
        time, partition, index = (np.array(c, np.int64) for c in (*columns, range(len(records))))
        data = pl.DataFrame({"k": [r[1] for r in records], "x": [r[2] for r in records]}, schema=SCHEMA)
        rows = Rows(data, time, partition, index, index)
        return self.operator.step([rows], self.gate.advance([self.clock.advance(rows)]))

    def commit(self) -> Any:
        changes = self.operator.changes()
        assert not set(changes.put) & set(self.kept), "a name is never used twice"
        self.kept |= changes.put
        for name in changes.drop:
            del self.kept[name]
        return changes

    def reopen(self, parts: Any = 1) -> None:
        """Load what was kept into a new operator, frames cut in parts."""
        progress = self.operator.progress()
        self.operator = self.kind(self.node, laned=self.laned)
        self.operator.load(
            [(name, frame[at::parts]) for name, frame in sorted(self.kept.items()) for at in range(parts)], progress
        )


def values(rows: Rows) -> Any:
    return list(zip(rows.time.tolist(), rows.data["k"], rows.data["x"], strict=True))


def test_rows_are_made_by_the_window_in_its_task() -> None:
    driven = Driven(laned=True)
    driven.send((100, "a", 1, 0), (500, "b", 1, 1))
    made = driven.send((111, "a", 1, 0)).emitted
    assert values(made) == [(100, "a", 1)]
    assert (made.partition.tolist(), made.index.tolist(), made.offset.tolist()) == ([0], [MADE], [MADE])
    assert values(driven.send((511, "b", 1, 1)).emitted) == [(500, "b", 1)]


@pytest.mark.parametrize("kind", [FinalSliding, SlidingUpdates])
def test_a_commit_writes_only_what_is_new_and_a_large_run_stays_as_it_is(kind: Any) -> None:
    driven = Driven(kind, size=200)
    written = 0
    for turn in range(60):
        driven.send(*((turn * 10 + n // 100, f"k{n}", n) for n in range(1_000)))
        written += sum(frame.height for frame in driven.commit().put.values())
    assert driven.commit().put == {}
    assert written < 150_000  # of 60,000 rows
    assert len(driven.kept) < 60


@pytest.mark.parametrize("kind", [FinalSliding, SlidingUpdates])
@pytest.mark.parametrize("laned", [False, True])
def test_state_goes_when_windows_close(kind: Any, laned: Any) -> None:
    driven = Driven(kind, laned=laned, size=100)
    held = []
    for turn in range(60):
        driven.send(*((turn * 50 + n % 50, f"k{turn}-{n}", n, n % 2) for n in range(500)))
        driven.commit()
        held.append((driven.operator.holding().rows, sum(map(len, driven.kept.values()))))
    assert max(rows for rows, _ in held) < 3_000
    assert max(rows for _, rows in held) < 6_000
    assert len(driven.operator._rows._index) < 8_000
    for partition in (0, 1):
        driven.send((10**9, "z", 1, partition))
    driven.commit()
    assert driven.operator.holding().rows <= 2
    assert sum(map(len, driven.kept.values())) <= 2


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", [FinalSliding, SlidingUpdates])
def test_it_goes_on_from_what_was_kept_however_that_is_cut(kind: Any, parts: Any) -> None:
    one, other = Driven(kind, laned=True, size=40, grace=10), Driven(kind, laned=True, size=40, grace=10)
    drawn = np.random.default_rng(1)
    for turn in range(60):
        batch = [
            (
                max(0, turn * 5 + int(drawn.integers(-45, 5))),
                f"k{drawn.integers(0, 9)}",
                turn * 100 + n,
                int(drawn.integers(0, 2)),
            )
            for n in range(20)
        ]
        found, expected = one.send(*batch), other.send(*batch)
        assert sorted(values(found.emitted)) == sorted(values(expected.emitted))
        assert values(found.late) == values(expected.late)
        if turn % 3 == 0:
            one.commit()
            one.reopen(parts)
    assert sorted(values(one.operator.close())) == sorted(values(other.operator.close()))


def test_holding_says_how_much_there_is_and_where_the_oldest_window_starts() -> None:
    driven = Driven()
    assert driven.operator.holding().oldest is None
    driven.send((100, "a", 1), (105, "a", 1))
    held = driven.operator.holding()
    assert (held.rows, held.oldest) == (2, 90)
    assert held.bytes > 0
    assert held.windows > 0
    driven.operator.close()
    assert driven.operator.holding().windows == 0


def test_times_may_be_thousands_of_years_apart() -> None:
    with StreamTester(slid(pl.len().alias("n"))) as t:
        send_together(t, *((year * 31_556_952_000, 1, f"k{n}") for year in (1, 8_000) for n in range(100)))
        t.close_input()
        assert len(t.read()) == 200


def test_another_kind_of_window_is_refused() -> None:
    events = sl.Kafka("localhost:9092").stream("events", schema=SCHEMA)
    node = events.group_by("k").window(sl.tumbling("1m")).agg(pl.len()).node
    for kind in (FinalSliding, SlidingUpdates):
        with pytest.raises(TypeError, match="tumbling 1m is no sliding window"):
            kind(node, laned=False)
