from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from streamlab.engine.batch import MADE, Rows
from streamlab.engine.stream_time import ALWAYS, NEVER, OPEN, Clock, Signal
from streamlab.engine.watermark import Gate, Merged, Shifted


def rows(records: Any, first: Any = 0) -> Any:
    """Return rows of (partition, time), or (partition, time, arrival index)."""
    index = [record[2] if len(record) > 2 else first + place for place, record in enumerate(records)]
    partition, time = ([record[n] for record in records] for n in (0, 1))
    times, partitions, offsets, places = (
        np.array(values, np.int64) for values in (time, partition, [0] * len(records), index)
    )
    return Rows(pl.DataFrame(height=len(records)), times, partitions, offsets, places)


def clock(times: Any, idle: Any = None) -> Any:
    """Return a clock of partitions that stand at these times."""
    made = Clock()
    made.ensure(len(times))
    made.advance(rows([(partition, time) for partition, time in enumerate(times) if time is not None]))
    made.set_idle(idle or {})
    return made


def numbers(*values: Any) -> Any:
    return np.array(values, np.int64)


def test_the_stream_time_of_a_partition_is_its_largest_event_time() -> None:
    signal = clock([5, 0]).advance(rows([(0, 3), (1, 7), (0, 9), (1, 2), (0, 4)]))
    assert signal.reached.tolist() == [5, 7, 9, 7, 9]
    assert signal.end.tolist() == [9, 7]


def test_a_partition_that_has_not_spoken_holds_the_watermark_unless_it_is_idle() -> None:
    assert Gate(laned=False).advance([clock([5, None]).advance(rows([(0, 9)]))]).after.tolist() == [NEVER]
    assert Gate(laned=False).advance([clock([5, None], {1: NEVER}).advance(rows([(0, 9)]))]).after.tolist() == [9]


def test_new_partitions_have_not_spoken() -> None:
    watching = clock([5])
    watching.ensure(3)
    assert watching.stream_time.tolist() == [5, NEVER, NEVER]
    assert watching.advance(rows([(3, 1)])).end.tolist() == [5, NEVER, NEVER, 1]


def test_a_watermark_is_the_smallest_of_all_signals() -> None:
    gate = Gate(laned=False)
    signals = [clock([10, 8]).advance(rows([])), clock([5]).advance(rows([]))]
    assert gate.advance(signals).after.tolist() == [5]
    assert gate.to_json() == [5]


def test_a_watermark_never_goes_back() -> None:
    gate = Gate(laned=False)
    gate.advance([clock([10, 0], {1: NEVER}).advance(rows([]))])
    marks = gate.advance([clock([10, 0]).advance(rows([(1, 3)]))])
    assert (marks.before.tolist(), marks.after.tolist()) == ([10], [10])
    assert gate.advance([clock([10, 20]).advance(rows([]))]).after.tolist() == [10]
    assert gate.advance([clock([12, 20]).advance(rows([]))]).after.tolist() == [12]


def test_it_goes_on_from_what_was_kept() -> None:
    gate = Gate(laned=True)
    gate.advance([clock([10, 3]).advance(rows([]))])
    other = Gate(laned=True)
    other.load(gate.to_json())
    assert other.advance([clock([1, 5]).advance(rows([]))]).after.tolist() == [10, 5]
    kept = clock([10, None], {1: NEVER})
    again = Clock()
    again.load(kept.to_json())
    assert again.stream_time.tolist() == [10, NEVER]
    assert again.idle.tolist() == [False, True]


def test_it_stays_as_it_stands_while_all_partitions_are_idle_and_history() -> None:
    gate = Gate(laned=False)
    gate.advance([clock([10, 4]).advance(rows([]))])
    assert gate.advance([clock([10, 4], {0: NEVER, 1: NEVER}).advance(rows([]))]).after.tolist() == [4]


def test_of_a_live_stream_that_went_quiet_it_moves_on_with_the_wall_clock() -> None:
    """Largest stream time + time since the last record - idle timeout."""
    gate = Gate(laned=False)
    quiet = {0: 500, 1: 200}  # the last record came 200 beyond the timeout ago
    assert gate.advance([clock([10_000, 4_000], quiet).advance(rows([]))]).after.tolist() == [10_200]
    one, other = clock([10_000], {0: 500}), clock([4_000], {0: 200})
    assert Gate(laned=False).advance([c.advance(rows([])) for c in (one, other)]).after.tolist() == [10_200]


def test_one_partition_that_is_not_idle_keeps_the_wall_clock_out() -> None:
    assert Gate(laned=False).advance([clock([10, 4], {0: 500}).advance(rows([]))]).after.tolist() == [4]


def test_with_a_task_a_partition_each_has_a_watermark_of_its_own() -> None:
    signal = clock([10, 4, 7, None], {1: 100, 2: NEVER, 3: NEVER}).advance(rows([(0, 12)]))
    marks = Gate(laned=True).advance([signal])
    assert marks.after.tolist() == [12, 104, 7, NEVER]


def test_a_row_is_judged_by_the_watermark_right_after_its_own_record() -> None:
    given_rows = rows([(0, 10), (1, 5), (0, 20), (1, 30)])
    marks = Gate(laned=False).advance([clock([0, 0]).advance(given_rows)])
    assert marks.at(given_rows, np.zeros(4, np.int64)).tolist() == [0, 5, 5, 20]
    lanes = Gate(laned=True).advance([clock([0, 0]).advance(given_rows)])
    assert lanes.at(given_rows, given_rows.partition).tolist() == [10, 5, 20, 30]


def test_rows_that_an_operator_made_are_judged_by_the_watermark_before_the_batch() -> None:
    signal = clock([3]).advance(rows([(0, 10), (0, 20)]))
    gate = Gate(laned=False)
    gate.load([3])
    mixed = rows([(0, 1, MADE), (0, 10, 0), (0, 20, 1)])
    assert gate.advance([signal]).at(mixed, np.zeros(3, np.int64)).tolist() == [3, 10, 20]


def test_all_rows_of_one_record_are_judged_alike() -> None:
    """A record that was exploded has taken its partition as far as the newest of its rows says."""
    exploded = rows([(0, 1, 0), (0, 9, 0), (0, 2, 0), (0, 3, 1)])
    for laned in (False, True):
        marks = Gate(laned).advance([clock([0]).advance(exploded)])
        assert marks.at(exploded, np.zeros(4, np.int64)).tolist() == [9, 9, 9, 9]


def test_a_partition_that_wakes_is_left_out_until_its_own_record() -> None:
    given_rows = rows([(0, 50), (0, 10), (1, 20), (0, 60)])
    marks = Gate(laned=False).advance([clock([0, 5], {1: NEVER}).advance(given_rows)])
    assert marks.at(given_rows, np.zeros(4, np.int64)).tolist() == [50, 50, 50, 50]
    assert marks.after.tolist() == [50]


def test_a_partition_that_was_idle_wakes_at_its_record_though_the_whole_batch_is_known_of() -> None:
    watching = clock([0, 5], {1: NEVER})
    watching.advance(rows([]))
    watching.set_idle({})
    assert watching.advance(rows([(0, 50), (1, 20)])).awake.tolist() == [ALWAYS, 1]
    watching.set_idle({})
    assert watching.advance(rows([(0, 60)])).awake.tolist() == [ALWAYS, ALWAYS]


def test_a_stream_with_its_event_time_taken_anew_wakes_with_the_source() -> None:
    source = clock([0, 5], {1: NEVER}).advance(rows([(0, 50), (1, 20), (0, 60)]))
    restamped = Clock()
    signal = restamped.follow(source, rows([(0, 500, 0), (0, 600, 2)]))  # the row of partition 1 was filtered out
    assert signal.awake.tolist() == [ALWAYS, 1]
    marks = Gate(laned=False).advance([signal])
    assert marks.after.tolist() == [500]
    assert restamped.stream_time.tolist() == [600, NEVER]


def test_an_operator_passes_on_the_smallest_event_time_that_it_can_still_emit() -> None:
    watermarks = Gate(laned=False).advance([clock([100, 40]).advance(rows([]))])
    second = Gate(laned=False)
    assert second.advance([Shifted(watermarks, 15)]).after.tolist() == [25]
    assert Shifted(Gate(laned=False).advance([clock([None]).advance(rows([]))]), 15).final == NEVER


def test_of_a_task_a_partition_those_that_stand_still_hold_nothing_back() -> None:
    lanes = Gate(laned=True).advance([clock([100, 40, None], {1: NEVER, 2: NEVER}).advance(rows([]))])
    assert Gate(laned=False).advance([Shifted(lanes, 10)]).after.tolist() == [90]
    moving = Gate(laned=True).advance([clock([100, 40], {1: 20}).advance(rows([]))])
    assert Gate(laned=False).advance([Shifted(moving, 10)]).after.tolist() == [50]
    still = Gate(laned=True).advance([clock([100], {0: NEVER}).advance(rows([]))])
    gate = Gate(laned=False)
    gate.load([3])
    assert gate.advance([Shifted(still, 10)]).after.tolist() == [3]


def test_a_task_a_partition_passes_its_watermark_on_to_the_same_task() -> None:
    lanes = Gate(laned=True).advance([clock([100, 40]).advance(rows([]))])
    assert Gate(laned=True).advance([Shifted(lanes, 10)]).after.tolist() == [90, 30]


class Naive:
    """Watermarks record by record, in plain Python."""

    def __init__(self, sources: Any) -> None:
        self.times: list[Any] = [[None] * count for count in sources]
        self.idle: list[set[int]] = [set() for _ in sources]
        self.mark: int | None = None

    def hear(self, source: Any, partition: Any, time: Any) -> Any:
        times = self.times[source]
        times[partition] = time if times[partition] is None else max(time, times[partition])
        self.idle[source].discard(partition)
        return self.now()

    def now(self) -> Any:
        awake = [
            time
            for source, times in enumerate(self.times)
            for partition, time in enumerate(times)
            if partition not in self.idle[source]
        ]
        if awake and None not in awake:
            self.mark = min(awake) if self.mark is None else max(self.mark, min(awake))
        return NEVER if self.mark is None else self.mark


@st.composite
def histories(draw: Any) -> Any:
    """Draw partitions of two sources, and batches: who is idle, and records as (source, partition, time)."""
    sources = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    places = [(source, partition) for source, count in enumerate(sources) for partition in range(count)]
    record = st.tuples(st.sampled_from(places), st.integers(0, 30))
    batch = st.tuples(st.sets(st.sampled_from(places)), st.lists(record, max_size=8))
    return sources, draw(st.lists(batch, max_size=6))


@given(histories())
def test_watermarks_are_those_of_one_record_at_a_time(history: Any) -> None:
    sources, batches = history
    clocks, gate, naive = [Clock() for _ in sources], Gate(laned=False), Naive(sources)
    for watch, count in zip(clocks, sources, strict=True):
        watch.ensure(count)
    for idle, records in batches:
        signals, given_rows = [], []
        for source, watch in enumerate(clocks):
            watch.set_idle({partition: NEVER for of, partition in idle if of == source})
            mine = [(p, time, place) for place, ((of, p), time) in enumerate(records) if of == source]
            waking = naive.idle[source] & {p for p, *_ in mine}  # idle until its own record, whatever is said before
            naive.idle[source] = waking | {partition for of, partition in idle if of == source}
            given_rows.append(rows(mine))
            signals.append(watch.advance(given_rows[-1]))
        naive.now()
        expected = [naive.hear(source, partition, time) for (source, partition), time in records]
        marks = gate.advance(signals)
        assert marks.after.tolist() == [naive.now()]
        for mine in given_rows:
            assert marks.at(mine, np.zeros(mine.height, np.int64)).tolist() == [expected[place] for place in mine.index]


def test_signals_are_told_apart_though_they_say_the_same() -> None:
    one, other = (Signal(*[numbers(1)] * 7) for _ in range(2))
    assert len({one, other}) == 2
    assert len({Shifted(Merged([one], numbers(0), numbers(0)), 1) for _ in range(2)}) == 2


def test_open_and_never_are_beyond_every_event_time() -> None:
    assert NEVER < -(1 << 54) < 0 < 1 << 54 < OPEN
