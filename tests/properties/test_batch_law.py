"""The batch law: final rows, late rows, dead letters and state are the same for every way of cutting the input into batches."""

from __future__ import annotations

from typing import Any

from hypothesis import given, note

from tests.properties.harness import examples, play, uninterrupted
from tests.properties.records import messages, volleys
from tests.properties.strategies import plans


def law(*kinds: Any, keyed: Any = False) -> Any:
    """Check the law for plans that end in one of these."""

    @examples(50)
    @given(plan=plans(kinds, keyed=keyed), fired=volleys)
    def check(plan: Any, fired: Any) -> None:
        if plan.branches[
            0
        ].crosses:  # what an idle partition's task emits may be late there, and idleness is outside the law
            fired = uninterrupted(fired)
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        play(plan, fired, sent)

    return check


test_rows_of_row_by_row_steps = law("rows")
test_final_results = law("final")
test_final_results_of_one_task_a_partition = law("final", keyed=True)
test_updates_of_windows = law("updates")
test_updates_of_one_task_a_partition = law("updates", "table", keyed=True)
test_tables_that_are_updated_for_ever = law("table")
test_late_rows = law("late")
test_late_rows_of_one_task_a_partition = law("late", keyed=True)
test_windows_over_windows = law("final-final", "final-updates", "final-table")
test_windows_over_windows_of_one_task_a_partition = law("final-final", "final-updates", "final-table", keyed=True)
