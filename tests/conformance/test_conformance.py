"""Facts from other engines' tests: the same inputs must give the same results.

`CONFORMANCE_CASES` names another file of cases than the project's own. What a case asks for and streamlab does not have fails, by name.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.adapter import differing, run
from tests.conformance.cases import Case, NotExpressibleError, NotThereError, load
from tests.conformance.plans import OPERATIONS, aggregation

OWN = Path(__file__).with_name("cases.jsonl")
CASES = load(Path(os.environ.get("CONFORMANCE_CASES") or OWN))
UNSAID = {
    "ks-sess-concat0-final",
    "ks-sess-concat0-updates",
    "ks-tagg-regroup",
    "ks-tagg-versioned",
}
"""Of the project's own cases those that no polars expression says: texts that tell how sessions were merged, or what was taken out."""
ORDERS = 20
"""How many orders of its inputs a case is tried in that holds for any."""


def text_of_window(result: Any) -> Any:
    start, end = result["window"]
    return f"[{result['key']}@{start}/{end}]", result.get("ts", 0)


SORTS: dict[str, Any] = {
    "exact": lambda results: results,
    "set": lambda results: sorted(results, key=lambda result: json.dumps(result, sort_keys=True)),
    "stable_sorted_by_key_window_start": lambda results: sorted(results, key=lambda r: (r["key"], r["window"][0])),
    "sorted_by_window_text_then_ts": lambda results: sorted(results, key=text_of_window),
}


def in_order(results: Any, how: Any) -> Any:
    if how not in SORTS:
        raise NotThereError(f"compare {how!r} is not there; there are {sorted(SORTS)}")
    return SORTS[how](results)


def orders(case: Any) -> Any:
    """Yield the case, and with other orders of its inputs where it holds for any."""
    yield case
    if case.params.get("permute_inputs_before_last"):
        *first, last = case.inputs
        for seed in range(ORDERS):
            yield replace(case, inputs=[*random.Random(seed).sample(first, len(first)), last])  # noqa: S311  # not for secrets


def agrees(case: Any) -> None:
    outcome = run(case)
    assert in_order(outcome.results, case.compare) == in_order(case.expected, case.compare), case.note
    if case.expected_dropped is not None:
        assert outcome.dropped == case.expected_dropped
    for inputs, outputs in case.checkpoints:
        assert outcome.so_far[inputs - 1] == outputs, f"results after {inputs} inputs"


def is_said(case: Any) -> bool:
    try:
        aggregation(case)
    except NotExpressibleError:
        return False
    except (NotThereError, KeyError):  # the test of the case says so
        return True
    return True


SAID = [case for case in CASES if is_said(case)]


@pytest.mark.parametrize("case", SAID, ids=[case.name for case in SAID])
def test_conformance(case: Any) -> None:
    changed, _ = differing(case)
    try:
        for each in orders(changed):
            agrees(each)
    except NotThereError as error:
        pytest.fail(f"{case.name}: {error}")


def test_what_no_polars_expression_says_is_four_cases() -> None:
    assert {case.id for case in load(OWN) if not is_said(case)} == UNSAID


def test_few_cases_differ_and_each_for_a_sentence_of_the_semantics() -> None:
    rests = Counter(sentence for case in load(OWN) if case.mode != "final" for sentence in differing(case)[1])
    assert rests == {
        "A null in a grouping column is a group of its own, as in polars. (Kafka Streams drops it.)": 2,
        "One whose bounds stay is just updated (Kafka Streams retracts it too).": 1,
        "A row stays joinable until `t + before + after + grace < W` ...; a record older than that on arrival is late.": 1,
    }


def test_the_projects_own_file_has_cases_of_every_operation_there_is_and_no_other() -> None:
    own = load(OWN)
    assert {case.op for case in own} == set(OPERATIONS)
    assert len({case.id for case in own}) == len(own)


def test_an_operation_that_is_not_there_is_named() -> None:
    with pytest.raises(NotThereError, match="op 'telepathy' is not there"):
        run(Case("x", "telepathy", {}, [], "final", "exact", []))
