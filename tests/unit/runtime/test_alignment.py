from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from confluent_kafka import Producer

import streamlab as sl
from streamlab.connect import held_back, kafka_source
from streamlab.connect.held_back import HeldBack
from streamlab.connect.source import Records
from streamlab.engine.stream_time import NEVER, Clock
from streamlab.runtime import pump
from streamlab.runtime.alignment import LEAST, STUCK, Alignment
from streamlab.runtime.runner import Runner

MINUTE = 60_000
SCHEMA = {"k": pl.Int64, "at": pl.Int64}


def stream(kafka: Any = None, topic: Any = "events") -> Any:
    return (kafka or sl.Kafka("localhost:9092")).stream(topic, schema=SCHEMA, event_time="at", idle_timeout=None)


def counted(source: Any, window: Any = None) -> Any:
    return source.group_by("k").window(window or sl.tumbling("1m")).agg(pl.len().alias("n"))


def aligned(*streams: Any) -> Any:
    sinks = [each.sink_parquet(str(n)) for n, each in enumerate(streams)]
    return Alignment(sl.Pipeline(sinks).plan)


def clock(*times: Any) -> Any:
    return Clock(stream_time=np.array(times, np.int64))


def ahead(judge: Any, *times: Any, left: Any = None, now: Any = 0) -> Any:
    """Return the partitions of "events" to hold, where they stand at `times`; `left`: which have more to give, default all."""
    at = dict.fromkeys(range(len(times)), 5)
    ends = {p: 9 if left is None or p in left else 5 for p in at}
    found = judge.ahead(now, {"events": clock(*times)}, {"events": at}, {"events": ends})
    return sorted(partition for _, partition in found)


def records(partition: Any, *offsets: Any, topic: Any = "t", size: Any = 1) -> Any:
    n = len(offsets)
    values = [b"x" * size] * n
    return Records(
        topic, values, None, np.full(n, partition), np.array(offsets), np.arange(n), None, [b"k"] * n, [None] * n
    )


# --- who is held ---


def test_a_partition_may_be_ahead_by_the_longest_window_and_no_more() -> None:
    judge = aligned(counted(stream(), sl.tumbling("1m", grace="1m")))
    assert ahead(judge, 0, 2 * MINUTE, 2 * MINUTE + 1) == [2]


def test_a_plan_without_windows_needs_no_alignment() -> None:
    assert ahead(aligned(stream()), 0, 1 << 40) == []
    assert ahead(aligned(stream().group_by("k").agg(pl.len())), 0, 1 << 40) == []


def test_short_windows_leave_a_partition_room() -> None:
    assert ahead(aligned(counted(stream(), sl.tumbling("1ms"))), 0, LEAST, LEAST + 1) == [2]


def test_a_partition_that_has_nothing_more_to_give_holds_nobody() -> None:
    assert ahead(aligned(counted(stream())), 0, 1 << 40, left=[1]) == []


def test_a_partition_that_gives_nothing_for_long_holds_nobody() -> None:
    judge = aligned(counted(stream()))
    assert ahead(judge, 0, 1 << 40, now=0) == [1]
    assert ahead(judge, 0, 1 << 40, now=STUCK - 1) == [1]
    assert ahead(judge, 0, 1 << 40, now=STUCK) == []
    assert ahead(judge, 1, 1 << 40, now=STUCK + 1) == [1]


def test_a_partition_that_has_not_spoken_yet_is_waited_for() -> None:
    judge = aligned(counted(stream()))
    assert ahead(judge, NEVER, 7, 1 << 40) == [1, 2]
    assert ahead(judge, NEVER, NEVER) == []


# --- what is held ---


def test_what_is_held_comes_in_its_order_before_what_is_newer() -> None:
    back = HeldBack()
    back.hold({("t", 1)})
    (others,) = back.sort_out([records(0, 0, 1), records(1, 0, 1)], 100)
    assert others.partition.tolist() == [0, 0]
    assert back.sort_out([records(1, 2)], 100) == ()
    back.hold(())
    (found,) = back.sort_out([records(1, 3)], 100)
    assert found.offset.tolist() == [0, 1, 2, 3]
    assert found.index.tolist() == [0, 1, 2, 3]
    assert back.resting


def test_a_lot_is_released_a_part_at_a_time_and_new_records_wait_for_it() -> None:
    back = HeldBack()
    back.hold({("t", 0)})
    for offset in range(3):
        back.sort_out([records(0, offset)], 100)
    back.hold(())
    found = [[part.offset.tolist() for part in back.sort_out([records(0, 3)] if not n else [], 1)] for n in range(4)]
    assert found == [[[0]], [[1]], [[2]], [[3]]]
    assert back.resting


def test_topics_are_numbered_in_one_order_of_arrival() -> None:
    back = HeldBack()
    back.hold({("t", 9)})
    found = back.sort_out([records(0, 0, 1), records(0, 0, topic="u")], 100)
    assert [(part.topic, part.index.tolist()) for part in found] == [("t", [0, 1]), ("u", [2])]


def test_a_partition_of_which_a_lot_is_kept_is_full(monkeypatch: Any) -> None:
    monkeypatch.setattr(held_back, "MOST_BYTES", 10)
    back = HeldBack()
    back.hold({("t", 0), ("t", 1)})
    back.sort_out([records(0, 0, size=11), records(1, 0, size=10)], 100)
    assert back.full() == {("t", 0)}
    back.hold(())
    back.sort_out([], 100)
    assert back.full() == set()


# --- a replay ---


WINDOWS = 200


@pytest.mark.parametrize("most", [held_back.MOST_BYTES, 100])
def test_a_replay_of_uneven_partitions_holds_few_windows_open(monkeypatch: Any, most: Any) -> None:
    monkeypatch.setattr(kafka_source, "_BATCH", 10)
    monkeypatch.setattr(held_back, "MOST_BYTES", most)
    monkeypatch.setattr(pump, "_QUEUE_BYTES", 1_000)  # a backlog is larger than the queues
    topic = f"uneven-{most}"
    kafka = sl.Kafka.embedded({topic: 2})
    send(kafka, topic, 1, [{"k": 1, "at": n * MINUTE} for n in range(WINDOWS)])
    send(kafka, topic, 0, [{"k": 0, "at": n * MINUTE // 10} for n in range(WINDOWS * 10)])
    plan = sl.Pipeline([counted(stream(kafka, topic)).sink_table("counts")]).plan
    runner, most_open = Runner(plan, until="latest"), []
    look = runner._aligned.look

    def watched(now: Any) -> None:
        most_open.append(max(held.windows for held in runner.task.holding().values()))
        look(now)

    monkeypatch.setattr(runner._aligned, "look", watched)
    runner.run()
    assert runner.task.counters.records == WINDOWS * 11
    assert runner.task.counters.late == 0
    assert max(most_open) < WINDOWS / 3


def send(kafka: Any, topic: Any, partition: Any, rows: Any) -> None:
    producer = Producer({"bootstrap.servers": kafka.cluster.bootstrap, "linger.ms": 0})
    for row in rows:
        producer.produce(topic, json.dumps(row).encode(), partition=partition, timestamp=1)
    assert producer.flush(30) == 0
