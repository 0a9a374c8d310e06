"""A case run through the testing kit: record by record, results in the case's own terms.

Where streamlab's rules differ, a case is changed before it is run, in one of the ways of `DIFFERENCES`; each quotes the sentence of the
semantics that it rests on. All the rest of the case must agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from streamlab.testing import StreamTester
from tests.conformance.cases import AGGREGATED, Case
from tests.conformance.plans import IDLE, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.testing import Record


@dataclass(frozen=True)
class Outcome:
    """What became of a case: results in order, how many there were after each input, records or windows dropped."""

    results: list[dict[str, Any]]
    so_far: list[int]
    dropped: int


# --- differences ---


def _null_keys_are_groups(case: Case) -> Case | None:
    """Leave out the records that Kafka Streams drops for their key."""
    if case.op not in AGGREGATED or all(record["key"] is not None for record in case.inputs):
        return None
    return replace(case, inputs=_keyed(case.inputs), expected_dropped=None, checkpoints=[])


def _null_keys_wait(case: Case) -> Case | None:
    """Leave out the rows that Kafka Streams passes on at once, since nothing can match them."""
    outer = case.op == "stream_stream_join" and case.params["join"] != "inner"
    if not outer or all(record["key"] is not None for record in case.inputs):
        return None
    return replace(case, inputs=_keyed(case.inputs), expected=_keyed(case.expected), checkpoints=[])


def _unmoved_sessions_are_updated(case: Case) -> Case | None:
    """Leave out the deletion of a session that comes again with the same bounds."""
    if case.window != "session" or case.mode != "updates":
        return None
    follows = [*case.expected[1:], {}]
    again = [
        result["value"] is None and all(result[name] == after.get(name) for name in ("key", "window"))
        for result, after in zip(case.expected, follows, strict=True)
    ]
    left = [result for result, gone in zip(case.expected, again, strict=True) if not gone]
    return replace(case, expected=left, checkpoints=[]) if any(again) else None


def _old_records_are_late(case: Case) -> Case | None:
    """Leave out the records that come too late for a join, and what Kafka Streams makes of them: it has whole segments still in store."""
    if case.op != "stream_stream_join":
        return None
    reach = sum(case.params.get(name, 0) for name in ("before_ms", "after_ms", "grace_ms"))
    reached = list(accumulate((record["ts"] for record in case.inputs), max))
    late = [record["ts"] + reach < newest for record, newest in zip(case.inputs, reached, strict=True)]
    sides = {(r["key"], r["topic"], str(r["value"])) for r, old in zip(case.inputs, late, strict=True) if old}

    def rests_on_late(result: dict[str, Any]) -> bool:
        parts = zip(("left", "right"), str(result["value"]).split(case.params["sep"]), strict=True)
        return any((result["key"], side, value) in sides for side, value in parts)

    inputs = [record for record, old in zip(case.inputs, late, strict=True) if not old]
    expected = [result for result in case.expected if not (sides and rests_on_late(result))]
    if len(expected) == len(case.expected):
        return None
    return replace(case, inputs=inputs, expected=expected, checkpoints=[])


def _results_end_with_their_window(case: Case) -> Case | None:
    """Leave out the event times of final results: the largest of the window's records there, the end of the window here."""
    if case.mode != "final":
        return None
    return replace(case, expected=[{name: part for name, part in r.items() if name != "ts"} for r in case.expected])


def _keyed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["key"] is not None]


DIFFERENCES: dict[str, Callable[[Case], Case | None]] = {
    "A null in a grouping column is a group of its own, as in polars. (Kafka Streams drops it.)": _null_keys_are_groups,
    "An unmatched left (outer) row is emitted with nulls once `left.t + after + grace < W`.": _null_keys_wait,
    "One whose bounds stay is just updated (Kafka Streams retracts it too).": _unmoved_sessions_are_updated,
    "A row stays joinable until `t + before + after + grace < W` ...; a record older than that on arrival is late.": (
        _old_records_are_late
    ),
    "A final result's event time is the last instant of its window (`window_end` - 1 ms; a session's end).": (
        _results_end_with_their_window
    ),
}
"""What a case is changed by, where it differs; by the sentence of the semantics."""


def differing(case: Case) -> tuple[Case, list[str]]:
    """Return a case as streamlab's rules have it, and the sentences that make the difference."""
    found = []
    for sentence, change in DIFFERENCES.items():
        changed = change(case)
        if changed is not None:
            case, found = changed, [*found, sentence]
    return case, found


# --- a run ---


def run(case: Case) -> Outcome:
    """Feed a case to the testing kit, one record a batch."""
    with StreamTester(plan(case)) as tester:
        found: list[Record] = []
        so_far = []
        for record in case.inputs:
            if _lets_others_go_idle(case, record):
                tester.advance(IDLE)
            tester.send(record["topic"], _payload(record), key=_key(record), timestamp=record["ts"])
            found += tester.read()
            so_far.append(len(found))
        metrics = tester.metrics()
    told_by_case = set().union(*(result for result in case.expected)) or {"key"}
    results = [{n: part for n, part in told(r, case).items() if n in told_by_case} for r in found]
    if case.mode == "state":
        newest = {(str(r["key"]), str(r.get("window"))): r for r in results}
        results = [result for result in newest.values() if result["value"] is not None]
    return Outcome(results, so_far, metrics.late_rows + metrics.skipped)


def _lets_others_go_idle(case: Case, record: dict[str, Any]) -> bool:
    """Whether who is silent is taken out of the minimum: joins go by the newest of both sides there, with a table by the stream's side."""
    joins = case.op == "stream_stream_join" or (case.op == "stream_table_join" and record["topic"] == "stream")
    return joins and record["value"] is not None


def _payload(record: dict[str, Any]) -> dict[str, Any] | None:
    value = record["value"]
    return None if value is None else {"key": record["key"], "value": str(value)}


def _key(record: dict[str, Any]) -> str | None:
    return None if record["key"] is None else str(record["key"])


def told(record: Record, case: Case) -> dict[str, Any]:
    """Return a result as cases write it."""
    columns = record.value or {}
    key, bounds = _identity(record)
    found = {"key": key, "value": None if record.value is None else _value(columns, case)}
    if case.op != "dedup":
        found["ts"] = record.timestamp
    if bounds:
        found["window"] = bounds
        if case.mode == "final":
            closed = bounds[1] - (0 if case.window in {"session", "sliding"} else 1)
            assert record.timestamp == closed, f"event time of {record}"
            del found["ts"]
    return found


def _identity(record: Record) -> tuple[Any, list[int]]:
    """Return the key and the window of a result; of a deletion they are in the record's key."""
    if record.value is not None:
        bounds = [record.value[name] for name in ("window_start", "window_end") if name in record.value]
        return record.value["key"], [*map(instant, bounds)]
    parts = record.key if isinstance(record.key, tuple) else (record.key,)
    return parts[0], [*map(instant, parts[1:])]


def _value(columns: dict[str, Any], case: Case) -> Any:
    if "value_right" not in columns:
        return columns["value"]
    sides = columns["value"], columns["value_right"]
    if case.params.get("joiner") == "sum":
        return sum(int(side) for side in sides)
    return case.params["sep"].join("null" if side is None else side for side in sides)


def instant(value: datetime) -> int:
    """Return a time in milliseconds since 1970."""
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
