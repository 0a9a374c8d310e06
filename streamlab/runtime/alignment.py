"""Watermark alignment: partitions far ahead of the slowest are held back, so that a replay does not hold the whole backlog as open windows.

Apache Flink has the same under this name (FLIP-182). Here a partition may run ahead by what the plan's longest window spans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamlab.engine.stream_time import Clock
    from streamlab.plan.pipeline import Plan
    from streamlab.runtime.pump import Pump
    from streamlab.runtime.tasks import Task

Place = tuple[str, int]

LEAST = 1_000
"""Milliseconds of event time: a partition may always be so far ahead."""
STUCK = 10_000
"""Milliseconds of wall clock: a partition that gives nothing for so long holds nobody back."""


class Alignment:
    """Judges which partitions are to wait.

    Parameters
    ----------
    plan
        Its longest window, or reach of a join, is how far ahead a partition may be; a plan without any needs no alignment.
    """

    def __init__(self, plan: Plan) -> None:
        reach = max((node.reach for node in plan.nodes() if isinstance(node, Stateful)), default=0)
        tables = {source.topic for source in plan.sources if source.is_table}
        self._tables = tables
        self.margin = max(reach, LEAST) if reach and len(plan.sources) > len(tables) else None
        self._moved: dict[Place, tuple[int, int]] = {}  # stream time, and when it last changed

    def ahead(
        self,
        now: int,
        clocks: Mapping[str, Clock],
        positions: Mapping[str, Mapping[int, int]],
        ends: Mapping[str, Mapping[int, int]],
    ) -> frozenset[Place]:
        """Return the partitions that are ahead of the slowest that has more to give by more than the margin.

        One that has not spoken yet is the slowest.
        """
        if self.margin is None:
            return frozenset()
        times, slowest = dict[Place, int](), None
        for topic, at in positions.items():
            if topic in self._tables:  # a table never holds a stream back, and is wanted early
                continue
            for partition, position in at.items():
                place, time = (topic, partition), int(clocks[topic].stream_time[partition])
                times[place] = time
                if position < ends[topic].get(partition, position) and self._moves(place, time, now):
                    slowest = time if slowest is None else min(slowest, time)
        if slowest is None:
            return frozenset()
        return frozenset(place for place, time in times.items() if time > slowest + self.margin)

    def _moves(self, place: Place, time: int, now: int) -> bool:
        before, since = self._moved.get(place, (None, now))
        if before != time:
            since = now
        self._moved[place] = time, since
        return now - since < STUCK


class Aligned:
    """A task and its feed kept aligned: told after each batch, it tells the feed whom to hold back when that changes."""

    def __init__(self, plan: Plan, task: Task, pump: Pump) -> None:
        self._alignment, self._task, self._pump = Alignment(plan), task, pump
        self._held: frozenset[Place] = frozenset()

    def look(self, now: int) -> None:
        """Judge anew."""
        held = self._alignment.ahead(now, self._task.graph.clocks, self._task.positions, self._task.ends)
        if held != self._held:
            self._held = held
            self._pump.tell(lambda feed: feed.hold(held))
