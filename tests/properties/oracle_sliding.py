"""Sliding windows, record by record: each window is a list of rows that grows while the window is open."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.properties.oracle import Aggregate, Item, Late, order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.properties.oracle import Aggregation, Key, Moment, Node, Row


@dataclass(frozen=True, slots=True)
class Window:
    """Sliding windows, in milliseconds: [start, start + size], both inclusive."""

    size: int
    grace: int = 0

    def left(self, time: int) -> int:
        """Return the start of the window that ends with a time; at the epoch it is moved there."""
        return max(time - self.size, 0)

    def bounds(self, start: int) -> Row:
        return {"window_start": start, "window_end": start + self.size}


@dataclass(slots=True)
class Task:
    """What one set of partitions keeps: its watermark, the windows of each key, and all rows that were in time for some window."""

    watermark: int | None = None
    windows: dict[Key, dict[int, list[Item]]] = field(default_factory=lambda: defaultdict(dict))
    kept: dict[Key, list[Item]] = field(default_factory=lambda: defaultdict(list))


class Sliding(Aggregate):
    """Groups in sliding windows; one task over all partitions, or one a partition."""

    def __init__(
        self,
        upstream: Node,
        by: Sequence[str],
        aggregations: Sequence[Aggregation],
        *,
        window: Window,
        final: bool,
        partitions: int | None,
    ) -> None:
        super().__init__(upstream, by, aggregations, window=window, final=final, partitions=partitions)
        self.sliding = window
        self.tasks = {which: Task() for which in self.tasks}

    def _take(self, task: Task, which: int | None, items: list[Item], moment: Moment) -> list[Item]:
        found = []
        for item in items:
            key = tuple(item.row[name] for name in self.by)
            changed, late = self._place(task, key, item)
            if late:
                bounds = {**self.sliding.bounds(self.sliding.left(item.time)), "watermark": task.watermark}
                self.late.append(Late({**item.row, **bounds}, item.time, item.partition))
                moment.missed = moment.missed or not item.made
            if changed:
                moment.reached = moment.reached or not item.made
            if not self.final:
                for start in changed:
                    rows = task.windows[key][start]
                    found.append(self._result((start, key), rows, max(row.time for row in rows), which))
        return found

    def _place(self, task: Task, key: Key, item: Item) -> tuple[list[int], bool]:
        """Put a row into the windows that it belongs to: return the starts of those that changed, and whether it is late for its own."""
        time, size, windows, kept = item.time, self.sliding.size, task.windows[key], task.kept[key]
        own = self.sliding.left(time)
        to_be = [own] + [row.time + 1 for row in kept]  # its left window, and the right ones of rows before it
        holding = {start for start in [*windows, *to_be] if start <= time <= start + size and self._open(task, start)}
        for start in holding:
            if start not in windows:
                windows[start] = [row for row in kept if start <= row.time <= start + size]
            windows[start].append(item)
        changed = sorted(holding)
        if holding:
            kept.append(item)
            after = [row for row in kept if time + 1 <= row.time <= time + 1 + size]
            if after and time + 1 not in windows and self._open(task, time + 1):
                windows[time + 1] = after
                changed.append(time + 1)
        return changed, own not in holding

    def _open(self, task: Task, start: int) -> bool:
        return task.watermark is None or start + self.sliding.size + self.sliding.grace >= task.watermark

    def _close(self, task: Task, which: int | None, *, everything: bool) -> list[Item]:
        closed = [
            (start, key)
            for key, windows in task.windows.items()
            for start in windows
            if everything or not self._open(task, start)
        ]
        closed.sort(key=lambda group: (group[0], order(group[1])))
        rows = {(start, key): task.windows[key].pop(start) for start, key in closed}
        if not self.final:
            return []
        return [self._result(group, rows[group], group[0] + self.sliding.size, which) for group in closed]
