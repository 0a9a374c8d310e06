"""The watermark of an operator at every record.

It is the minimum of the stream times of the partitions that feed it, those that are idle left out, and never goes back. It is exact at
every record and cheap per batch: the watermark at single records is worked out only when someone asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from streamlab.engine.batch import MADE, Bools, Ints, Rows
from streamlab.engine.held.key_index import distinct
from streamlab.engine.stream_time import NEVER, OPEN, Signal, grown, lowest

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAST = OPEN - 1
"""After every arrival index."""


@dataclass(frozen=True, eq=False)
class Coupled:
    """Lanes fed by the same partition of several sources: the smallest stream time of those that are not idle, for each lane."""

    signals: Sequence[Signal | Shifted]

    def lane(self, lane: int, upto: Ints) -> Ints:
        """Return the watermark of one lane right after each arrival index; OPEN while all of it stands still, idle."""
        moments = np.unique(np.concatenate([upto, self.moments])) if self.wakes else upto
        low = np.minimum.reduce([signal.spoken(lane, moments) for signal in self.signals])
        if (low == OPEN).any():
            newest, quiet = zip(*(signal.quieted(lane) for signal in self.signals), strict=True)
            low = np.where(low == OPEN, OPEN if min(quiet) == OPEN else max(newest) + min(quiet), low)
        if not self.wakes:
            return cast("Ints", low)
        reached = np.maximum.accumulate(np.where(low == OPEN, NEVER, low))  # it never goes back
        return np.where(low == OPEN, OPEN, reached)[np.searchsorted(moments, upto)]

    @cached_property
    def lanes(self) -> Ints:
        """The watermark of each lane after the batch."""
        last = np.array([_LAST], np.int64)
        ends = np.array([self.lane(lane, last)[0] for lane in range(self._width)], np.int64)
        return np.where(ends == OPEN, NEVER, ends)

    @property
    def stands(self) -> Bools:
        """Which lanes stand still because all their partitions are idle."""
        stands: Bools = np.logical_and.reduce([_padded(signal.stands, self._width) for signal in self.signals])
        return stands

    @property
    def wakes(self) -> bool:
        """Whether a partition stops being idle within the batch."""
        return any(signal.wakes for signal in self.signals)

    @property
    def moments(self) -> Ints:
        """Arrival indices at which something moved."""
        return np.concatenate([signal.moments for signal in self.signals])

    @property
    def _width(self) -> int:
        return max(len(signal.lanes) for signal in self.signals)


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
        """Return the watermark at each row's place in the order of arrival."""
        upto = distinct(rows.index)
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

    signal: Signal | Shifted | Coupled
    before: Ints
    after: Ints

    def at(self, rows: Rows, lane: Ints) -> Ints:
        """Return the watermark of each row's lane right after its record."""
        if isinstance(self.signal, Shifted | Coupled):
            return self._at(rows, lane)
        at = np.searchsorted(self.signal.index, rows.index, side="right") - 1  # a record may have several rows
        found = np.maximum(self.signal.reached[at], self.before[lane])
        return np.where(rows.index == MADE, self.before[lane], found)

    def _at(self, rows: Rows, lane: Ints) -> Ints:
        found = self.before[lane]
        for one in np.unique(lane):
            mine = (lane == one) & (rows.index != MADE)
            upto, back = np.unique(rows.index[mine], return_inverse=True)
            reached = self.signal.lane(int(one), upto)
            found[mine] = np.maximum(np.where(reached == OPEN, NEVER, reached), self.before[one])[back]
        return found

    def low(self, upto: Ints) -> Ints:
        """Return the smallest watermark right after each arrival index, those lanes left out that stand still, idle."""
        return lowest([self.lane(lane, upto) for lane in range(len(self.after))], upto)

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

    def spoken(self, lane: int, upto: Ints) -> Ints:
        """As `lane`; a lane that the operator has not seen yet holds nothing back."""
        width = len(self.watermarks.after) if isinstance(self.watermarks, Laned) else OPEN
        return self.lane(lane, upto) if lane < width else np.full(len(upto), OPEN, np.int64)

    def quieted(self, lane: int) -> tuple[int, int]:  # noqa: ARG002  # its input's wall clock is in its watermark already
        """Return that an operator has no wall clock of its own."""
        return NEVER, OPEN

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


def _padded(stands: Bools, width: int) -> Bools:
    """Return which lanes stand still, those too that there are none of."""
    return np.concatenate([stands, np.ones(width - len(stands), np.bool_)])


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
            signal = signals[0] if len(signals) == 1 else Coupled(signals)
            before = grown(before, len(signal.lanes), NEVER)
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
