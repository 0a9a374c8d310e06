"""What the semantics say of joins of two streams, and of de-duplication, record by record in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.properties.oracle import Feed, Item, Late, Node, allowed, order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.properties.oracle import Moment, Row


@dataclass(eq=False, slots=True)
class Kept:
    """A row that is held."""

    side: int
    item: Item
    key: tuple[Any, ...]
    number: int
    matched: bool = False
    gone: bool = False  # it has come with nulls


@dataclass(slots=True)
class Task:
    """What a join keeps for one set of partitions."""

    watermark: int | None = None
    rows: list[Kept] = field(default_factory=list)
    arrived: int = 0


class Join(Node):
    """Two sides; one task over all partitions, or one a partition."""

    delay = 0

    def __init__(self, left: Node, right: Node, by: Sequence[tuple[str, str]], partitions: int | None) -> None:
        super().__init__(left, right)
        self.by = tuple(by)
        self.tasks = {None: Task()} if partitions is None else {partition: Task() for partition in range(partitions)}
        self.columns: tuple[list[str], dict[str, str]] = [], {}

    def called(self, left: Sequence[str], right: Sequence[str], dropped: Sequence[str]) -> Join:
        """Say which columns both sides have, and which of the right side's the result has not."""
        taken = {name: f"{name}_right" if name in left else name for name in right if name not in dropped}
        self.columns = list(left), taken
        return self

    def work(self, moment: Moment) -> list[Item]:
        given = [(side, item) for side in (0, 1) for item in self.inputs[side].items(moment)]
        feeds = [feed for side in (0, 1) for feed in self.inputs[side].feeds(moment.now)]
        found: list[Item] = []
        for which, task in self.tasks.items():
            mine = [(side, item) for side, item in given if which in (None, item.partition)]
            for side, item in mine:
                if item.made:
                    found += self.take(task, side, item, moment)
            reached = allowed(feed for feed in feeds if which in (None, feed.partition))
            if reached is not None:
                task.watermark = reached if task.watermark is None else max(task.watermark, reached)
            found += self.due(task, which or 0, everything=False)
            for side, item in mine:
                if not item.made:
                    found += self.take(task, side, item, moment)
            if moment.ends:
                found += self.due(task, which or 0, everything=True)
        return found

    def take(self, task: Task, side: int, item: Item, moment: Moment) -> list[Item]:
        raise NotImplementedError

    def due(self, task: Task, partition: int, *, everything: bool) -> list[Item]:
        raise NotImplementedError

    def key(self, side: int, row: Row) -> tuple[Any, ...]:
        return tuple(row[pair[side]] for pair in self.by)

    def keep(self, task: Task, side: int, item: Item) -> Kept:
        task.arrived += 1
        return Kept(side, item, self.key(side, item.row), task.arrived)

    def late(self, moment: Moment, side: int, item: Item, bounds: tuple[int, int], watermark: int) -> None:
        row = self.row(item.row, None) if side == 0 else self.row(None, item.row)
        extra = {"window_start": max(bounds[0], 0), "window_end": bounds[1], "watermark": watermark}
        moment.late.append(Late({**row, **extra}, item.time, item.partition))
        moment.missed = moment.missed or not item.made

    def row(self, left: Row | None, right: Row | None) -> Row:
        """Return a result: the left row's columns, then the right row's; nulls where there is none, the key from the one that is there."""
        names, taken = self.columns
        found = {name: None if left is None else left[name] for name in names}
        if left is None and right is not None:
            found |= {one: right[other] for one, other in self.same()}
        return found | {called: None if right is None else right[name] for name, called in taken.items()}

    def same(self) -> list[tuple[str, str]]:
        return list(self.by)

    def feeds(self, now: int) -> list[Feed]:
        found = []
        for which, task in self.tasks.items():
            given = [
                feed for side in (0, 1) for feed in self.inputs[side].feeds(now) if which in (None, feed.partition)
            ]
            stuck = which is not None and all(feed.idle for feed in given) and allowed(given) is None
            found.append(Feed(which or 0, None if task.watermark is None else task.watermark - self.delay, idle=stuck))
        return found


class IntervalJoin(Join):
    """Matches of rows that are not far apart, at once; rows without a match once none can come in time."""

    def __init__(
        self,
        left: Node,
        right: Node,
        by: Sequence[tuple[str, str]],
        partitions: int | None,
        *,
        before: int,
        after: int,
        grace: int,
        how: str,
    ) -> None:
        super().__init__(left, right, by, partitions)
        self.before, self.after, self.grace, self.how = before, after, grace, how
        self.delay = self.reach = before + after + grace

    def take(self, task: Task, side: int, item: Item, moment: Moment) -> list[Item]:
        mark = task.watermark
        back, ahead = (self.before, self.after) if side == 0 else (self.after, self.before)
        if mark is not None and item.time + self.reach < mark:
            self.late(moment, side, item, (item.time - back, item.time + ahead), mark)
            return []
        moment.reached = moment.reached or not item.made
        kept, found = self.keep(task, side, item), []
        for other in task.rows:
            near = item.time - back <= other.item.time <= item.time + ahead
            visible = mark is None or other.item.time + self.reach >= mark
            if other.side != side and other.key == kept.key and None not in kept.key and near and visible:
                kept.matched = other.matched = True
                pair = (item, other.item) if side == 0 else (other.item, item)
                row = self.row(pair[0].row, pair[1].row)
                found.append(Item(row, max(item.time, other.item.time), item.partition, item.made))
        task.rows.append(kept)
        if not found and self.waits(side) and self.over(task, kept):
            kept.gone = True
            found.append(Item(self.alone(kept), item.time, item.partition, item.made))
        return found

    def waits(self, side: int) -> bool:
        return self.how == "outer" or (self.how == "left" and side == 0)

    def over(self, task: Task, kept: Kept) -> bool:
        patience = (self.after if kept.side == 0 else self.before) + self.grace
        return task.watermark is not None and kept.item.time + patience < task.watermark

    def alone(self, kept: Kept) -> Row:
        return self.row(kept.item.row, None) if kept.side == 0 else self.row(None, kept.item.row)

    def due(self, task: Task, partition: int, *, everything: bool) -> list[Item]:
        now = [
            kept
            for kept in task.rows
            if self.waits(kept.side) and not kept.matched and not kept.gone and (everything or self.over(task, kept))
        ]
        for kept in now:
            kept.gone = True
        now.sort(key=lambda kept: (kept.item.time, kept.side == 0, order(kept.key), kept.number))
        return [Item(self.alone(kept), kept.item.time, partition, made=True) for kept in now]


class AsofJoin(Join):
    """Left rows in the order of time, each with the newest right row that is not newer."""

    def __init__(
        self,
        left: Node,
        right: Node,
        by: Sequence[tuple[str, str]],
        partitions: int | None,
        *,
        tolerance: int,
        grace: int,
        on: str | None,
    ) -> None:
        super().__init__(left, right, by, partitions)
        self.tolerance, self.grace, self.on = tolerance, grace, on
        self.delay = grace

    def same(self) -> list[tuple[str, str]]:
        return [*self.by, *([(self.on, self.on)] if self.on else [])]

    def take(self, task: Task, side: int, item: Item, moment: Moment) -> list[Item]:
        mark, patience = task.watermark, self.grace + (self.tolerance if side else 0)
        if mark is not None and item.time + patience < mark:
            bounds = (item.time - self.tolerance, item.time) if side == 0 else (item.time, item.time + self.tolerance)
            self.late(moment, side, item, bounds, mark)
            return []
        moment.reached = moment.reached or not item.made
        task.rows.append(self.keep(task, side, item))
        return []

    def due(self, task: Task, partition: int, *, everything: bool) -> list[Item]:
        mark = task.watermark
        passed = lambda kept: everything or (mark is not None and kept.item.time + self.grace < mark)  # noqa: E731
        now = [kept for kept in task.rows if kept.side == 0 and passed(kept)]
        task.rows = [kept for kept in task.rows if kept not in now]
        now.sort(key=lambda kept: (kept.item.time, kept.number))
        return [Item(self.joined(task, kept), kept.item.time, partition, made=True) for kept in now]

    def joined(self, task: Task, kept: Kept) -> Row:
        time = kept.item.time
        rows = [
            other
            for other in task.rows
            if other.side == 1
            and other.key == kept.key
            and None not in kept.key
            and time - self.tolerance <= other.item.time <= time
        ]
        newest = max(rows, key=lambda other: (other.item.time, other.number), default=None)
        return self.row(kept.item.row, None if newest is None else newest.item.row)


class Unique(Node):
    """The first of several rows of one key that are near each other in time."""

    def __init__(self, upstream: Node, by: Sequence[str], within: int | None, partitions: int | None) -> None:
        super().__init__(upstream)
        self.by, self.within = tuple(by), within
        lanes = [None] if partitions is None else list(range(partitions))
        self.watermarks: dict[int | None, int | None] = dict.fromkeys(lanes)
        self.passed: dict[int | None, list[tuple[tuple[Any, ...], int]]] = {lane: [] for lane in lanes}

    def work(self, moment: Moment) -> list[Item]:
        items, feeds = self.inputs[0].items(moment), self.inputs[0].feeds(moment.now)
        found: list[Item] = []
        for which in self.watermarks:
            mine = [item for item in items if which in (None, item.partition)]
            found += [item for item in mine if item.made and self.passes(which, item)]
            reached, mark = allowed(feed for feed in feeds if which in (None, feed.partition)), self.watermarks[which]
            if reached is not None:
                self.watermarks[which] = reached if mark is None else max(mark, reached)
            found += [item for item in mine if not item.made and self.passes(which, item)]
        return found

    def passes(self, which: int | None, item: Item) -> bool:
        key, mark = tuple(item.row[name] for name in self.by), self.watermarks[which]
        if None in key:
            return True
        for other, time in self.passed[which]:
            if other == key and (self.within is None or self.near(item.time, time, mark)):
                return False
        self.passed[which].append((key, item.time))
        return True

    def near(self, time: int, other: int, mark: int | None) -> bool:
        within = self.within or 0
        return abs(time - other) <= within and (mark is None or other + within >= mark)

    def feeds(self, now: int) -> list[Feed]:
        found = []
        for which, mark in self.watermarks.items():
            given = [feed for feed in self.inputs[0].feeds(now) if which in (None, feed.partition)]
            stuck = which is not None and all(feed.idle for feed in given) and allowed(given) is None
            found.append(Feed(which or 0, mark, idle=stuck))
        return found
