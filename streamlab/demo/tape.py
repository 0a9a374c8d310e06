"""What is sent: a fixed sequence of records. Number n is always the same flight, and a few cannot be decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from streamlab import data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

BROKEN = (
    b'{"carrier":"B6","flight":702,"origin":"JFK","scheduled":"2013-01-06T13:00:00Z","dep_delay":"3 min"}',
    b'{"carrier":"EV","flight":4312,"origin":"EWR","scheduled":"soon","dep_delay":41.0}',
    b'{"carrier":"UA","flight":1545,"orig',
)
"""What cannot be decoded: a number that is text, a time that is none, half a record."""

FLIGHTS = 27_004
"""Flights of a month."""

MONTH = FLIGHTS + len(BROKEN)
"""Records of a month."""

_FAULTS = np.array([4_500, 13_500, 22_500])  # their places among the month's records
_MONTH_MS = 31 * 24 * 3_600_000
# for a minute of delay: most flights are out of order by less than a second or two, a few by more than ten
_DELAY_MS = 50


class Tape(Protocol):
    """A sequence of records without an end."""

    def frame(self, numbers: Ints, sent: Ints) -> pl.DataFrame:
        """Return the flights of these records, sent at these moments (ms since 1970)."""
        ...


class Month:
    """January as it was, and, each time that it begins again, 31 days later."""

    def __init__(self) -> None:
        self._flights = data.flights()

    def frame(self, numbers: Ints, sent: Ints) -> pl.DataFrame:  # noqa: ARG002  # its times do not go by the clock
        """Return the flights, all times months later by the turn of the sequence."""
        later = pl.Series(numbers // MONTH * _MONTH_MS).cast(pl.Duration("ms"))
        return self._flights[rows_of(numbers)].with_columns(pl.col("scheduled", "departed") + later)


class Live:
    """The same flights, leaving now: scheduled for a moment as long ago as they were delayed, by the scale of `_DELAY_MS`.

    Parameters
    ----------
    first
        The earliest moment (ms since 1970) that any is scheduled for: before the stream began there was none to be delayed.
    """

    def __init__(self, first: int = 0) -> None:
        self._flights = data.flights().drop("departed", "tailnum", "distance")
        self._first = first

    def frame(self, numbers: Ints, sent: Ints) -> pl.DataFrame:
        """Return the flights, each scheduled for a moment as long before it is sent as it was delayed."""
        rows = self._flights[rows_of(numbers)]
        delay = rows["dep_delay"].fill_null(0).clip(0).to_numpy() * _DELAY_MS
        scheduled = pl.Series("scheduled", np.maximum(sent - delay.astype(np.int64), self._first))
        return rows.with_columns(scheduled.cast(data.SCHEMA["scheduled"]))


def rows_of(numbers: Ints) -> Ints:
    """Return the flight of each record; where one cannot be decoded, the flight after it."""
    place = numbers % MONTH
    return place - np.searchsorted(_FAULTS, place)


def broken(numbers: Ints) -> dict[int, bytes]:
    """Return the records among these that cannot be decoded, by their index.

    Examples
    --------
    >>> broken(np.arange(4_499, 4_502))[1] == BROKEN[0]
    True
    """
    places = numbers % MONTH
    found = np.flatnonzero(np.isin(places, _FAULTS)).tolist()
    return {i: BROKEN[int(np.searchsorted(_FAULTS, places[i]))] for i in found}
