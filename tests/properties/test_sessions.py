"""Sessions: the two laws, agreement with a model record by record, and with what polars makes of the whole input."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

import streamlab as sl
from streamlab.testing import StreamTester
from tests.properties.harness import _interrupt, examples, plain, started, uninterrupted
from tests.properties.oracle import LateRows
from tests.properties.oracle_sessions import Reader, Sessions, Window
from tests.properties.records import Shot, messages, volleys
from tests.properties.strategies import KEYS, aggregated, circumstances, forked, sources, stepped


@st.composite
def sessioned(draw: Any, branch: Any, plan: Any, **settings: Any) -> Any:
    """Put groups, sessions and aggregations after a branch."""
    made = draw(aggregated(branch, plan, **settings))
    window = Window(*(draw(st.sampled_from(of)) * plan.unit for of in ([1, 2, 4, 10], [0, 0, 1, 3, 15])))
    gap, grace = (timedelta(milliseconds=part) for part in (window.gap, window.grace))
    frame = type(made.frame)(replace(made.frame.node, window=sl.session(gap, grace=grace)))
    return replace(made, frame=frame, node=Sessions(made.node, window))


@st.composite
def plans(draw: Any, kinds: Any, *, keyed: Any) -> Any:
    """Draw a plan of one sink that ends in one of these: "final", "updates", "late", "A over B"."""
    plan = draw(circumstances())
    kind = draw(st.sampled_from(kinds))
    branch = draw(sources(plan, keyed=keyed))
    if not keyed and not branch.joined and draw(st.integers(0, 4)) == 0:
        branch = draw(forked(branch))
    branch = draw(stepped(branch, 2))
    if kind == "tumbling, sessions":
        made = draw(aggregated(branch, plan, final=True))
        made = draw(sessioned(made, plan, final=draw(st.booleans()), name="second"))
        return replace(plan, branches=(made,))
    made = draw(sessioned(branch, plan, final=kind != "updates"))
    if kind == "late":
        made = replace(branch, frame=made.frame.late, node=LateRows(made.node), keyed=False)
    if kind == "sessions, sessions":
        made = draw(sessioned(made, plan, final=draw(st.booleans()), name="second"))
    if kind == "sessions, tumbling":
        made = draw(aggregated(made, plan, final=draw(st.booleans()), name="second"))
    return replace(plan, branches=(made,))


def play(plan: Any, fired: Any, sent: Any) -> None:
    """Run a plan over records, cut and interrupted as the shots say, and compare all the way."""
    side = started(plan)
    reader = Reader(plan, side.tester, side.model)
    with reader.tester:
        batch: list[Any] = []
        for shot, message in zip(fired, sent, strict=True):
            batch.append(message)
            if shot.then == "join":
                continue
            reader.batch(batch)
            batch = []
            _interrupt(reader, shot.then)
        if batch:
            reader.batch(batch)
        reader.close()


def law(*kinds: Any, keyed: Any = False) -> Any:
    """Check the batch law for plans that end in one of these."""

    @examples(30)
    @given(plan=plans(kinds, keyed=keyed), fired=volleys)
    def check(plan: Any, fired: Any) -> None:
        if plan.branches[0].crosses:  # idleness is outside the law
            fired = uninterrupted(fired)
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        play(plan, fired, sent)

    return check


test_final_results = law("final")
test_final_results_of_one_task_a_partition = law("final", keyed=True)
test_updates = law("updates")
test_updates_of_one_task_a_partition = law("updates", keyed=True)
test_late_rows = law("late")
test_late_rows_of_one_task_a_partition = law("late", keyed=True)
test_windows_over_sessions_and_sessions_over_windows = law(
    "sessions, sessions", "sessions, tumbling", "tumbling, sessions"
)
test_windows_over_sessions_of_one_task_a_partition = law(
    "sessions, sessions", "sessions, tumbling", "tumbling, sessions", keyed=True
)


def long_law(*, keyed: Any) -> Any:
    """Check the law for a few hundred records of few keys: sessions are merged, closed within a batch, and their slots used again."""

    @examples(8)
    @given(plan=plans(("final", "updates", "late"), keyed=keyed), seed=st.integers(0, 1 << 32))
    def check(plan: Any, seed: Any) -> None:
        chance = random.Random(seed)  # noqa: S311  # nothing secret
        pace, after = chance.choice([(0, 0, 1), (0, 1, 3), (0, 7, 40)]), chance.choice([20, 60])
        fired = [
            Shot(
                step=chance.choice(pace),
                back=chance.choice([0, 0, 1, 3, 12]),
                other_topic=chance.random() < 0.5,
                partition=chance.randrange(3),
                fate=chance.choice(["good"] * 30 + ["bad"]),
                values={
                    "k": chance.choice(KEYS),
                    "j": chance.choice([0, 1, None]),
                    "x": chance.randrange(5),
                    "f": chance.choice([0.25, -1.5, None]),
                    "s": chance.choice(["", "p", None]),
                    "xs": chance.choice([None, [4], [1, None]]),
                    "shift": chance.choice([0, 1, -2, None]),
                    "absent": chance.random() < 0.5,
                    "bad": chance.randrange(9),
                },
                then=chance.choice(["join"] * after + ["cut", "cut", "restart", "crash", "9999"]),
            )
            for _ in range(250)
        ]
        play(plan, uninterrupted(fired) if plan.branches[0].crosses else fired, messages(plan, fired))

    return check


test_many_records_of_few_keys = long_law(keyed=False)
test_many_records_of_few_keys_of_one_task_a_partition = long_law(keyed=True)


@st.composite
def timely(draw: Any) -> Any:
    """Draw gap, grace, and records of three partitions none of which is out of order by more than the grace."""
    gap, grace = draw(st.sampled_from([1, 4, 10])), draw(st.sampled_from([0, 3, 20]))
    shots = draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from(KEYS), st.sampled_from([0, 1, 2, 5, 11]), st.integers(0, 20)),
            min_size=1,
            max_size=60,
        )
    )
    clocks, records = [0, 0, 0], []
    for number, (partition, k, step, back) in enumerate(shots):
        clocks[partition] += step
        time = max(clocks[partition] - min(back, grace), 0)
        records.append({"value": {"k": k, "x": number}, "timestamp": time, "partition": partition})
    return gap, grace, records, draw(st.lists(st.integers(1, 15), min_size=1, max_size=6))


def answer(records: Any, gap: Any) -> Any:
    """Return the sessions that polars makes of the whole input."""
    rows = pl.DataFrame(
        [{**record["value"], "ts": record["timestamp"]} for record in records],
        {"k": pl.String, "x": pl.Int64, "ts": pl.Int64},
    )
    apart = (pl.col("ts").diff().over("k") > gap).fill_null(value=False)
    cut = rows.sort("ts").with_columns(number=apart.cum_sum().over("k")).group_by("k", "number")
    ts, x = pl.col("ts"), pl.col("x")
    return cut.agg(ts.min().alias("first"), ts.max().alias("last"), pl.len(), x.sum(), x.median().alias("middle")).drop(
        "number"
    )


@examples(30)
@given(run=timely(), emit=st.sampled_from(["final", "updates"]))
def test_what_polars_makes_of_the_whole_input_when_nothing_is_late(run: Any, emit: Any) -> None:
    gap, grace, records, sizes = run
    events = sl.Kafka("localhost:9092").stream("events", schema={"k": pl.String, "x": pl.Int64}, idle_timeout=None)
    gap_, grace_ = (timedelta(milliseconds=part) for part in (gap, grace))
    x = pl.col("x")
    windows = events.group_by("k").window(sl.session(gap_, grace=grace_), emit=emit)
    with StreamTester(windows.agg(pl.len(), x.sum(), x.median().alias("middle")), partitions=3) as tester:
        for at, size in batches(len(records), sizes):
            tester.send_batch("events", records[at : at + size], wrapped=True)
            if size % 3 == 0:
                tester.restart()
        tester.close_input()
        table = {}
        for record in tester.read():
            if emit == "final":
                table[record.key, record.value["window_start"], record.value["window_end"]] = record.value
            elif record.value is None:
                del table[record.key]
            else:
                table[record.key] = record.value
        assert not tester.late()
    found = sorted((tuple(plain(row).values()) for row in table.values()), key=str)
    assert found == sorted(answer(records, gap).rows(), key=str)


def batches(count: Any, sizes: Any) -> Any:
    """Cut so many records into batches of these sizes, over and over: where each begins, and its size."""
    at, turn = 0, 0
    while at < count:
        yield at, sizes[turn % len(sizes)]
        at, turn = at + sizes[turn % len(sizes)], turn + 1
