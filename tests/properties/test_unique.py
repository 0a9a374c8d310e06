"""De-duplication: the batch law, against a record-by-record model; who passes, worked out in rounds and in jumps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, note
from hypothesis import strategies as st

from streamlab.engine.operators.deduplicate import by_rounds, in_order
from tests.properties.harness import examples, play
from tests.properties.records import messages, volleys
from tests.properties.strategies import Plan, aggregated, sources, stepped
from tests.properties.stream_joins import dense, settings_of, uniques


@st.composite
def plans(draw: Any, *, keyed: Any = False, windows: Any = False) -> Any:
    """Draw a de-duplication, or windows over one."""
    plan = draw(settings_of())
    branch = draw(uniques(plan, draw(stepped(draw(sources(plan, keyed=keyed)), 2))))
    if windows:
        branch = draw(aggregated(branch, plan, final=draw(st.booleans()), name="second"))
    return replace(plan, branches=(branch,))


def law(**how: Any) -> Any:
    """Check the law for such plans."""

    @examples(40)
    @given(plan=plans(**how), fired=volleys | dense)
    def check(plan: Any, fired: Any) -> None:
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        play(plan, fired, sent)

    return check


test_the_first_to_arrive_passes = law()
test_of_one_task_a_partition = law(keyed=True)
test_windows_over_what_passed = law(windows=True)
test_windows_over_what_passed_of_one_task_a_partition = law(windows=True, keyed=True)


@st.composite
def edges(draw: Any) -> Any:
    """Draw a plain de-duplication of one partition, whose watermark is never far behind."""
    plan = Plan((), 1, live=False)
    return replace(plan, branches=(draw(uniques(plan, draw(sources(plan, keyed=True, never_idle=True)))),))


@examples(50)
@given(plan=edges(), fired=dense)
def test_rows_at_the_edge_of_being_late(plan: Any, fired: Any) -> None:
    sent = messages(plan, fired)
    for message, shot in zip(sent, fired, strict=True):
        note(f"{message} then {shot.then}")
    play(plan, fired, sent)


def one_by_one(time: Any, mark: Any, within: Any) -> Any:
    """Return who passes of one group, in order of arrival."""
    kept: list[Any] = []
    found = []
    for at, seen in zip(time, mark, strict=True):
        found.append(not any(abs(at - one) <= within and one + within >= seen for one in kept))
        kept += [at] if found[-1] else []
    return found


groups = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=25), min_size=1, max_size=4)


@examples(300)
@given(groups=groups, within=st.integers(0, 12))
def test_rounds_decide_as_one_by_one_would(groups: Any, within: Any) -> None:
    group = np.repeat(np.arange(len(groups)), [len(part) for part in groups])
    marks = [np.maximum.accumulate(part).tolist() for part in groups]
    flat, mark = (np.array([one for part in parts for one in part]) for parts in (groups, marks))
    wanted = [one for part, seen in zip(groups, marks, strict=True) for one in one_by_one(part, seen, within)]
    assert by_rounds(group, flat, mark, within).tolist() == wanted


@examples(300)
@given(groups=groups, within=st.integers(0, 12))
def test_jumps_decide_as_one_by_one_would(groups: Any, within: Any) -> None:
    groups = [sorted(part) for part in groups]
    group = np.repeat(np.arange(len(groups)), [len(part) for part in groups])
    flat = np.array([one for part in groups for one in part])
    wanted = [one for part in groups for one in one_by_one(part, part, within)]
    assert in_order(group, flat, within).tolist() == wanted
