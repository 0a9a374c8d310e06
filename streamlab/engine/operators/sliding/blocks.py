"""Windows that overlap much, put together from blocks of rows: a window of n rows takes some 2 log n blocks instead of n rows.

Blocks are those of a segment tree: the rows, then what is made of two rows each, of four, and so on, one level after the other. Rows that
are not in all windows that they lie in are left out of the blocks, and stand behind them one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.held.slot_lists import spread
from streamlab.engine.operators.sliding.windows import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamlab.engine.batch import Ints
    from streamlab.engine.operators.sliding.windows import Held, Windows


def blocks(
    parts: pl.DataFrame, held: Held, combined: Callable[[pl.DataFrame, Ints], pl.DataFrame]
) -> tuple[pl.DataFrame, Ints]:
    """Return the partial results of all blocks, and the newest event time in each; `combined` puts parts together by group."""
    whole = held.since == 0
    levels, times = [parts.filter(pl.Series(whole))], [held.near.time[whole]]
    while levels[-1].height > 1:
        below = times[-1]
        levels.append(combined(levels[-1], np.arange(len(below)) // 2))
        times.append(np.append(below[1::2], below[-1:] if len(below) % 2 else below[:0]))
    return pl.concat([*levels, parts.filter(pl.Series(~whole))]), np.concatenate([*times, held.near.time[~whole]])


def members(windows: Windows, since: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of window and block by position, ascending by window, some windows at once."""
    before = np.concatenate([[0], np.cumsum(since == 0)])
    first, last = before[windows.first], before[windows.last]
    late = windows.last - last - (windows.first - first)
    for piece in pieces(late + 2 * int(before[-1]).bit_length()):
        which, at = _members(windows.where(piece), before, since[since > 0])
        if len(which):
            yield piece[which], at


def _members(windows: Windows, before: Ints, late: Ints) -> tuple[Ints, Ints]:
    left, right, height = before[windows.first], before[windows.last], int(before[-1])
    late_first, late_last = windows.first - left, windows.last - right
    which, at, offset = [], [], 0
    window = np.arange(len(left))
    while height:
        more = left < right
        window, left, right = window[more], left[more], right[more]
        odd, uneven = left % 2 == 1, right % 2 == 1  # no larger block begins, or ends, there
        which += [window[odd], window[uneven]]
        at += [offset + left[odd], offset + right[uneven] - 1]
        left, right = (left + 1) // 2, right // 2
        offset, height = offset + height, (height + 1) // 2 if height > 1 else 0
    window = np.repeat(np.arange(len(late_first)), late_last - late_first)
    row = spread(late_first, late_last - late_first)
    in_time = late[row] <= windows.start[window] + windows.size
    found, block = np.concatenate([*which, window[in_time]]), np.concatenate([*at, offset + row[in_time]])
    order = np.argsort(found, kind="stable")
    return found[order], block[order]
