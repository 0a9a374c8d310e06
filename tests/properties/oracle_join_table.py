"""Joins with tables record by record, in plain Python: written from the semantics, never from the operators."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.properties.oracle import Feed, Item, Node, Source, allowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.properties.oracle import Moment, Row

GONE = "(deleted)"
"""Marks the row of a deletion, which has its key alone."""

Key = tuple[Any, ...]


class TableSource(Source):
    """A topic of a table: its messages are rows, or rows that are marked as deletions."""


@dataclass(slots=True)
class Task:
    """What a join with a table keeps for one set of partitions."""

    watermark: int | None = None
    versions: dict[Key, list[Item]] = field(default_factory=dict)  # by time; without history the last to come alone
    waiting: list[Item] = field(default_factory=list)


class Watermarked(Node):
    """A step with tasks, each with a watermark that never goes back."""

    tasks: dict[int | None, Any]
    clocks: tuple[int, ...]
    delay = 0

    def advance(self, which: int | None, now: int) -> None:
        given = [feed for at in self.clocks for feed in self.inputs[at].feeds(now) if which in (None, feed.partition)]
        reached, task = allowed(given), self.tasks[which]
        if reached is not None:
            task.watermark = reached if task.watermark is None else max(task.watermark, reached)

    def feeds(self, now: int) -> list[Feed]:
        found = []
        for which, task in self.tasks.items():
            given = [f for at in self.clocks for f in self.inputs[at].feeds(now) if which in (None, f.partition)]
            stuck = which is not None and all(feed.idle for feed in given) and allowed(given) is None
            time = None if task.watermark is None else task.watermark - self.delay
            found.append(Feed(which or 0, time, idle=stuck))
        return found


class Enriched(Watermarked):
    """Each row of a stream with the row of its key."""

    def __init__(
        self,
        stream: Node,
        table: Node,
        left_on: Sequence[str],
        right_on: Sequence[str],
        values: dict[str, str],
        *,
        how: str,
        history: int | None = None,
        grace: int | None = None,
        partitions: int | None = None,
    ) -> None:
        super().__init__(stream, table)
        self.left_on, self.right_on, self.values, self.how = left_on, right_on, values, how
        self.history, self.grace, self.delay = history, grace, grace or 0
        self.clocks = (0,) if grace is None else (0, 1)
        self.tasks = {None: Task()} if partitions is None else {number: Task() for number in range(partitions)}

    def work(self, moment: Moment) -> list[Item]:
        stream, table = (part.items(moment) for part in self.inputs)
        return [
            item
            for which, task in self.tasks.items()
            for item in self._turn(
                task,
                which,
                [item for item in stream if which in (None, item.partition)],
                [item for item in table if which in (None, item.partition)],
                moment,
            )
        ]

    def _turn(self, task: Task, which: int | None, stream: list[Item], table: list[Item], moment: Moment) -> list[Item]:
        for item in table:
            self._keep(task, item)
        # what a window upstream makes leaves it before the watermark that it passes on moves
        made, stream = [item for item in stream if item.made], [item for item in stream if not item.made]
        found = [(item, self._joined(task, item)) for item in made] if self.grace is None else []
        waited, task.waiting = task.waiting + (made if self.grace is not None else []), []
        self.advance(which, moment.now)
        due = [item for item in waited if moment.ends or self._passed(task, item)]
        task.waiting = [item for item in waited if item not in due]
        found += [(item, self._joined(task, replace(item, made=True))) for item in due]
        self._purge(task)
        for item in stream:
            if self.grace is None or moment.ends or self._passed(task, item):
                found.append((item, self._joined(task, item)))
            else:
                task.waiting.append(item)
        if self.grace is not None:
            found.sort(key=lambda pair: pair[0].time)
        return [item for _, items in found for item in items]

    def _passed(self, task: Task, item: Item) -> bool:
        return task.watermark is not None and item.time + self.delay <= task.watermark

    def _keep(self, task: Task, item: Item) -> None:
        key = tuple(item.row[name] for name in self.right_on)
        if None in key:
            return
        if self.history is None:
            task.versions[key] = [item]
            return
        versions = [old for old in task.versions.get(key, []) if old.time != item.time]
        task.versions[key] = sorted([*versions, item], key=lambda version: version.time)

    def _purge(self, task: Task) -> None:
        """Forget versions that newer ones had followed by the horizon, and keys of which only an old deletion is left."""
        if self.history is None or task.watermark is None:
            return
        horizon = task.watermark - self.history - self.delay
        for key, versions in list(task.versions.items()):
            old = [version for version in versions if version.time <= horizon]
            kept = old[-1:] + versions[len(old) :]
            task.versions[key] = kept
            if len(kept) == 1 and old and GONE in kept[0].row:
                del task.versions[key]

    def _joined(self, task: Task, item: Item) -> list[Item]:
        key = tuple(item.row[name] for name in self.left_on)
        versions = task.versions.get(key, []) if None not in key else []
        if self.history is not None:
            versions = [version for version in versions if version.time <= item.time]
        row: Row | None = versions[-1].row if versions and GONE not in versions[-1].row else None
        if row is None and self.how == "inner":
            return []
        added = {told: None if row is None else row[name] for name, told in self.values.items()}
        return [replace(item, row={**item.row, **added})]


@dataclass(slots=True)
class Both:
    """What a join of two tables keeps for one set of partitions: of each side the last row by key, deletions too."""

    watermark: int | None = None
    sides: tuple[dict[Key, Item], dict[Key, Item]] = field(default_factory=lambda: ({}, {}))


class JoinedTables(Watermarked):
    """The rows of two tables that have one key."""

    clocks = (0, 1)

    def __init__(
        self,
        left: Node,
        right: Node,
        left_on: Sequence[str],
        right_on: Sequence[str],
        columns: tuple[dict[str, str], dict[str, str]],
        *,
        how: str,
        histories: tuple[int | None, int | None] = (None, None),
        partitions: int | None = None,
    ) -> None:
        super().__init__(left, right)
        self.on, self.columns, self.how, self.histories = (left_on, right_on), columns, how, histories
        self.tasks = {None: Both()} if partitions is None else {number: Both() for number in range(partitions)}

    def work(self, moment: Moment) -> list[Item]:
        found = []
        for which, task in self.tasks.items():
            for side in (0, 1):
                for item in self.inputs[side].items(moment):
                    if which in (None, item.partition):
                        found += self._change(task, side, item)
            self.advance(which, moment.now)
            self._forget(task)
        return found

    def _change(self, task: Both, side: int, item: Item) -> list[Item]:
        key = tuple(item.row[name] for name in self.on[side])
        if None in key:
            return []
        before = task.sides[side].get(key)
        if self.histories[side] is not None and before is not None and item.time < before.time:
            return []
        there, other = self._there(task, side, key), self._there(task, 1 - side, key)
        existed = self._exists(task, key)
        task.sides[side][key] = item
        if GONE in item.row and there is None:
            return []
        exists = self._exists(task, key)
        time = item.time if other is None else max(item.time, other.time)
        names = dict(zip(self.on[0], key, strict=True))
        if existed and not exists:
            return [Item({**names, GONE: True}, time, item.partition)]
        if not exists:
            return []
        rows = [self._there(task, number, key) for number in (0, 1)]
        for row, columns in zip(rows, self.columns, strict=True):
            names |= {told: None if row is None else row.row[name] for name, told in columns.items()}
        return [Item(names, time, item.partition)]

    def _there(self, task: Both, side: int, key: Key) -> Item | None:
        item = task.sides[side].get(key)
        return None if item is None or GONE in item.row else item

    def _exists(self, task: Both, key: Key) -> bool:
        left, right = (self._there(task, side, key) is not None for side in (0, 1))
        return {"inner": left and right, "left": left, "outer": left or right}[self.how]

    def _forget(self, task: Both) -> None:
        """Forget deletions: at once where versions do not count, else once they are older than the history."""
        for rows, history in zip(task.sides, self.histories, strict=True):
            for key, item in list(rows.items()):
                old = history is None or (task.watermark is not None and item.time <= task.watermark - history)
                if GONE in item.row and old:
                    del rows[key]
