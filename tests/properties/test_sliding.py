"""Sliding windows against a model that goes record by record, and against a plain answer over all of the input where nothing is late."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

import streamlab as sl
from streamlab.engine.operators.sliding import operator as sliding
from streamlab.engine.operators.sliding import windows as sliding_windows
from streamlab.testing import StreamTester
from tests.properties.harness import examples, play, uninterrupted
from tests.properties.oracle import LateRows
from tests.properties.oracle_sliding import Sliding, Window
from tests.properties.records import messages, volleys
from tests.properties.strategies import aggregated, circumstances, sources, stepped, written


@st.composite
def slid(draw: Any, branch: Any, plan: Any, *, final: bool, name: str | None = None) -> Any:
    """Put groups, sliding windows and aggregations after a branch."""
    made = draw(aggregated(branch, plan, final=final))
    size = draw(st.sampled_from([1, 2, 4, 10, 25])) * plan.unit
    window = Window(size, draw(st.sampled_from([0, 0, 1, 2, 15])) * plan.unit)
    by, chosen = made.node.by, made.node.aggregations
    exprs = [written(a.name.removesuffix(f"_{a.column}"), a.column) for a in chosen]
    how = sl.sliding(timedelta(milliseconds=size), grace=timedelta(milliseconds=window.grace))
    groups = branch.frame.group_by(*by).window(how, emit="final" if final else "updates", name=name)
    partitions = plan.partitions if made.laned else None
    node = Sliding(branch.node, by, chosen, window=window, final=final, partitions=partitions)
    return replace(made, frame=groups.agg(*exprs), node=node)


@st.composite
def plans(draw: Any, kind: str, *, keyed: bool = False) -> Any:
    """Draw a plan that ends in final results, updates, late rows, or other windows over sliding ones."""
    plan = draw(circumstances())
    branch = draw(stepped(draw(sources(plan, keyed=keyed)), 2))
    made = draw(slid(branch, plan, final=kind != "updates", name="first"))
    if kind == "late":
        made = replace(branch, frame=made.frame.late, node=LateRows(made.node), keyed=False)
    if kind == "sliding over sliding":
        made = draw(slid(made, plan, final=True, name="second"))
    if kind == "tumbling over sliding":
        made = draw(aggregated(made, plan, final=True, name="second"))
    if kind == "sliding over tumbling":
        under = draw(aggregated(branch, plan, final=True, name="under"))
        made = draw(slid(under, plan, final=True, name="second"))
    return replace(plan, branches=(made,))


LIMITS = [(8, 1_000_000), (8, 3), (0, 1_000_000), (0, 3)]
"""From which overlap on blocks are used, and how many pairs are worked out at once: all ways of going about it give the same."""


def law(kind: str, *, keyed: bool = False, count: int = 30) -> Any:
    """Check plans of a kind against the model, cut, stopped and killed anywhere."""

    @examples(count)
    @given(plan=plans(kind, keyed=keyed), fired=volleys, limits=st.sampled_from(LIMITS))
    def check(plan: Any, fired: Any, limits: Any) -> None:
        if plan.branches[
            0
        ].crosses:  # what an idle partition's task emits may be late there, and idleness is outside the law
            fired = uninterrupted(fired)
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        pay, pairs = limits
        with mock.patch.object(sliding, "BLOCKS_PAY", pay), mock.patch.object(sliding_windows, "PAIRS", pairs):
            play(plan, fired, sent)

    return check


test_final_results = law("final", count=50)
test_final_results_of_one_task_a_partition = law("final", keyed=True)
test_updates = law("updates", count=50)
test_updates_of_one_task_a_partition = law("updates", keyed=True)
test_late_rows = law("late")
test_late_rows_of_one_task_a_partition = law("late", keyed=True)
test_sliding_over_sliding_windows = law("sliding over sliding", count=15)
test_tumbling_over_sliding_windows = law("tumbling over sliding", count=15)
test_sliding_over_tumbling_windows = law("sliding over tumbling", count=15)


SIZE, GRACE = 20, 15
KEYS = ["a", "b", None]


def answer(records: pl.DataFrame) -> pl.DataFrame:
    """Return the windows of all records at once: each end and each beginning of a window, joined with the records between its bounds."""
    ends = records.select("k", s=pl.max_horizontal(pl.col("t") - SIZE, 0))
    begins = records.select("k", s=pl.col("t") + 1)
    windows = pl.concat([ends, begins]).unique()
    pairs = windows.join(records, on="k", nulls_equal=True).filter(
        pl.col("t").is_between(pl.col("s"), pl.col("s") + SIZE)
    )
    return pairs.group_by("s", "k").agg(n=pl.len(), x=pl.col("x").sum(), low=pl.col("x").min()).sort("s", "k")


@examples(40)
@given(
    given_records=st.lists(
        st.tuples(st.sampled_from(KEYS), st.integers(0, 90), st.integers(0, 9), st.integers(0, GRACE)),
        min_size=1,
        max_size=40,
    ),
    partitions=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 9), min_size=1),
    emit=st.sampled_from(["final", "updates"]),
)
def test_where_nothing_is_late_the_answer_is_that_over_all_records(
    given_records: Any, partitions: int, cuts: Any, emit: Any
) -> None:
    # out of order by less than the grace: sorted by a time that is so much later
    ordered = sorted(given_records, key=lambda record: record[1] + record[3])
    records = [{"k": k, "t": t, "x": x} for k, t, x, _ in ordered]
    events = sl.Kafka("localhost:9092").stream(
        "events", schema={"k": pl.String, "t": pl.Int64, "x": pl.Int64}, event_time="t"
    )
    grouped = events.group_by("k").window(
        sl.sliding(timedelta(milliseconds=SIZE), grace=timedelta(milliseconds=GRACE)), emit=emit
    )
    found = {}
    with StreamTester(
        grouped.agg(n=pl.len(), x=pl.col("x").sum(), low=pl.col("x").min()), partitions=partitions
    ) as tester:
        places = [{"value": record, "partition": at % partitions} for at, record in enumerate(records)]
        for cut in cuts * len(records):
            tester.send_batch("events", places[:cut], wrapped=True)
            places = places[cut:]
        tester.close_input()
        results = tester.read()
        assert tester.late() == []
    for result in results:
        assert result.value is not None
        row = {**result.value}
        start, end = (int(row.pop(name).timestamp() * 1000 + 0.5) for name in ("window_start", "window_end"))
        assert end - start == SIZE
        found[start, row["k"]] = row
        if emit == "final":
            assert result.timestamp == end
    wanted = answer(pl.DataFrame(records, schema={"k": pl.String, "t": pl.Int64, "x": pl.Int64}))
    assert found == {
        (row["s"], row["k"]): {name: row[name] for name in ("k", "n", "x", "low")} for row in wanted.to_dicts()
    }
    if emit == "final":
        assert len(results) == wanted.height
        assert list(found) == list(zip(wanted["s"], wanted["k"], strict=True))
