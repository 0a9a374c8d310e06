"""What the semantics say, record by record, in plain Python: the engine is compared with this, never with itself.

Slow on purpose. Every watermark is worked out anew from what the partitions have said, every result from all rows of its group.
A plan is a tree of nodes, which are asked moment by moment what they make of it; `model.Model` lets the moments happen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Row = dict[str, Any]

LIVE = 600_000
"""A stream is live when its newest records came within this many milliseconds of their event time."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record: what is sent, and the row that it means; no row: it cannot be decoded, or has no payload."""

    topic: str
    partition: int
    timestamp: int
    payload: Row | bytes | None
    row: Row | None


@dataclass(frozen=True, slots=True)
class Item:
    """A row on its way: its event time, its partition, and whether a window made it (else it came with the record of the moment)."""

    row: Row
    time: int
    partition: int
    made: bool = False


@dataclass(frozen=True, slots=True)
class Late:
    """A row that came too late: with the bounds of its window and the watermark it missed."""

    row: Row
    time: int
    partition: int


@dataclass(eq=False, slots=True)
class Moment:
    """One thing that happens: a record arrives, the wall clock moves, or the input ends."""

    now: int
    message: Message | None = None
    ends: bool = False
    bad: bool = False  # its record has no usable event time somewhere
    reached: bool = False  # a row of its record is in time for some step
    late: list[Late] = field(default_factory=list)
    missed: bool = False  # a row of its record is late for some step


@dataclass(frozen=True, slots=True)
class Feed:
    """What one partition, or one task upstream, has to say about progress."""

    partition: int
    time: int | None  # no event time above which everything has been seen: None
    idle: bool = False
    quiet: int = 0  # how long it has been silent beyond its idle timeout
    live: bool = False


def allowed(feeds: Iterable[Feed]) -> int | None:
    """Return the watermark that feeds allow; None: they have nothing to say, and it stays as it stands."""
    feeds = list(feeds)
    awake = [feed.time for feed in feeds if not feed.idle]
    if awake:
        return None if None in awake else min(time for time in awake if time is not None)
    heard = [feed for feed in feeds if feed.time is not None]
    if not heard:
        return None
    newest = max(heard, key=lambda feed: feed.time or 0)
    return (newest.time or 0) + min(feed.quiet for feed in heard) if newest.live else None


class Node:
    """A step: asked once a moment for what it makes of it."""

    def __init__(self, *inputs: Node) -> None:
        self.inputs = inputs
        self._moment: Moment | None = None
        self._items: list[Item] = []

    def items(self, moment: Moment) -> list[Item]:
        if self._moment is not moment:
            self._moment, self._items = moment, self.work(moment)
        return self._items

    def work(self, moment: Moment) -> list[Item]:
        raise NotImplementedError

    def feeds(self, now: int) -> list[Feed]:
        return self.inputs[0].feeds(now)


class Source(Node):
    """A topic. A partition to which nothing usable was sent is idle; with `idle_timeout=None` none ever is."""

    def __init__(self, topic: str, partitions: int, *, event_time: str | None, idle_timeout: int | None) -> None:
        super().__init__()
        self.topic, self.event_time, self.idle_timeout = topic, event_time, idle_timeout
        self.newest: list[int | None] = [None] * partitions  # stream times
        self.heard: list[int | None] = [None] * partitions  # wall clock of the last record
        self.behind = [0] * partitions  # how far the newest record was from its event time when it came

    def work(self, moment: Moment) -> list[Item]:
        message = moment.message
        if message is None or message.topic != self.topic or message.row is None:
            return []
        time = message.timestamp if self.event_time is None else message.row[self.event_time]
        if time is None or time < 0:
            moment.bad = True
            return []
        partition, newest = message.partition, self.newest[message.partition]
        self.heard[partition] = moment.now
        if newest is None or time >= newest:
            self.newest[partition], self.behind[partition] = time, abs(moment.now - time)
        return [Item(message.row, time, partition)]

    def idle(self, partition: int, now: int) -> bool:
        heard = self.heard[partition]
        return self.idle_timeout is not None and (heard is None or now - heard >= self.idle_timeout)

    def feeds(self, now: int) -> list[Feed]:
        return [self.feed(partition, time, now) for partition, time in enumerate(self.newest)]

    def feed(self, partition: int, time: int | None, now: int) -> Feed:
        heard = self.heard[partition]
        quiet = 0 if heard is None or self.idle_timeout is None else now - heard - self.idle_timeout
        return Feed(partition, time, self.idle(partition, now), quiet, self.behind[partition] <= LIVE)


class Each(Node):
    """A row-by-row step: each row becomes several, one or none."""

    def __init__(self, upstream: Node, function: Callable[[Row], list[Row]]) -> None:
        super().__init__(upstream)
        self.function = function

    def work(self, moment: Moment) -> list[Item]:
        return [
            Item(row, item.time, item.partition, item.made)
            for item in self.inputs[0].items(moment)
            for row in self.function(item.row)
        ]


class Restamp(Node):
    """Event time taken anew: the partitions have other stream times from here on, and are idle when those of the source are."""

    def __init__(self, upstream: Node, source: Source, function: Callable[[Row], int | None]) -> None:
        super().__init__(upstream)
        self.source, self.function = source, function
        self.newest: list[int | None] = [None] * len(source.newest)

    def work(self, moment: Moment) -> list[Item]:
        found = []
        for item in self.inputs[0].items(moment):
            time = self.function(item.row)
            if time is None or time < 0:
                moment.bad = True
                continue
            self.newest[item.partition] = max(time, self.newest[item.partition] or 0)
            found.append(Item(item.row, time, item.partition, item.made))
        return found

    def feeds(self, now: int) -> list[Feed]:
        return [self.source.feed(partition, time, now) for partition, time in enumerate(self.newest)]


class Together(Node):
    """Several streams as one."""

    def work(self, moment: Moment) -> list[Item]:
        return [item for part in self.inputs for item in part.items(moment)]

    def feeds(self, now: int) -> list[Feed]:
        return [feed for part in self.inputs for feed in part.feeds(now)]


@dataclass(frozen=True, slots=True)
class Window:
    """Tumbling windows, or hopping ones that start every so often; in milliseconds."""

    size: int
    grace: int = 0
    offset: int = 0
    every: int | None = None

    def starts(self, time: int) -> list[int]:
        """Return where the windows start that a time is in.

        No window starts before 1970, so those that would are left out; but what comes before the first start, which is the offset, is
        in the last one of them, and that is cut.
        """
        every = self.every or self.size
        first = self.offset - every if self.offset else 0
        found, start = [], first + (time - first) // every * every
        while start >= first and start + self.size > time:
            found.insert(0, start)
            start -= every
        return found

    def closing(self, start: int) -> int:
        return start + self.size + self.grace

    def bounds(self, start: int) -> Row:
        return {"window_start": max(start, 0), "window_end": start + self.size}


Key = tuple[Any, ...]


@dataclass(slots=True)
class Task:
    """What an aggregation keeps for one set of partitions: its watermark, and the rows of each group in order of arrival."""

    watermark: int | None = None
    groups: dict[tuple[int, Key], list[Item]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One output column: a function of the values of one column of a group's rows."""

    name: str
    column: str
    function: Callable[[list[Any]], Any]


class Aggregate(Node):
    """Groups, in windows or for ever; one task over all partitions, or one a partition."""

    def __init__(
        self,
        upstream: Node,
        by: Sequence[str],
        aggregations: Sequence[Aggregation],
        *,
        window: Window | None,
        final: bool,
        partitions: int | None,
    ) -> None:
        super().__init__(upstream)
        self.by, self.aggregations, self.window, self.final = tuple(by), tuple(aggregations), window, final
        self.late: list[Late] = []  # of this moment
        self.tasks = {None: Task()} if partitions is None else {partition: Task() for partition in range(partitions)}

    def work(self, moment: Moment) -> list[Item]:
        items, feeds = self.inputs[0].items(moment), self.inputs[0].feeds(moment.now)
        found, self.late = [], []
        for which, task in self.tasks.items():
            mine = [item for item in items if which in (None, item.partition)]
            # what a window upstream makes leaves it before the watermark that it passes on moves
            found += self._take(task, which, [item for item in mine if item.made], moment)
            self._advance(task, feeds, which)
            found += self._take(task, which, [item for item in mine if not item.made], moment)
            found += self._close(task, which, everything=moment.ends)
        moment.late += self.late
        return found

    def _advance(self, task: Task, feeds: list[Feed], which: int | None) -> None:
        reached = allowed(feed for feed in feeds if which in (None, feed.partition))
        if reached is not None:
            task.watermark = reached if task.watermark is None else max(task.watermark, reached)

    def _take(self, task: Task, which: int | None, items: list[Item], moment: Moment) -> list[Item]:
        found = []
        for item in items:
            for start in self.window.starts(item.time) if self.window else [0]:
                if self.window and task.watermark is not None and self.window.closing(start) <= task.watermark:
                    bounds = {**self.window.bounds(start), "watermark": task.watermark}
                    self.late.append(Late({**item.row, **bounds}, item.time, item.partition))
                    moment.missed = moment.missed or not item.made
                    continue
                moment.reached = moment.reached or not item.made
                group = start, tuple(item.row[name] for name in self.by)
                task.groups[group].append(item)
                if not self.final:
                    rows = task.groups[group]
                    found.append(self._result(group, rows, max(row.time for row in rows), which))
        return found

    def _close(self, task: Task, which: int | None, *, everything: bool) -> list[Item]:
        if self.window is None:
            return []
        window, mark = self.window, task.watermark
        closed = [
            group for group in task.groups if everything or (mark is not None and window.closing(group[0]) <= mark)
        ]
        closed.sort(key=lambda group: (window.closing(group[0]), group[0], order(group[1])))
        rows = {group: task.groups.pop(group) for group in closed}
        if not self.final:
            return []
        return [self._result(group, rows[group], group[0] + window.size - 1, which) for group in closed]

    def _result(self, group: tuple[int, Key], rows: list[Item], time: int, which: int | None) -> Item:
        bounds = self.window.bounds(group[0]) if self.window else {}
        values = {a.name: a.function([item.row[a.column] for item in rows]) for a in self.aggregations}
        return Item({**dict(zip(self.by, group[1], strict=True)), **bounds, **values}, time, which or 0, made=True)

    def feeds(self, now: int) -> list[Feed]:
        """Pass on the smallest event time that can still be emitted; a task that is idle for good can emit none."""
        grace, found = self.window.grace if self.window else 0, []
        for which, task in self.tasks.items():
            given = [feed for feed in self.inputs[0].feeds(now) if which in (None, feed.partition)]
            stuck = which is not None and all(feed.idle for feed in given) and allowed(given) is None
            found.append(Feed(which or 0, None if task.watermark is None else task.watermark - grace, idle=stuck))
        return found


class LateRows(Node):
    """The rows that came too late for an aggregation."""

    def __init__(self, step: Aggregate) -> None:
        super().__init__(step)
        self.step = step

    def work(self, moment: Moment) -> list[Item]:
        self.step.items(moment)
        return [Item(late.row, late.time, late.partition) for late in self.step.late]


def order(key: Key) -> tuple[Any, ...]:
    """Return what sorts keys: as polars does, a null before every value."""
    return tuple((value is not None, value) for value in key)
