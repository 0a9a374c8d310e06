"""Approximate aggregations obey the batch law, in windows and for ever; of few values they are exact, quantiles but for their error."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

import streamlab as sl
from streamlab.testing import StreamTester
from tests.properties.aggregations import distinct, is_nan, known
from tests.properties.harness import examples, play
from tests.properties.oracle import Aggregate, Aggregation
from tests.properties.records import messages, volleys
from tests.properties.strategies import Branch, circumstances, sources, stepped, windows, written_window

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from tests.properties.strategies import Plan


def quantile(share: float, error: float, values: list[Any]) -> float | None:
    """Return the middle of the bucket of the value at a place, as Masson, Rim and Lee have it."""
    found = sorted(known(values), key=lambda value: (is_nan(value), value))
    if not found:
        return None
    value, growth = float(found[math.floor(share * (len(found) - 1))]), (1 + error) / (1 - error)
    if value == 0 or is_nan(value):
        return value
    return math.copysign(2 * growth ** math.ceil(math.log(abs(value)) / math.log(growth)) / (growth + 1), value)


def most_frequent(k: int, values: list[Any]) -> list[Any]:
    counts = Counter("NaN" if is_nan(value) else value for value in values)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0] is not None, item[0]))
    return [{"value": value, "count": count} for value, count in ordered[:k]]


KINDS = {
    "approx_n_unique": (sl.approx_n_unique, distinct, ("k", "j", "x", "f", "s", "xs")),
    "median": (lambda c: sl.approx_quantile(c, 0.5, 0.03), lambda v: quantile(0.5, 0.03, v), ("j", "x", "f")),
    "median_high": (lambda c: sl.approx_quantile(c, 0.9, 0.1), lambda v: quantile(0.9, 0.1, v), ("x", "f")),
    "top": (lambda column: sl.top_k(column, 2), lambda v: most_frequent(2, v), ("k", "j", "x", "s")),
}


@st.composite
def approximated(draw: DrawFn, *, keyed: bool = False) -> Plan:
    plan = draw(circumstances())
    branch = draw(stepped(draw(sources(plan, keyed=keyed)), 1))
    by = ("k",) if keyed else tuple(draw(st.lists(st.sampled_from(["k", "j"]), unique=True)))
    candidates = [
        (name, column)
        for name, (_, _, columns) in KINDS.items()
        for column in columns
        if column not in by and branch.kinds[column] in {"text", "int", "float"}
    ]
    chosen = draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=3, unique=True))
    exprs = [KINDS[name][0](column).alias(f"{name}_{column}") for name, column in chosen]
    if draw(st.integers(0, 4)) == 0:  # beside one that keeps rows
        exprs.append(pl.col("ts").n_unique().alias("exact"))
    final, window = draw(st.booleans()), draw(st.none() | windows(plan.unit))
    final = final and window is not None
    groups = branch.frame.group_by(*by)
    if window is None:
        frame = groups.agg(*exprs)
    else:
        frame = groups.window(written_window(window), emit="final" if final else "updates").agg(*exprs)
    functions = [Aggregation(f"{name}_{column}", column, KINDS[name][1]) for name, column in chosen]
    if len(exprs) > len(chosen):
        functions.append(Aggregation("exact", "ts", distinct))
    node = Aggregate(
        branch.node, by, functions, window=window, final=final, partitions=plan.partitions if keyed else None
    )
    return replace(plan, branches=(Branch(frame, node, {}, branch.sources, keyed, keyed),))


def law(*, keyed: Any) -> Any:
    @examples(40)
    @given(plan=approximated(keyed=keyed), fired=volleys)
    def check(plan: Any, fired: Any) -> None:
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        play(plan, fired, sent)

    return check


test_one_task_over_all_partitions = law(keyed=False)
test_one_task_a_partition = law(keyed=True)


records = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from([0, 0, 1, 4, 12]),
        st.sampled_from([None, 1, -2, 300]),
        st.sampled_from([0, 0, 0, 1, 2]),
    ),
    min_size=1,
    max_size=40,
)


@examples(40)
@given(
    sent=records,
    window=st.sampled_from([sl.session("5ms", grace="9ms"), sl.sliding("7ms", grace="5ms")]),
    emit=st.sampled_from(["final", "updates"]),
)
def test_sessions_and_sliding_windows_give_the_same_for_every_cut(sent: Any, window: Any, emit: Any) -> None:
    stream = sl.Kafka("localhost:9092").stream("one", schema={"k": pl.String, "x": pl.Int64}, idle_timeout=None)
    aggs = [sl.approx_n_unique("x").alias("n"), sl.approx_quantile("x", 0.5).alias("q"), sl.top_k("x", 2).alias("top")]
    frame = stream.group_by("k").window(window, emit=emit).agg(*aggs)
    given_out = []
    for whole in (True, False):
        with StreamTester(frame) as t:
            batch: list[Any] = []
            for place, (key, back, x, then) in enumerate(sent):
                time = max(0, 2 * place - back)
                batch.append({"value": {"k": key, "x": x}, "timestamp": time})
                if then and not whole:
                    t.send_batch("one", batch, wrapped=True)
                    batch = []
                    if then > 1:
                        t.restart()
            t.send_batch("one", batch, wrapped=True)
            t.close_input()
            given_out.append(t.read())
    if emit == "final":
        assert given_out[0] == given_out[1]
    else:  # the last of each key counts, and what is there in the end
        one, other = ({record.key: record.value for record in found} for found in given_out)
        assert {k: v for k, v in one.items() if v} == {k: v for k, v in other.items() if v}
