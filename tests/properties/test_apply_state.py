"""Custom state obeys the batch law, whatever the cut, with restarts and crashes, on its own and before windows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given, note
from hypothesis import strategies as st

from tests.properties.harness import examples, play, uninterrupted
from tests.properties.oracle_apply_state import ApplyState
from tests.properties.records import messages, volleys
from tests.properties.strategies import Branch, aggregated, circumstances, sources, stepped

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from tests.properties.oracle import Row
    from tests.properties.strategies import Plan

SCHEMA = {"k": pl.String, "j": pl.Int64, "total": pl.Int64, "n": pl.Int64}


def one(row: Row, state: Any) -> tuple[Row, Any]:
    """Add up x, and begin anew when it is more than 6."""
    total, n = state["total"] + (row["x"] or 0), state["n"] + 1
    return {"k": row["k"], "j": row["j"], "total": total, "n": n}, None if total > 6 else {"total": total, "n": n}


def several(rows: pl.DataFrame, state: Any) -> tuple[pl.DataFrame, Any]:
    """Do the same with all rows that came of a key."""
    begin, made = {"total": 0, "n": 0}, []
    for row in rows.rows(named=True):
        found, state = one(row, state)
        state = begin if state is None else state
        made.append(found)
    return pl.DataFrame(made, schema=SCHEMA), None if state == begin else state


def held(rows: pl.DataFrame, state: Any) -> tuple[pl.DataFrame, Any]:
    """Do the same with a frame as state."""
    made, after = several(rows, {"total": 0, "n": 0} if state is None else state.row(0, named=True))
    return made, None if after is None else pl.DataFrame([after])


@st.composite
def plans(draw: DrawFn, *, keyed: bool, after: str | None = None) -> Plan:
    plan = draw(circumstances())
    branch = draw(stepped(draw(sources(plan, keyed=keyed)), 2))
    by = ("k",) if keyed else tuple(draw(st.lists(st.sampled_from(["k", "j"]), unique=True)))
    begin = {"total": 0, "n": 0}
    groups = branch.frame.group_by(*by)
    if draw(st.booleans()):
        frame = groups.apply_state(several, schema=SCHEMA, state=begin, name="own")
    else:
        frame = groups.apply_state(held, schema=SCHEMA, name="own")
    node = ApplyState(branch.node, by, one, begin, partitions=plan.partitions if keyed else None)
    kinds = {"k": "text", "j": "int", "total": "int", "n": "int"}
    made = Branch(frame, node, kinds, branch.sources, keyed=False, joined=True, crosses=keyed)
    if after == "filter":
        made = made.each(made.frame.filter(pl.col("total") > 3), lambda row: [row] if row["total"] > 3 else [])
    elif after is not None:
        made = draw(aggregated(made, plan, final=after == "final", ordered=not keyed, name="second"))
        made = replace(made, crosses=keyed)
    return replace(plan, branches=(made,))


def law(*, keyed: Any, after: Any = None) -> Any:
    @examples(40)
    @given(plan=plans(keyed=keyed, after=after), fired=volleys)
    def check(plan: Any, fired: Any) -> None:
        if plan.branches[0].crosses and after in {"final", "updates"}:  # idleness is outside the law there
            fired = uninterrupted(fired)
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        play(plan, fired, sent)

    return check


test_one_task_over_all_partitions = law(keyed=False)
test_one_task_a_partition = law(keyed=True)
test_before_a_filter = law(keyed=False, after="filter")
test_before_windows = law(keyed=False, after="final")
test_before_windows_with_updates = law(keyed=False, after="updates")
test_one_task_a_partition_before_windows_over_all = law(keyed=True, after="final")
