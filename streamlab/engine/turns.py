"""Every record at its own turn: what the watermark was then, and when within a batch it passed a time.

A batch is worked on as a whole, and must give what its records one by one would have given. So what a record sees is judged by the
watermark right after it, not by the one at the end of the batch; the end is asked first, and single records only where it matters.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.batch import LAST, MADE, Rows
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.engine.watermark import Laned

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Merged

END = OPEN
"""After every arrival index: the watermark moved with no record, by the wall clock."""


def made_at(moments: Ints) -> Ints:
    """Return the arrival indices of what operators make when the records at some moments have moved the watermark.

    Examples
    --------
    >>> made_at(np.array([MADE, 1, 7, END])).tolist() == [MADE, 0, 6, LAST]
    True
    """
    made: Ints = np.minimum(moments & ~1, LAST)
    return made


class Turns:
    """The records of a batch, over all inputs of an operator, by turn: their place in the order of arrival.

    Parameters
    ----------
    watermarks
        Those of the operator over the batch.
    index, lane
        Of each record, by turn: where it arrived, and its lane.
    """

    def __init__(self, watermarks: Merged | Laned, index: Ints, lane: Ints) -> None:
        self._watermarks, self.index, self.lane = watermarks, index, lane

    @cached_property
    def watermark(self) -> Ints:
        """The watermark at each turn: right after a record, or before it for what an operator made at its turn."""
        watermarks = self._watermarks
        if isinstance(watermarks, Laned):
            none = pl.DataFrame()
            return watermarks.at(Rows(none, self.index, self.lane, self.index, self.index), self.lane)
        reached = watermarks.low(self.index)
        reached[self.index == MADE] = watermarks.before[0]
        return reached

    def passed(self, deadline: Ints, turn: Ints) -> Bools:
        """Return which deadlines are before the watermark at a turn."""
        found: Bools = deadline < self._watermarks.after[self.lane[turn]]
        suspects = np.flatnonzero(found)
        if len(suspects):
            found[suspects] = deadline[suspects] < self.watermark[turn[suspects]]
        return found

    def moments(self, deadline: Ints, lane: Ints) -> Ints:
        """Return where the record arrived that moved the watermark past each deadline, which it has passed by the end of the batch."""
        found = np.full(len(deadline), END, np.int64)
        if not len(deadline):
            return found
        watermarks = self._watermarks
        source = watermarks.signal if isinstance(watermarks, Laned) else watermarks
        moments = np.sort(source.moments, kind="stable")
        for one in np.flatnonzero(np.bincount(lane)).tolist():
            mine = np.flatnonzero(lane == one)
            at = np.searchsorted(_line(watermarks, one, moments), deadline[mine], side="right")
            within = at < len(moments)
            found[mine[within]] = moments[at[within]]
        return found

    def places(self, moments: Ints) -> Ints:
        """Return the turn before which something happens that a record has set off: before its own, but after rows that operators made."""
        return np.where(
            moments == MADE, np.searchsorted(self.index, moments, side="right"), np.searchsorted(self.index, moments)
        )


def _line(watermarks: Merged | Laned, lane: int, moments: Ints) -> Ints:
    """Return the watermark of a lane at each moment; it never goes back."""
    if not isinstance(watermarks, Laned):
        return watermarks.low(moments)
    values = watermarks.lane(lane, moments)
    line: Ints = np.maximum.accumulate(np.where(values == OPEN, NEVER, values))
    reached: Ints = np.maximum(line, watermarks.before[lane])
    return reached
