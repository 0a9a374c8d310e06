from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import BadRecordError, DurationError, PlanError
from streamlab.testing import EPOCH, Record, StreamTester

SCHEMA = {"k": pl.String, "x": pl.Int64}
MINUTE = 60_000


def events(topic: Any = "events", **settings: Any) -> Any:
    return sl.Kafka("localhost:9092").stream(topic, schema=SCHEMA, **settings)


def counted(stream: Any = None, *, emit: Any = "final", by: Any = ("k",), window: Any = None) -> Any:
    groups = (events() if stream is None else stream).group_by(*by)
    return groups.window(window or sl.tumbling("1m"), emit=emit).agg(pl.len().alias("n"))


def instant(milliseconds: Any) -> Any:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def columns(record: Any) -> Any:
    return record.value


def numbers(tester: Any) -> Any:
    return [record.value["n"] for record in tester.read()]


# --- what is sent ---


def test_a_record_is_a_batch_of_one_and_its_results_can_be_read_once() -> None:
    with StreamTester(events()) as t:
        t.send("events", {"k": "a", "x": 1}, timestamp=5)
        assert t.read() == [Record(None, {"k": "a", "x": 1}, 5)]
        assert t.read() == []


def test_a_record_may_be_bytes_and_may_have_no_payload() -> None:
    with StreamTester(events()) as t:
        t.send("events", b'{"k": "a", "x": 1}', timestamp=5)
        t.send("events", None)
        assert [r.value for r in t.read()] == [{"k": "a", "x": 1}]
        assert t.metrics().skipped == 1


def test_a_record_comes_at_the_wall_clock_unless_it_says_otherwise() -> None:
    with StreamTester(events()) as t:
        t.send("events", {"k": "a"})
        t.advance("5s")
        t.send_batch("events", [{"k": "b"}, {"k": "c"}])
        t.send("events", {"k": "d"}, timestamp=0)
        assert [r.timestamp for r in t.read()] == [EPOCH, EPOCH + 5_000, EPOCH + 5_000, 0]


def test_records_of_a_batch_may_say_key_timestamp_and_partition() -> None:
    with StreamTester(events(metadata=True), partitions=2) as t:
        t.send_batch(
            "events",
            [
                {"value": {"k": "a"}, "key": "left", "timestamp": 5, "partition": 1},
                {"value": {"k": "b"}, "key": 7, "timestamp": 6},
                {"value": {"k": "c"}, "key": b"\x00", "timestamp": 7, "partition": 1},
            ],
            wrapped=True,
        )
        found = [
            (columns(r)["_key"], columns(r)["_timestamp"], columns(r)["_partition"], columns(r)["_offset"])
            for r in t.read()
        ]
    assert found == [(b"left", instant(5), 1, 0), (b"7", instant(6), 0, 0), (b"\x00", instant(7), 1, 1)]


def test_times_are_sent_as_texts_and_an_empty_batch_is_nothing() -> None:
    stream = sl.Kafka("localhost:9092").stream("events", schema={"at": pl.Datetime("ms", "UTC"), "day": pl.Date})
    with StreamTester(stream) as t:
        t.send_batch("events", [])
        t.send("events", {"at": instant(1_500), "day": instant(0).date()})
        assert [r.value for r in t.read()] == [{"at": instant(1_500), "day": instant(0).date()}]
        assert t.metrics().records == 1


def test_rows_are_sent_to_a_frame_that_is_replayed_as_they_are() -> None:
    frame = pl.DataFrame({"k": ["never read"], "at": [0]})
    stream = sl.from_frame(frame, event_time="at", topic="rows")
    with StreamTester(counted(stream)) as t:
        t.send_batch("rows", [{"k": "a", "at": 5}, {"k": "a", "at": MINUTE}])
        assert numbers(t) == [1]
        with pytest.raises(PlanError, match="send: 'rows' is a frame"):
            t.send("rows", {"k": "a", "at": "soon"})


REFUSED = {
    "an unknown topic": (lambda t: t.send("event", {}), r"no source reads 'event'; there are \['events'\].*Did you mean 'events'"),
    "a partition too many": (lambda t: t.send("events", {}, partition=2), "partition 2; 'events' has 2: StreamTester"),
    "a negative partition": (lambda t: t.send("events", {}, partition=-1), "partition -1"),
    "a misspelt argument": (
        lambda t: t.send_batch("events", [{"value": {}, "timestmp": 5}], wrapped=True),
        r"send_batch: 'timestmp' is none of .*Did you mean 'timestamp'",
    ),
    "an unknown table": (lambda t: t.table("count"), r"no table sink 'count'; there are \['counts'\].*Did you mean 'counts'"),
}  # fmt: skip  # one line a mistake


@pytest.mark.parametrize(("use", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_asked_for_and_is_not_there_is_refused_with_the_near_miss(use: Any, told: Any) -> None:
    with StreamTester(sl.Pipeline([counted().sink_table("counts")]), partitions=2) as t:
        with pytest.raises(PlanError, match=told):
            use(t)
        assert t.metrics().records == 0


def test_what_cannot_be_driven_is_refused() -> None:
    with pytest.raises(PlanError, match="DataFrame cannot be driven; give a stream, a table or a Pipeline"):
        StreamTester(pl.DataFrame())  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(PlanError, match="partitions=0; a topic has one or more"):
        StreamTester(events(), partitions=0)
    with pytest.raises(PlanError, match="the plan reads no such table"):
        StreamTester(events(), tables={"airlines": pl.DataFrame()})
    with pytest.raises(PlanError, match="two steps are named"):
        StreamTester(counted(counted().select("k", "n")))


def test_nothing_is_left_behind_when_it_does_not_open() -> None:
    stream = sl.Kafka("x:1").stream("t", schema={"_deleted": pl.Int64})
    pipeline = sl.Pipeline([stream.sink_table("t", key="_deleted")])
    with pytest.raises(PlanError, match="_deleted"):
        StreamTester(pipeline)
    gc.collect()  # a folder left behind would warn now, and warnings are errors


# --- what is read ---


def test_the_key_of_a_final_result_is_its_grouping_columns() -> None:
    for by, key in ((("k",), "a"), (("k", "x"), ("a", 1)), ((), None)):
        with StreamTester(counted(by=by)) as t:
            t.send("events", {"k": "a", "x": 1}, timestamp=0)
            t.close_input()
            (record,) = t.read()
        assert record.key == key
        assert record.timestamp == MINUTE - 1


def test_the_key_of_an_update_holds_the_window_too() -> None:
    bounds = (instant(0), instant(MINUTE))
    for by, key in ((("k",), ("a", *bounds)), ((), bounds)):
        with StreamTester(counted(emit="updates", by=by)) as t:
            t.send("events", {"k": "a"}, timestamp=0)
            assert t.read()[0].key == key


def test_the_key_of_a_stream_is_the_promised_one() -> None:
    with StreamTester(events(key="k").select("x", name="k")) as t:
        t.send("events", {"k": "a", "x": 1}, timestamp=0)
        assert t.read()[0].key == "a"


def test_what_is_sent_to_a_topic_has_the_key_it_is_sent_with() -> None:
    delays = counted()
    sinks = [delays.sink_kafka("one", key="n"), delays.sink_kafka("two", key=["k", "n"]), delays.sink_kafka("three")]
    with StreamTester(sl.Pipeline(sinks)) as t:
        t.send("events", {"k": "a"}, timestamp=0)
        t.close_input()
        assert [r.key for r in t.read()] == [1, ("a", 1), "a"]


def test_late_rows_come_with_their_window_and_the_watermark_they_missed() -> None:
    with StreamTester(counted(events().filter(pl.col("x") > 0))) as t:
        t.send("events", {"k": "a", "x": 1}, timestamp=5 * MINUTE)
        t.send("events", {"k": "b", "x": 2}, timestamp=30_000)
        (late,) = t.late()
        assert t.late() == []
    bounds = {"window_start": instant(0), "window_end": instant(MINUTE), "watermark": instant(5 * MINUTE)}
    assert late == Record("b", {"k": "b", "x": 2, **bounds}, 30_000)


def test_dead_letters_hold_all_that_is_needed_to_try_again() -> None:
    with StreamTester(events(event_time="x"), partitions=2) as t:
        t.send("events", {"k": "a", "x": 1})
        t.send("events", b"nope", key="left", timestamp=77, partition=1)
        t.send("events", {"k": "b"}, timestamp=78)
        found = t.dead_letters()
        assert t.dead_letters().height == 0
    assert found.select("topic", "partition", "offset", "timestamp", "key", "value", "step").rows() == [
        ("events", 1, 0, instant(77), b"left", b"nope", "decode"),
        ("events", 0, 1, instant(78), None, b'{"k": "b"}', "decode"),
    ]
    assert "event time x is null" in found["error"][1]


def test_a_dead_letter_of_a_later_step_names_it_and_has_the_bytes_that_came() -> None:
    stream = events().filter(pl.col("k") != "c").with_event_time("x")
    with StreamTester(stream) as t:
        given = [{"k": "a", "x": 5}, {"k": "c"}, {"k": "b"}, {"k": "d", "x": -1}]
        t.send_batch("events", given)
        found = t.dead_letters()
        assert [columns(r)["k"] for r in t.read()] == ["a"]
    assert found.select("offset", "value", "step").rows() == [
        (2, b'{"k": "b"}', 'with_event_time col("x")'),
        (3, b'{"k": "d", "x": -1}', 'with_event_time col("x")'),
    ]


def test_bad_records_are_skipped_or_stop_where_the_source_says_so() -> None:
    with StreamTester(events(on_error="skip")) as t:
        t.send("events", b"nope")
        assert (t.metrics().skipped, t.metrics().dead_letters, t.dead_letters().height) == (1, 0, 0)
    with (
        StreamTester(events(on_error="raise")) as t,
        pytest.raises(BadRecordError, match="events partition 0 offset 0"),
    ):
        t.send("events", b"nope")


def test_a_record_timestamp_before_the_epoch_is_a_bad_one() -> None:
    with StreamTester(counted()) as t:
        t.send("events", {"k": "a"}, timestamp=-1)
        assert t.metrics().dead_letters == 1


def test_an_event_time_beyond_every_calendar_is_a_bad_one() -> None:
    for stream, sent in (
        (events(event_time="x"), {"value": {"x": 1 << 61}}),
        (events(), {"value": {}, "timestamp": 1 << 61}),
    ):
        with StreamTester(counted(stream)) as t:
            t.send_batch("events", [sent], wrapped=True)
            assert t.metrics().dead_letters == 1
            assert "after the year 9998" in t.dead_letters()["error"].item()


def test_counters_and_state_tell_what_is_held() -> None:
    with StreamTester(counted()) as t:
        t.send_batch("events", [{"k": "a"}, {"k": "b"}])
        t.send("events", None)
        metrics = t.metrics()
        assert (metrics.records, metrics.processed, metrics.skipped, metrics.results) == (3, 2, 1, 0)
        assert t.state().select("step", "rows", "windows").row(0) == ("tumbling-1m-by-k", 2, 1)
        assert t.state()["bytes"].item() == metrics.state_bytes > 0


def test_a_pipeline_is_driven_with_all_its_sinks() -> None:
    delays = counted()
    with StreamTester(sl.Pipeline([delays.sink_table("counts"), delays.late.sink_parquet("late")])) as t:
        t.send("events", {"k": "a"}, timestamp=5 * MINUTE)
        t.send("events", {"k": "b"}, timestamp=0)
        t.close_input()
        assert [columns(r)["k"] for r in t.read()] == ["b", "a"]
        assert t.table("counts")["k"].to_list() == ["a"]


# --- the clock ---


def test_partitions_to_which_nothing_was_sent_are_idle_at_once() -> None:
    with StreamTester(counted(), partitions=3) as t:
        t.send("events", {"k": "a"}, timestamp=0, partition=1)
        t.send("events", {"k": "a"}, timestamp=MINUTE, partition=1)
        assert numbers(t) == [1]


@pytest.mark.parametrize("restarts", [False, True])
def test_an_empty_partition_stays_idle_until_it_speaks(restarts: Any) -> None:
    with StreamTester(counted(), partitions=2) as t:
        t.send("events", {"k": "a"}, timestamp=0)
        t.send("events", b"nope", partition=1)
        if restarts:
            t.restart()
        t.send("events", {"k": "a"}, timestamp=MINUTE)
        assert numbers(t) == [1]
        t.send("events", {"k": "a"}, timestamp=2 * MINUTE, partition=1)
        if restarts:
            t.restart()
        t.send("events", {"k": "a"}, timestamp=3 * MINUTE)
        assert numbers(t) == [1]
        t.send("events", {"k": "a"}, timestamp=3 * MINUTE, partition=1)
        assert numbers(t) == [1]


def test_an_idle_partition_is_judged_by_the_watermark_as_it_then_stands() -> None:
    for together in (False, True):
        with StreamTester(counted(), partitions=2) as t:
            sent = [(0, 5 * MINUTE), (1, 0), (0, 0), (1, 6 * MINUTE)]
            given = [{"value": {"k": "a"}, "timestamp": time, "partition": partition} for partition, time in sent]
            for batch in [given] if together else [[record] for record in given]:
                t.send_batch("events", batch, wrapped=True)
            assert [r.timestamp for r in t.late()] == [0, 0]


def test_a_silent_partition_holds_windows_open_until_its_idle_timeout() -> None:
    with StreamTester(counted(events(idle_timeout="30s")), partitions=2) as t:
        t.send("events", {"k": "a"}, timestamp=0, partition=0)
        t.send("events", {"k": "b"}, timestamp=0, partition=1)
        t.send("events", {"k": "a"}, timestamp=MINUTE, partition=0)
        t.advance("29s999ms")
        assert numbers(t) == []
        t.advance("1ms")
        assert numbers(t) == []  # all are idle, and this is history: nothing moves
        t.send("events", {"k": "a"}, timestamp=MINUTE, partition=0)
        assert numbers(t) == [1, 1]


@pytest.mark.parametrize("restarts", [False, True])
def test_the_last_windows_of_a_live_stream_close_when_it_goes_quiet(restarts: Any) -> None:
    """Largest stream time + time since the last record - idle timeout."""
    start = EPOCH - EPOCH % MINUTE
    with StreamTester(counted(events(idle_timeout="30s"))) as t:
        t.send("events", {"k": "a"}, timestamp=start + 50_000)
        t.advance("30s")
        if restarts:
            t.restart()
        t.advance("9s999ms")
        assert t.read() == []
        t.advance("1ms")
        assert [r.timestamp for r in t.read()] == [start + MINUTE - 1]
        t.send("events", {"k": "a"}, timestamp=start + 55_000)
        assert [columns(r)["watermark"] for r in t.late()] == [instant(start + MINUTE)]


def test_a_replayed_history_stays_as_it_stands() -> None:
    with StreamTester(counted(events(idle_timeout="30s"))) as t:
        t.send("events", {"k": "a"}, timestamp=EPOCH - 601_000)
        t.advance("7d")
        assert t.read() == []


def test_a_straggler_makes_no_history_of_a_live_stream() -> None:
    for batches in ([[0, -3_600_000]], [[0], [-3_600_000]]):
        with StreamTester(counted(events(idle_timeout="30s"), window=sl.tumbling("1h", grace="2h"))) as t:
            for times in batches:
                t.send_batch(
                    "events", [{"value": {"k": "a"}, "timestamp": EPOCH + time} for time in times], wrapped=True
                )
            t.advance("5h")
            assert numbers(t) == [1, 1]


def test_without_an_idle_timeout_the_wall_clock_has_no_say() -> None:
    with StreamTester(counted(events(idle_timeout=None)), partitions=2) as t:
        t.send("events", {"k": "a"}, timestamp=EPOCH)
        t.send("events", {"k": "a"}, timestamp=EPOCH + 10 * MINUTE)
        t.advance("7d")
        assert t.read() == []


def test_the_clock_goes_forward_by_texts_and_timedeltas() -> None:
    with StreamTester(events()) as t:
        t.advance("1s")
        t.advance(timedelta(seconds=1))
        t.send("events", {"k": "a"})
        assert t.read()[0].timestamp == EPOCH + 2_000
        with pytest.raises(DurationError, match="advance: "):
            t.advance(timedelta(seconds=-1))
        with pytest.raises(DurationError, match="advance: 'soon' is no duration"):
            t.advance("soon")


# --- stopping and going on ---


def test_a_restart_goes_on_where_it_was_and_emits_nothing_again() -> None:
    with StreamTester(counted()) as t:
        t.send("events", {"k": "a"}, timestamp=0)
        t.restart()
        t.restart()
        t.send("events", {"k": "a"}, timestamp=1)
        t.send("events", {"k": "b"}, timestamp=MINUTE)
        assert numbers(t) == [2]
        t.restart()
        t.send("events", {"k": "a"}, timestamp=2)
        assert len(t.late()) == 1
        t.close_input()
        assert [(r.key, columns(r)["n"]) for r in t.read()] == [("b", 1)]
        assert t.metrics().records == 4
        assert t.metrics().checkpoints == 3


def test_offsets_and_the_clock_go_on_after_a_restart() -> None:
    with StreamTester(events(metadata=True)) as t:
        t.send("events", {"k": "a"})
        t.advance("1m")
        t.restart()
        t.send("events", {"k": "b"})
        assert [(columns(r)["_offset"], r.timestamp) for r in t.read()] == [(0, EPOCH), (1, EPOCH + MINUTE)]


def test_the_end_of_the_input_closes_every_window() -> None:
    with StreamTester(counted()) as t:
        t.send("events", {"k": "b"}, timestamp=MINUTE)
        t.send("events", {"k": "a"}, timestamp=MINUTE)
        assert t.read() == []
        t.close_input()
        assert [r.key for r in t.read()] == ["a", "b"]


def test_its_state_is_gone_with_it() -> None:
    with StreamTester(counted()) as t:
        folder = Path(t._folder.name)
        t.send("events", {"k": "a"})
        assert list(folder.iterdir())
    assert not folder.exists()
