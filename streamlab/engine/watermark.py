"""Event-time progress: stream times of partitions, idleness, and the watermark at every record.

Stream time of a partition is the largest event time seen in it. The watermark of an operator is the minimum of the stream times of the
partitions that feed it, those that are idle left out, and never goes back. It is exact at every record and cheap per batch: the
watermark at single records is worked out only when someone asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
        return _lowest([self._spoken(partition, upto) for partition in range(len(self.start))], upto)

    def lane(self, lane: int, upto: Ints) -> Ints:
        """Return the watermark of one partition on its own, right after each arrival index; OPEN while it stands still, idle."""
        spoken = self._spoken(lane, upto)
        if self.quiet[lane] == NEVER or self.end[lane] == NEVER:
            return spoken
        return np.where(spoken == OPEN, self.start[lane] + self.quiet[lane], spoken)

    def _spoken(self, partition: int, upto: Ints) -> Ints:
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

    @property
    def lanes(self) -> Ints:
        """The watermark of each partition on its own."""
        return np.where(self.idle & ~self.stands, self.end + self.quiet, self.end)


class Watermarks(Protocol):
    """An operator's watermark over one micro-batch, by lane: a lane is a task, and has a watermark of its own."""

    before: Ints
    after: Ints

    def at(self, rows: Rows, lane: Ints) -> Ints:
        """Return the watermark of a row's lane right after the record that the row comes from."""
        ...


@dataclass(frozen=True, eq=False)
class Merged:
    """One lane fed by all partitions of all its signals."""

    signals: Sequence[Signal | Shifted]
    before: Ints
    after: Ints

    def at(self, rows: Rows, lane: Ints) -> Ints:  # noqa: ARG002  # there is only one lane
        """Return the watermark right after each row's record; rows made by operators are judged by the one before the batch."""
        upto = np.unique(rows.index)
        reached = self.low(upto)
        if len(upto) and upto[0] == MADE:
            reached[0] = self.before[0]
        return reached[np.searchsorted(upto, rows.index)]

    def low(self, upto: Ints) -> Ints:
        """Return the watermark right after each arrival index; the indices must ascend."""
        moments = np.unique(np.concatenate([upto, self.moments])) if self.wakes else upto
        low = np.minimum.reduce([signal.low(moments) for signal in self.signals])
        low[low == OPEN] = NEVER  # all idle: it stays as it stands
        reached: Ints = np.maximum(np.maximum.accumulate(low), self.before[0])
        return reached[np.searchsorted(moments, upto)]

    @property
    def wakes(self) -> bool:
        """Whether the watermark may have been higher within the batch than what the partitions stand at after it."""
        return any(signal.wakes for signal in self.signals)

    @property
    def moments(self) -> Ints:
        """Arrival indices at which something moved."""
        return np.concatenate([signal.moments for signal in self.signals])


@dataclass(frozen=True, eq=False)
class Laned:
    """One lane per partition of one source."""

    signal: Signal | Shifted
    before: Ints
    after: Ints

    def at(self, rows: Rows, lane: Ints) -> Ints:
        """Return the stream time of each row's partition right after its record."""
        if isinstance(self.signal, Shifted):  # only operators feed this one: their rows are never late
            return self.before[lane]
        at = np.searchsorted(self.signal.index, rows.index, side="right") - 1  # a record may have several rows
        found = np.maximum(self.signal.reached[at], self.before[lane])
        return np.where(rows.index == MADE, self.before[lane], found)

    def low(self, upto: Ints) -> Ints:
        """Return the smallest watermark right after each arrival index, those lanes left out that stand still, idle."""
        return _lowest([self.lane(lane, upto) for lane in range(len(self.after))], upto)

    def lane(self, lane: int, upto: Ints) -> Ints:
        """Return the watermark of one lane right after each arrival index; OPEN while it stands still, idle."""
        reached: Ints = np.maximum(self.signal.lane(lane, upto), self.before[lane])
        return reached


@dataclass(frozen=True, eq=False)
class Shifted:
    """The watermark that an operator passes on: the smallest event time that it can still emit."""

    watermarks: Merged | Laned
    delay: int

    def low(self, upto: Ints) -> Ints:
        """Return the smallest watermark over the operator's lanes right after each arrival index."""
        return _shift(self.watermarks.low(upto), self.delay)

    def lane(self, lane: int, upto: Ints) -> Ints:
        """Return the watermark of one lane right after each arrival index; OPEN while it stands still, idle."""
        source = self.watermarks
        return _shift(source.lane(lane, upto) if isinstance(source, Laned) else source.low(upto), self.delay)

    @property
    def stands(self) -> Bools:
        """Which lanes stand still because their partition is idle: they have nothing to emit until it speaks again."""
        source = self.watermarks
        return source.signal.stands if isinstance(source, Laned) else np.zeros(1, np.bool_)

    @property
    def wakes(self) -> bool:
        """Whether the smallest watermark may have been higher within the batch than it is at its end."""
        source = self.watermarks
        return source.signal.wakes if isinstance(source, Laned) else source.wakes

    @property
    def moments(self) -> Ints:
        """Arrival indices at which something moved."""
        source = self.watermarks
        return source.signal.moments if isinstance(source, Laned) else source.moments

    @property
    def final(self) -> int:
        """The smallest watermark after the batch; OPEN when all lanes stand still."""
        return int(self.lanes[~self.stands].min(initial=OPEN))

    @property
    def silence(self) -> tuple[int, int]:
        """An operator has no wall clock of its own: its input's is in its watermark already."""
        return NEVER, OPEN

    @property
    def lanes(self) -> Ints:
        """The watermark of each lane after the batch."""
        return _shift(self.watermarks.after, self.delay)


def _lowest(lanes: Sequence[Ints], upto: Ints) -> Ints:
    lowest: Ints = np.minimum.reduce([*lanes, np.full(len(upto), OPEN, np.int64)])
    return lowest


def _shift(values: Ints, delay: int) -> Ints:
    shifted: Ints = np.where((values == NEVER) | (values == OPEN), values, values - delay)
    return shifted


def _by_wall_clock(signals: Sequence[Signal | Shifted]) -> int:
    """Return the watermark when all is idle: largest stream time + time since the last record beyond the timeout; NEVER if not live."""
    newest, quiet = zip(*(signal.silence for signal in signals), strict=True)
    return NEVER if min(quiet) == OPEN else max(newest) + min(quiet)


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
            low = _by_wall_clock(signals)
        merged = Merged(signals, before, np.maximum(before, low))
        if merged.wakes:
            merged = replace(merged, after=np.maximum(merged.after, merged.low(np.unique(merged.moments)).max()))
        self.watermark = merged.after
        return merged

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
    was_idle: Bools = field(default_factory=lambda: np.empty(0, np.bool_))
    quiet: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def ensure(self, partitions: int) -> None:
        """Know at least so many partitions; one that is new has not spoken yet."""
        self.stream_time = _grown(self.stream_time, partitions, NEVER)
        self.quiet = _grown(self.quiet, partitions, NEVER)
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


def _grown(values: Ints, size: int, fill: int) -> Ints:
    return values if len(values) >= size else np.concatenate([values, np.full(size - len(values), fill, np.int64)])
