"""Event-time progress: stream times of partitions, idleness, and the watermark at every record.

Stream time of a partition is the largest event time seen in it. The watermark of an operator is the minimum of the stream times of the
partitions that feed it, those that are idle left out, and never goes back. It is exact at every record and cheap per batch: the
watermark at single records is worked out only when someone asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from streamlab.engine.batch import MADE, Bools, Ints, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NEVER = -(1 << 62)
"""A watermark before the first record: smaller than every event time, with room to subtract a grace."""

OPEN = 1 << 62
"""Later than every event time: it holds nothing back."""


@dataclass(frozen=True)
class Signal:
    """What one micro-batch says about the progress of one source: where its partitions stood, and the records that moved them.

    Parameters
    ----------
    index, partition, time
        The records, in order of arrival.
    start, idle_before
        Stream time and idleness of each partition before them.
    end, idle_after
        The same after them.
    quiet
        By partition: how much longer than its idle timeout a partition of a live stream has been silent, in milliseconds; else NEVER.
    """

    index: Ints
    partition: Ints
    time: Ints
    start: Ints
    idle_before: Bools
    end: Ints
    idle_after: Bools
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
        low = np.full(len(upto), OPEN, np.int64)
        for partition, (start, idle) in enumerate(zip(self.start, self.idle_before, strict=True)):
            mine = np.flatnonzero(self.partition == partition)
            steps = np.concatenate([[OPEN if idle else start], self.reached[mine]])
            np.minimum(low, steps[np.searchsorted(self.index[mine], upto, side="right")], out=low)
        return low

    @property
    def final(self) -> int:
        """The smallest stream time after the batch; OPEN when all partitions are idle."""
        return int(self.end[~self.idle_after].min(initial=OPEN))

    @property
    def by_wall_clock(self) -> int:
        """The watermark by the wall clock when all partitions of a live stream went quiet: largest stream time + time of silence."""
        quiet = self.quiet[self.quiet != NEVER]
        if not len(quiet) or not self.idle_after.all():
            return NEVER
        return int(self.end.max() + quiet.min())

    @property
    def lanes(self) -> Ints:
        """The watermark of each partition on its own."""
        return np.where(self.idle_after & (self.quiet != NEVER) & (self.end != NEVER), self.end + self.quiet, self.end)


class Watermarks(Protocol):
    """An operator's watermark over one micro-batch, by lane: a lane is a task, and has a watermark of its own."""

    before: Ints
    after: Ints

    def at(self, rows: Rows, lane: Ints) -> Ints:
        """Return the watermark of a row's lane right after the record that the row comes from."""
        ...


@dataclass(frozen=True)
class Merged:
    """One lane fed by all partitions of all its signals."""

    signals: Sequence[Signal | Shifted]
    before: Ints
    after: Ints

    def at(self, rows: Rows, lane: Ints) -> Ints:  # noqa: ARG002  # there is only one lane
        """Return the watermark right after each row's record; rows made by operators are judged by the one before the batch."""
        upto = np.unique(rows.index)
        low = np.minimum.reduce([signal.low(upto) for signal in self.signals])
        low[low == OPEN] = NEVER  # all idle: it stays as it stands
        reached = np.maximum(np.maximum.accumulate(low), self.before[0])
        if len(upto) and upto[0] == MADE:
            reached[0] = self.before[0]
        return reached[np.searchsorted(upto, rows.index)]


@dataclass(frozen=True)
class Laned:
    """One lane per partition of one source."""

    signal: Signal | Shifted
    before: Ints
    after: Ints

    def at(self, rows: Rows, lane: Ints) -> Ints:
        """Return the stream time of each row's partition right after its record."""
        if isinstance(self.signal, Shifted):  # only operators feed this one: their rows are never late
            return self.before[lane]
        at = np.searchsorted(self.signal.index, rows.index)
        found = np.maximum(self.signal.reached[np.minimum(at, len(self.signal.index) - 1)], self.before[lane])
        return np.where(rows.index == MADE, self.before[lane], found)


@dataclass(frozen=True)
class Shifted:
    """The watermark that an operator passes on: the smallest event time that it can still emit."""

    watermarks: Merged | Laned
    delay: int

    def low(self, upto: Ints) -> Ints:
        """Return the smallest watermark over the operator's lanes right after each arrival index."""
        source = self.watermarks
        if isinstance(source, Laned):
            return _shift(source.signal.low(upto), self.delay)
        low = np.minimum.reduce([signal.low(upto) for signal in source.signals])
        low[low == OPEN] = NEVER
        return _shift(np.maximum(np.maximum.accumulate(low), source.before[0]), self.delay)

    @property
    def final(self) -> int:
        """The smallest watermark after the batch."""
        heard = self.watermarks.after
        return int(_shift(heard, self.delay).min(initial=OPEN))

    @property
    def by_wall_clock(self) -> int:
        """An operator has no wall clock of its own: its input's is in its watermark already."""
        return NEVER

    @property
    def lanes(self) -> Ints:
        """The watermark of each lane after the batch."""
        return _shift(self.watermarks.after, self.delay)


def _shift(values: Ints, delay: int) -> Ints:
    return np.where((values == NEVER) | (values == OPEN), values, values - delay)


@dataclass
class Gate:
    """An operator's memory of its watermark, which never goes back."""

    laned: bool
    watermark: Ints = field(default_factory=lambda: np.full(1, NEVER, np.int64))

    def advance(self, signals: Sequence[Signal | Shifted]) -> Merged | Laned:
        """Return the watermarks over a micro-batch and remember the last."""
        before = self.watermark
        if self.laned:
            (signal,) = signals
            before = _grown(before, len(signal.lanes), NEVER)
            self.watermark = np.maximum(before, signal.lanes)
            return Laned(signal, before, self.watermark)
        low = min(signal.final for signal in signals)
        if low == OPEN:
            low = max(signal.by_wall_clock for signal in signals)
        self.watermark = np.maximum(before, low)
        return Merged(signals, before, self.watermark)

    def to_json(self) -> list[int]:
        """Return the watermark of each lane."""
        return [int(value) for value in self.watermark]

    def load(self, value: Sequence[int]) -> None:
        """Go on from what `to_json` gave."""
        self.watermark = np.array(value, np.int64)


@dataclass
class Clock:
    """Stream times and idleness of the partitions of one source, or of a stream whose event time was changed."""

    stream_time: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    idle: Bools = field(default_factory=lambda: np.empty(0, np.bool_))
    quiet: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def ensure(self, partitions: int) -> None:
        """Know at least so many partitions; one that is new has not spoken yet."""
        self.stream_time = _grown(self.stream_time, partitions, NEVER)
        self.quiet = _grown(self.quiet, partitions, NEVER)
        self.idle = np.concatenate([self.idle, np.zeros(max(0, partitions - len(self.idle)), np.bool_)])

    def set_idle(self, idle: Mapping[int, int]) -> None:
        """Say which partitions are idle now, each with its `quiet` (see `Signal`)."""
        self.ensure(max(idle, default=-1) + 1)
        self.idle = np.zeros(len(self.idle), np.bool_)
        self.quiet = np.full(len(self.quiet), NEVER, np.int64)
        for partition, quiet in idle.items():
            self.idle[partition], self.quiet[partition] = True, quiet

    def follow(self, other: Clock) -> None:
        """Take idleness from the clock of the source."""
        self.ensure(len(other.idle))
        self.idle, self.quiet = other.idle.copy(), other.quiet.copy()

    def advance(self, rows: Rows) -> Signal:
        """Take in the records of a micro-batch."""
        self.ensure(int(rows.partition.max(initial=-1)) + 1)
        start, idle_before = self.stream_time, self.idle
        if rows.height:
            self.stream_time, self.idle = start.copy(), idle_before.copy()
            np.maximum.at(self.stream_time, rows.partition, rows.time)
            self.idle[rows.partition] = False
        return Signal(
            rows.index, rows.partition, rows.time, start, idle_before, self.stream_time, self.idle, self.quiet
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"stream_time": self.stream_time.tolist(), "idle": self.idle.tolist()}

    def load(self, value: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        self.stream_time = np.array(value["stream_time"], np.int64)
        self.idle = np.array(value["idle"], np.bool_)
        self.quiet = np.full(len(self.idle), NEVER, np.int64)


def _grown(values: Ints, size: int, fill: int) -> Ints:
    return values if len(values) >= size else np.concatenate([values, np.full(size - len(values), fill, np.int64)])
