"""How a bad payload is described on one line: what a column expects, and what was found there."""

from __future__ import annotations

from typing import Any

import polars as pl

_MOST = 200


class Whole(str):
    """A number without point and exponent, as it was written."""

    __slots__ = ()


class Real(str):
    """Any other number, as it was written."""

    __slots__ = ()


_EXPECTED: dict[type[pl.DataType], str] = {
    pl.Boolean: "true or false",
    pl.String: "text (String)",
    pl.Categorical: "text (Categorical)",
    pl.Binary: "text in base64",
    pl.Decimal: 'a number, or text such as "1.50", of {0.precision} digits with at most {0.scale} after the point',
    pl.Date: 'an ISO 8601 date such as "2013-01-31" or a whole number of days, in the years 1 to 9999',
    pl.Datetime: 'an ISO 8601 date and time such as "2013-01-31T05:00:00Z" or a whole number of {0.time_unit}'
    " since 1970, in the years 1 to 9999",
    pl.Time: 'an ISO 8601 time such as "05:00:00" or a whole number of ns since midnight',
    pl.Duration: 'an ISO 8601 duration such as "PT1H30M" or a whole number of {0.time_unit}',
    pl.List: "an array",
    pl.Struct: "an object",
}


def expected(dtype: pl.DataType) -> str:
    """Say what a column of this type expects.

    Examples
    --------
    >>> expected(pl.Int8()), expected(pl.Duration("ms"))
    ('a whole number (Int8)', 'an ISO 8601 duration such as "PT1H30M" or a whole number of ms')
    """
    if isinstance(dtype, pl.Enum):
        return shorten(f"one of {dtype.categories.to_list()}")
    kind = "a number" if dtype.is_float() else "a whole number"
    return _EXPECTED.get(type(dtype), f"{kind} ({dtype})").format(dtype)


def found(value: Any) -> str:
    r"""Show a value of a payload on one line.

    Examples
    --------
    >>> found("two\nlines"), found(True), found({"a": 1, "b": [2]}), found([])
    ("'two\\nlines'", 'true', "an object with the fields ['a', 'b']", 'an array of 0')
    """
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return shorten(f"an object with the fields {list(value)}")
        case list():
            return f"an array of {len(value)}"
        case Whole() | Real():
            return shorten(value)
        case str():
            return shorten(repr(value[: _MOST + 1]))
    return shorten(str(value))


def misfit(column: str, value: str, wanted: str) -> str:
    """Put a column, what was found and what is expected into one sentence.

    Examples
    --------
    >>> misfit("a[0]", "1.5", "a whole number (Int8)")
    "column 'a[0]': found 1.5, expected a whole number (Int8)"
    """
    return f"column {column!r}: found {value}, expected {wanted}"


def shorten(text: str) -> str:
    """Cut a text to about 200 characters.

    Examples
    --------
    >>> shorten("a" * 300) == "a" * 200 + "..."
    True
    """
    return text if len(text) <= _MOST else text[:_MOST] + "..."
