"""The replay law: a backlog read at full speed gives the same final rows as live, whatever the interleaving of partitions.

As long as no record is out of order by more than the grace; and but for first and last, which go by arrival.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from tests.properties.harness import check_row, examples, plain, started
from tests.properties.records import messages, shots
from tests.properties.strategies import Plan, aggregated, sources, stepped, windows


@st.composite
def replayed_plans(draw: Any, *, keyed: Any, twice: Any) -> Any:
    """Draw a plan of windows whose sources are never idle, and the grace of its first windows in steps of event time."""
    plan = Plan((), draw(st.integers(1, 3)), live=False)
    branch = draw(stepped(draw(sources(plan, keyed=keyed, never_idle=True)), 2, restamps=False))
    window = draw(windows(plan.unit))
    made = draw(aggregated(branch, plan, final=True, ordered=keyed, window=window))
    if twice:
        made = draw(aggregated(made, plan, final=True, ordered=keyed, name="second"))
    return replace(plan, branches=(made,)), window.grace


@st.composite
def runs(draw: Any, *, keyed: Any, twice: Any) -> Any:
    """Draw a plan, its records in some order of arrival, and two ways of reading them: order of partitions, sizes of batches."""
    plan, grace = draw(replayed_plans(keyed=keyed, twice=twice))
    fired = draw(st.lists(shots, min_size=1, max_size=40))
    sent = messages(plan, [replace(shot, back=min(shot.back, grace), fate=_timely(shot.fate)) for shot in fired])
    places = sorted({(message.topic, message.partition) for message in sent})
    turns = st.lists(st.sampled_from(places), max_size=40)
    sizes = st.lists(st.integers(1, 10), min_size=1, max_size=8)
    return plan, sent, [(draw(turns), draw(sizes)) for _ in range(2)]


def _timely(fate: Any) -> Any:
    return "good" if fate == "early" else fate  # a record timestamp of -1 is no event time, and no order either


def interleaved(sent: Any, turns: Any) -> Any:
    """Return records in another order of arrival: each partition's own stays; what `turns` leaves out comes at the end."""
    left: dict[Any, list[Any]] = {}
    for message in sent:
        left.setdefault((message.topic, message.partition), []).append(message)
    order = [left[turn].pop(0) for turn in turns if left[turn]]
    return order + [message for rest in left.values() for message in rest]


def batches(order: Any, sizes: Any) -> Any:
    """Cut records into batches of these sizes, over and over."""
    found: list[Any] = []
    while order:
        size = sizes[len(found) % len(sizes)]
        found.append(order[:size])
        order = order[size:]
    return found


def read(plan: Any, order: Any, sizes: Any) -> Any:
    """Return the final rows of a whole run, and what was late."""
    side = started(plan)
    with side.tester as tester:
        for batch in batches(order, sizes):
            tester.send_mixed(batch)
        tester.close_input()
        rows = [(plain(record.value), record.timestamp) for record in tester.read()]
        late = tester.late()
    if plan.branches[0].laned:  # each partition is a task of its own
        rows.sort(key=lambda row: plan.home(row[0]["k"]))
    return rows, late


def law(*, keyed: Any, twice: Any) -> Any:
    """Check the law, with or without a promised key, for one level of windows or two."""

    @examples(40)
    @given(run=runs(keyed=keyed, twice=twice))
    def check(run: Any) -> None:
        plan, sent, (first, second) = run
        orders = [(interleaved(sent, turns), sizes) for turns, sizes in (first, second)]
        for order, sizes in orders:
            note(f"{sizes}: " + "\n".join(map(str, order)))
        (one, late), (other, also_late) = (read(plan, *order) for order in orders)
        assert not late
        assert not also_late
        for (row, time), (value, timestamp) in zip(one, other, strict=True):
            check_row(row, value)
            assert time == timestamp

    return check


test_one_task_over_all_partitions = law(keyed=False, twice=False)
test_one_task_a_partition = law(keyed=True, twice=False)
test_windows_over_windows = law(keyed=False, twice=True)
test_windows_over_windows_of_one_task_a_partition = law(keyed=True, twice=True)
