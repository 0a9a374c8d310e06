"""Which windows a row of sliding windows is in time for.

A row at `t` stands in windows that end from `t` on (its own ends there; at the epoch with the first that there can be) to `t + size`. At
its turn windows that end before `W - grace` are closed. So a row is in time for its own window and all others; or it is late for its own,
and in time for those that end from `since` on, if there is one by then: another row's, or one that follows a row before it. If there is
none, the row leaves no trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.aggregates import LANE
from streamlab.engine.batch import Rows, empty
from streamlab.engine.held.near import Lowest, Near
from streamlab.engine.operators.shared.covering import times
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.plan.schema import WATERMARK, WINDOW_END, WINDOW_START

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.operators.sliding.rows import SlidingRows
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.windows import Sliding

_STORED = -1
"""The arrival of rows that came with an earlier batch."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is in time for some window, and what is late for its own.

    Parameters
    ----------
    rows, slots
        The rows that are kept, and the slots of their keys.
    since
        The first end of a window that each of them is in time for; 0: of any.
    late
        The rows that missed their own window, with its bounds and the watermark that they missed it by; some of them are kept.
    """

    rows: Rows
    slots: Ints
    since: Ints
    late: Rows


def left_end(time: Ints, window: Sliding) -> Ints:
    """Return where the window ends that ends with each time: no window starts before the epoch.

    Examples
    --------
    >>> from streamlab.plan.windows import sliding
    >>> left_end(np.array([3, 17]), sliding("10ms")).tolist()
    [10, 17]
    """
    return np.maximum(time, window.size)


def closed_before(watermark: Ints, window: Sliding) -> Ints:
    """Return before which end a window is closed by each watermark."""
    return np.where(watermark == NEVER, NEVER, watermark - window.grace)


def late_rows(rows: Rows, window: Sliding, watermark: Ints) -> Rows:
    """Return late rows with the bounds of their own window, and the watermark that they missed it by."""
    end = left_end(rows.time, window)
    bounds = [times(WINDOW_START, end - window.size), times(WINDOW_END, end), times(WATERMARK, watermark)]
    return rows.with_data(rows.data.with_columns(bounds))


def none_late(schema: pl.Schema, window: Sliding) -> Rows:
    """Return no late rows, with all their columns."""
    return late_rows(empty(schema), window, np.empty(0, np.int64))


def judge(
    rows: Rows,
    window: Sliding,
    watermarks: Merged | Laned,
    kept: SlidingRows,
    keys: Callable[[Rows], pl.DataFrame],
) -> Judged:
    """Judge rows, each by the watermark at its own record: the end of the batch is asked first."""
    lane = keys(rows)[LANE].to_numpy()
    suspects = np.flatnonzero(left_end(rows.time, window) + window.grace < watermarks.after[lane])
    few = rows.take(suspects)
    watermark = watermarks.at(few, lane[suspects]) if len(suspects) else suspects
    since = closed_before(watermark, window)
    missed = left_end(few.time, window) < since
    if not missed.any():
        return Judged(rows, kept.slots(keys(rows)), np.zeros(rows.height, np.int64), none_late(few.data.schema, window))
    late = late_rows(few.filter(missed), window, watermark[missed])
    suspects, since = suspects[missed], since[missed]
    ends = np.zeros(rows.height, np.int64)
    ends[suspects] = since
    stays = ends <= rows.time + window.size  # else no window it could be in is open
    rows, ends = rows.filter(stays), ends[stays]
    slots = kept.slots(keys(rows))
    held = _held(rows.time, slots, ends, window, kept)
    return Judged(rows.filter(held), slots[held], ends[held], late)


def _held(time: Ints, slots: Ints, since: Ints, window: Sliding, kept: SlidingRows) -> Bools:
    """Return which rows find a window: those late for their own need a row before them that has one, or a later row's own."""
    held: Bools = since == 0
    unsure = np.flatnonzero(~held)
    if not len(unsure):
        return held
    touched = np.unique(slots[unsure])
    which, numbers = kept.of(touched)
    mine = np.flatnonzero(np.isin(slots, touched))
    near = Near(
        np.concatenate([which, np.searchsorted(touched, slots[mine])]), np.concatenate([kept.time[numbers], time[mine]])
    )
    arrival = np.concatenate([np.full(len(numbers), _STORED), mine])[near.order]
    while len(unsure):  # a row that is held may be what another one needs
        lowest = Lowest(np.where((arrival == _STORED) | held[arrival], arrival, OPEN), OPEN)
        key, at, first = np.searchsorted(touched, slots[unsure]), time[unsure], since[unsure]
        before = lowest.between(*near.between(key, first - window.size - 1, at - 1))
        after = lowest.between(*near.between(key, first, at + window.size))
        found = np.minimum(before, after) < unsure
        if not found.any():
            break
        held[unsure[found]] = True
        unsure = unsure[~found]
    return held
