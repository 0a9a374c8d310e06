"""What the demo's results are compared with: polars' answer over the whole month at once."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from streamlab.data import flights

KEYS = ("origin", "window_start", "window_end")
_EXACT = ("flights", "worst")
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Answer:
    """What polars says of a month of flights.

    Parameters
    ----------
    closed
        The windows that must have closed, by airport and time.
    still_open
        How many have not.
    flown, in_time, late
        Flights that were not cancelled; those among them that reached their window in time, and those that did not.
    """

    closed: pl.DataFrame
    still_open: int
    flown: int
    in_time: int
    late: int


def answer(window: str, grace: str) -> Answer:
    """Work out delays by airport and window. The clock of an airport is the latest schedule that it has seen so far.

    Examples
    --------
    >>> found = answer("3h", "2h")
    >>> found.flown, found.in_time + found.late
    (26483, 26483)
    """
    start = pl.col("scheduled").dt.truncate(window)
    clock = pl.col("scheduled").cum_max().over("origin")
    flown = (
        flights()
        .with_columns(start.alias("window_start"), start.dt.offset_by(window).alias("window_end"), clock.alias("clock"))
        .filter(pl.col("dep_delay").is_not_null())
    )
    closes = pl.col("window_end").dt.offset_by(grace)
    in_time = flown.filter(closes > pl.col("clock"))
    windows = in_time.group_by(KEYS).agg(
        pl.len().alias("flights"),
        pl.col("dep_delay").mean().alias("mean_delay"),
        pl.col("dep_delay").max().alias("worst"),
    )
    last = flights().group_by("origin").agg(pl.col("scheduled").max().alias("clock"))
    closed = windows.join(last, on="origin").filter(closes <= pl.col("clock")).drop("clock").sort(KEYS)
    return Answer(closed, windows.height - closed.height, flown.height, in_time.height, flown.height - in_time.height)


def differences(found: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are not the same in both, or not in both, or twice in one; means may differ by their last digits.

    Examples
    --------
    >>> rows = answer("3h", "2h").closed
    >>> differences(rows, rows).height, differences(rows.tail(-2), rows).height
    (0, 2)
    """
    both = found.join(expected, on=KEYS, how="full", coalesce=True, suffix="_expected")
    pairs = [(pl.col(name), pl.col(f"{name}_expected")) for name in (*_EXACT, "mean_delay")]
    gap = (pl.col("mean_delay") - pl.col("mean_delay_expected")).abs()
    near = gap <= _TOLERANCE * pl.col("mean_delay_expected").abs().clip(1)
    same = [is_.eq_missing(should) for is_, should in pairs[:-1]]
    once = pl.struct(KEYS).is_unique()
    return both.filter(~pl.all_horizontal(*same, near.fill_null(value=False), once)).sort(KEYS)
