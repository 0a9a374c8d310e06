"""Many overlapping ranges of partial results, each put together from at most two that are there already.

Rows are cut into blocks so that a range is the end of one and the beginning of the next. What is put together from each row to the end of
its block, and from the beginning to each row, is worked out once, for all blocks abreast; a range is one of each, however long it is
(van Herk, "A fast algorithm for local minimum and maximum filters", 1992; Gil and Werman, 1993).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.engine.batch import Bools, Ints

    Merged = Callable[[pl.DataFrame, pl.DataFrame, Bools], pl.DataFrame]
    """Puts earlier rows to later ones side by side where there are some: earlier, later, where."""


def put_together(parts: pl.DataFrame, block: Ints, first: Ints, last: Ints, merged: Merged) -> pl.DataFrame:
    """Return for each range the rows from `first` up to, but not including, `last` put together; none is empty.

    Parameters
    ----------
    parts
        Partial results.
    block
        Number of each row's block, ascending.
    first, last
        Where each range begins and ends: it is all of a block, the end of one, the beginning of one, or an end and the next beginning.
    merged
        Puts two rows together.
    """
    # equal ones stand together
    whole = np.flatnonzero(np.append(True, (first[1:] != first[:-1]) | (last[1:] != last[:-1])))
    asked = np.repeat(np.arange(len(whole)), np.diff(np.append(whole, len(first))))
    return _distinct(parts, block, first[whole], last[whole], merged)[asked]


def _distinct(parts: pl.DataFrame, block: Ints, first: Ints, last: Ints, merged: Merged) -> pl.DataFrame:
    begins = np.diff(block, prepend=block[0] - 1) != 0
    number = np.cumsum(begins) - 1
    start = np.flatnonzero(begins)
    end = np.append(start[1:], len(block))
    place = np.arange(len(block))
    over = end[number[first]]
    alone, both = last < over, np.flatnonzero(last > over)  # the beginning of a block; an end and a beginning
    ends, beginnings = np.zeros(len(start), np.bool_), np.zeros(len(start), np.bool_)
    ends[number[first[~alone]]] = True
    beginnings[number[last[last != over] - 1]] = True
    to_end, since = _chained(parts, np.where(ends[number], end[number] - 1 - place, -1), 1, merged)
    from_begin, upto = _chained(parts, np.where(beginnings[number], place - start[number], -1), -1, merged)
    at = np.where(alone, to_end.height + upto[last - 1], since[first])
    found = pl.concat([to_end, from_begin], rechunk=True)[at]
    if not len(both):
        return found
    more = merged(found[both], from_begin[upto[last[both] - 1]], np.ones(len(both), np.bool_))
    spot = np.arange(len(first))
    spot[both] = len(first) + np.arange(len(both))
    return pl.concat([found, more], rechunk=True)[spot]


def _chained(parts: pl.DataFrame, rank: Ints, step: int, merged: Merged) -> tuple[pl.DataFrame, Ints]:
    """Put each row to what its neighbour on one side has become, those of one rank at a time; return rows, and where each is.

    Rows of rank -1 are left out.
    """
    order = np.argsort(rank, kind="stable")
    cuts = np.cumsum(np.bincount(rank + 1, minlength=2))
    order, cuts = order[cuts[0] :], cuts[1:] - cuts[0]
    levels, place = [parts[order[: cuts[0]]]], np.empty(len(rank), np.int64)
    place[order] = np.arange(len(order))
    for low, high in pairwise(cuts):
        at = order[low:high]
        own, other = parts[at], levels[-1][place[at + step] - (low - levels[-1].height)]
        earlier, later = (own, other) if step > 0 else (other, own)
        levels.append(merged(earlier, later, np.ones(len(at), np.bool_)))
    return pl.concat(levels, rechunk=True), place
