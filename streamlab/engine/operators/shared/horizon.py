"""The watermark at places within a micro-batch, and how far back of it rows are still remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.aggregates import LANE
from streamlab.engine.batch import MADE
from streamlab.engine.stream_time import OPEN
from streamlab.engine.watermark import Merged

if TYPE_CHECKING:
    import polars as pl

    from streamlab.engine.batch import Ints
    from streamlab.engine.watermark import Laned


def levels(watermarks: Merged | Laned, lane: int, upto: Ints) -> Ints:
    """Return the watermark of a lane right after each arrival index; the indices must ascend, and so do the watermarks."""
    if isinstance(watermarks, Merged):
        low = watermarks.low(upto)
    else:
        low = watermarks.lane(lane, upto)
        low = np.maximum.accumulate(np.where(low == OPEN, watermarks.before[lane], low))
    found: Ints = np.minimum(low, watermarks.after[lane])
    return found


def moments(watermarks: Merged | Laned) -> Ints:
    """Return the arrival indices at which a watermark may have moved, ascending; the first is before the batch."""
    given = watermarks.moments if isinstance(watermarks, Merged) else watermarks.signal.moments
    return np.unique(np.append(given, MADE))


@dataclass(frozen=True, slots=True)
class Horizons:
    """How far back rows are remembered: the watermark less a length, by lane.

    Parameters
    ----------
    watermarks
        Of the operator, over the micro-batch.
    behind
        How far behind the watermark, in milliseconds.
    """

    watermarks: Merged | Laned
    behind: int

    @property
    def after(self) -> Ints:
        """The horizon of each lane after the batch."""
        return self.watermarks.after - self.behind

    def at(self, lane: Ints, turn: Ints) -> Ints:
        """Return the horizon of lanes right after arrival indices."""
        found = self.watermarks.before[lane]
        for one in np.unique(lane):
            mine = (lane == one) & (turn != MADE)
            upto, back = np.unique(turn[mine], return_inverse=True)
            if upto.size:
                found[mine] = levels(self.watermarks, int(one), upto)[back]
        found -= self.behind
        return found


def lanes_of_keys(keys: pl.DataFrame) -> Ints:
    """Return the lane of each key: a column of it where partitions stay apart, else the only one there is."""
    return keys[LANE].to_numpy() if LANE in keys.columns else np.zeros(keys.height, np.int64)
