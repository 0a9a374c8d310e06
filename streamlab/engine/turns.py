"""Every record at its own turn: what the watermark was then, and when within a batch it passed a time.

A batch is worked on as a whole, and must give what its records one by one would have given. So what a record sees is judged by the
watermark right after it, not by the one at the end of the batch; the end is asked first, and single records only where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.batch import Rows
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.engine.watermark import Laned

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Merged

END = OPEN
"""After every arrival index: the watermark moved with no record, by the wall clock."""

_NO_COLUMNS = pl.DataFrame()


def reached(watermarks: Merged | Laned, index: Ints, lane: Ints) -> Ints:
    """Return the watermark at the turn of each record: right after it; for rows that an operator made, before the batch."""
    return watermarks.at(Rows(_NO_COLUMNS, index, lane, index, index), lane)


def passed(watermarks: Merged | Laned, deadline: Ints, index: Ints, lane: Ints) -> Bools:
    """Return which deadlines are before the watermark at the turn of their record."""
    found: Bools = deadline < watermarks.after[lane]
    suspects = np.flatnonzero(found)
    if len(suspects):
        found[suspects] = deadline[suspects] < reached(watermarks, index[suspects], lane[suspects])
    return found


def moments_of(watermarks: Merged | Laned, deadline: Ints, lane: Ints) -> Ints:
    """Return the arrival index of the record that moved the watermark past each deadline, which it has passed by the end of the batch."""
    found = np.full(len(deadline), END, np.int64)
    if not len(deadline):
        return found
    source = watermarks.signal if isinstance(watermarks, Laned) else watermarks
    moments = np.unique(source.moments)
    for one in np.unique(lane).tolist():
        mine = np.flatnonzero(lane == one)
        at = np.searchsorted(_line(watermarks, one, moments), deadline[mine], side="right")
        within = at < len(moments)
        found[mine[within]] = moments[at[within]]
    return found


def _line(watermarks: Merged | Laned, lane: int, moments: Ints) -> Ints:
    """Return the watermark of a lane at each moment; it never goes back."""
    if not isinstance(watermarks, Laned):
        return watermarks.low(moments)
    values = watermarks.lane(lane, moments)
    line: Ints = np.maximum.accumulate(np.where(values == OPEN, NEVER, values))
    return np.maximum(line, watermarks.before[lane])
