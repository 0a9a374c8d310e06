"""Which windows of a fixed size cover a row, and which of those it is in time for.

Such windows start one every so often, so the ones that a row is in are a range of starts: from `first` to `last`, in time from `since` on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.batch import Rows, empty
from streamlab.plan.schema import TIME as TIME_TYPE
from streamlab.plan.schema import WATERMARK, WINDOW_END, WINDOW_START
from streamlab.plan.windows import Hopping, Tumbling

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Laned, Merged

Fixed = Tumbling | Hopping
"""Windows whose bounds do not depend on the rows."""


def starts_of(time: Ints, window: Fixed) -> Ints:
    """Return the newest start that is not after each time, be there such a window or not.

    Examples
    --------
    >>> from streamlab.plan.windows import tumbling
    >>> starts_of(np.array([0, 59_999, 60_000]), tumbling("1m")).tolist()
    [0, 0, 60000]
    """
    return (time - window.offset) // window.every * window.every + window.offset


def covering(time: Ints, window: Fixed) -> tuple[Ints, Ints]:
    """Return the first and the last start of the windows that cover each time.

    No window starts before 1970. But with an offset there is a time before the first start: it is covered by the window that starts
    right before 1970, cut off there.

    Examples
    --------
    >>> from streamlab.plan.windows import hopping
    >>> [starts.tolist() for starts in covering(np.array([0, 4, 10, 24]), hopping("10ms", every="5ms"))]
    [[0, 0, 5, 15], [0, 0, 10, 20]]
    """
    last = starts_of(time, window)
    lowest = window.offset - window.every if window.offset else 0
    first = last - (last + (window.size - 1) - time) // window.every * window.every
    return np.maximum(first, lowest), last


def panes_of(time: Ints, window: Fixed) -> Ints:
    """Return where the pane of each time starts.

    Examples
    --------
    >>> from streamlab.plan.windows import hopping
    >>> panes_of(np.array([0, 1, 2, 3, 6]), hopping("7ms", every="5ms")).tolist()  # windows begin at 0, 5, 10, end at 7, 12, 17
    [0, 0, 2, 2, 5]
    """
    starts, rest = starts_of(time, window), window.size % window.every
    return np.where(time - starts >= rest, starts + rest, starts) if rest else starts


def closed_by(watermark: Ints, window: Fixed) -> Ints:
    """Return the newest start of a window that each watermark has closed."""
    return starts_of(watermark - (window.size + window.grace), window)


def spread(low: Ints, high: Ints, every: int) -> tuple[Ints, Ints]:
    """Return each start from `low` to `high`, and the position that it comes from; none where `high` is below `low`.

    Examples
    --------
    >>> [part.tolist() for part in spread(np.array([0, 5, 5]), np.array([5, 0, 5]), 5)]
    [[0, 0, 2], [0, 5, 5]]
    """
    count = np.maximum((high - low) // every + 1, 0)
    which = np.repeat(np.arange(len(low)), count)
    ahead = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    return which, low[which] + ahead * every


def times(name: str, values: Ints) -> pl.Series:
    """Return milliseconds as a column of event times."""
    return pl.Series(name, values, pl.Int64).cast(TIME_TYPE)


def bounds(starts: Ints, window: Fixed) -> list[pl.Series]:
    """Return the columns that say where windows begin and end."""
    return [times(WINDOW_START, np.maximum(starts, 0)), times(WINDOW_END, starts + window.size)]


@dataclass(frozen=True, slots=True)
class Judged:
    """The windows of the rows of a batch, and what was late.

    Parameters
    ----------
    since, last
        Of each row: the first window that it is in time for, and the last that covers it; it is late for all where `since` is behind.
    late
        The rows that missed a window, once for each, with its bounds and the watermark that they missed it by.
    reached
        Arrival indices of the rows that are in time for some window.
    closing
        Positions of the rows with a window that the batch closes, or closed before.
    """

    since: Ints
    last: Ints
    late: Rows
    reached: Ints
    closing: Ints

    @property
    def in_time(self) -> Bools:
        """Which rows are in time for some window."""
        in_time: Bools = self.since <= self.last
        return in_time


def judge(rows: Rows, lane: Ints, window: Fixed, watermarks: Merged | Laned) -> Judged:
    """Find the windows of rows, each judged by the watermark at its own record: the end of the batch is asked first."""
    since, last = covering(rows.time, window)
    suspects = np.flatnonzero(since <= closed_by(watermarks.after, window)[lane])
    if not len(suspects):
        return Judged(since, last, late_rows(rows.take(suspects), suspects, window, suspects), rows.index, suspects)
    first, watermark = since[suspects], watermarks.at(_without_data(rows, suspects), lane[suspects])
    closed = closed_by(watermark, window)
    which, missed = spread(first, np.minimum(closed, last[suspects]), window.every)
    since[suspects] = np.maximum(first, closed + window.every)
    late = late_rows(rows.take(suspects[which]), missed, window, watermark[which])
    return Judged(since, last, late, rows.index[since <= last] if len(which) else rows.index, suspects)


def _without_data(rows: Rows, at: Ints) -> Rows:
    """Return when and where some rows came: their columns are not needed."""
    return Rows(pl.DataFrame(), rows.time[at], rows.partition[at], rows.offset[at], rows.index[at])


def late_rows(rows: Rows, starts: Ints, window: Fixed, watermark: Ints) -> Rows:
    """Return late rows with the bounds of the window that each missed, and the watermark that it missed it by."""
    return rows.with_data(rows.data.with_columns(*bounds(starts, window), times(WATERMARK, watermark)))


def none_late(schema: pl.Schema, window: Fixed) -> Rows:
    """Return no late rows, with all their columns."""
    none = np.empty(0, np.int64)
    return late_rows(empty(schema), none, window, none)
