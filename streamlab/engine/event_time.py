"""Event times out of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints


LATEST = 253_370_764_799_999
"""The end of the year 9998: the bounds of a window around an event time must still be times that calendars have."""


def unusable(times: Ints) -> Bools:
    """Return which milliseconds since 1970 are no event times: those before the epoch, and those beyond every calendar.

    Examples
    --------
    >>> import numpy as np
    >>> unusable(np.array([-1, 0, LATEST, 1_700_000_000_000_000])).tolist()  # the last one is in microseconds
    [True, False, False, True]
    """
    return (times < 0) | (times > LATEST)


def event_times(column: pl.Series) -> tuple[Ints, Bools]:
    """Return event times in milliseconds since 1970 UTC, and where there is none that can be used.

    A null, a time before 1970 and one after the year 9998 cannot be used; finer units are cut to the millisecond (semantics: "Time").

    Examples
    --------
    >>> times, bad = event_times(pl.Series([1_700_000_000_000, None, -1]))
    >>> times[0], bad.tolist()
    (np.int64(1700000000000), [False, True, True])
    """
    if isinstance(column.dtype, pl.Date):
        column = column.cast(pl.Datetime("ms"))
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.epoch("ms")
    times: Ints = column.cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
    return times, unusable(times)
