"""Interval joins: the batch law, against a record-by-record model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from tests.properties.harness import examples, play
from tests.properties.records import messages, volleys
from tests.properties.strategies import Plan, aggregated
from tests.properties.stream_joins import both_sides, dense, interval_joins, settings_of


@st.composite
def plans(draw: Any, *, hows: Any, keyed: Any = False, itself: Any = False, windows: Any = False) -> Any:
    """Draw a join, or windows over one."""
    plan = draw(settings_of())
    left, right = draw(both_sides(plan, keyed=keyed, itself=itself))
    branch = draw(interval_joins(plan, left, right, hows))
    if windows:
        branch = draw(aggregated(branch, plan, final=draw(st.booleans()), name="second"))
    return replace(plan, branches=(branch,))


def law(**how: Any) -> Any:
    """Check the law for such joins."""

    @examples(40)
    @given(plan=plans(**how), fired=volleys | dense)
    def check(plan: Any, fired: Any) -> None:
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        play(plan, fired, sent)

    return check


test_inner_joins = law(hows=("inner",))
test_left_joins = law(hows=("left",))
test_outer_joins = law(hows=("outer",))
test_joins_of_one_task_a_partition = law(hows=("inner", "left", "outer"), keyed=True)
test_a_stream_joined_with_itself = law(hows=("inner", "left", "outer"), itself=True)
test_a_keyed_stream_joined_with_itself = law(hows=("inner", "outer"), itself=True, keyed=True)
test_windows_over_joins = law(hows=("inner", "left", "outer"), windows=True)
test_windows_over_joins_of_one_task_a_partition = law(hows=("inner", "left", "outer"), windows=True, keyed=True)


@st.composite
def edges(draw: Any) -> Any:
    """Draw a plain join of one partition, whose watermark is never far behind."""
    plan = Plan((), 1, live=False)
    left, right = draw(both_sides(plan, keyed=True, never_idle=True, plain=True))
    return replace(plan, branches=(draw(interval_joins(plan, left, right, ("inner", "left", "outer"))),))


@examples(50)
@given(plan=edges(), fired=dense)
def test_rows_at_the_edge_of_being_late(plan: Any, fired: Any) -> None:
    sent = messages(plan, fired)
    for message, shot in zip(sent, fired, strict=True):
        note(f"{message} then {shot.then}")
    play(plan, fired, sent)
