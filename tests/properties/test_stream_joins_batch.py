"""Joins of two streams and de-duplication: what polars makes of the whole input, if nothing is late, and the replay law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import streamlab as sl
from streamlab.testing import StreamTester
from tests.properties.harness import examples
from tests.properties.records import messages, shots
from tests.properties.stream_joins import asof_joins, both_sides, interval_joins, settings_of
from tests.properties.test_replay_law import interleaved, read

rows = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, None]), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40
)


def timed(given_rows: Any) -> pl.DataFrame:
    """Return rows at times that never go back: id, ts, x."""
    times = pl.Series("ts", [step for _, step, _ in given_rows], pl.Int64).cum_sum()
    ids, xs = (pl.Series(n, [row[at] for row in given_rows], pl.Int64) for n, at in (("id", 0), ("x", 2)))
    return pl.DataFrame([ids, times, xs])


def replayed(frame: pl.DataFrame, topic: str) -> Any:
    return sl.from_frame(frame, event_time="ts", topic=topic)


def same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    columns = wanted.columns
    assert found.columns == columns
    assert found.sort(columns).rows() == wanted.sort(columns).rows()


@examples(40)
@given(
    left=rows,
    right=rows,
    before=st.integers(0, 5),
    after=st.integers(0, 5),
    how=st.sampled_from(["inner", "left", "full"]),
)
def test_interval_joins(left: Any, right: Any, before: Any, after: Any, how: Any) -> None:
    a, b = timed(left), timed(right)
    found = (
        replayed(a, "a")
        .join_interval(replayed(b, "b"), on="id", before=f"{before}ms", after=f"{after}ms", how=how, grace="200ms")
        .collect()
    )
    one, other = a.with_row_index("l"), b.rename({"id": "i", "ts": "ts_right", "x": "x_right"}).with_row_index("r")
    near = (pl.col("ts_right") >= pl.col("ts") - before) & (pl.col("ts_right") <= pl.col("ts") + after)
    pairs = one.join_where(other, pl.col("id") == pl.col("i"), near)
    wanted = [pairs]
    if how != "inner":
        wanted.append(one.join(pairs, on="l", how="anti"))
    if how == "full":
        wanted.append(other.join(pairs, on="r", how="anti").with_columns(id=pl.col("i")))
    whole = pl.concat(wanted, how="diagonal_relaxed").select("id", "ts", "x", "ts_right", "x_right")
    same(found, whole)


@examples(40)
@given(left=rows, right=rows, tolerance=st.integers(1, 8), framed=st.booleans())
def test_asof_joins(left: Any, right: Any, tolerance: Any, framed: Any) -> None:
    a, b = timed(left), timed(right)
    other, grace = (b, {}) if framed else (replayed(b, "b"), {"grace": "200ms"})
    found = replayed(a, "a").join_asof(other, on="ts", by="id", tolerance=f"{tolerance}ms", **grace).collect()
    known = b.filter(pl.col("id").is_not_null())
    wanted = a.join_asof(known, on="ts", by="id", tolerance=tolerance, check_sortedness=False)
    same(found, wanted)


@examples(40)
@given(given_rows=rows, within=st.integers(0, 6) | st.none())
def test_unique(given_rows: Any, within: Any) -> None:
    frame = timed(given_rows)
    found = replayed(frame, "a").unique("id", within=None if within is None else f"{within}ms").collect()
    last: dict[Any, int] = {}
    wanted = []
    for row in frame.rows():
        key, time = row[0], row[1]
        if key is None or key not in last or (within is not None and time - last[key] > within):
            wanted.append(row)
            last[key] = time
    assert found.rows() == wanted


@st.composite
def runs(draw: Any, kind: Any) -> Any:
    """Draw a join whose rows are out of order by no more than its grace, and two ways of reading them."""
    plan = replace(draw(settings_of()), live=False)
    keyed = kind == "asof" or draw(st.booleans())  # of right rows of one time the last to arrive counts
    left, right = draw(both_sides(plan, keyed=keyed, never_idle=True, plain=True))
    branch = draw(
        asof_joins(plan, left, right, grace=4)
        if kind == "asof"
        else interval_joins(plan, left, right, ("inner", "left", "outer"))
    )
    back = 4 if kind == "asof" else branch.node.grace
    plan = replace(plan, branches=(branch,))
    fired = draw(st.lists(shots, min_size=1, max_size=40))
    sent = messages(plan, [replace(shot, back=min(shot.back, back), fate="good") for shot in fired])
    places = sorted({(message.topic, message.partition) for message in sent})
    turns = st.lists(st.sampled_from(places), max_size=40)
    sizes = st.lists(st.integers(1, 10), min_size=1, max_size=8)
    return plan, sent, [(draw(turns), draw(sizes)) for _ in range(2)]


def law(kind: Any) -> Any:
    """Check the replay law: any interleaving of partitions gives the same rows, if nothing is out of order by more than the grace."""

    @examples(40)
    @given(run=runs(kind))
    def check(run: Any) -> None:
        plan, sent, ways = run
        found = [read(plan, interleaved(sent, turns), sizes) for turns, sizes in ways]
        (one, late), (other, also_late) = found
        assert not late
        assert not also_late
        assert sorted(map(repr, one)) == sorted(map(repr, other))

    return check


test_replay_law_of_interval_joins = law("interval")
test_replay_law_of_asof_joins = law("asof")


@examples(25)
@given(given_rows=rows, cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_windows_joined_with_events_give_the_same_for_every_cut(given_rows: Any, cuts: Any) -> None:
    """Window results come before the records of their batch, so which side was first goes by the cut; the pairs do not."""
    frame = timed(given_rows)
    events = sl.Kafka("localhost:9092").stream("e", schema={"id": pl.Int64, "x": pl.Int64}, idle_timeout=None)
    counts = events.group_by("id").window(sl.tumbling("4ms"), name="w").agg(pl.len().alias("n"))
    joined = counts.join_interval(events, on="id", before="5ms", after="2ms", how="outer")
    given_records = [{"value": {"id": i, "x": x}, "timestamp": ts} for i, ts, x in frame.rows()]

    def run(sizes: list[int]) -> Any:
        with StreamTester(joined) as tester:
            at = number = 0
            while at < len(given_records):
                size = sizes[number % len(sizes)]
                tester.send_batch("e", given_records[at : at + size], wrapped=True)
                at, number = at + size, number + 1
            tester.close_input()
            return sorted((record.timestamp, repr(record.value)) for record in tester.read())

    assert run(cuts) == run([1])
