"""Random joins of two streams and random de-duplication, each written for streamlab and for the model at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

import streamlab as sl
from tests.properties import oracle_stream_joins as oracle
from tests.properties.oracle import Source
from tests.properties.records import Shot, values
from tests.properties.strategies import IDLE, KINDS, SCHEMA, Branch, Plan, circumstances, stepped

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

dense = st.lists(
    st.builds(
        Shot,
        step=st.sampled_from([0, 1, 1, 2]),
        back=st.integers(0, 14),
        other_topic=st.booleans(),
        partition=st.integers(0, 1),
        fate=st.just("good"),
        values=values.map(
            lambda row: {**row, "k": "a" if row["k"] in {"b", "c"} else row["k"], "j": 0, "absent": False}
        ),
        then=st.sampled_from(["join"] * 6 + ["cut"] * 3 + ["restart", "crash"]),
    ),
    min_size=12,
    max_size=30,
)
"""Records of few keys, close together and far out of order: much matches, and much is at the edge of being late."""

PAIRS = [[("k", "k")], [("k", "k"), ("j", "j")], [("k", "s")], [("j", "x"), ("k", "k")]]


@st.composite
def settings_of(draw: DrawFn) -> Plan:
    """Draw the circumstances of a plan: often of one partition, whose watermark is never far behind."""
    plan = draw(circumstances())
    return replace(plan, partitions=draw(st.sampled_from([1, plan.partitions])))


def stream(topic: str, plan: Plan, *, keyed: bool, idle: int | None, event_time: str | None) -> Branch:
    """Return a topic as a branch."""
    frame = sl.Kafka("localhost:9092").stream(
        topic,
        schema=SCHEMA,
        event_time=event_time,
        key="k" if keyed else None,
        idle_timeout=None if idle is None else timedelta(milliseconds=idle),
    )
    node = Source(topic, plan.partitions, event_time=event_time, idle_timeout=idle)
    return Branch(frame, node, KINDS, (node,), keyed)


@st.composite
def both_sides(
    draw: DrawFn, plan: Plan, *, keyed: bool, never_idle: bool = False, itself: bool = False, plain: bool = False
) -> tuple[Branch, Branch]:
    """Draw the two sides of a join: two topics, or one twice."""
    idle = IDLE if not never_idle and draw(st.booleans()) else None
    event_time = draw(st.sampled_from([None, "ts"]))
    one, two = (
        stream(topic, plan, keyed=keyed, idle=idle, event_time=event_time)
        for topic in ("one", "one" if itself else "two")
    )
    if plain:
        return one, (one if itself else two)
    restamps = not never_idle
    left = draw(stepped(one, 1, restamps=restamps))
    right = draw(stepped(one if itself else two, 1, restamps=restamps))
    return left, (draw(st.sampled_from([left, right])) if itself else right)


def joined(
    left: Branch, right: Branch, frame: Any, node: oracle.Join, pairs: Any, on: str | None, laned: Any
) -> Branch:
    """Return a join as a branch."""
    dropped = [*(other for _, other in pairs), *([on] if on else [])]
    node.called(list(left.kinds), list(right.kinds), dropped)
    kinds = dict(left.kinds) | {called: right.kinds[name] for name, called in node.columns[1].items()}
    sources = tuple(dict.fromkeys((*left.sources, *right.sources)))
    return Branch(frame, node, kinds, sources, laned, laned, joined=True, crosses=False)


def _fitting(left: Branch, right: Branch, pairs: Any) -> bool:
    return all(left.kinds[one] == right.kinds[other] for one, other in pairs)


@st.composite
def interval_joins(draw: DrawFn, plan: Plan, left: Branch, right: Branch, hows: tuple[str, ...]) -> Branch:
    """Draw an interval join of two branches."""
    keyed = left.keyed and right.keyed
    pairs = draw(st.sampled_from([pairs for pairs in PAIRS[: 2 if keyed else 4] if _fitting(left, right, pairs)]))
    before, after = (draw(st.sampled_from([0, 0, 1, 4, 10])) * plan.unit for _ in range(2))
    grace, how = draw(st.sampled_from([0, 0, 2, 15])) * plan.unit, draw(st.sampled_from(hows))
    frame = left.frame.join_interval(
        right.frame,
        left_on=[one for one, _ in pairs],
        right_on=[other for _, other in pairs],
        before=timedelta(milliseconds=before),
        after=timedelta(milliseconds=after),
        grace=timedelta(milliseconds=grace),
        how=how,
    )
    node = oracle.IntervalJoin(
        left.node,
        right.node,
        pairs,
        plan.partitions if keyed else None,
        before=before,
        after=after,
        grace=grace,
        how=how,
    )
    return joined(left, right, frame, node, pairs, None, keyed)


@st.composite
def asof_joins(draw: DrawFn, plan: Plan, left: Branch, right: Branch, grace: int | None = None) -> Branch:
    """Draw an as-of join of two branches."""
    keyed = left.keyed and right.keyed
    pairs = draw(st.sampled_from([pairs for pairs in PAIRS[: 2 if keyed else 4] if _fitting(left, right, pairs)]))
    tolerance = draw(st.sampled_from([1, 4, 10, 40])) * plan.unit
    grace = draw(st.sampled_from([0, 0, 2, 15])) * plan.unit if grace is None else grace
    frame = left.frame.join_asof(
        right.frame,
        by_left=[one for one, _ in pairs],
        by_right=[other for _, other in pairs],
        tolerance=timedelta(milliseconds=tolerance),
        grace=timedelta(milliseconds=grace),
    )
    lanes = plan.partitions if keyed else None
    node = oracle.AsofJoin(left.node, right.node, pairs, lanes, tolerance=tolerance, grace=grace, on=None)
    return joined(left, right, frame, node, pairs, None, keyed)


@st.composite
def uniques(draw: DrawFn, plan: Plan, branch: Branch) -> Branch:
    """Draw a de-duplication after a branch."""
    by = draw(st.sampled_from([("k",), ("k", "j"), ("k", "x"), ("j",), ("f",)][: 3 if branch.keyed else 5]))
    within = draw(st.sampled_from([0, 1, 3, 10, 40, None]))
    within = None if within is None else within * plan.unit
    near = None if within is None else timedelta(milliseconds=within)
    frame = branch.frame.unique(*by, within=near)
    node = oracle.Unique(branch.node, by, within, plan.partitions if branch.keyed else None)
    return replace(branch, frame=frame, node=node, laned=branch.keyed)


__all__ = ["asof_joins", "both_sides", "dense", "interval_joins", "joined", "settings_of", "stream", "uniques"]
