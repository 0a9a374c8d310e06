"""The batch law: final rows, late rows, dead letters and state are the same for every way of cutting the input into batches."""

from __future__ import annotations

from hypothesis import given, note

from tests.properties.harness import examples, play
from tests.properties.strategies import messages, plans, volleys


def law(*kinds):
    """Check the law for plans that end in one of these."""

    @examples(300)
    @given(plan=plans(kinds), fired=volleys)
    def check(plan, fired):
        sent = messages(plan, fired)
        for message, shot in zip(sent, fired, strict=True):
            note(f"{message} then {shot.then}")
        play(plan, fired, sent)

    return check


test_rows_of_row_by_row_steps = law("rows")
test_final_results = law("final")
test_updates_of_windows = law("updates")
test_tables_that_are_updated_for_ever = law("table")
test_late_rows = law("late")
test_windows_over_windows = law("final-final", "final-updates", "final-table")
