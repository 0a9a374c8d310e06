"""A plan driven through the engine and the model side by side, and compared after every batch."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings

import streamlab as sl
from streamlab.connect.source import Fetched
from streamlab.testing import EPOCH, StreamTester
from tests.properties.model import Model
from tests.properties.oracle import Aggregate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.testing import Record
    from tests.properties.oracle import Item, Late, Message, Row
    from tests.properties.records import Shot
    from tests.properties.strategies import Plan

DEEP = {"deep": 20}.get(os.environ.get("STREAMLAB_PROPERTIES", ""), 1)


def examples(count: int) -> settings:
    """Return hypothesis' settings for so many examples; STREAMLAB_PROPERTIES=deep tries twenty times as many."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=count * DEEP, deadline=None, suppress_health_check=slow, print_blob=True)


ROUNDED = ("sum_", "mean_", "var_", "std_", "median_")
"""Columns that may differ in the last digits: those of sums, and of what is made of sums."""


class Tester(StreamTester):
    """The testing kit, with batches of several topics and with crashes, as a real feed has them."""

    def send_mixed(self, messages: Sequence[Message]) -> None:
        """Send records of several topics as one micro-batch."""
        parts = []
        for topic in dict.fromkeys(message.topic for message in messages):
            places = [place for place, message in enumerate(messages) if message.topic == topic]
            given = [_arguments(messages[place]) for place in places]
            fetched = self._fetched(topic, given)
            (records,) = fetched.records
            records.index[:] = places
            parts.append(fetched)
        records_of = tuple(records for part in parts for records in part.records)
        positions = {topic: dict(at) for part in parts for topic, at in part.positions.items()}
        self._deliver(Fetched(records_of, positions, positions, self._now, count=len(messages)))

    def crash(self, sent: dict[str, dict[int, int]], now: int, counters: Any) -> None:
        """Stop as a killed process does, and go on from the last checkpoint."""
        self._store.close()
        self._sent, self._now = sent, now
        self._open()
        self._task.counters = counters


def _arguments(message: Message) -> dict[str, Any]:
    return {"value": message.payload, "timestamp": message.timestamp, "partition": message.partition}


@dataclass
class _Checkpoint:
    model: Model
    sent: dict[str, dict[int, int]]
    now: int
    counters: Any


@dataclass
class Side:
    """The engine beside the model."""

    plan: Plan
    tester: Tester
    model: Model
    tables: dict[Any, Row] = field(default_factory=dict)
    done: list[Message | int] = field(default_factory=list)  # since the checkpoint: records, and movements of the clock

    def __post_init__(self) -> None:
        """Remember where everything begins."""
        self.checkpoint = self._checkpoint()

    def _checkpoint(self) -> _Checkpoint:
        counters = copy.deepcopy(self.tester._task.counters)
        sent = copy.deepcopy(self.tester._sent)
        return _Checkpoint(self.model.copy(), sent, self.tester._now, counters)

    def batch(self, messages: list[Message], *, counts_only: bool = False) -> None:
        """Send one micro-batch to both."""
        self.done += messages
        for message in messages:
            self.model.send(message)
        self.tester.send_mixed(messages)
        self.compare(counts_only=counts_only)

    def advance(self, milliseconds: int, *, counts_only: bool = False) -> None:
        """Move the clock of both."""
        self.done.append(milliseconds)
        self.model.advance(milliseconds)
        self.tester.advance(timedelta(milliseconds=milliseconds))
        self.compare(counts_only=counts_only)

    def restart(self) -> None:
        """Stop the engine with a checkpoint and start it again; the model knows nothing of this."""
        self.tester.restart()
        self.done.clear()
        self.checkpoint = self._checkpoint()

    def crash(self) -> None:
        """Let the engine lose all since its last checkpoint, and do that again, cut otherwise."""
        kept, done = self.checkpoint, self.done
        self.model, self.done = kept.model.copy(), []
        self.tester.crash(copy.deepcopy(kept.sent), kept.now, copy.deepcopy(kept.counters))
        for is_clock, things in groupby(done, lambda thing: isinstance(thing, int)):
            if is_clock:
                for milliseconds in things:
                    self.advance(milliseconds)  # type: ignore[arg-type]  # groupby says so
            else:
                self.batch(list(things))  # type: ignore[arg-type]  # groupby says so

    def close(self) -> None:
        """End the input of both: what was still held comes out."""
        self.model.close()
        self.tester.close_input()
        self.compare()

    def compare(self, *, counts_only: bool = False) -> None:
        """Hold what the engine made against what the model made since the last time."""
        results, late, dead = self.model.taken()
        if not counts_only:
            self._compare_results(results, self.tester.read())
            _compare_late(late, self.tester.late())
        letters = self.tester.dead_letters()
        assert sorted(zip(letters["topic"], letters["partition"], letters["offset"], strict=True)) == sorted(dead)
        counted = self.tester.metrics()
        expected = self.model.counts
        for name in ("records", "skipped", "dead_letters", "late_rows", "late", "processed"):
            assert (name, getattr(counted, name)) == (name, getattr(expected, name))

    def _compare_results(self, expected: list[list[Item]], found: list[Record]) -> None:
        if len(expected) == 1 and self.plan.branches[0].frame.node.is_table:
            self._compare_updates(expected[0], found)
            return
        wanted = [(item.row, item.time, item.partition) for items in expected for item in items]
        rows = [(plain(record.value), record.timestamp, record.key) for record in found]
        if len(self.plan.branches) == 1 and self.plan.branches[0].laned:  # each partition is a task of its own
            wanted.sort(key=lambda item: self.plan.home(item[0]["k"]))
            rows.sort(key=lambda item: self.plan.home(item[0]["k"]))
        for (row, time, _), (value, timestamp, _) in zip(wanted, rows, strict=True):
            check_row(row, value)
            assert timestamp == time, (row, timestamp, time)
        if len(expected) == 1:
            self._check_keys(rows)

    def _check_keys(self, rows: list[tuple[Row, int, Any]]) -> None:
        node = self.plan.branches[0].node
        for value, _, key in rows:
            if isinstance(node, Aggregate):
                named = tuple(value[name] for name in node.by)
                assert key == (named[0] if len(named) == 1 else named or None), (key, value)

    def _compare_updates(self, expected: list[Item], found: list[Record]) -> None:
        node = self.plan.branches[0].node
        assert isinstance(node, Aggregate)
        keys = (*node.by, *(("window_start", "window_end") if node.window else ()))
        wanted = {tuple(item.row[name] for name in keys): item for item in expected}
        seen = {}
        for record in found:
            value = plain(record.value)
            named = tuple(value[name] for name in keys)
            told = record.key if len(keys) > 1 else (record.key,) if keys else ()
            assert tuple(map(_milliseconds, told)) == named
            seen[named] = (value, record.timestamp)
        assert set(seen) == set(wanted), (found, expected)
        assert len(found) <= len(expected)
        for named, item in wanted.items():
            value, timestamp = seen[named]
            check_row(item.row, value)
            assert timestamp == item.time, (item, timestamp)
            self.tables[named] = item.row


def plain(value: Row | None) -> Row:
    """Return a result with times in milliseconds."""
    assert value is not None, "nothing was deleted"
    return {name: _milliseconds(part) for name, part in value.items()}


def _milliseconds(value: Any) -> Any:
    return (
        (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        if isinstance(value, datetime)
        else value
    )


def check_row(expected: Row, found: Row) -> None:
    """Compare two rows: bit for bit, but sums and what is made of them to nine digits."""
    assert list(found) == list(expected), (expected, found)
    for name, value in expected.items():
        assert _same(name, value, found[name]), (name, expected, found)


def _same(name: str, expected: Any, found: Any) -> bool:
    if expected is None or found is None:
        return expected is found
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(found, float) and math.isnan(found)
    if name.startswith(ROUNDED) or any(part in name for part in ROUNDED):
        return math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9)
    return bool(expected == found)


def _compare_late(expected: list[Late], found: list[Record]) -> None:
    rows = [(plain(record.value), record.timestamp) for record in found]
    for late, (value, timestamp) in zip(expected, rows, strict=True):
        check_row(late.row, value)
        assert timestamp == late.time


def started(plan: Plan) -> Side:
    """Start engine and model on a plan."""
    frames = [branch.frame for branch in plan.branches]
    what = (
        frames[0] if len(frames) == 1 else sl.Pipeline([f.sink_frame(print, name=str(n)) for n, f in enumerate(frames)])
    )
    model = Model([branch.node for branch in plan.branches], EPOCH, skips_bad=plan.skips_bad).copy()
    return Side(plan, Tester(what, partitions=plan.partitions), model)


def play(plan: Plan, shots: list[Shot], messages: list[Message]) -> None:
    """Run a plan over records, cut and interrupted as the shots say, and compare all the way."""
    side = started(plan)
    with side.tester:
        batch: list[Message] = []
        for shot, message in zip(shots, messages, strict=True):
            batch.append(message)
            if shot.then == "join":
                continue
            side.batch(batch)
            batch = []
            _interrupt(side, shot.then)
        if batch:
            side.batch(batch)
        side.close()


def _interrupt(side: Side, then: str) -> None:
    if then == "restart":
        side.restart()
    elif then == "crash":
        side.crash()
    elif then.isdigit():
        side.advance(int(then))


def uninterrupted(shots: list[Shot]) -> list[Shot]:
    """Return shots in batches of one, with nothing in between but the clock."""
    return [replace(shot, then=shot.then if shot.then.isdigit() else "cut") for shot in shots]
