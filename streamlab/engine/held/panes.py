"""Partial results by pane: a stretch of event time that no bound of a window cuts.

A pane has a list of partial results in order of arrival: appending is all that a record costs. Parts are combined when they outgrow older
ones, like the levels of an LSM tree, so that the work per record does not grow with the keys held. A pane is dropped whole.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from streamlab.engine.operator import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_MANY_ROWS = 250_000
"""Fewer appended rows than this are not worth combining between two checkpoints."""
_OUTGROWN = 3
"""How many times as many rows as were combined last must have come since then: combining keys of few rows each gains little."""


@dataclass(slots=True)
class Pane:
    """Partial results of one pane, in order of arrival: those in the last checkpoint by name, and those since."""

    kept: dict[str, pl.DataFrame] = field(default_factory=dict)
    fresh: list[pl.DataFrame] = field(default_factory=list)
    fresh_rows: int = 0
    combined_rows: int = 0

    def parts(self) -> list[pl.DataFrame]:
        return [*self.kept.values(), *self.fresh]


class Panes:
    """The panes of all lanes.

    Parameters
    ----------
    combine
        Puts parts together.
    """

    def __init__(self, combine: Callable[[Sequence[pl.DataFrame]], pl.DataFrame]) -> None:
        self._combine = combine
        self._held: dict[tuple[int, int], Pane] = {}
        self._starts: dict[int, list[int]] = defaultdict(list)  # by lane, ascending
        self._dropped: list[str] = []
        self.sequence = 0  # frames named so far

    def lanes(self) -> list[int]:
        """Return the lanes that have panes."""
        return [lane for lane, starts in self._starts.items() if starts]

    def starts(self, lane: int, low: int | None = None, high: int | None = None) -> list[int]:
        """Return where the panes of a lane start, ascending: all, or those in [low, high)."""
        starts = self._starts[lane]
        first = 0 if low is None else bisect_left(starts, low)
        return starts[first : len(starts) if high is None else bisect_left(starts, high)]

    def parts(self, lane: int, start: int) -> list[pl.DataFrame]:
        """Return the partial results of a pane, in order of arrival."""
        return self._held[lane, start].parts()

    def append(self, lane: int, start: int, part: pl.DataFrame) -> None:
        """Add partial results to a pane."""
        pane = self._pane(lane, start)
        pane.fresh.append(part)
        pane.fresh_rows += part.height
        if pane.fresh_rows > _OUTGROWN * max(_MANY_ROWS, pane.combined_rows):
            pane.fresh = [self._combine(pane.fresh)]
            pane.fresh_rows = pane.combined_rows = pane.fresh[0].height

    def drop(self, lane: int, before: int) -> None:
        """Forget the panes of a lane that start before a time."""
        starts = self._starts[lane]
        gone = bisect_left(starts, before)
        for start in starts[:gone]:
            self._dropped += self._held.pop((lane, start)).kept
        del starts[:gone]

    def changes(self) -> Changes:
        """Return what changed since the last call: a logarithmic number of frames a pane stays."""
        put = [(key, pane) for key, pane in self._held.items() if pane.fresh]
        frames = dict(self._fold(f"{lane:05d}/{start:015d}", pane) for (lane, start), pane in put)
        drop, self._dropped = self._dropped, []
        return Changes(frames, drop)

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]]) -> None:
        """Take in the frames of a checkpoint; those of one name may come in several parts."""
        for name, frame in frames:
            lane, start, _ = name.split("/")
            kept = self._pane(int(lane), int(start)).kept
            kept[name] = pl.concat([kept[name], frame]) if name in kept else frame

    def size(self) -> tuple[int, int]:
        """Return how many rows and bytes are held."""
        frames = [part for pane in self._held.values() for part in pane.parts()]
        return sum(frame.height for frame in frames), int(sum(frame.estimated_size() for frame in frames))

    def _pane(self, lane: int, start: int) -> Pane:
        if (lane, start) not in self._held:
            self._held[lane, start] = Pane()
            insort(self._starts[lane], start)
        return self._held[lane, start]

    def _fold(self, place: str, pane: Pane) -> tuple[str, pl.DataFrame]:
        """Make one named frame of what is fresh, and of older frames that it outgrows."""
        part = self._combine(pane.fresh)
        while pane.kept and next(reversed(pane.kept.values())).height < 2 * part.height:
            name, older = pane.kept.popitem()
            part = self._combine([older, part])
            self._dropped.append(name)
        self.sequence += 1
        name = f"{place}/{self.sequence:012d}"
        pane.kept[name] = part
        pane.fresh, pane.fresh_rows, pane.combined_rows = [], 0, 0
        return name, part
