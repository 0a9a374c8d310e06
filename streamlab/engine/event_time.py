"""Event times out of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from streamlab.engine.batch import Bools, Ints


def event_times(column: pl.Series) -> tuple[Ints, Bools]:
    """Return event times in milliseconds since 1970 UTC, and where there is none that can be used.

    A null and a time before 1970 cannot be used; finer units are cut to the millisecond (semantics: "Time").

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
    times: Ints = column.cast(pl.Int64).fill_null(-1).to_numpy()
    return times, times < 0
