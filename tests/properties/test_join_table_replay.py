"""Joins with tables against answers that polars gives over the whole input, in any interleaving of partitions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import streamlab as sl
from tests.properties.harness import examples
from tests.properties.playing_joins import JoinTester, Message, Sent

GRACE = 5

records = st.lists(
    st.fixed_dictionaries(
        {
            "table": st.booleans(),
            "step": st.integers(0, 6),
            "back": st.integers(0, GRACE - 1),
            "k": st.sampled_from(["a", "b", "c"]),
            "x": st.sampled_from([0, 1, 2, None]),  # None: a deletion, in the table
        }
    ),
    min_size=1,
    max_size=40,
)


def sent_of(given_: Any, partitions: Any) -> Any:
    """Return records by topic and partition, none out of order by as much as the grace."""
    clock: dict[Any, int] = {}
    lanes: dict[Any, list[Sent]] = {}
    for n, shot in enumerate(given_):
        topic = "t" if shot["table"] else "s"
        lane = topic, ord(shot["k"]) % partitions
        clock[lane] = clock.get(lane, 0) + shot["step"]
        time = max(clock[lane] - shot["back"], 0)
        gone = shot["table"] and shot["x"] is None
        row = {"k": shot["k"], "n": n} if topic == "s" else {"k": shot["k"], "x": shot["x"]}
        message = Message(topic, lane[1], time, None if gone else row, row)
        lanes.setdefault(lane, []).append(Sent(message, None if gone else row, shot["k"].encode()))
    return lanes


def answer(lanes: Any) -> Any:
    """Return what polars makes of all records: each with the last row of its key that is not later."""
    schema = {"k": pl.String, "time": pl.Int64, "x": pl.Int64}
    rows = [
        (r.message.row["k"], r.message.timestamp, r.message.row["x"])
        for (t, _), part in lanes.items()
        if t == "t"
        for r in part
    ]
    asked = [
        (r.message.row["k"], r.message.timestamp, r.message.row["n"])
        for (t, _), part in lanes.items()
        if t == "s"
        for r in part
    ]
    table = (
        pl.DataFrame(rows, schema=schema, orient="row")
        .unique(["k", "time"], keep="last", maintain_order=True)
        .sort("time", maintain_order=True)
    )
    stream = pl.DataFrame(asked, schema={"k": pl.String, "time": pl.Int64, "n": pl.Int64}, orient="row").sort(
        "time", maintain_order=True
    )
    found = stream.join_asof(table, on="time", by="k", check_sortedness=False).sort("n")
    return found.select("k", "n", "x", "time").rows()


@examples(40)
@given(given_=records, partitions=st.integers(1, 3), data=st.data(), promised=st.booleans())
def test_with_grace_every_interleaving_gives_what_polars_gives(
    given_: Any, partitions: Any, data: Any, promised: Any
) -> None:
    lanes = sent_of(given_, partitions)
    kafka = sl.Kafka("localhost:9092")
    stream = kafka.stream("s", schema={"k": pl.String, "n": pl.Int64}, key="k" if promised else None, idle_timeout=None)
    table = kafka.table("t", key="k", schema={"k": pl.String, "x": pl.Int64}, idle_timeout=None, history="1s")
    joined = stream.join(table, on="k", how="left", grace=timedelta(milliseconds=GRACE))
    wanted = answer(lanes)
    queues = {lane: list(part) for lane, part in lanes.items()}
    with JoinTester(joined, partitions=partitions) as tester:
        while queues:
            lanes_ = data.draw(st.lists(st.sampled_from(sorted(queues)), min_size=1, max_size=9))
            batch = [queues[lane].pop(0) for lane in lanes_ if queues[lane]]
            queues = {lane: part for lane, part in queues.items() if part}
            tester.send_all(batch)
            if data.draw(st.integers(0, 9)) == 0:
                tester.restart()
        tester.close_input()
        found = [(*r.value.values(), r.timestamp) for r in tester.read()]
    assert sorted(found, key=lambda row: row[1]) == wanted


@examples(40)
@given(given_=records, how=st.sampled_from(["inner", "left"]), cut=st.integers(1, 7))
def test_a_table_that_is_read_first_is_joined_as_polars_joins_it(given_: Any, how: Any, cut: Any) -> None:
    lanes = sent_of(given_, 1)
    kafka = sl.Kafka("localhost:9092")
    stream = kafka.stream("s", schema={"k": pl.String, "n": pl.Int64})
    table = kafka.table("t", key="k", schema={"k": pl.String, "x": pl.Int64})
    rows = [r.message.row for r in lanes.get(("t", 0), [])]
    asked = [r.message.row for r in lanes.get(("s", 0), [])]
    newest = (
        pl.DataFrame(rows, schema={"k": pl.String, "x": pl.Int64})
        .unique("k", keep="last")
        .filter(pl.col("x").is_not_null())
    )
    wanted = pl.DataFrame(asked, schema={"k": pl.String, "n": pl.Int64}).join(newest, on="k", how=how)
    with JoinTester(stream.join(table, on="k", how=how)) as tester:
        for lane in ("t", "s"):
            part = lanes.get((lane, 0), [])
            for first in range(0, len(part), cut):
                tester.send_all(part[first : first + cut])
        found = [tuple(r.value.values()) for r in tester.read()]
    assert sorted(found, key=repr) == sorted(wanted.rows(), key=repr)
