"""Rows that wait until the watermark has passed their time: sorted runs per lane, of which the beginning leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.held.slot_frame import own_texts
from streamlab.engine.operator import Changes, Holding
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamlab.engine.batch import Ints

TIME, ORDER = f"{RESERVED}time", f"{RESERVED}order"
"""Columns: event time, and place in the order of arrival since the beginning."""


@dataclass(slots=True)
class _Run:
    """Rows in order of time; those before `start` have left."""

    rows: pl.DataFrame
    times: Ints
    name: str | None = None  # as which it is in the last checkpoint, those that have left too
    start: int = 0

    def due(self, limit: int) -> pl.DataFrame:
        """Take the rows out that are no later than `limit`."""
        end = int(np.searchsorted(self.times, limit, side="right"))
        found = self.rows[self.start : max(end, self.start)]
        self.start = max(end, self.start)
        if 2 * self.start > len(self.times):
            self.rows, self.times, self.start = own_texts(self.rows[self.start :]), self.times[self.start :].copy(), 0
        return found

    @property
    def height(self) -> int:
        return len(self.times) - self.start


class Waiting:
    """Rows that wait, by lane."""

    def __init__(self) -> None:
        self._runs: dict[int, list[_Run]] = {}
        self._left: dict[int, int] = {}  # by lane: rows up to this time have left
        self._dropped: list[str] = []
        self._sequence = 0

    @property
    def lanes(self) -> list[int]:
        """Lanes in which rows wait."""
        return [lane for lane, runs in self._runs.items() if runs]

    def add(self, lane: int, rows: pl.DataFrame) -> None:
        """Let rows wait; they have the columns `TIME` and `ORDER`."""
        runs, parts = self._runs.setdefault(lane, []), [rows]
        while runs and runs[-1].name is None and runs[-1].height < 2 * sum(part.height for part in parts):
            run = runs.pop()
            parts.append(run.rows[run.start :])
        runs.append(_sorted(parts))

    def due(self, lane: int, limit: int) -> list[pl.DataFrame]:
        """Take out the rows of a lane that are no later than `limit`."""
        self._left[lane] = limit
        runs = self._runs.get(lane, [])
        found = [run.due(limit) for run in runs]
        self._dropped += [run.name for run in runs if not run.height and run.name is not None]
        self._runs[lane] = [run for run in runs if run.height]
        return [part for part in found if part.height]

    def changes(self, prefix: str) -> Changes:
        """Return what changed since the last call: runs that are new, and those that are gone or are part of a new one."""
        put = {}
        for lane, runs in self._runs.items():
            if not runs or runs[-1].name is not None:
                continue
            parts = []
            while runs and (runs[-1].name is None or runs[-1].height < 2 * sum(part.height for part in parts)):
                run = runs.pop()
                parts.append(run.rows[run.start :])
                self._dropped += [] if run.name is None else [run.name]
            run = _sorted(parts)
            self._sequence += 1
            run.name = f"{prefix}{lane:05d}/{self._sequence:012d}"
            runs.append(run)
            put[run.name] = run.rows
        dropped, self._dropped = self._dropped, []
        return Changes(put, dropped)

    def progress(self) -> Any:
        """Return the small part of the state that no frame holds, as JSON values."""
        return {"sequence": self._sequence, "left": [[lane, limit] for lane, limit in self._left.items()]}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        """Go on from frames and progress of a checkpoint."""
        self._sequence, self._left = progress["sequence"], dict(progress["left"])
        parts: dict[str, list[pl.DataFrame]] = {}
        for name, frame in frames:
            parts.setdefault(name, []).append(frame)
        for name in sorted(parts):
            lane = int(name.rpartition("/")[0][-5:])
            run = _sorted(parts[name])
            run.name = name
            if lane in self._left:
                run.due(self._left[lane])
            self._runs.setdefault(lane, []).append(run)

    def holding(self) -> Holding:
        """Return how much is held."""
        runs = [run for lane in self._runs.values() for run in lane]
        oldest = min((int(run.times[run.start]) for run in runs), default=None)
        return Holding(sum(r.height for r in runs), sum(int(r.rows.estimated_size()) for r in runs), oldest=oldest)


def _sorted(parts: list[pl.DataFrame]) -> _Run:
    rows = own_texts(pl.concat(parts).sort(TIME, ORDER))
    return _Run(rows, rows[TIME].to_numpy())
