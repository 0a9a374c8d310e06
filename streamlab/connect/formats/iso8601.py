"""ISO 8601 text to whole numbers, a column at a time.

What is read is the extended form that programs write: `2013-01-01`, `05:00:00.123`, `2013-01-01T05:00:00-05:00`,
`PT1H30M`. Between date and time stands `T` or a space; seconds may be left out; an offset is `Z`, `-05:00`, `-0500`
or `-05`, and none means UTC. Years are 1 to 9999. Digits finer than the unit are dropped, towards the past. Not read:
the forms without separators, week dates, ordinal dates, 24:00 and leap seconds.

Each function takes texts and returns int64 numbers and a mask that is True where the text could be read; the numbers
elsewhere mean nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Unit: TypeAlias = Literal["ms", "us", "ns"]
Numbers: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
# one text per column: the n-th characters of all texts lie side by side
Characters: TypeAlias = npt.NDArray[np.uint8]

PER_SECOND: dict[Unit, int] = {"ms": 10**3, "us": 10**6, "ns": 10**9}
DAY = 86_400
_DATE, _MINUTES, _SECONDS = len("2013-01-01"), len("05:00"), len("05:00:00")
# room for any offset and far more digits of a second than anybody writes
_LONGEST = 64
_NINE, _DECEMBER = 9, 12
_INT64 = np.iinfo(np.int64)
# the first day of every month of the years 0 to 9999, and of the month after: numpy's own calendar, as a table
_MONTHS = np.arange("0000-01", "10000-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)
FIRST_DAY, LAST_DAY = int(_MONTHS[_DECEMBER]), int(_MONTHS[-1]) - 1
_DURATION = (
    r"^(?P<sign>[+-])?P(?:(?P<weeks>N)W|(?:(?P<days>N)D)?"
    r"(?P<time>T(?:(?P<hours>N)H)?(?:(?P<minutes>N)M)?(?:(?P<seconds>N)(?:\.(?P<fraction>[0-9]+))?S)?)?)$"
).replace("N", "[0-9]{1,19}")  # a sum of these fits 128 bits
_LENGTHS = {"weeks": 7 * DAY, "days": DAY, "hours": 3600, "minutes": 60, "seconds": 1}


def dates(text: pl.Series) -> tuple[Numbers, Mask]:
    """Read days since the epoch from texts like `2013-01-01`.

    Examples
    --------
    >>> numbers, read = dates(pl.Series(["1970-01-02", "1970-02-30", None]))
    >>> numbers[0], read.tolist()
    (np.int64(1), [True, False, False])
    """
    return _by_length(text, lambda c: _days(c) if len(c) == _DATE else None)


def times(text: pl.Series) -> tuple[Numbers, Mask]:
    """Read nanoseconds since midnight from texts like `05:00` or `05:00:00.123`.

    Examples
    --------
    >>> numbers, read = times(pl.Series(["00:00:01.5", "24:00:00"]))
    >>> numbers[0], read.tolist()
    (np.int64(1500000000), [True, False])
    """

    def read(characters: Characters) -> tuple[Numbers, Mask] | None:
        clock = _clock(characters, "ns")
        return None if clock is None else (clock[0] * PER_SECOND["ns"] + clock[1], clock[2])

    return _by_length(text, read)


def datetimes(text: pl.Series, unit: Unit) -> tuple[Numbers, Mask]:
    """Read time since the epoch in UTC, in `unit`, from texts like `2013-01-01T05:00:00-05:00`.

    A text that is only a date means midnight. A moment that `unit` cannot hold is not read.

    Examples
    --------
    >>> numbers, read = datetimes(pl.Series(["1970-01-01T00:00:01.5Z", "1970-01-01 01:00+01:00", "soon"]), "ms")
    >>> numbers[read].tolist(), read.tolist()
    ([1500, 0], [True, True, False])
    """
    return _by_length(text, lambda c: _moments(c, unit))


def durations(text: pl.Series, unit: Unit) -> tuple[Numbers, Mask]:
    """Read lengths of time in `unit` from texts like `PT1H30M`, `-P1DT0.5S` or `P2W`.

    Years and months are not read: they have no fixed length.

    Examples
    --------
    >>> numbers, read = durations(pl.Series(["PT1M0.5S", "-P1D", "P1Y"]), "ms")
    >>> numbers[read].tolist(), read.tolist()
    ([60500, -86400000], [True, True, False])
    """
    parts = text.str.extract_groups(_DURATION).struct.unnest()
    whole = pl.sum_horizontal(pl.col(name).cast(pl.Int128) * seconds for name, seconds in _LENGTHS.items())
    digits = (pl.col("fraction").fill_null("") + "0" * 9).str.slice(0, len(str(PER_SECOND[unit])) - 1)
    size = whole * PER_SECOND[unit] + digits.cast(pl.Int128)
    table = parts.select(
        number=(size * pl.when(pl.col("sign") == "-").then(-1).otherwise(1)).cast(pl.Int64, strict=False),
        # something must be given, also after a T
        read=pl.any_horizontal(pl.col(*_LENGTHS).is_not_null()) & (pl.col("time").fill_null("") != "T"),
    )
    read = table["read"] & table["number"].is_not_null()
    return table["number"].fill_null(0).to_numpy(), read.to_numpy()


def _by_length(text: pl.Series, read: Callable[[Characters], tuple[Numbers, Mask] | None]) -> tuple[Numbers, Mask]:
    """Hand texts of equal length to `read` together: then a character's place says what it must be."""
    numbers, done = np.zeros(len(text), np.int64), np.zeros(len(text), np.bool_)
    for rows, characters in _equal_lengths(text):
        result = read(characters)
        if result is not None:
            numbers[rows], done[rows] = result
    return numbers, done


def _equal_lengths(text: pl.Series) -> Iterator[tuple[slice | Numbers, Characters]]:
    """Yield the rows of each length and their characters, shape (length, rows)."""
    array = text.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(text) + 1]
    data = np.frombuffer(data_buffer, np.uint8)
    lengths = np.diff(offsets)
    if text.null_count():
        lengths[text.is_null().to_numpy()] = 0
    first = int(lengths[0]) if len(lengths) else 0
    if _MINUTES <= first <= _LONGEST and (lengths == first).all():
        block = data[offsets[0] : offsets[-1]].reshape(len(text), first)
        yield slice(None), np.ascontiguousarray(block.T)
        return
    for length in np.unique(lengths).tolist():
        if _MINUTES <= length <= _LONGEST:
            rows = np.flatnonzero(lengths == length)
            yield rows, data[offsets[rows] + np.arange(length)[:, np.newaxis]]


def _moments(characters: Characters, unit: Unit) -> tuple[Numbers, Mask] | None:
    """Read texts of one length, whose offsets may be written in different ways."""
    length, count = characters.shape
    if length < _DATE:
        return None
    if length == _DATE:
        days, read = _days(characters)
        return _in_unit(days * DAY, np.zeros(count, np.int64), read, unit)
    numbers, done = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    for width, mine in _offset_widths(characters):
        group = characters if mine.all() else characters[:, mine]
        result = _moments_alike(group, width, unit) if group.shape[1] else None
        if result is not None:
            numbers[mine], done[mine] = result
    return numbers, done


def _offset_widths(characters: Characters) -> Iterator[tuple[int, Mask]]:
    """Yield how many characters an offset takes at the end, and which texts have one like that."""
    length, count = characters.shape
    left = np.ones(count, np.bool_)
    for width, form in ((1, "Z"), (6, "+00:00"), (5, "+0000"), (3, "+00")):
        if length - width >= _DATE + 1 + _MINUTES:
            first = characters[-width]
            mine = left & (_is(first, "Zz") if form == "Z" else _is(first, "+-"))
            if form == "+00:00":
                mine &= _is(characters[-3], ":")
            left &= ~mine
            yield width, mine
    yield 0, left


def _moments_alike(characters: Characters, width: int, unit: Unit) -> tuple[Numbers, Mask] | None:
    """Read texts of one length whose offsets take `width` characters."""
    clock = _clock(characters[_DATE + 1 : len(characters) - width], unit)
    if clock is None:
        return None
    days, read = _days(characters[:_DATE])
    seconds, fraction, right = clock
    read &= right & _is(characters[_DATE], "Tt ")
    seconds += days * DAY
    if width > 1:
        offset = characters[len(characters) - width :]
        hours, right = _two_digits(offset[1:3], 23)
        read &= right
        east = hours * 3600
        if width > len("+00"):
            minutes, right = _two_digits(offset[-2:], 59)
            read &= right
            east += minutes * 60
        seconds -= np.where(_is(offset[0], "-"), -east, east)
    return _in_unit(seconds, fraction, read, unit)


def _in_unit(seconds: Numbers, fraction: Numbers, read: Mask, unit: Unit) -> tuple[Numbers, Mask]:
    """Put seconds and the rest, in `unit`, together where years 1 to 9999 and 64 bits allow."""
    per = PER_SECOND[unit]
    (lowest, least), (highest, most) = divmod(int(_INT64.min), per), divmod(int(_INT64.max), per)
    read = read & (seconds >= FIRST_DAY * DAY) & (seconds < (LAST_DAY + 1) * DAY)
    read &= (seconds > lowest) | ((seconds == lowest) & (fraction >= least))
    read &= (seconds < highest) | ((seconds == highest) & (fraction <= most))
    return np.where(read, seconds, 0) * per + fraction, read


def _days(characters: Characters) -> tuple[Numbers, Mask]:
    """Read days since the epoch from `YYYY-MM-DD`."""
    century, read = _two_digits(characters[0:2])
    year, right = _two_digits(characters[2:4])
    read &= right & _is(characters[4], "-")
    year += century * 100
    month, right = _two_digits(characters[5:7], _DECEMBER)
    read &= right & _is(characters[7], "-")
    day, right = _two_digits(characters[8:10])
    read &= right & (year > 0) & (month > 0) & (day > 0)
    place = np.where(read, year * _DECEMBER + month - 1, 0)
    first = _MONTHS[place]
    read &= day <= _MONTHS[place + 1] - first
    return first + day - 1, read


def _clock(characters: Characters, unit: Unit) -> tuple[Numbers, Numbers, Mask] | None:
    """Read whole seconds since midnight and the rest in `unit` from `HH:MM`, `HH:MM:SS` or `HH:MM:SS.f`."""
    length, count = characters.shape
    if length not in (_MINUTES, _SECONDS) and length < _SECONDS + len(".0"):
        return None
    hours, read = _two_digits(characters[0:2], 23)
    minutes, right = _two_digits(characters[3:5], 59)
    read &= right & _is(characters[2], ":")
    total, fraction = hours * 3600 + minutes * 60, np.zeros(count, np.int64)
    if length >= _SECONDS:
        seconds, right = _two_digits(characters[6:8], 59)
        read &= right & _is(characters[5], ":")
        total += seconds
    if length > _SECONDS:
        digits = characters[_SECONDS + 1 :] - ord("0")
        read &= _is(characters[_SECONDS], ".") & (digits <= _NINE).all(axis=0)
        weight = PER_SECOND[unit]
        for place in digits[: len(str(weight)) - 1]:
            weight //= 10
            fraction += place.astype(np.int64) * weight
    return total, fraction, read


def _two_digits(characters: Characters, most: int = 99) -> tuple[Numbers, Mask]:
    """Read numbers of two digits, each at most `most`."""
    # what is no digit wraps around to more than 9
    tens, ones = characters[0] - ord("0"), characters[1] - ord("0")
    number = tens.astype(np.int64) * 10 + ones
    return number, (tens <= _NINE) & (ones <= _NINE) & (number <= most)


def _is(characters: npt.NDArray[np.uint8], any_of: str) -> Mask:
    """Say which characters are one of `any_of`."""
    mask: Mask = characters == ord(any_of[0])
    for other in any_of[1:]:
        mask |= characters == ord(other)
    return mask


def bounds(dtype: pl.DataType) -> tuple[int, int]:
    """Return the smallest and the largest number that a value of this type may be, in its unit.

    Moments are in the years 1 to 9999 (in UTC), which text can write; durations are what Python's timedelta holds.

    Examples
    --------
    >>> bounds(pl.Date()), bounds(pl.Time())
    ((-719162, 2932896), (0, 86399999999999))
    """
    match dtype:
        case pl.Date():
            return FIRST_DAY, LAST_DAY
        case pl.Time():
            return 0, DAY * PER_SECOND["ns"] - 1
        case pl.Datetime():
            per = DAY * PER_SECOND[dtype.time_unit]
            return max(FIRST_DAY * per, int(_INT64.min)), min((LAST_DAY + 1) * per - 1, int(_INT64.max))
    if isinstance(dtype, pl.Duration):
        days = 10**9 * DAY * PER_SECOND[dtype.time_unit]
        # one more than the smallest of 64 bits, which stands for "no value" in other libraries
        return max(DAY * PER_SECOND[dtype.time_unit] - days, int(_INT64.min) + 1), min(days - 1, int(_INT64.max))
    raise TypeError(dtype)
