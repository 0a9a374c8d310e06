"""The batch law where results of one step meet records of another topic in the next: joins after windows, windows beside streams."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import streamlab as sl
from tests.properties.harness import examples
from tests.properties.playing_joins import JoinTester, Message, Sent

records = st.lists(
    st.tuples(
        st.sampled_from(["s", "s", "s", "t", "u"]),
        st.integers(0, 2),  # partition
        st.integers(0, 12),  # how far event time goes on
        st.integers(0, 6),  # and how far behind the newest one is
        st.sampled_from(["a", "b"]),
        st.integers(0, 3),
    ),
    min_size=2,
    max_size=40,
)

CLOCKED: dict[str, Any] = {"schema": {"k": pl.String, "x": pl.Int64}, "idle_timeout": None}
LENGTH = pl.len().alias("n")


def sent_of(drawn: Any, partitions: int) -> list[Sent]:
    """Return records in order of arrival, each partition with a clock of its own."""
    clock: dict[Any, int] = {}
    sent = []
    for topic, partition, on, back, key, value in drawn:
        lane = topic, partition % partitions
        clock[lane] = clock.get(lane, 10) + on
        row = {"k": key, "x": value}
        sent.append(Sent(Message(*lane, max(clock[lane] - back, 0), row, row), row, key.encode()))
    return sent


def counted(window: Any, *, keyed: bool) -> Any:
    """Return final windows of the first topic."""
    stream = sl.Kafka("localhost:9092").stream("s", key="k" if keyed else None, **CLOCKED)
    return stream.group_by("k").window(window, name="counted").agg(LENGTH)


def joined(left: Any) -> Any:
    """Join with what the table holds by then."""
    return left.join(sl.Kafka("localhost:9092").table("t", key="k", **CLOCKED), on="k", how="left")


def beside(left: Any) -> Any:
    """Put rows beside those of another topic, and keep the first of each key and time."""
    other = sl.Kafka("localhost:9092").stream("u", **CLOCKED).select("k", n=pl.col("x").cast(pl.UInt32))
    return sl.concat([left.select("k", "n"), other]).unique("k", "n", within="8ms")


def first(left: Any) -> Any:
    """Take the first and the last of rows beside those of another topic."""
    other = sl.Kafka("localhost:9092").stream("u", **CLOCKED).select("k", n=pl.col("x").cast(pl.UInt32))
    both = sl.concat([left.select("k", "n"), other])
    ends = pl.col("n").first().alias("first"), pl.col("n").last().alias("last"), pl.col("n").implode().alias("all")
    return both.group_by("k").window(sl.tumbling("20ms", grace="5ms"), name="ends").agg(*ends)


def stated(left: Any) -> Any:
    """Number the rows of each key, beside those of another topic."""
    other = sl.Kafka("localhost:9092").stream("u", **CLOCKED).select("k", n=pl.col("x").cast(pl.UInt32))
    schema = {"n": pl.UInt32, "place": pl.Int64}

    def number(rows: pl.DataFrame, seen: int) -> tuple[pl.DataFrame, int]:
        return rows.select("n", place=seen + pl.int_range(pl.len())), seen + rows.height

    return sl.concat([left.select("k", "n"), other]).group_by("k").apply_state(number, schema=schema, state=0)


WINDOWS = {
    "tumbling": sl.tumbling("10ms", grace="3ms"),
    "hopping": sl.hopping("10ms", every="4ms", grace="3ms"),
    "sliding": sl.sliding("6ms", grace="3ms"),
    "session": sl.session("4ms", grace="3ms"),
}


@st.composite
def plans(draw: Any) -> Any:
    """Draw final rows of some kind, and a step that they come to together with another topic."""
    keyed = draw(st.booleans())
    left = counted(WINDOWS[draw(st.sampled_from(sorted(WINDOWS)))], keyed=keyed)
    if draw(st.booleans()):
        again = left.group_by("k").window(sl.tumbling("30ms"), name="again").agg(pl.col("n").sum())
        left = draw(st.sampled_from([left, again]))
    return draw(st.sampled_from([joined, beside, first, stated]))(left)


def unmatched() -> Any:
    """Rows of a join of streams, those without a match too, that come to a table."""
    cluster = sl.Kafka("localhost:9092")
    left, right = (cluster.stream(topic, **CLOCKED) for topic in ("s", "u"))
    pairs = left.join_interval(right, on="k", before="5ms", after="5ms", how="outer")
    return joined(pairs.select("k", n="x", m="x_right"))


def outcome(stream: Any, partitions: int, batches: list[list[Sent]]) -> list[Any]:
    """Return all rows, in order, with their event times."""
    with JoinTester(stream, partitions=partitions) as tester:
        for batch in batches:
            tester.send_all([one for one in batch if one.message.topic in tester._task.graph.sources])
        tester.close_input()
        return [(tuple(map(str, r.value.values())), r.timestamp) for r in tester.read()]


@examples(100)
@given(plan=plans() | st.builds(unmatched), drawn=records, partitions=st.integers(1, 3), data=st.data())
def test_any_cut_gives_the_same(plan: Any, drawn: Any, partitions: int, data: Any) -> None:
    sent = sent_of(drawn, partitions)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1))))
    some = [sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    single = outcome(plan, partitions, [[one] for one in sent])
    assert outcome(plan, partitions, some) == single
    assert outcome(plan, partitions, [sent]) == single
