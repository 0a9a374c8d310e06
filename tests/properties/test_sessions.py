"""Sessions: the two laws, agreement with a model record by record, and with what polars makes of the whole input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from datetime import timedelta

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

import streamlab as sl
from tests.properties.harness import _interrupt, examples, started, uninterrupted
from tests.properties.oracle_sessions import Reader, Sessions, Window
from tests.properties.records import messages, volleys
from tests.properties.strategies import aggregated, circumstances, forked, sources, stepped
from tests.properties.oracle import LateRows


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

    @examples(60)
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
test_windows_over_sessions_and_sessions_over_windows = law("sessions, sessions", "sessions, tumbling", "tumbling, sessions")
test_windows_over_sessions_of_one_task_a_partition = law(
    "sessions, sessions", "sessions, tumbling", "tumbling, sessions", keyed=True
)
