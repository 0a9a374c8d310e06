"""What the result chart shows: guessed from the columns of the results, or as told. Pure: a frame in, lines out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from streamlab.errors import PlanError, UnknownColumnError, did_you_mean
from streamlab.plan.schema import WINDOW_END, WINDOW_START

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("line", "bar", "scatter")
COLOURS = ("#3b7dd8", "#e07b39", "#3a9d6e", "#7d5fb2", "#d1495b", "#2a9fb0")
"""One for each line; a chart has no more lines than these, and a line is named at its end."""

POINTS = 120
_COUNTS = {"len", "count", "n", "n_unique"}


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one value of `by`, oldest first; x in milliseconds since 1970 where it is a time."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Which columns a chart shows.

    Parameters
    ----------
    x, y, by
        Along the axis, up, and one line for each value; `by` may be empty.
    kind
        "line", "bar" or "scatter".
    is_time
        Whether `x` is a time.
    """

    x: str
    y: str
    by: str
    kind: str
    is_time: bool

    @property
    def title(self) -> str:
        """What stands over the chart."""
        return f"{self.y} by {self.by}" if self.by else self.y

    @property
    def unit(self) -> str:
        """What stands beside the title."""
        return f"{self.x}, UTC" if self.is_time else self.x

    def lines(self, rows: pl.DataFrame) -> tuple[Line, ...]:
        """Return the lines of the newest rows: those values of `by` that have the most of them, each with its newest points."""
        if rows.is_empty() or not {self.x, self.y, *([self.by] if self.by else [])} <= set(rows.columns):
            return ()
        named = pl.col(self.by).cast(pl.String).fill_null("null") if self.by else pl.lit(self.y)
        at = pl.col(self.x).dt.epoch("ms") if self.is_time else pl.col(self.x)
        points = rows.select(x=at.cast(pl.Float64), y=pl.col(self.y).cast(pl.Float64), by=named)
        points = points.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
        points = points.unique(["by", "x"], keep="last", maintain_order=True).sort("x", maintain_order=True)
        shown = self._most(points)
        parts = {name: points.filter(pl.col("by") == name).tail(POINTS) for name in shown}
        return tuple(
            Line(name, tuple(part["x"]), tuple(part["y"]), colour)
            for (name, part), colour in zip(parts.items(), COLOURS, strict=False)
        )

    @staticmethod
    def _most(points: pl.DataFrame) -> Sequence[str]:
        counts = points.group_by("by").len().sort(["len", "by"], descending=[True, False]).head(len(COLOURS))
        return sorted(counts["by"])

    def left_out(self, rows: pl.DataFrame) -> int:
        """Return how many values of `by` have no line."""
        if not self.by or self.by not in rows.columns:
            return 0
        return max(0, rows[self.by].n_unique() - len(COLOURS))


def guessed(schema: pl.Schema, keys: Sequence[str] = ()) -> Chart | None:
    """Return a chart for results: the first measure over time, a line for each value of the first key.

    Parameters
    ----------
    schema
        Columns of the results.
    keys
        Those that identify a row, if known.

    Examples
    --------
    >>> schema = {"carrier": pl.String(), "window_start": pl.Datetime("ms", "UTC"), "flights": pl.UInt32(), "delay": pl.Float64()}
    >>> guessed(pl.Schema(schema), ["carrier", "window_start"]).title
    'delay by carrier'
    >>> guessed(pl.Schema({"name": pl.String()})) is None
    True
    """
    x = _axis(schema)
    if x is None:
        return None
    measures = [n for n, dtype in schema.items() if dtype.is_numeric() and n not in (x, *keys)]
    if not measures:
        return None
    floats = [name for name in measures if schema[name].is_float()]
    y = (floats or [name for name in measures if name not in _COUNTS] or measures)[0]
    by = [name for name in keys if name in schema and name not in (WINDOW_START, WINDOW_END, x, y)]
    by = by or [name for name, dtype in schema.items() if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean)]
    return Chart(x, y, by[0] if by else "", "line", schema[x].is_temporal())


def _axis(schema: pl.Schema) -> str | None:
    if WINDOW_START in schema:
        return WINDOW_START
    times = [name for name, dtype in schema.items() if dtype in (pl.Datetime, pl.Date)]
    if times:
        return times[0]
    numbers = [name for name, dtype in schema.items() if dtype.is_numeric()]
    return numbers[0] if len(numbers) > 1 else None


def told(
    schema: pl.Schema, keys: Sequence[str], x: str | None, y: str | None, by: str | None, kind: str | None
) -> Chart:
    """Return the chart that a person asked for; what was not said is guessed.

    Raises
    ------
    PlanError
        If a column is not there, cannot be drawn, or the kind is unknown.

    Examples
    --------
    >>> told(pl.Schema({"t": pl.Datetime("ms", "UTC"), "v": pl.Int64()}), (), None, None, None, "bars")
    Traceback (most recent call last):
    ...
    streamlab.errors.PlanError: plot: kind='bars'; valid are ['line', 'bar', 'scatter']. Did you mean 'bar'?
    """
    if kind is not None and kind not in KINDS:
        raise PlanError(f"plot: kind={kind!r}; valid are {list(KINDS)}.{did_you_mean(kind, KINDS)}")
    for name in (x, y, by):
        if name is not None and name not in schema:
            raise UnknownColumnError("plot", name, schema.names())
    guess = guessed(schema, keys)
    across, up = x or (guess.x if guess else None), y or (guess.y if guess else None)
    if across is None or up is None:
        raise PlanError(f"plot: nothing to draw by itself in {dict(schema)}; say x= and y=, times or numbers.")
    if not schema[up].is_numeric():
        numbers = [name for name, dtype in schema.items() if dtype.is_numeric()]
        raise PlanError(f"plot: y={up!r} is {schema[up]}, not a number; there are {numbers}.")
    if not (schema[across].is_numeric() or schema[across] in (pl.Datetime, pl.Date)):
        raise PlanError(f"plot: x={across!r} is {schema[across]}; it must be a time or a number.")
    group = by if by is not None else (guess.by if guess and guess.by not in (across, up) else "")
    return Chart(across, up, group, kind or "line", schema[across].is_temporal())


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return heights for labels near those given, at least `gap` apart and within bounds where there is room.

    Examples
    --------
    >>> apart([5.0, 5.2, 9.0], 1.0, 0.0, 10.0)
    [5.0, 6.0, 9.0]
    >>> apart([9.8, 9.9], 1.0, 0.0, 10.0)
    [9.0, 10.0]
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [0.0] * len(heights)
    floor = low
    for i in order:
        placed[i] = max(heights[i], floor)
        floor = placed[i] + gap
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers over a range, about so many.

    Examples
    --------
    >>> ticks(0, 37), ticks(0, 0)
    ([0.0, 10.0, 20.0, 30.0, 40.0], [0.0, 1.0])
    """
    if not high > low:
        return [float(low), low + 1.0]
    raw = (high - low) / about
    unit = 10.0 ** int(f"{raw:e}".split("e")[1])
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    first = int(low // step)
    last = -int(-high // step)
    return [round(i * step, 12) for i in range(first, last + 1)]
