"""Tables driven through the engine and a model side by side: batches, restarts and crashes, and a look after each."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from streamlab.testing import EPOCH
from tests.properties.harness import Tester
from tests.properties.oracle import Message, Moment
from tests.properties.oracle_tables import GONE

if TYPE_CHECKING:
    from tests.properties.oracle import Item, Node, Row

AFTER = ["join"] * 5 + ["cut"] * 4 + ["restart", "crash", "1000", "12000"]
TOPIC = "rows"


@dataclass(frozen=True)
class Shot:
    """A record to be, and what happens after it."""

    key: str
    step: int
    back: int
    deleted: bool
    values: dict[str, Any]
    then: str


def shots(values: dict[str, Any]) -> st.SearchStrategy[list[Shot]]:
    """Return a strategy for lists of records with these columns."""
    one = st.builds(
        Shot,
        key=st.sampled_from(["a", "b", "c", "d"]),
        step=st.sampled_from([0, 0, 1, 2, 5, 30]),
        back=st.sampled_from([0, 0, 0, 1, 4, 20]),
        deleted=st.sampled_from([False, False, False, True]),
        values=st.fixed_dictionaries(values),
        then=st.sampled_from(AFTER),
    )
    return st.lists(one, min_size=1, max_size=30)


def messages(given: list[Shot], partitions: int, *, deletes: bool) -> list[Message]:
    """Return the records that shots make; those of one key share a partition."""
    clock, found = 0, []
    for shot in given:
        clock += shot.step
        time, partition = max(clock - shot.back, 0), "abcd".index(shot.key) % partitions
        if shot.deleted and deletes:
            found.append(Message(TOPIC, partition, time, None, {"k": shot.key, GONE: True}))
        else:
            row = {"k": shot.key, **shot.values}
            found.append(Message(TOPIC, partition, time, row, row))
    return found


@dataclass
class Game:
    """The engine beside the model."""

    tester: Tester
    node: Node
    key: tuple[str, ...]
    ordered: bool = True
    now: int = EPOCH
    done: list[Message | int] = field(default_factory=list)
    seen: dict[Any, Row | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settle()

    def settle(self) -> None:
        """Take note of a checkpoint."""
        self.kept = copy.deepcopy((self.node, self.tester._sent, self.tester._task.counters, self.now))
        self.done = []

    def batch(self, given: list[Message]) -> None:
        self.done += given
        made = [item for message in given for item in self.node.items(Moment(self.now, message))]
        self.tester.send_batch(TOPIC, [_arguments(message) for message in given], wrapped=True)
        self.compare(made)

    def advance(self, milliseconds: int) -> None:
        self.done.append(milliseconds)
        self.now += milliseconds
        made = self.node.items(Moment(self.now))
        self.tester.advance(timedelta(milliseconds=milliseconds))
        self.compare(made)

    def restart(self) -> None:
        self.tester.restart()
        self.settle()

    def crash(self) -> None:
        """Lose all since the last checkpoint, and do it again, all records at once where the clock did not move between them."""
        (self.node, sent, counters, self.now), done = copy.deepcopy(self.kept), self.done
        self.done = []
        self.tester.crash(sent, self.now, counters)
        together: list[Message] = []
        for thing in [*done, 0]:
            if isinstance(thing, Message):
                together.append(thing)
                continue
            if together:
                self.batch(together)
            together = []
            if thing:
                self.advance(thing)

    def compare(self, made: list[Item]) -> None:
        """Hold the last that the engine said of each key against the last that the model said."""
        wanted: dict[Any, Item] = {}
        for item in made:
            named = tuple(item.row[name] for name in self.key)
            wanted.pop(named, None)
            wanted[named] = item
        found = self.tester.read()
        told = [record.key if len(self.key) > 1 else (record.key,) for record in found]
        assert len(set(told)) == len(told), found
        assert (told if self.ordered else set(told)) == (list(wanted) if self.ordered else set(wanted)), (found, made)
        for named, record in zip(told, found, strict=True):
            item = wanted[named]
            assert record.timestamp == item.time, (record, item)
            expected = None if GONE in item.row else item.row
            assert same(record.value, expected), (record, item)
            self.seen[named] = expected


def same(found: Any, expected: Any) -> bool:
    """Compare rows: floats to nine digits."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return list(found) == list(expected) and all(same(found[name], value) for name, value in expected.items())
    if isinstance(expected, float) and isinstance(found, float):
        return (math.isnan(expected) and math.isnan(found)) or math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == expected)


def play(game: Game, given: list[Shot], sent: list[Message]) -> None:
    """Send records, cut and interrupted as the shots say."""
    with game.tester:
        batch: list[Message] = []
        for shot, message in zip(given, sent, strict=True):
            batch.append(message)
            if shot.then == "join":
                continue
            game.batch(batch)
            batch = []
            _interrupt(game, shot.then)
        if batch:
            game.batch(batch)


def _interrupt(game: Game, then: str) -> None:
    if then == "restart":
        game.restart()
    elif then == "crash":
        game.crash()
    elif then.isdigit():
        game.advance(int(then))


def _arguments(message: Message) -> dict[str, Any]:
    key = None if message.row is None else message.row["k"]
    return {"value": message.payload, "key": key, "timestamp": message.timestamp, "partition": message.partition}


def game(made: Any, node: Node, key: tuple[str, ...], partitions: int = 1, *, ordered: bool = True) -> Game:
    """Return a game of a table and its model."""
    return Game(Tester(made, partitions=partitions), node, key, ordered)
