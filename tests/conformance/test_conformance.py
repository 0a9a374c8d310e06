"""Facts from other engines' tests: the same inputs must give the same results.

`CONFORMANCE_CASES` names another file of cases than the project's own. What a case asks for and streamlab does not have fails, by name.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.adapter import OPERATIONS, Case, NotThereError, load, run, wanted

CASES = load(Path(os.environ.get("CONFORMANCE_CASES") or Path(__file__).with_name("cases.jsonl")))


def in_order(results: Any, how: Any) -> Any:
    if how == "exact":
        return results
    if how == "set":
        return sorted(results, key=lambda result: json.dumps(result, sort_keys=True))
    raise NotThereError(f"compare {how!r} is not there; there are ['exact', 'set']")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_conformance(case: Any) -> None:
    try:
        outcome = run(case)
        found, expected = in_order(outcome.results, case.compare), in_order(wanted(case), case.compare)
    except NotThereError as error:
        pytest.fail(f"{case.name}: {error}")
    assert found == expected, case.note
    if case.expected_dropped is not None:
        assert outcome.dropped == case.expected_dropped
    for inputs, outputs in case.checkpoints:
        assert outcome.so_far[inputs - 1] == outputs, f"results after {inputs} inputs"


def test_the_projects_own_file_has_cases_of_every_operation_there_is_and_no_other() -> None:
    own = load(Path(__file__).with_name("cases.jsonl"))
    assert {case.op for case in own} == set(OPERATIONS)
    assert len({case.id for case in own}) == len(own)


def test_an_operation_that_is_not_there_is_named() -> None:
    with pytest.raises(NotThereError, match="op 'telepathy' is not there"):
        run(Case("x", "telepathy", {}, [], "final", "exact", []))
