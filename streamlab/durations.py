"""Lengths of time as people write them: "5m", "1h30m", "250ms".

The units are those of polars' and of most stream processors' duration texts, without the calendar ones: a month has no fixed length,
and windows need one.
"""

from __future__ import annotations

import re
from datetime import timedelta

from streamlab.errors import DurationError

Duration = str | timedelta
"""What a person may write for a length of time."""

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART = re.compile(r"(\d+)(ms|w|d|h|m|s)")
_TEXT = re.compile(rf"-?({_PART.pattern})+")  # with a sign, to say what is wrong with it
_VALID = 'write a whole number with a unit, such as "250ms", "30s", "5m", "1h30m", "2d" or "1w", or give a timedelta'


def milliseconds(duration: Duration, what: str = "duration", *, positive: bool = False) -> int:
    """Return a duration in whole milliseconds.

    Parameters
    ----------
    duration
        A text such as ``"5m"`` or ``"1h30m"``, or a timedelta.
    what
        What the duration is for, named in errors.
    positive
        Whether zero is refused.

    Raises
    ------
    DurationError
        If it is no duration, is negative, or is finer than a millisecond.

    Examples
    --------
    >>> milliseconds("1h30m")
    5400000
    >>> milliseconds(timedelta(seconds=2))
    2000
    >>> milliseconds("5 min", "grace")
    Traceback (most recent call last):
    ...
    streamlab.errors.DurationError: grace: '5 min' is no duration; write a whole number with a unit, such as "250ms", \
"30s", "5m", "1h30m", "2d" or "1w", or give a timedelta.
    """
    if isinstance(duration, timedelta):
        length, rest = divmod(duration, timedelta(milliseconds=1))
        if rest:
            raise DurationError(f"{what}: {duration!r} is finer than a millisecond, the precision of event time.")
    elif isinstance(duration, str) and _TEXT.fullmatch(duration):
        length = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(duration))
        length = -length if duration.startswith("-") else length
    else:
        raise DurationError(f"{what}: {duration!r} is no duration; {_VALID}.")
    if length < 0 or (positive and length == 0):
        raise DurationError(f"{what}: {duration!r} must be {'more than' if positive else 'at least'} zero.")
    return length


def text(length: int) -> str:
    """Return milliseconds as the shortest text that `milliseconds` reads back.

    Examples
    --------
    >>> text(5_400_000), text(0), text(1_500)
    ('1h30m', '0s', '1s500ms')
    """
    if length == 0:
        return "0s"
    parts = []
    for unit, size in _UNITS.items():
        count, length = divmod(length, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
