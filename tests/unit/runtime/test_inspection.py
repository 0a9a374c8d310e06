"""`explain(key)`: what the steps of a running plan hold of a key, and what they wait for."""

from __future__ import annotations

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError
from streamlab.runtime.inspection import stateful_behind, told
from streamlab.testing import StreamTester

HOUR = 3_600_000
SCHEMA = {"carrier": pl.String, "dest": pl.Int64, "delay": pl.Int64}


def flights(topic="flights", **settings):
    return sl.Kafka("x:1").stream(topic, schema=SCHEMA, **settings)


def delays(stream=None, window=None, **settings):
    groups = (flights() if stream is None else stream).group_by("carrier")
    return groups.window(window or sl.tumbling("1h", grace="10m"), name="delays", **settings).agg(n=pl.len())


def send(tester, *records, topic="flights"):
    """Send carrier, hour of the event, and partition."""
    for carrier, hour, partition in records:
        tester.send(topic, {"carrier": carrier, "dest": 1}, timestamp=int(hour * HOUR), partition=partition)


def test_it_shows_each_open_window_when_it_closes_and_what_it_waits_for() -> None:
    with StreamTester(delays(), partitions=3) as t:
        send(t, ("UA", 2.0, 1), ("AA", 2.25, 0), ("AA", 2.5, 0))
        t.advance("12s")
        send(t, ("AA", 2.75, 0))
        left_out = "it is left out after 30s of silence"
        assert told(t._task, "AA").splitlines() == [
            'tumbling 1h, grace 10m -> final by carrier: len().alias("n") [delays]',
            "   watermark: 1970-01-01 02:00:00",
            f"   waits for the slowest, 'flights' partition 1, at 1970-01-01 02:00:00: not idle, heard 12s ago; {left_out}",
            "      'flights' partition 0, at 1970-01-01 02:45:00: not idle, heard 0s ago; it is left out after 30s of silence",
            "      'flights' partition 2, no record yet: idle, it is empty",
            "   open for carrier='AA': 1 window",
            "      1970-01-01 02:00:00 to 1970-01-01 03:00:00: n=3",
            "         closes when the watermark reaches 1970-01-01 03:10:00 (its end, grace 10m), 1h10m to go",
        ]
        t.advance("20s")
        shown = told(t._task, "AA")
        assert "waits for the slowest, 'flights' partition 0, at 1970-01-01 02:45:00" in shown
        assert "'flights' partition 1, at 1970-01-01 02:00:00: idle, silent for 32s" in shown
        t.advance("20s")
        assert "all of its partitions are idle: it waits for a record, or on a live stream for the wall clock" in told(
            t._task, "AA"
        )


CLOSING = {
    "tumbling": (sl.tumbling("1h"), "reaches 1970-01-01 03:00:00 (its end), 30m to go"),
    "hopping": (
        sl.hopping("2h", every="1h", grace="1m"),
        "reaches 1970-01-01 04:01:00 (its end, grace 1m), 1h31m to go",
    ),
    "session": (sl.session("20m"), "passes 1970-01-01 02:50:00 (its end, gap 20m), 20m1ms to go"),
    "sliding": (sl.sliding("2h", grace="1s"), "passes 1970-01-01 02:30:01 (its end, grace 1s), 1s1ms to go"),
}


@pytest.mark.parametrize("kind", CLOSING)
@pytest.mark.parametrize("emit", ["final", "updates"])
def test_each_kind_of_window_says_when_it_closes(kind, emit) -> None:
    window, closing = CLOSING[kind]
    with StreamTester(delays(window=window, emit=emit)) as t:
        send(t, ("AA", 2.5, 0))
        assert closing in told(t._task, "AA")


@pytest.mark.parametrize("kind", CLOSING)
def test_a_window_closes_when_it_was_said_to_and_not_a_millisecond_before(kind) -> None:
    window, closing = CLOSING[kind]
    with StreamTester(delays(window=window)) as t:
        send(t, ("AA", 2.5, 0))
        until = closing.partition("1970-01-01 ")[2][:8]
        hour, minute, second = map(int, until.split(":"))
        closes = ((hour * 60 + minute) * 60 + second) * 1000 + closing.startswith("passes")
        t.send("flights", {"carrier": "UA"}, timestamp=closes - 1)
        held = told(t._task, "AA").count("n=1")
        t.send("flights", {"carrier": "UA"}, timestamp=closes)
        assert told(t._task, "AA").count("n=1") == held - 1


def test_where_each_partition_is_a_task_it_is_that_of_the_key_that_counts() -> None:
    with StreamTester(delays(flights(key="carrier")), partitions=2) as t:
        send(t, ("AA", 2.5, 0), ("UA", 1.0, 1))
        shown = told(t._task, "AA")
        assert "watermark of partition 0, which has the key: 1970-01-01 02:30:00" in shown
        assert "partition 1" not in shown
        nothing = told(t._task, "DL")
        assert "each partition has a watermark of its own" in nothing
        assert "partition 1, at 1970-01-01 01:00:00" in nothing


def test_a_partition_that_has_not_spoken_and_is_never_idle_is_what_is_waited_for() -> None:
    with StreamTester(delays(flights(idle_timeout=None)), partitions=2) as t:
        send(t, ("AA", 2.5, 0))
        shown = told(t._task, "AA")
        assert "watermark: none yet" in shown
        assert "waits for the slowest, 'flights' partition 1, no record yet: never idle" in shown
        assert "to go" not in shown


def test_steps_before_it_say_how_far_they_hold_it_back() -> None:
    daily = delays().group_by("carrier").window(sl.session("2h"), name="days").agg(pl.col("n").sum())
    with StreamTester(daily) as t:
        send(t, ("AA", 0.5, 0), ("AA", 3.0, 0))
        shown = told(t._task, "AA")
        assert "[days]" in shown.splitlines()[0]
        assert "watermark: 1970-01-01 02:50:00 (behind the records: 10m for what [delays] may still emit)" in shown
        assert "1970-01-01 00:59:59.999 to 1970-01-01 00:59:59.999: n=1" in shown
        assert "1970-01-01 03:00:00 to 1970-01-01 04:00:00: n=1" in shown
        (days, first) = stateful_behind(daily.node)
        assert "tumbling" not in told(t._task, "AA", [days])
        assert "session" not in told(t._task, "AA", [first])


def test_event_time_that_is_taken_anew_is_what_is_shown() -> None:
    later = flights().with_event_time(pl.col("dest") * HOUR)
    with StreamTester(delays(later)) as t:
        send(t, ("AA", 0.5, 0))
        assert "'flights' partition 0, at 1970-01-01 01:00:00" in told(t._task, "AA")


def test_several_sources_are_all_named() -> None:
    both = delays(sl.concat([flights("north"), flights("south")]))
    with StreamTester(both) as t:
        send(t, ("AA", 2.5, 0), topic="north")
        send(t, ("AA", 1.5, 0), topic="south")
        shown = told(t._task, "AA")
        assert "waits for the slowest, 'south' partition 0, at 1970-01-01 01:30:00" in shown
        assert "      'north' partition 0, at 1970-01-01 02:30:00" in shown


def test_an_unknown_key_is_named_with_near_misses() -> None:
    with StreamTester(delays()) as t:
        assert "holds nothing for carrier='AA', nor for any other key" in told(t._task, "AA")
        send(t, *((name, 1.0, 0) for name in ("united", "delta", "american")))
        assert "holds nothing for carrier='untied'; it has 3 keys, such as 'united'" in told(t._task, "untied")
        assert "it has 3 keys, such as 'american', 'delta', 'united'" in told(t._task, "zzz")


def test_keys_may_be_several_columns_none_and_null() -> None:
    pairs = flights().group_by("carrier", "dest").window(sl.tumbling("1h"), name="pairs").agg(n=pl.len())
    with StreamTester(pairs) as t:
        send(t, ("AA", 1.0, 0), (None, 1.0, 0))
        for key in (("AA", 1), {"dest": 1, "carrier": "AA"}):
            assert "open for carrier='AA', dest=1: 1 window" in told(t._task, key)
        assert "open for carrier=None, dest=1: 1 window" in told(t._task, (None, 1))
        assert "holds nothing for carrier='AA', dest=2; it has 2 keys, such as 'AA, 1'" in told(t._task, ("AA", 2))
    with StreamTester(flights().group_by().window(sl.tumbling("1h")).agg(n=pl.len())) as t:
        send(t, ("AA", 1.0, 0), ("UA", 1.0, 0))
        assert "open for all rows, which are one group: 1 window" in told(t._task, "AA")


@pytest.mark.parametrize("key", [7, ("AA", 1), (), 1.5, {"carier": "AA"}, ["AA"], b"AA"])
def test_a_key_that_no_step_has_is_refused_with_those_that_there_are(key) -> None:
    with (
        StreamTester(delays()) as t,
        pytest.raises(
            PlanError, match=r"explain: .* is the key of no step: \[delays\] has the key \(carrier: String\)"
        ),
    ):
        told(t._task, key)


def test_a_step_with_another_key_says_so() -> None:
    by_dest = delays().group_by("n").agg(carriers=pl.len(), name="sizes")
    with StreamTester(by_dest) as t:
        send(t, ("AA", 1.0, 0), ("AA", 3.0, 0))
        shown = told(t._task, "AA")
        assert "[sizes]\n   has the key (n: UInt32); in all it holds 1 rows" in shown
        assert "open for carrier='AA'" in shown


def test_groups_without_a_window_and_custom_state_show_what_they_hold() -> None:
    with StreamTester(flights().group_by("carrier").agg(n=pl.len(), most=pl.col("dest").max())) as t:
        send(t, ("AA", 1.0, 0), ("AA", 2.0, 0))
        assert "holds for carrier='AA': n=2, most=1" in told(t._task, "AA")
    counted = (
        flights()
        .group_by("carrier")
        .apply_state(lambda rows, seen: (rows, {"n": seen["n"] + rows.height}), schema=SCHEMA, state={"n": 0})
    )
    with StreamTester(counted) as t:
        send(t, ("AA", 1.0, 0), ("AA", 2.0, 0))
        assert "holds for carrier='AA': state=\"{'n': 2}\"" in told(t._task, "AA")


def test_many_windows_are_cut_short() -> None:
    with StreamTester(delays(window=sl.hopping("30h", every="1h"))) as t:
        send(t, ("AA", 40.0, 0))
        shown = told(t._task, "AA")
        assert "open for carrier='AA': 30 windows" in shown
        assert shown.count("closes when") == 20
        assert shown.endswith("      and 10 more")


# --- on a query that runs ---


def started(topic):
    kafka = sl.Kafka.embedded({topic: 1})
    stream = kafka.stream(topic, schema=SCHEMA, event_time=None)
    return stream, delays(stream)


def test_a_stream_asks_the_query_that_runs_it() -> None:
    stream, frame = started("explained")
    query = sl.Pipeline([frame.sink_frame(len)], name="explained").start()
    try:
        shown = frame.explain("AA")
        assert shown.startswith("query 'explained', running; all times are event times in UTC\n")
        assert "[delays]" in shown
        assert "holds nothing for carrier='AA', nor for any other key" in shown
        assert frame.filter(pl.col("n") > 1).explain("AA") == frame.explain("AA")  # the step is the same
        assert query.explain("AA").splitlines()[1:2] == shown.splitlines()[1:2]
        assert query.explain() == sl.Pipeline([frame.sink_frame(len)]).explain()
        with pytest.raises(PlanError, match="no step with state is behind this stream"):
            stream.explain("AA")
        with pytest.raises(PlanError, match=r"no query runs step 'other'; start one with .*Running: \['explained'\]"):
            stream.group_by("dest").agg(pl.len(), name="other").explain(1)
    finally:
        query.stop()
    assert query.explain("AA").startswith("query 'explained', stopped;")
    with pytest.raises(PlanError, match=r"explain\('AA'\): no query runs step 'delays'; start one with \.show\(\), or"):
        frame.explain("AA")


def test_without_a_key_it_is_the_plan() -> None:
    assert delays().explain().startswith("tumbling 1h, grace 10m -> final by carrier")
    assert delays().explain(None) == delays().explain()


def test_joins_and_de_duplication_tell_the_rows_that_they_hold_of_a_key() -> None:
    kafka = sl.Kafka("localhost:9092")
    left, right = (kafka.stream(topic, schema={"id": pl.Int64, "x": pl.String}) for topic in ("left", "right"))
    names, places = (
        kafka.table(topic, schema={"id": pl.Int64, topic: pl.String}, key="id") for topic in ("names", "places")
    )
    enriched = left.join(names, on="id", how="left").unique("id", within="1m")
    near = enriched.join_interval(right, on="id", before="1m", after="1m")
    newest, both = left.join_asof(right, by="id", tolerance="1m"), names.join(places, on="id")
    sinks = [near.sink_frame(print, name="near"), newest.sink_frame(print, name="newest"), both.sink_table("both")]
    with StreamTester(sl.Pipeline(sinks)) as t:
        t.send("names", {"id": 1, "names": "n"}, key=1, timestamp=0)
        t.send("left", {"id": 1, "x": "a"}, timestamp=1_000)
        t.send("right", {"id": 1, "x": "b"}, timestamp=2_000)
        t.send("right", {"id": 1, "x": "c"}, timestamp=500)
        lines = [line.strip() for line in told(t._task, 1).splitlines() if "holds for" in line]
    between = "oldest=1970-01-01 00:00:{}, newest=1970-01-01 00:00:{}"
    assert sorted(lines) == sorted(
        [
            "holds for id=1: left row=True, right row=False",
            f"holds for id=1: left rows=1, right rows=2, {between.format('00.500', '02')}",
            f"holds for id=1: left rows=1, right rows=2, {between.format('00.500', '02')}",
            f"holds for id=1: passed rows=1, {between.format('01', '01')}",
            "holds for id=1: names='n'",
        ]
    )
