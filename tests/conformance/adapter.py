"""A conformance case as a plan of streamlab: inputs record by record, results in the case's own terms.

Expected differences, each with the sentence of the semantics that it rests on:

- Event time of final results: "A final result's event time is the last instant of its window (`window_end` - 1 ms; a session's end)."
  The cases have the largest event time of the window's records, as Kafka Streams does. Updates have that here too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

import streamlab as sl
from streamlab.testing import StreamTester

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamlab.results import Results
    from streamlab.testing import Record


class NotThereError(NotImplementedError):
    """A case asks for something that streamlab does not have."""


@dataclass(frozen=True)
class Case:
    """One line of a file of cases."""

    id: str
    op: str
    params: dict[str, Any]
    inputs: list[dict[str, Any]]
    mode: str
    compare: str
    expected: list[dict[str, Any]]
    expected_dropped: int | None = None
    checkpoints: list[list[int]] = field(default_factory=list)
    source: str = ""
    tier: int = 1
    note: str = ""

    @property
    def name(self) -> str:
        """Operation and id, for the name of a test."""
        return f"{self.op}-{self.id}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: results in order, how many there were after each input, records or windows dropped."""

    results: list[dict[str, Any]]
    so_far: list[int]
    dropped: int


def load(path: Path) -> list[Case]:
    """Return the cases of a file."""
    return [Case(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]


def joined(first: str) -> pl.Expr:
    """Return the values of a group in order of arrival, joined by "+"."""
    return pl.lit(first) + pl.col("value").str.join("+")


AGGREGATIONS: dict[str, Callable[[], pl.Expr]] = {
    "count": pl.len,
    "sum": lambda: pl.col("value").cast(pl.Int64).sum(),
    "concat0": lambda: joined("0+"),
    "concat": lambda: joined("+"),
    "reduce+": lambda: joined(""),
}


def run(case: Case) -> Outcome:
    """Feed a case to the testing kit, one record a batch, with no wall clock."""
    with StreamTester(plan(case)) as tester:
        found: list[Record] = []
        so_far = []
        for record in case.inputs:
            value = None if record["value"] is None else {"key": record["key"], "value": record["value"]}
            tester.send(record["topic"], value, key=record["key"], timestamp=record["ts"])
            found += tester.read()
            so_far.append(len(found))
        metrics = tester.metrics()
    results = [told(record, case) for record in found]
    if case.mode == "state":
        results = list({(r["key"], str(r.get("window"))): r for r in results}.values())
    return Outcome(results, so_far, metrics.late_rows + metrics.skipped)


def plan(case: Case) -> Results:
    """Return the stream or table that a case describes.

    Raises
    ------
    NotThereError
        If streamlab does not have the operation, the window, or the aggregation.
    """
    build = OPERATIONS.get(case.op)
    if build is None:
        raise NotThereError(f"op {case.op!r} is not there; there are {sorted(OPERATIONS)}")
    return build(case)


def aggregated(case: Case) -> Results:
    """Return a grouped aggregation, in windows or for ever."""
    params = case.params
    if params["agg"] not in AGGREGATIONS or "merger" in params:
        raise NotThereError(f"op {case.op!r}: agg {params['agg']!r} is not there; there are {sorted(AGGREGATIONS)}")
    events = sl.Kafka("localhost:9092").stream(
        "input", schema={"key": pl.String, "value": pl.String}, idle_timeout=None
    )
    groups, made = events.group_by("key"), AGGREGATIONS[params["agg"]]().alias("value")
    kind = window_kind(case)
    if kind is None:
        return groups.agg(made)
    if kind != "tumbling":
        raise NotThereError(f"op {case.op!r}: {kind} windows are not there")
    size, grace = (timedelta(milliseconds=params.get(name, 0)) for name in ("size_ms", "grace_ms"))
    return groups.window(sl.tumbling(size, grace=grace), emit="final" if case.mode == "final" else "updates").agg(made)


OPERATIONS: dict[str, Callable[[Case], Results]] = {
    "tumbling": aggregated,
    "reduce": aggregated,
    "suppress": aggregated,
}


def window_kind(case: Case) -> str | None:
    """Return the kind of a case's windows; cases of one kind only need not say it."""
    said = case.params.get("window", "tumbling" if case.op == "tumbling" else None)
    return None if said is None else str(said)


def told(record: Record, case: Case) -> dict[str, Any]:
    """Return a result as cases write it."""
    value = record.value or {}
    found = {"key": value["key"], "value": value["value"], "ts": record.timestamp}
    if "window_start" in value:
        found["window"] = [instant(value[name]) for name in ("window_start", "window_end")]
        if case.mode == "final":
            assert record.timestamp == found["window"][1] - 1, f"event time of {record}"
            del found["ts"]
    return found


def wanted(case: Case) -> list[dict[str, Any]]:
    """Return a case's results but for what is an expected difference."""
    left_out = {"ts"} if case.mode == "final" else set()
    return [{name: value for name, value in result.items() if name not in left_out} for result in case.expected]


def instant(value: datetime) -> int:
    """Return a time in milliseconds since 1970."""
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
