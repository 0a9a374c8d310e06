"""Custom state at work: what the function is given, what becomes of what it returns, and what is kept."""

from __future__ import annotations

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import StepError
from streamlab.testing import StreamTester

SCHEMA = {"k": pl.String, "total": pl.Int64}


def events(**settings):
    return sl.Kafka("x:1").stream("events", schema={"k": pl.String, "x": pl.Int64}, **settings)


def total(rows, state):
    rows = rows.select("k", total=pl.col("x").cum_sum() + state)
    return rows, rows["total"][-1]


def send(tester, *rows, stamps=None, partitions=None):
    records = [
        {
            "value": {"k": k, "x": x},
            "timestamp": 0 if stamps is None else stamps[n],
            "partition": 0 if partitions is None else partitions[n],
        }
        for n, (k, x) in enumerate(rows)
    ]
    tester.send_batch("events", records, wrapped=True)


def values(tester):
    return [tuple(record.value.values()) for record in tester.read()]


def test_rows_come_out_in_the_order_in_which_they_came_in_with_their_event_times() -> None:
    with StreamTester(events().group_by("k").apply_state(total, schema=SCHEMA, state=0)) as t:
        send(t, ("a", 1), ("b", 10), (None, 5), ("a", 2), stamps=[5, 3, 4, 1])
        records = t.read()
        assert [(r.key, r.value["total"], r.timestamp) for r in records] == [
            ("a", 1, 5), ("b", 10, 3), (None, 5, 4), ("a", 3, 1)
        ]  # fmt: skip


def test_the_function_is_called_once_per_key_and_batch_with_all_columns() -> None:
    calls = []

    def see(rows, state):
        calls.append((rows.rows(), state))
        return rows, (state or 0) + rows.height

    with StreamTester(events().group_by("k").apply_state(see, schema={"k": pl.String, "x": pl.Int64})) as t:
        send(t, ("a", 1), ("b", 2), ("a", 3))
        send(t, ("a", 4))
    assert calls == [([("a", 1), ("a", 3)], None), ([("b", 2)], None), ([("a", 4)], 2)]


def test_state_outlives_a_restart_and_a_key_that_is_forgotten_begins_anew() -> None:
    def until_ten(rows, state):
        rows, after = total(rows, state)
        return rows, after if after < 10 else None

    with StreamTester(events().group_by("k").apply_state(until_ten, schema=SCHEMA, state=0)) as t:
        send(t, ("a", 4), ("b", 1))
        t.restart()
        send(t, ("a", 7), ("b", 1))
        assert t.state()["rows"].to_list() == [1]
        t.restart()
        assert t.state()["rows"].to_list() == [1]
        t.read()
        send(t, ("a", 1), ("b", 1))
        assert values(t) == [("a", 1), ("b", 3)]


def test_a_key_that_never_keeps_anything_takes_no_room() -> None:
    with StreamTester(
        events().group_by("k").apply_state(lambda r, _: (r, None), schema={"k": pl.String, "x": pl.Int64})
    ) as t:
        for n in range(1000):
            send(t, (f"k{n}", 1))
        operator = t._task.graph.stateful["apply-by-k"].operator
        assert len(operator._rows) == len(operator._rows._index) == 0
        assert not operator.changes().put


def test_only_keys_whose_state_changed_are_written() -> None:
    with StreamTester(
        events()
        .group_by("k")
        .apply_state(lambda r, s: (r, max(s, r["x"].max())), schema={"k": pl.String, "x": pl.Int64}, state=0)
    ) as t:
        send(t, *((f"k{n}", 5) for n in range(50)))
        operator = t._task.graph.stateful["apply-by-k"].operator
        operator.changes()
        send(t, ("k1", 3), ("k2", 8), ("k3", 5))
        (frame,) = operator.changes().put.values()
        assert frame["k"].to_list() == ["k2"]


def test_a_state_that_the_function_changes_in_place_is_its_own() -> None:
    initial = {"seen": []}

    def grow(rows, state):
        state["seen"] += rows["x"].to_list()
        return rows.select("k", total=pl.lit(len(state["seen"]), pl.Int64)), state

    with StreamTester(events().group_by("k").apply_state(grow, schema=SCHEMA, state=initial)) as t:
        send(t, ("a", 1), ("b", 1))
        send(t, ("a", 1), ("b", 1))
        assert [total for _, total in values(t)] == [1, 1, 2, 2]
    assert initial == {"seen": []}


def test_frames_are_kept_as_frames() -> None:
    def last_two(rows, state):
        recent = pl.concat([state["recent"], rows.select("x")]).tail(2)
        return rows.select("k", total=recent["x"].sum()), {"recent": recent, "calls": state["calls"] + 1}

    begin = {"recent": pl.DataFrame(schema={"x": pl.Int64}), "calls": 0}
    with StreamTester(events().group_by("k").apply_state(last_two, schema=SCHEMA, state=begin)) as t:
        for x in (1, 2, 3):
            send(t, ("a", x))
            t.restart()
        assert [total for _, total in values(t)] == [1, 3, 5]


def test_another_number_of_rows_has_the_newest_event_time_of_those_given() -> None:
    def summary(rows, state):
        return pl.DataFrame({"k": rows["k"][0], "total": rows["x"].sum()}), state

    with StreamTester(events().group_by("k").apply_state(summary, schema=SCHEMA, state=0)) as t:
        send(t, ("a", 1), ("b", 2), ("a", 3), ("a", 4), stamps=[5, 9, 7, 6])
        assert [(r.value["total"], r.timestamp) for r in t.read()] == [(2, 9), (8, 7)]


def test_a_column_can_be_the_event_time() -> None:
    def shifted(rows, state):
        return rows.select("k", total=pl.col("x") * 1000).head(1), state

    made = events().group_by("k").apply_state(shifted, schema=SCHEMA, event_time="total")
    with StreamTester(made) as t:
        send(t, ("a", 7), ("a", 8), stamps=[0, 1])
        assert [(r.value["total"], r.timestamp) for r in t.read()] == [(7000, 7000)]


def test_no_rows_may_be_returned_whatever_their_columns() -> None:
    for nothing in (pl.DataFrame(), pl.DataFrame({"z": []})):
        with StreamTester(events().group_by("k").apply_state(lambda r, s, n=nothing: (n, 1), schema=SCHEMA)) as t:
            send(t, ("a", 1))
            assert t.read() == []
            assert t.state()["rows"].to_list() == [1]


def test_each_partition_has_a_state_of_its_own_where_the_key_is_promised() -> None:
    with StreamTester(events(key="k").group_by("k").apply_state(total, schema=SCHEMA, state=0), partitions=2) as t:
        send(t, ("a", 1), ("a", 10), ("a", 2), partitions=[0, 1, 0])  # a broken promise shows it
        assert [total for _, total in values(t)] == [1, 10, 3]
    with StreamTester(events().group_by("k").apply_state(total, schema=SCHEMA, state=0), partitions=2) as t:
        send(t, ("a", 1), ("a", 10), ("a", 2), partitions=[0, 1, 0])
        assert [total for _, total in values(t)] == [1, 11, 13]


def test_several_columns_or_none_can_be_the_key() -> None:
    with StreamTester(events().group_by("k", "x").apply_state(total, schema=SCHEMA, state=0)) as t:
        send(t, ("a", 1), ("a", 2), ("a", 1))
        assert [total for _, total in values(t)] == [1, 2, 2]
    with StreamTester(events().group_by().apply_state(total, schema=SCHEMA, state=0)) as t:
        send(t, ("a", 1), ("b", 2))
        assert [total for _, total in values(t)] == [1, 3]


def test_windows_behind_it_see_the_event_times_of_the_rows() -> None:
    made = events().group_by("k").apply_state(total, schema=SCHEMA, state=0)
    counts = made.group_by("k").window(sl.tumbling("1m")).agg(pl.col("total").max())
    with StreamTester(counts) as t:
        send(t, ("a", 1), ("a", 2), ("a", 3), ("a", 4), stamps=[0, 59_999, 60_000, 10])
        assert [(r.value["total"], r.timestamp) for r in t.read()] == [(3, 59_999)]
        assert len(t.late()) == 1


WHERE = r"apply_state .*wrong by k \[apply-by-k\]: key k='a': "
FAILING = {
    "it raises": (lambda rows, state: 1 / 0, "ZeroDivisionError: division by zero"),
    "it returns rows alone": (
        lambda rows, state: rows,
        r"the function returned DataFrame; it must return \(rows, state\)",
    ),
    "it returns a list of rows": (lambda rows, state: ([1], 2), r"the function returned \(list, int\); it must return"),
    "a column is missing": (
        lambda rows, state: (rows.select("k"), 1),
        r"the result lacks \['total'\]; schema= promised",
    ),
    "a column has another type": (
        lambda rows, state: (rows.select("k", total=pl.lit(1.5)), 1),
        "column 'total' is Float64; schema= promised Int64",
    ),
    "a value does not fit": (
        lambda rows, state: (rows.select("k", total=pl.lit(2**63, pl.UInt64)), 1),
        "conversion from `u64` to `i64` failed",
    ),
    "the state is no JSON": (lambda rows, state: (rows.select("k", total="x"), {1}), r"the state has \{1\} \(set\)"),
    "the state would come back otherwise": (
        lambda rows, state: (rows.select("k", total="x"), {1: 2}),
        r"the state has the dict key 1 \(int\)",
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_what_fails_names_step_key_and_reason(what) -> None:
    function, message = FAILING[what]

    def wrong(rows, state):
        return function(rows, state)

    with (
        StreamTester(events().group_by("k").apply_state(wrong, schema=SCHEMA, state=0)) as t,
        pytest.raises(StepError, match=WHERE + message),
    ):
        send(t, ("a", 1))


@pytest.mark.parametrize("time", [None, -1, 10**18])
def test_an_event_time_that_is_none_names_step_key_and_value(time) -> None:
    def wrong(rows, state):
        return rows.select("k", total=pl.lit(time, pl.Int64)), state

    with (
        StreamTester(events().group_by("k").apply_state(wrong, schema=SCHEMA, event_time="total")) as t,
        pytest.raises(
            StepError, match=WHERE + f"event time 'total' is {time} in a row of the result; it must be from 1970"
        ),
    ):
        send(t, ("a", 1))
