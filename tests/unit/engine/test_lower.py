from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

import streamlab as sl
from streamlab.engine.batch import MADE, Rows
from streamlab.engine.lower import Graph
from streamlab.engine.stream_time import NEVER
from streamlab.testing import StreamTester

SCHEMA = {"k": pl.String, "x": pl.Int64, "t": pl.Int64}
x = pl.col("x")


def events(topic: Any = "events", **settings: Any) -> Any:
    return sl.Kafka("localhost:9092").stream(topic, schema=SCHEMA, **settings)


def counted(stream: Any, size: Any = "10ms", name: Any = None, by: Any = ("k",), **settings: Any) -> Any:
    return stream.group_by(*by).window(sl.tumbling(size, **settings), name=name).agg(pl.len().alias("n"))


def sinks(*streams: Any) -> Any:
    return [stream.sink_parquet(str(n)) for n, stream in enumerate(streams)]


def graph(*streams: Any) -> Any:
    return Graph(sl.Pipeline(sinks(*streams)).plan.sinks)


def rows(*records: Any, index: Any = None) -> Any:
    """Return rows of (event time, key, value); by default each of a record of its own."""
    data = pl.DataFrame(
        {"k": [r[1] for r in records], "x": [r[2] for r in records], "t": [r[0] for r in records]}, schema=SCHEMA
    )
    place = np.array(range(len(records)) if index is None else index, np.int64)
    return Rows(
        data, np.array([r[0] for r in records], np.int64), np.zeros(len(records), np.int64), place, 2 * place + 1
    )


def columns(record: Any) -> Any:
    return record.value


def instant(milliseconds: Any) -> Any:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def test_steps_that_are_equal_are_done_once() -> None:
    seen = []

    def watched(frame: Any) -> Any:
        seen.append(frame.height)
        return frame

    def stream() -> Any:
        return events().map_batches(watched, schema=SCHEMA)

    made = graph(stream().filter(x > 0), stream().filter(x > 1), counted(stream()), counted(stream()).late)
    made.step({"events": rows((1, "a", 1), (2, "a", 2))})
    assert seen == [2]
    assert list(made.stateful) == ["tumbling-10ms-by-k"]


def test_each_sink_gets_its_own_rows() -> None:
    made = graph(events().filter(x > 1), events().select("k")).step({"events": rows((1, "a", 1), (2, "b", 2))})
    assert [found.data.rows() for found in made.sinks.values()] == [[("b", 2, 2)], [("a",), ("b",)]]


def test_a_sink_without_rows_is_not_called() -> None:
    assert graph(events().filter(x > 9)).step({"events": rows((1, "a", 1))}).sinks == {}
    assert graph(events()).step({}).sinks == {}


def test_streams_put_together_come_in_order_of_arrival() -> None:
    both = graph(sl.concat([events("one"), events("two")]))
    made = both.step({"one": rows((9, "a", 1), (9, "c", 3), index=[0, 2]), "two": rows((9, "b", 2), index=[1])})
    assert made.sinks["parquet:0"].data["k"].to_list() == ["a", "b", "c"]


def test_the_watermark_of_streams_put_together_is_the_smallest() -> None:
    both = graph(counted(sl.concat([events("one"), events("two")])))
    both.clocks["two"].ensure(1)
    assert both.step({"one": rows((5, "a", 1), (50, "a", 1))}).sinks == {}
    assert both.step({"two": rows((9, "a", 1), index=[0])}).sinks == {}
    made = both.step({"two": rows((10, "a", 1), index=[0])})
    assert made.sinks["parquet:0"].data["n"].to_list() == [2]


def test_a_stream_parted_and_put_together_again_hears_each_record_along_both_ways() -> None:
    low, high = events().filter(x < 5), events().filter(x >= 5)
    made = graph(counted(sl.concat([low, high]))).step({"events": rows((1, "a", 1), (2, "a", 9), (30, "a", 9))})
    assert made.sinks["parquet:0"].data["n"].to_list() == [2]


def test_a_filtered_record_moves_the_watermark_all_the_same() -> None:
    made = graph(counted(events().filter(x > 0))).step({"events": rows((1, "a", 1), (50, "a", -1))})
    assert made.sinks["parquet:0"].data["n"].to_list() == [1]


def test_event_time_taken_anew_has_a_watermark_of_its_own() -> None:
    stream = counted(events().with_event_time(pl.col("t") * 10))
    made = graph(stream).step({"events": rows((1, "a", 1), (2, "a", 1))})
    assert made.sinks["parquet:0"].time.tolist() == [19]


def test_event_time_taken_anew_twice_from_streams_written_apart() -> None:
    def stream(shift: Any) -> Any:
        return events().filter(x > 0).select("k", "t").with_event_time(pl.col("t") + shift)

    made = graph(counted(stream(0), name="one"), counted(stream(100), name="two"))
    found = made.step({"events": rows((1, "a", 1), (20, "a", 1))})
    assert [rows_.time.tolist() for rows_ in found.sinks.values()] == [[9], [109]]


def test_a_row_whose_event_time_cannot_be_read_is_set_aside_with_its_step() -> None:
    made = graph(events().with_event_time("x")).step(
        {"events": rows((1, "a", 5), (1, "b", None), (1, "c", -1), (1, "d", 1 << 60))}
    )
    (bad,) = made.bad
    assert bad.rows.index.tolist() == [3, 5, 7]
    assert bad.step == 'with_event_time col("x")'
    assert bad.error == "event time is null, before 1970 or after the year 9998"
    assert made.sinks["parquet:0"].time.tolist() == [5]


def test_a_record_is_set_aside_by_one_step_only() -> None:
    stream = events()
    made = graph(stream.with_event_time("x"), stream.with_event_time("t"), stream.with_event_time(x + 1))
    found = made.step({"events": rows((1, "a", None), (1, "b", 3))})
    assert [bad.rows.index.tolist() for bad in found.bad] == [[1]]


def test_late_rows_are_a_stream_of_their_own() -> None:
    late = counted(events(), name="counts").late
    again = late.filter(x > 0).select("k", "window_start", "watermark")
    made = graph(again).step({"events": rows((1, "a", 1), (30, "a", 1), (2, "b", 7), (3, "c", 0))})
    assert made.sinks["parquet:0"].data.rows() == [("b", instant(0), instant(30))]
    assert made.late["counts"].height == 2


def test_windows_over_windows_lose_nothing() -> None:
    minutes = counted(events(), "10ms", grace="5ms")
    days = minutes.group_by().window(sl.tumbling("20ms"), name="days").agg(pl.col("n").sum())
    sent = [(time, "a", 1) for time in range(0, 100, 3)]
    single, whole = graph(days), graph(days)
    steps = [single.step({"events": rows(record)}) for record in sent] + [single.close()]
    batch = [whole.step({"events": rows(*sent)}), whole.close()]
    wanted = [(instant(at), instant(at + 20), n) for at, n in ((0, 7), (20, 7), (40, 6), (60, 7), (80, 7))]
    for made in (steps, batch):
        assert [row for step in made for found in step.sinks.values() for row in found.data.rows()] == wanted
        assert all(step.late == {} for step in made)


def test_a_result_closes_no_window_before_it_is_in_it() -> None:
    second = counted(counted(events()), "10ms", name="second", by=())
    made = graph(second)
    assert made.step({"events": rows((5, "a", 1), (10, "a", 1))}).sinks["parquet:0"].data["n"].to_list() == [1]
    assert made.step({"events": rows((25, "b", 1))}).late == {}


def test_the_end_of_the_input_goes_through_every_step() -> None:
    second = counted(counted(events()), "1s", name="second", by=())
    made = graph(second)
    made.step({"events": rows((5, "a", 1), (6, "b", 1))})
    assert made.close().sinks["parquet:0"].data["n"].to_list() == [2]


def test_a_record_is_late_only_if_no_step_had_it_in_time() -> None:
    made = graph(counted(events(), name="strict"), counted(events(), name="patient", grace="1s"))
    found = made.step({"events": rows((50, "a", 1), (1, "a", 1))})
    assert (found.late_records, found.late["strict"].height) == (0, 1)
    alone = graph(counted(events())).step({"events": rows((50, "a", 1), (1, "a", 1), (2, "a", 1))})
    assert alone.late_records == 2


def test_a_record_of_several_rows_is_late_when_all_of_them_are() -> None:
    exploded = rows((50, "a", 1), (1, "a", 1), (60, "a", 1), (2, "a", 1), (3, "a", 1), index=[0, 1, 1, 2, 2])
    found = graph(counted(events())).step({"events": exploded})
    assert found.late_records == 1
    assert found.late["tumbling-10ms-by-k"].index.tolist() == [3, 5, 5]


def test_results_that_are_late_are_no_records() -> None:
    """One task a partition runs ahead while another is idle; what that one emits later misses the windows over both."""
    days = counted(counted(events(key="k"), "10ms"), "10ms", name="second", by=())
    with StreamTester(days, partitions=2) as t:
        t.send("events", {"k": "b"}, timestamp=5, partition=1)
        t.advance("30s")
        t.send("events", {"k": "a"}, timestamp=5, partition=0)
        t.send("events", {"k": "a"}, timestamp=95, partition=0)
        t.send("events", {"k": "b"}, timestamp=96, partition=1)
        (late,) = t.late()
        assert (columns(late)["k"], columns(late)["n"], late.timestamp) == ("b", 1, 9)
        assert (t.metrics().late, t.metrics().late_rows, t.metrics().processed) == (0, 1, 4)


def test_what_a_checkpoint_keeps_is_plain_and_brings_everything_back() -> None:
    stream = counted(sl.concat([events("one").with_event_time("t"), events("two")]))
    made, again = graph(stream), graph(stream)
    made.clocks["two"].set_idle({0: NEVER})
    made.step({"one": rows((7, "a", 1), (50, "a", 1))})
    again.load(made.progress())
    kept, loaded = made.progress(), again.progress()
    assert loaded == {**kept, "operators": loaded["operators"]}  # operators load theirs with their frames
    assert again.progress()["gates"] == {"tumbling-10ms-by-k": [50]}
    assert again.clocks["two"].idle.tolist() == [True]


def test_a_source_that_a_checkpoint_does_not_know_begins_anew() -> None:
    made, other = graph(events("one")), graph(sl.concat([events("one"), events("two")]))
    made.step({"one": rows((7, "a", 1))})
    other.load(made.progress())
    assert other.clocks["one"].stream_time.tolist() == [7]
    assert other.clocks["two"].stream_time.tolist() == []


def test_tables_are_filled_as_results_come() -> None:
    made = Graph(sl.Pipeline([counted(events()).sink_table("counts")]).plan.sinks)
    made.step({"events": rows((1, "a", 1), (2, "a", 1), (30, "a", 1))})
    assert made.tables["table:counts"].frame()["n"].to_list() == [2]


def test_results_come_with_no_record_of_their_own() -> None:
    made = graph(counted(events())).step({"events": rows((1, "a", 1), (30, "a", 1))})
    assert made.sinks["parquet:0"].index.tolist() == [MADE]
    assert made.sinks["parquet:0"].offset[0] < 0
