"""Which partitions are idle, by the wall clock: silent for long enough, with nothing left to fetch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streamlab.engine.stream_time import NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamlab.engine.batch import Rows

LIVE_MS = 600_000
"""A stream is live when its newest records come within this of their event time."""


@dataclass(slots=True)
class Idleness:
    """Arrival times of one source's partitions, kept in the checkpoint so that idleness spans runs.

    Parameters
    ----------
    timeout
        Milliseconds of silence after which a partition is idle; None: never.
    """

    timeout: int | None
    last: dict[int, int] = field(default_factory=dict)  # partition -> wall clock of its newest record
    newest: dict[int, int] = field(default_factory=dict)  # partition -> largest event time
    behind: dict[int, int] = field(default_factory=dict)  # partition -> how far behind the wall clock that one came
    empty: set[int] = field(default_factory=set)  # partitions that had nothing when they were assigned

    def assigned(self, now: int, bounds: Mapping[int, tuple[int, int]], positions: Mapping[int, int]) -> None:
        """Take note of partitions: one without any record is idle at once."""
        for partition, (low, high) in bounds.items():
            if low == high and positions.get(partition, 0) >= high and partition not in self.last:
                self.empty.add(partition)
            self.last.setdefault(partition, now)

    def heard(self, now: int, rows: Rows) -> None:
        """Take note of records."""
        reached = np.full(int(rows.partition.max()) + 1, -1, np.int64)
        np.maximum.at(reached, rows.partition, rows.time)
        for partition in np.flatnonzero(reached >= 0).tolist():
            self.last[partition] = now
            self.empty.discard(partition)
            time = int(reached[partition])
            if time >= self.newest.get(partition, 0):  # a straggler does not make a live stream a history
                self.newest[partition], self.behind[partition] = time, now - time

    def unheard(self, ms: int) -> None:
        """Leave out a time in which a broker was away: nobody could be heard, so nobody was silent."""
        self.last = {partition: at + ms for partition, at in self.last.items()}

    def idle(self, now: int, positions: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
        """Return the idle partitions, each with how long beyond the timeout a live one has been silent (NEVER if not live)."""
        if self.timeout is None:
            return {}
        found = {}
        for partition, last in self.last.items():
            silent = now - last
            at_end = positions.get(partition, 0) >= ends.get(partition, 0)
            if at_end and (partition in self.empty or silent >= self.timeout):
                live = abs(self.behind.get(partition, LIVE_MS + 1)) <= LIVE_MS
                found[partition] = silent - self.timeout if live else NEVER
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        times = {"last": self.last, "newest": self.newest, "behind": self.behind}
        return {name: {str(p): t for p, t in kept.items()} for name, kept in times.items()} | {
            "empty": sorted(self.empty)
        }

    def load(self, value: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        self.last, self.newest, self.behind = (
            {int(p): t for p, t in value[name].items()} for name in ("last", "newest", "behind")
        )
        self.empty = set(value["empty"])
