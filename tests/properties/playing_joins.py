"""Random records of streams and tables, driven through the testing kit and an oracle side by side."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from streamlab.connect.source import Fetched
from streamlab.testing import EPOCH
from tests.properties.harness import Tester
from tests.properties.oracle import Message, Moment
from tests.properties.oracle_join_table import GONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

    from tests.properties.oracle import Item, Node

IDLE = 10_000


@dataclass(frozen=True)
class Joined:
    """A plan of one sink as a person writes it and as the oracle has it."""

    frame: Any
    node: Node
    topics: tuple[str, ...]
    tables: dict[str, tuple[str, ...]]  # topic -> its key
    partitions: int
    promised: bool
    is_table: bool = False

    def __repr__(self) -> str:
        return f"{self.partitions} partitions, promised={self.promised}\n{self.frame.explain()}"


@dataclass(frozen=True)
class Shot:
    """A record to be, and what happens after it."""

    topic: int
    step: int
    back: int
    partition: int
    k: str | None
    j: int
    x: int
    tombstone: bool
    then: str


AFTER = ["join"] * 12 + ["cut"] * 3 + ["restart", "crash", "1000", "10000"]

shots: SearchStrategy[Shot] = st.builds(
    Shot,
    topic=st.integers(0, 5),
    step=st.sampled_from([0, 1, 1, 2, 3, 7]),
    back=st.sampled_from([0, 0, 0, 1, 2, 3, 5, 9]),
    partition=st.integers(0, 2),
    k=st.sampled_from(["a", "a", "a", "a", "b", None]),
    j=st.sampled_from([0, 0, 1]),
    x=st.integers(0, 9),
    tombstone=st.sampled_from([False, False, False, True]),
    then=st.sampled_from(AFTER),
)

volleys: SearchStrategy[list[Shot]] = st.integers(1, 30).flatmap(
    lambda n: st.lists(shots, min_size=n + 10, max_size=n + 10)
)


@dataclass(frozen=True)
class Sent:
    """A record: what is sent, its record key, and what it means to the oracle (None: it is skipped)."""

    message: Message
    payload: Any
    key: bytes | None


def sent(plan: Joined, given: Sequence[Shot]) -> list[Sent]:
    """Return the records that shots make of a plan's topics."""
    clock, found = 0, []
    for shot in given:
        clock += shot.step
        topic = plan.topics[shot.topic % len(plan.topics)]
        row = {"k": shot.k, "j": shot.j, "x": shot.x}
        partition = shot.partition % plan.partitions
        if plan.promised:
            partition = (0 if shot.k is None else ord(shot.k)) % plan.partitions
        found.append(_record(plan, topic, partition, max(clock - shot.back, 0), row, tombstone=shot.tombstone))
    return found


def _record(plan: Joined, topic: str, partition: int, time: int, row: dict[str, Any], *, tombstone: bool) -> Sent:
    key = plan.tables.get(topic)
    if key is None:
        return Sent(Message(topic, partition, time, row, row), row, None)
    if not tombstone:
        usable = all(row[name] is not None for name in key)
        return Sent(Message(topic, partition, time, row, row if usable else None), row, None)
    named = {name: row[name] for name in key}
    text = json.dumps(named) if len(key) > 1 else named[key[0]]
    meant = {**dict.fromkeys(row), **named, GONE: True} if None not in named.values() else None
    return Sent(Message(topic, partition, time, None, meant), None, None if meant is None else str(text).encode())


class JoinTester(Tester):
    """The testing kit, with batches of several topics in which records have keys."""

    def send_all(self, records: Sequence[Sent]) -> None:
        """Send records of several topics as one micro-batch."""
        parts = []
        for topic in dict.fromkeys(record.message.topic for record in records):
            places = [place for place, record in enumerate(records) if record.message.topic == topic]
            given = [
                {
                    "value": records[at].payload,
                    "key": records[at].key,
                    "timestamp": records[at].message.timestamp,
                    "partition": records[at].message.partition,
                }
                for at in places
            ]
            fetched = self._fetched(topic, given)
            (part,) = fetched.records
            part.index[:] = places
            parts.append(fetched)
        positions = {topic: dict(at) for part in parts for topic, at in part.positions.items()}
        of_all = tuple(part for fetched in parts for part in fetched.records)
        self._deliver(Fetched(of_all, positions, positions, self._now, count=len(records)))


@dataclass
class Both:
    """The engine beside the oracle."""

    plan: Joined
    tester: JoinTester
    node: Node
    now: int = EPOCH
    done: list[Any] = field(default_factory=list)
    late: int = 0

    def __post_init__(self) -> None:
        self.keep()

    def keep(self) -> None:
        """Remember where things stand."""
        counters = copy.deepcopy(self.tester._task.counters)
        self.kept = copy.deepcopy(self.node), copy.deepcopy(self.tester._sent), self.now, counters
        self.done = []

    def batch(self, records: list[Sent]) -> None:
        """Send records to both as one micro-batch, and compare what they make."""
        self.done.append(records)
        expected, late = [], []
        for record in records:
            if record.message.row is not None:
                moment = Moment(self.now, record.message)
                expected += self.node.items(moment)
                late += moment.late
        self.tester.send_all(records)
        self.compare(expected, late)

    def advance(self, milliseconds: int) -> None:
        """Move the clock of both."""
        self.done.append(milliseconds)
        self.now += milliseconds
        moment = Moment(self.now)
        expected = self.node.items(moment)
        self.tester.advance(timedelta(milliseconds=milliseconds))
        self.compare(expected, moment.late)

    def restart(self) -> None:
        """Stop and start the engine."""
        self.tester.restart()
        self.keep()

    def crash(self) -> None:
        """Let the engine lose all since its last checkpoint, and do it again in other batches."""
        (self.node, sent_, self.now, counters), done = self.kept, self.done
        self.kept = copy.deepcopy(self.kept)
        self.node = copy.deepcopy(self.node)
        self.done = []
        self.tester.crash(copy.deepcopy(sent_), self.now, copy.deepcopy(counters))
        for is_clock, things in groupby(done, lambda thing: isinstance(thing, int)):
            given = list(things)
            if is_clock:
                for milliseconds in given:
                    self.advance(milliseconds)
            else:
                self.batch([record for part in given for record in part])

    def close(self) -> None:
        """End the input of both."""
        moment = Moment(self.now, ends=True)
        expected = self.node.items(moment)
        self.tester.close_input()
        self.compare(expected, moment.late)

    def compare(self, expected: list[Item], late: list[Any]) -> None:
        """Hold what the engine made against the oracle."""
        found = self.tester.read()
        wanted = [(None if GONE in item.row else item.row, item.time) for item in expected]
        made = [(None if r.value is None else _plain(r.value), r.timestamp) for r in found]
        if self.plan.promised:  # each partition is a task of its own
            wanted.sort(key=lambda pair: _home(pair, self.plan))
            made.sort(key=lambda pair: _home(pair, self.plan))
        assert made == wanted
        if self.plan.is_table and not self.plan.promised:
            keys = [tuple(item.row[name] for name in self.plan.frame.node.keys) for item in expected]
            assert [r.key if isinstance(r.key, tuple) else (r.key,) for r in found] == keys
        missed = [(_plain(r.value or {}), r.timestamp) for r in self.tester.late()]
        assert missed == [(one.row, one.time) for one in late]


def _home(pair: Any, plan: Joined) -> int:
    return 0 if pair[0] is None or pair[0].get("k") is None else ord(pair[0]["k"]) % plan.partitions


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    zero, one = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
    return {name: (v - zero) // one if isinstance(v, datetime) else v for name, v in row.items()}


def play(plan: Joined, given: Sequence[Shot]) -> None:
    """Run a plan over records, cut and interrupted as the shots say, and compare all the way."""
    with JoinTester(plan.frame, partitions=plan.partitions) as tester:
        both = Both(plan, tester, copy.deepcopy(plan.node))
        batch: list[Sent] = []
        for shot, record in zip(given, sent(plan, given), strict=True):
            batch.append(record)
            if shot.then == "join":
                continue
            both.batch(batch)
            batch = []
            if shot.then == "restart":
                both.restart()
            elif shot.then == "crash":
                both.crash()
            elif shot.then.isdigit():
                both.advance(int(shot.then))
        if batch:
            both.batch(batch)
        both.close()
