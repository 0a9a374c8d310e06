"""Stream time of the partitions of a source, and which of them are idle.

Stream time of a partition is the largest event time seen in it; it never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from streamlab.engine.batch import MADE, Bools, Ints, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NEVER = -(1 << 62)
"""A watermark before the first record: smaller than every event time, with room to subtract a grace."""

OPEN = 1 << 62
"""Later than every event time: it holds nothing back."""

ALWAYS = MADE - 1
"""Before every arrival index."""


@dataclass(frozen=True, eq=False)
class Signal:
    """What one micro-batch says about the progress of one source: where its partitions stood, and the records that moved them.

    Parameters
    ----------
    index, partition, time
        The records, in order of arrival.
    start, end
        Stream time of each partition before and after them.
    awake
        By partition: the arrival index from which on it is not idle; OPEN: it stays idle.
    quiet
        By partition: how much longer than its idle timeout a partition of a live stream has been silent, in milliseconds, or was until
        it spoke again in this batch; else NEVER.
    """

    index: Ints
    partition: Ints
    time: Ints
    start: Ints
    end: Ints
    awake: Ints
    quiet: Ints

    @cached_property
    def reached(self) -> Ints:
        """Stream time of each record's partition right after it."""
        if not len(self.time):
            return self.time
        order = np.argsort(self.partition, kind="stable")
        times, bounds = self.time[order], np.flatnonzero(np.diff(self.partition[order], prepend=-1))
        for first, last in zip(bounds, [*bounds[1:], len(times)], strict=True):
            times[first:last] = np.maximum(
                np.maximum.accumulate(times[first:last]), self.start[self.partition[order[first]]]
            )
        out = np.empty_like(times)
        out[order] = times
        return out

    def low(self, upto: Ints) -> Ints:
        """Return the smallest stream time of the partitions that are not idle, right after each arrival index in `upto`."""
        return lowest([self.spoken(partition, upto) for partition in range(len(self.start))], upto)

    def lane(self, lane: int, upto: Ints) -> Ints:
        """Return the watermark of one partition on its own, right after each arrival index; OPEN while it stands still, idle."""
        spoken = self.spoken(lane, upto)
        if self.quiet[lane] == NEVER or self.end[lane] == NEVER:
            return spoken
        return np.where(spoken == OPEN, self.start[lane] + self.quiet[lane], spoken)

    def spoken(self, partition: int, upto: Ints) -> Ints:
        """Return the stream time of one partition right after each arrival index; OPEN while it is idle."""
        if partition >= len(self.start):
            return np.full(len(upto), OPEN, np.int64)
        mine = np.flatnonzero(self.partition == partition)
        steps = np.concatenate([self.start[[partition]], self.reached[mine]])
        reached = steps[np.searchsorted(self.index[mine], upto, side="right")]
        return np.where(upto < self.awake[partition], OPEN, reached)

    @property
    def idle(self) -> Bools:
        """Which partitions are idle after the batch."""
        idle: Bools = self.awake == OPEN
        return idle

    @property
    def stands(self) -> Bools:
        """Which partitions are idle after the batch, and do not go on by the wall clock either."""
        stands: Bools = self.idle & ((self.quiet == NEVER) | (self.end == NEVER))
        return stands

    @property
    def wakes(self) -> bool:
        """Whether a partition stops being idle within the batch: then the watermark may have been higher than it is at its end."""
        return bool(((self.awake != ALWAYS) & ~self.idle).any())

    @property
    def moments(self) -> Ints:
        """Arrival indices at which something moved, and one before the first: partitions may have gone idle since the last batch."""
        return np.concatenate([[MADE], self.index, self.awake[(self.awake != ALWAYS) & ~self.idle]])

    @property
    def final(self) -> int:
        """The smallest stream time after the batch; OPEN when all partitions are idle."""
        return int(self.end[~self.idle].min(initial=OPEN))

    @property
    def silence(self) -> tuple[int, int]:
        """Of partitions that went quiet on a live stream: the largest stream time, and for how long the last of them has been silent."""
        quiet = self.quiet[self.quiet != NEVER]
        return (int(self.end.max()), int(quiet.min())) if len(quiet) else (NEVER, OPEN)

    def quieted(self, lane: int) -> tuple[int, int]:
        """As `silence`, of one partition: where it stood before the batch, and for how long it has been silent."""
        silent = lane < len(self.quiet) and self.quiet[lane] != NEVER
        return (int(self.start[lane]), int(self.quiet[lane])) if silent else (NEVER, OPEN)

    @property
    def lanes(self) -> Ints:
        """The watermark of each partition on its own."""
        return np.where(self.idle & ~self.stands, self.end + self.quiet, self.end)


_NONE = np.empty(0, np.int64)

STILL = Signal(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE)
"""The signal of a table that is no topic: no partition, so it holds nothing back and moves nothing."""


@dataclass
class Clock:
    """Stream times and idleness of the partitions of one source, or of a stream whose event time was changed."""

    stream_time: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    idle: Bools = field(default_factory=lambda: np.empty(0, np.bool_))
    was_idle: Bools = field(default_factory=lambda: np.empty(0, np.bool_))
    quiet: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def ensure(self, partitions: int) -> None:
        """Know at least so many partitions; one that is new has not spoken yet."""
        self.stream_time = grown(self.stream_time, partitions, NEVER)
        self.quiet = grown(self.quiet, partitions, NEVER)
        self.idle = np.concatenate([self.idle, np.zeros(max(0, partitions - len(self.idle)), np.bool_)])
        self.was_idle = np.concatenate([self.was_idle, np.zeros(max(0, partitions - len(self.was_idle)), np.bool_)])

    def set_idle(self, idle: Mapping[int, int]) -> None:
        """Say which partitions are idle now, each with its `quiet` (see `Signal`)."""
        self.ensure(max(idle, default=-1) + 1)
        self.was_idle, self.idle = self.idle, np.zeros(len(self.idle), np.bool_)
        # one that speaks again in this batch went on by the wall clock until then
        self.quiet = np.where(self.was_idle, self.quiet, NEVER)
        for partition, quiet in idle.items():
            self.idle[partition], self.quiet[partition] = True, quiet

    def advance(self, rows: Rows) -> Signal:
        """Take in the records of a micro-batch; a partition that was idle speaks again at its first one, not when the batch begins."""
        self.ensure(int(rows.partition.max(initial=-1)) + 1)
        first = np.full(len(self.idle), OPEN, np.int64)
        np.minimum.at(first, rows.partition, rows.index)
        awake = np.where(self.idle | (self.was_idle & (first != OPEN)), first, ALWAYS)
        self.idle = awake == OPEN
        return self._signal(rows, awake)

    def follow(self, source: Signal, rows: Rows) -> Signal:
        """Take in the rows of a micro-batch; idle are the partitions that are idle in the source."""
        self.ensure(len(source.awake))
        self.idle, self.quiet = source.idle, source.quiet
        return self._signal(rows, source.awake)

    def _signal(self, rows: Rows, awake: Ints) -> Signal:
        start, self.stream_time = self.stream_time, self.stream_time.copy()
        np.maximum.at(self.stream_time, rows.partition, rows.time)
        return Signal(rows.index, rows.partition, rows.time, start, self.stream_time, awake, self.quiet)

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"stream_time": self.stream_time.tolist(), "idle": self.idle.tolist(), "quiet": self.quiet.tolist()}

    def load(self, value: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        self.stream_time = np.array(value["stream_time"], np.int64)
        self.idle = self.was_idle = np.array(value["idle"], np.bool_)
        self.quiet = np.array(value["quiet"], np.int64)


def lowest(lanes: Sequence[Ints], upto: Ints) -> Ints:
    """Return the smallest of several lanes at each arrival index; OPEN where there is none."""
    found: Ints = np.minimum.reduce([*lanes, np.full(len(upto), OPEN, np.int64)])
    return found


def grown(values: Ints, size: int, fill: int) -> Ints:
    """Return values, made longer with `fill` where there are fewer than `size`."""
    return values if len(values) >= size else np.concatenate([values, np.full(size - len(values), fill, np.int64)])
