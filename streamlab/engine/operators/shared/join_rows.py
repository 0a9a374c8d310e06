"""What joins of two streams give: rows of both sides beside each other, and rows that came too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.batch import Rows, empty
from streamlab.engine.held.due import Due
from streamlab.engine.operators.shared.covering import times
from streamlab.plan.schema import WATERMARK, WINDOW_END, WINDOW_START

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamlab.engine.batch import Bools, Ints

_BOUNDS = (WINDOW_START, WINDOW_END, WATERMARK)


def beside(
    left: pl.DataFrame, right: pl.DataFrame, there: Bools, pairs: Iterable[tuple[str, str]], added: Mapping[str, str]
) -> pl.DataFrame:
    """Return rows of both sides as one frame.

    Parameters
    ----------
    left, right
        Rows that belong together, with nulls where there is none.
    there
        Where there is a left row.
    pairs
        Columns of both sides that are one in the result: where there is no left row they are taken from the right one.
    added
        Columns of the right side that the result has, and what they are called there.

    Examples
    --------
    >>> left, right = pl.DataFrame({"k": ["a", None]}), pl.DataFrame({"id": ["a", "b"], "x": [1, 2]})
    >>> beside(left, right, np.array([True, False]), [("k", "id")], {"x": "x"}).rows()
    [('a', 1), ('b', 2)]
    """
    if not there.all():
        mask = pl.Series(there)
        same = [(one, other) for one, other in pairs if left[one].dtype == right[other].dtype]
        left = left.with_columns(
            pl.select(pl.when(mask).then(left[one]).otherwise(right[other])).to_series().alias(one)
            for one, other in same
        )
    return left.hstack(right.select(added.keys()).rename(added))


def late_rows(rows: Rows, data: pl.DataFrame, back: int, ahead: int, watermark: Ints) -> Rows:
    """Return rows that came too late, with the interval in which they might have matched and the watermark that they missed."""
    bounds = np.maximum(rows.time - back, 0), rows.time + ahead, watermark
    return rows.with_data(data.with_columns(times(name, at) for name, at in zip(_BOUNDS, bounds, strict=True)))


def no_late(schema: pl.Schema) -> Rows:
    """Return no late rows."""
    none = np.empty(0, np.int64)
    return late_rows(empty(schema), pl.DataFrame(schema=schema), 0, 0, none)


def put(due: dict[int, Due], time: Ints, number: Ints, lane: Ints) -> None:
    """Let rows be due once the watermark of their lane has passed a time."""
    for one in np.flatnonzero(np.bincount(lane)).tolist():
        mine = lane == one
        due.setdefault(one, Due()).put(time[mine], number[mine])


def taken(due: dict[int, Due], watermark: Ints) -> tuple[Ints, Ints, Ints]:
    """Take off what the watermarks of the lanes have passed: times, numbers, lanes."""
    none = np.empty(0, np.int64)
    parts = [(*each.take(int(watermark[lane])), lane) for lane, each in due.items() if lane < len(watermark)]
    time, number = (np.concatenate([none, *(part[at] for part in parts)]) for at in (0, 1))
    lanes = np.array([lane for *_, lane in parts], np.int64)
    return time, number, np.repeat(lanes, [len(part[0]) for part in parts])
