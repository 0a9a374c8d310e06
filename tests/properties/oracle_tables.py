"""What the semantics say of tables that are aggregated and of groups that expire, record by record, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.properties.oracle import Item, Node, allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.properties.oracle import Moment, Row

GONE = "deleted"
"""In a row: it deletes its key, and has no other columns."""


class Filtered(Node):
    """A filter on a table: what does not pass is a deletion."""

    def __init__(self, upstream: Node, key: Sequence[str], passes: Callable[[Row], bool]) -> None:
        super().__init__(upstream)
        self.key, self.passes = tuple(key), passes

    def work(self, moment: Moment) -> list[Item]:
        return [
            Item(self._judged(item.row), item.time, item.partition, item.made) for item in self.inputs[0].items(moment)
        ]

    def _judged(self, row: Row) -> Row:
        return row if GONE not in row and self.passes(row) else {**{name: row[name] for name in self.key}, GONE: True}


class TableGroups(Node):
    """Groups of a table's rows: "A change of a row first takes the old value out of its old group, then adds the new one."."""

    def __init__(
        self, upstream: Node, key: Sequence[str], by: Sequence[str], values: Callable[[list[Row]], Row]
    ) -> None:
        super().__init__(upstream)
        self.key, self.by, self.values = tuple(key), tuple(by), values
        self.rows: dict[tuple[Any, ...], Row] = {}  # the one changed last is the last
        self.times: dict[tuple[Any, ...], int] = {}  # of groups

    def work(self, moment: Moment) -> list[Item]:
        found = []
        for item in self.inputs[0].items(moment):
            key = tuple(item.row[name] for name in self.key)
            old = self.rows.pop(key, None)
            before = None if old is None else tuple(old[name] for name in self.by)
            after = None if GONE in item.row else tuple(item.row[name] for name in self.by)
            if before is not None and before != after:
                found.append(self._result(before, item))
            if after is not None:
                self.rows[key] = item.row
                found.append(self._result(after, item))
            elif before is not None and before == after:
                found.append(self._result(before, item))
        return found

    def _result(self, group: tuple[Any, ...], item: Item) -> Item:
        self.times[group] = max(self.times.get(group, -1), item.time)
        members = [row for row in self.rows.values() if tuple(row[name] for name in self.by) == group]
        row = {**dict(zip(self.by, group, strict=True)), **self.values(members)}
        return Item(row, self.times[group], item.partition)


@dataclass
class Life:
    """A group while it lives."""

    newest: int
    rows: list[Row] = field(default_factory=list)


@dataclass
class Task:
    """What one task holds."""

    watermark: int | None = None
    groups: dict[tuple[Any, ...], Life] = field(default_factory=dict)


class Expiring(Node):
    """Groups without a window that are dropped when their newest event time + ttl is less than the watermark."""

    def __init__(
        self, upstream: Node, by: Sequence[str], values: Callable[[list[Row]], Row], ttl: int, *, partitions: int | None
    ) -> None:
        super().__init__(upstream)
        self.by, self.values, self.ttl = tuple(by), values, ttl
        self.tasks = {None: Task()} if partitions is None else {partition: Task() for partition in range(partitions)}

    def work(self, moment: Moment) -> list[Item]:
        items, feeds = self.inputs[0].items(moment), self.inputs[0].feeds(moment.now)
        found = []
        for which, task in self.tasks.items():
            reached = allowed(feed for feed in feeds if which in (None, feed.partition))
            if reached is not None:
                task.watermark = reached if task.watermark is None else max(task.watermark, reached)
            found += self._expire(task)
            for item in items:
                if which in (None, item.partition):
                    found += self._take(task, item)
        return found

    def _over(self, task: Task, newest: int) -> bool:
        return task.watermark is not None and newest + self.ttl < task.watermark

    def _expire(self, task: Task) -> list[Item]:
        over = [key for key, life in task.groups.items() if self._over(task, life.newest)]
        return [
            Item({**dict(zip(self.by, key, strict=True)), GONE: True}, task.groups.pop(key).newest + self.ttl, 0)
            for key in over
        ]

    def _take(self, task: Task, item: Item) -> list[Item]:
        key = tuple(item.row[name] for name in self.by)
        if key not in task.groups and self._over(task, item.time):
            return []
        life = task.groups.setdefault(key, Life(item.time))
        life.newest = max(life.newest, item.time)
        life.rows.append(item.row)
        return [Item({**dict(zip(self.by, key, strict=True)), **self.values(life.rows)}, life.newest, item.partition)]
