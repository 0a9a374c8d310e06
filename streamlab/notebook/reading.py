"""Numbers, lengths of time and values as a person reads them at a glance."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

UNKNOWN = "\N{EN DASH}"
_MILLE = 1_000
_CUT = 90

_LENGTHS = (("y", 31_557_600_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def count(number: float) -> str:
    """Return a count: in full up to 99,999, then with a unit.

    Examples
    --------
    >>> count(27004), count(1_234_567), count(10_400_000_000)
    ('27,004', '1.23 M', '10.4 G')
    """
    if number < 100_000:  # noqa: PLR2004  # five figures are read at a glance
        return f"{number:,.0f}"
    return _scaled(number)


def rate(number: float) -> str:
    """Return a rate with three figures.

    Examples
    --------
    >>> rate(0), rate(3.14159), rate(10_412), rate(912_000)
    ('0', '3.1', '10.4 k', '912 k')
    """
    if number < 10:  # noqa: PLR2004  # below ten, tenths matter
        return f"{number:.1f}".removesuffix(".0")
    return f"{number:,.0f}" if number < _MILLE else _scaled(number)


def _scaled(number: float) -> str:
    for unit in ("", " k", " M", " G"):
        if number < _MILLE or unit == " G":
            break
        number /= _MILLE
    figures = 2 if number < 10 else 1 if number < 100 else 0  # noqa: PLR2004  # three figures in all
    return f"{number:,.{figures}f}{unit}"


def size(number: float) -> str:
    """Return bytes.

    Examples
    --------
    >>> size(0), size(1_200_000)
    ('0 B', '1.20 MB')
    """
    return f"{_scaled(number)}B" if number >= _MILLE else f"{number:.0f} B"


def length(milliseconds: float | None) -> str:
    """Return a length of time with its two leading units.

    Examples
    --------
    >>> length(7.94), length(412), length(41_000), length(192_000), length(400_000_000), length(None) == UNKNOWN
    ('7.9 ms', '412 ms', '41 s', '3 m 12 s', '4 d 15 h', True)
    """
    if milliseconds is None:
        return UNKNOWN
    if milliseconds < 0:
        return "-" + length(-milliseconds)
    if milliseconds < _MILLE:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"  # noqa: PLR2004  # as in rate
    if milliseconds < 10_000:  # noqa: PLR2004  # as in rate
        return f"{milliseconds / 1000:.1f} s"
    parts, rest = list[str](), int(milliseconds)
    for unit, whole in _LENGTHS:
        number, rest = divmod(rest, whole)
        if number or parts:
            parts.append(f"{number} {unit}")
        if len(parts) == 2:  # noqa: PLR2004  # two units say enough
            break
    return " ".join(part for part in parts if not part.startswith("0 "))


def clock(milliseconds: int | None) -> str:
    """Return the time of day of an event time, in UTC.

    Examples
    --------
    >>> clock(1_357_049_112_000), clock(None) == UNKNOWN
    ('14:05:12', True)
    """
    return UNKNOWN if milliseconds is None else f"{moment(milliseconds):%H:%M:%S}"


def day(milliseconds: int | None) -> str:
    """Return the day and time of an event time, in UTC.

    Examples
    --------
    >>> day(1_357_049_112_000)
    '2013-01-01 14:05:12'
    """
    return UNKNOWN if milliseconds is None else f"{moment(milliseconds):%Y-%m-%d %H:%M:%S}"


def moment(milliseconds: int) -> datetime:
    """Return milliseconds since 1970 as a datetime in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def value(thing: Any) -> str:  # noqa: PLR0911  # one line a kind
    """Return a cell of a table: rounded for reading, cut where it is long.

    Examples
    --------
    >>> value(None), value(1234567), value(12.3456), value(0.000123), value(b"ab")
    ('null', '1,234,567', '12.35', '0.000123', 'ab')
    >>> value(datetime(2013, 1, 1, 13, tzinfo=UTC)), value("x" * 200)[-3:]
    ('2013-01-01 13:00', 'xx…')
    """
    match thing:
        case None:
            return "null"
        case bool():
            return str(thing).lower()
        case int():
            return f"{thing:,}"
        case float():
            return _decimal(thing)
        case datetime():
            return _time(thing)
        case date():
            return f"{thing:%Y-%m-%d}"
        case bytes():
            return _cut(thing.decode(errors="replace"))
        case timedelta():
            return length(thing / timedelta(milliseconds=1))
    return _cut(str(thing))


def _decimal(number: float) -> str:
    if number != number or abs(number) in (0.0, float("inf")):  # noqa: PLR0124  # NaN is no number, not even itself
        return f"{number:g}"
    if abs(number) >= _MILLE:
        return f"{number:,.0f}" if abs(number) < 1e15 else f"{number:.3g}"  # noqa: PLR2004  # beyond, digits are noise
    return f"{number:.2f}" if abs(number) >= 0.1 else f"{number:.3g}"  # noqa: PLR2004  # hundredths, or three figures


def _time(at: datetime, finest: str = "") -> str:
    if at.microsecond or finest == "ms":
        return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    return f"{at:%Y-%m-%d %H:%M:%S}" if at.second or finest == "s" else f"{at:%Y-%m-%d %H:%M}"


def values(column: pl.Series) -> list[str]:
    """Return the cells of a column: times are all as fine as the finest, and whole numbers have no decimals.

    Examples
    --------
    >>> values(pl.Series([datetime(2013, 1, 1, 13), datetime(2013, 1, 1, 13, 0, 5)]))
    ['2013-01-01 13:00:00', '2013-01-01 13:00:05']
    >>> values(pl.Series([123.0, None])), values(pl.Series([123.0, 0.5]))
    (['123', 'null'], ['123.00', '0.50'])
    """
    if column.dtype.is_float() and (column.drop_nulls() % 1 == 0).all():
        column = column.cast(pl.Int64, strict=False)
    if column.dtype != pl.Datetime:
        return [value(thing) for thing in column]
    times: list[datetime | None] = list(column)
    known = [at for at in times if at is not None]
    finest = "ms" if any(at.microsecond for at in known) else "s" if any(at.second for at in known) else ""
    return [value(at) if at is None else _time(at, finest) for at in times]


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else text[: _CUT - 1] + "…"
