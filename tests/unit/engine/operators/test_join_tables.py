from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.testing import StreamTester
from tests.properties.playing_joins import JoinTester, Message, Sent

kafka = sl.Kafka("localhost:9092")


def table(topic: Any, history: Any = None) -> Any:
    kept = None if history is None else timedelta(milliseconds=history)
    return kafka.table(topic, key="k", schema={"k": pl.String, "v": pl.Int64}, idle_timeout=None, history=kept)


def change(tester: Any, topic: Any, value: Any, time: Any, key: Any = "a") -> Any:
    """Set a row or delete it, and return the changes that this makes: both values, or None for a deletion, and a time."""
    tester.send(topic, None if value is None else {"k": key, "v": value}, key=key, timestamp=time)
    return [(None if r.value is None else (r.value["v"], r.value["v_right"]), r.timestamp) for r in tester.read()]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("inner", [[], [((1, 2), 9)], [(None, 9)], [], [((3, 4), 12)], [(None, 20)], []]),
        ("left", [[((1, None), 5)], [((1, 2), 9)], [(None, 9)], [], [((3, 4), 12)], [((3, None), 20)], [(None, 1)]]),
        ("outer", [[((1, None), 5)], [((1, 2), 9)], [((None, 2), 9)], [((None, 4), 12)], [((3, 4), 12)], [((3, None), 20)], [(None, 1)]]),
    ],
)  # fmt: skip
def test_each_change_of_a_side_makes_a_result_or_a_deletion_where_there_was_one(how: Any, wanted: Any) -> None:
    steps = [("l", 1, 5), ("r", 2, 9), ("l", None, 7), ("r", 4, 12), ("l", 3, 11), ("r", None, 20), ("l", None, 1)]
    with StreamTester(table("l").join(table("r"), on="k", how=how)) as t:
        made = []
        for n, step in enumerate(steps):
            made.append(change(t, *step))
            if n % 2:
                t.restart()
    assert made == wanted


def test_a_deletion_of_what_is_not_there_says_nothing() -> None:
    with StreamTester(table("l").join(table("r"), on="k", how="outer")) as t:
        assert change(t, "l", None, 5) == []
        change(t, "l", 1, 6)
        assert change(t, "r", None, 7) == []


def test_full_is_another_word_for_outer_and_keys_are_put_together() -> None:
    left = sl.table_from_frame(pl.DataFrame({"id": [1, 2], "x": [1, 2]}), key="id", name="left")
    right = sl.table_from_frame(pl.DataFrame({"code": [2, 3], "x": [5, 6]}), key="code", name="right")
    made = left.join(right, left_on="id", right_on="code", how="full").collect()
    assert made.sort("id").rows() == [(1, 1, None), (2, 2, 5), (3, None, 6)]


def test_where_versions_are_kept_a_row_older_than_the_newest_changes_nothing() -> None:
    with StreamTester(table("l", 1000).join(table("r", 1000), on="k", how="outer")) as t:
        assert change(t, "l", 1, 5) == [((1, None), 5)]
        assert change(t, "l", 2, 4) == []
        assert change(t, "l", None, 8) == [(None, 8)]
        t.restart()
        assert change(t, "l", 3, 7) == []
        assert change(t, "l", 4, 8) == [((4, None), 8)]


def sent(topic: Any, key: Any, value: Any, time: Any) -> Any:
    row = None if value is None else {"k": key, "v": value}
    return Sent(Message(topic, 0, time, row, row), row, key.encode())


def test_a_deletion_older_than_the_history_is_forgotten_however_the_input_is_cut() -> None:
    records = [
        sent("l", "a", None, 10),
        sent("r", "a", 1, 20),
        sent("l", "a", 5, 9),  # the deletion is still known
        sent("l", "b", 0, 30),
        sent("l", "a", 7, 9),  # now both sides have passed it by more than the history
    ]
    for size in (1, 2, 3, 5):
        with JoinTester(table("l", 2).join(table("r", 2), on="k")) as t:
            for first in range(0, len(records), size):
                t.send_all(records[first : first + size])
            assert [(r.value, r.timestamp) for r in t.read()] == [({"k": "a", "v": 7, "v_right": 1}, 20)], size


def test_tables_of_windows_are_joined_by_key_and_window_and_let_go_of_windows_that_are_closed() -> None:
    def counts(topic: Any) -> Any:
        events = kafka.stream(topic, schema={"k": pl.String}, idle_timeout=None)
        return events.group_by("k").window(sl.tumbling("10ms"), emit="updates", name=topic).agg(n=pl.len())

    both = counts("l").join(counts("r"), on=["k", "window_start", "window_end"], name="both")
    with StreamTester(both) as t:
        t.send("l", {"k": "a"}, timestamp=5)
        t.send("r", {"k": "a"}, timestamp=7)
        (made,) = t.read()
        assert (made.key[0], made.value["n"], made.value["n_right"], made.timestamp) == ("a", 1, 1, 7)
        for begin in range(0, 20_000, 200):
            records = [{"value": {"k": "a"}, "timestamp": begin + time} for time in range(0, 200, 10)]
            t.send_batch("l", records, wrapped=True)
            t.send_batch("r", records, wrapped=True)
        assert t.state().filter(step="both")["rows"].item() < 600


def test_each_partition_has_its_own_part_of_both_tables() -> None:
    with StreamTester(table("l").join(table("r"), on="k"), partitions=2) as t:
        t.send("l", {"k": "a", "v": 1}, timestamp=0, partition=0)
        t.send("r", {"k": "a", "v": 2}, timestamp=0, partition=1)
        assert t.read() == []
        t.send("r", {"k": "a", "v": 2}, timestamp=0, partition=0)
        assert len(t.read()) == 1


def test_a_table_joined_with_itself_sees_both_sides_change_at_once() -> None:
    one = table("l")
    with StreamTester(one.join(one, on="k")) as t:
        assert change(t, "l", 1, 5)[-1] == ((1, 1), 5)
        assert change(t, "l", None, 6) == [(None, 6)]
