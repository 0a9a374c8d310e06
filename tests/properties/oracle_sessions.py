"""What the semantics say of sessions, record by record, and what a reader of their updates ends up with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.properties.harness import Side, _milliseconds, check_row, plain
from tests.properties.oracle import Aggregate, Item, Late, order
from tests.properties.oracle import Window as Fixed

if TYPE_CHECKING:
    from tests.properties.oracle import Key, Message, Moment, Row, Task


@dataclass(frozen=True, slots=True)
class Window:
    """Sessions, in milliseconds."""

    gap: int
    grace: int = 0

    @property
    def wait(self) -> int:
        """How long after its end a session is still open."""
        return self.gap + self.grace


@dataclass(frozen=True, slots=True)
class Gone(Item):
    """The deletion of a row: its key and its window."""


@dataclass(eq=False, slots=True)
class Open:
    """A session: its rows, in order of arrival."""

    key: Key
    first: int
    last: int
    rows: list[tuple[int, Item]] = field(default_factory=list)

    @property
    def bounds(self) -> Row:
        return {"window_start": self.first, "window_end": self.last}


class Sessions(Aggregate):
    """Groups in sessions."""

    def __init__(self, like: Aggregate, window: Window) -> None:
        lanes = None if None in like.tasks else len(like.tasks)
        waits = Fixed(0, window.gap + window.grace)  # how far its watermark trails
        super().__init__(like.inputs[0], like.by, like.aggregations, window=waits, final=like.final, partitions=lanes)
        self.sessions = window
        self.open: dict[int | None, list[Open]] = {which: [] for which in self.tasks}
        self.arrived = 0

    def _take(self, task: Task, which: int | None, items: list[Item], moment: Moment) -> list[Item]:
        found = []
        for item in items:
            self.arrived += 1
            key = tuple(item.row[name] for name in self.by)
            near = [
                s
                for s in self.open[which]
                if s.key == key
                and s.first - self.sessions.gap <= item.time <= s.last + self.sessions.gap
                and not self._is_closed(task, s.last)
            ]
            last = max([item.time, *(s.last for s in near)])
            merged = Open(key, min([item.time, *(s.first for s in near)]), last, [(self.arrived, item)])
            if self._is_closed(task, last):
                missed = {**item.row, **merged.bounds, "watermark": task.watermark}
                self.late.append(Late(missed, item.time, item.partition))
                moment.missed = moment.missed or not item.made
                continue
            moment.reached = moment.reached or not item.made
            merged.rows = sorted([row for s in near for row in s.rows] + merged.rows, key=lambda row: row[0])
            self.open[which] = [s for s in self.open[which] if s not in near] + [merged]
            if not self.final:
                found += [self._gone(s, which) for s in near if s.bounds != merged.bounds]
                found.append(self._row(merged, which))
        return found

    def _is_closed(self, task: Task, last: int) -> bool:
        return task.watermark is not None and last + self.sessions.wait < task.watermark

    def _close(self, task: Task, which: int | None, *, everything: bool) -> list[Item]:
        closed = [s for s in self.open[which] if everything or self._is_closed(task, s.last)]
        closed.sort(key=lambda s: (s.last + self.sessions.wait, s.first, order(s.key)))
        self.open[which] = [s for s in self.open[which] if s not in closed]
        return [self._row(s, which) for s in closed] if self.final else []

    def _row(self, session: Open, which: int | None) -> Item:
        rows = [item.row for _, item in session.rows]
        values = {a.name: a.function([row[a.column] for row in rows]) for a in self.aggregations}
        row = {**dict(zip(self.by, session.key, strict=True)), **session.bounds, **values}
        return Item(row, session.last, which or 0, made=True)

    def _gone(self, session: Open, which: int | None) -> Item:
        row = {**dict(zip(self.by, session.key, strict=True)), **session.bounds}
        return Gone(row, session.last, which or 0, made=True)


class Reader(Side):
    """The engine beside the model, with a reader who keeps the newest row of every key and window of an updated table."""

    def __post_init__(self) -> None:
        """Begin with an empty table."""
        self.kept: dict[Any, Row] = {}
        self.single = False  # whether the batch was one record: nothing may be skipped then
        super().__post_init__()

    def _checkpoint(self) -> Any:
        self.seen = dict(self.kept)  # what came after a checkpoint that is lost was never committed
        return super()._checkpoint()

    def crash(self) -> None:
        self.kept = dict(self.seen)
        super().crash()

    def batch(self, messages: list[Message], *, counts_only: bool = False) -> None:
        self.single = len(messages) == 1
        super().batch(messages, counts_only=counts_only)
        self.single = False

    def _compare_updates(self, expected: list[Item], found: list[Any]) -> None:
        node = self.plan.branches[0].node
        if not isinstance(node, Sessions):
            super()._compare_updates(expected, found)
            return
        names = (*node.by, "window_start", "window_end")
        before = set(self.kept)
        told = [self._told(record, names) for record in found]
        wanted = [(tuple(i.row[n] for n in names), None if isinstance(i, Gone) else i.row, i.time) for i in expected]
        # one record may come as several rows, and then what is in between is skipped
        if self.single and len(told) == len(wanted):
            assert [(named, time) for named, _, time in told] == [(named, time) for named, _, time in wanted]
        assert len(told) <= len(wanted)
        last, seen = ({named: (row, time) for named, row, time in what} for what in (wanted, told))
        assert set(seen) == {named for named, (row, _) in last.items() if row is not None or named in before}
        for named, (row, time) in seen.items():
            expected_row, expected_time = last[named]
            assert time == expected_time
            if row is None or expected_row is None:
                assert row is expected_row
                del self.kept[named]
                continue
            check_row(expected_row, row)
            self.kept[named] = row

    def _told(self, record: Any, names: Any) -> Any:
        key = tuple(map(_milliseconds, record.key))
        if record.value is None:
            return key, None, record.timestamp
        row = plain(record.value)
        assert key == tuple(row[name] for name in names)
        return key, row, record.timestamp
