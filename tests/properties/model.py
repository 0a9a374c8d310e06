"""A plan of the oracle's nodes, driven moment by moment: a record arrives, the wall clock moves, the input ends."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.properties.oracle import Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.properties.oracle import Item, Late, Message, Node


@dataclass(slots=True)
class Counts:
    """What is counted."""

    records: int = 0
    late: int = 0
    late_rows: int = 0
    dead_letters: int = 0
    skipped: int = 0

    @property
    def processed(self) -> int:
        return self.records - self.late - self.dead_letters - self.skipped


class Model:
    """A plan driven record by record.

    Parameters
    ----------
    sinks
        What the plan ends in.
    now
        Where the wall clock stands at first.
    skips_bad
        Whether records that cannot be used are skipped, rather than set aside as dead letters.
    """

    def __init__(self, sinks: Sequence[Node], now: int, *, skips_bad: bool = False) -> None:
        self.sinks, self.now, self.skips_bad = tuple(sinks), now, skips_bad
        self.counts = Counts()
        self.offsets: dict[tuple[str, int], int] = defaultdict(int)
        self.results: list[list[Item]] = [[] for _ in sinks]
        self.late: list[Late] = []
        self.dead: list[tuple[str, int, int]] = []

    def send(self, message: Message) -> None:
        """Let a record arrive."""
        offset = self.offsets[message.topic, message.partition]
        self.offsets[message.topic, message.partition] += 1
        self.counts.records += 1
        if message.payload is None:
            self.counts.skipped += 1
            return
        moment = Moment(self.now, message)
        if message.row is not None:
            self._let(moment)
        if message.row is None or moment.bad:
            self._bad(message, offset)
        elif moment.missed and not moment.reached:
            self.counts.late += 1

    def _bad(self, message: Message, offset: int) -> None:
        if self.skips_bad:
            self.counts.skipped += 1
        else:
            self.counts.dead_letters += 1
            self.dead.append((message.topic, message.partition, offset))

    def advance(self, milliseconds: int) -> None:
        """Move the wall clock."""
        self.now += milliseconds
        self._let(Moment(self.now))

    def close(self) -> None:
        """End the input: windows close, first those nearest to the sources."""
        self._let(Moment(self.now, ends=True))

    def _let(self, moment: Moment) -> None:
        for found, sink in zip(self.results, self.sinks, strict=True):
            found.extend(sink.items(moment))
        self.late += moment.late
        self.counts.late_rows += len(moment.late)

    def taken(self) -> tuple[list[list[Item]], list[Late], list[tuple[str, int, int]]]:
        """Return results by sink, late rows and dead letters since the last call."""
        found = self.results, self.late, self.dead
        self.results, self.late, self.dead = [[] for _ in self.sinks], [], []
        return found

    def copy(self) -> Model:
        """Return the model as it stands, for going on from here again."""
        return copy.deepcopy(self)
