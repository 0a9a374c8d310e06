"""From the columns that the JSON reader delivers to the columns of a schema.

polars' reader knows few types, and is lenient with some. So a column is read as a plain one first (the *wire*
type: 64-bit numbers, booleans, text), then converted, and every value that does not fit is reported rather than lost.

Text is where the reader is lenient: it also accepts numbers (printed its own way: `1.50` becomes `1.5`), booleans,
arrays and objects (printed). A printed value can look like the text that somebody wrote, so such rows are reported too,
with the pattern that their payload must show to be in doubt indeed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.connect.formats import iso8601
from streamlab.connect.formats.json_words import Whole, expected
from streamlab.connect.formats.nested import instance, items_of, only_where, rows_of_items, with_fields, with_items

if TYPE_CHECKING:
    from collections.abc import Sequence

TEMPORALS = (pl.Date, pl.Datetime, pl.Time, pl.Duration)
TEXTS = (pl.String, pl.Categorical, pl.Enum)
_AS_THEY_ARE = (pl.Int64, pl.UInt64, pl.Int128, pl.Float64, pl.Boolean)
WHOLE_NUMBER = r"^-?[0-9]+$"
_PLAIN_NUMBER = r"^-?[0-9]+(?:\.[0-9]+)?$"

# what a payload shows where the reader's text may not be the text meant
_FRACTION = r"(?:-0|-?[0-9]+[.eE])"
_NESTED = r"[\[{]"
_NO_WHOLE_NUMBER = r"(?:\"|-?[0-9]+[.eE])"
_NO_TEXT = r"[\[{0-9tf-]"
_LONG_NUMBER = r"-?(?:[0-9.]{17,}|[0-9.]+[eE])"  # a double holds any 15 digits


@dataclass(frozen=True, slots=True)
class Unfit:
    """Values that are not what their column promises.

    Parameters
    ----------
    rows
        Where they are.
    found
        The values as read.
    expected
        What should have been there.
    path
        Where inside of the column: "" or such as ".address.zip" or "[]".
    sign
        A pattern; a payload that does not match it is fine after all. None: all are in doubt.
    """

    rows: npt.NDArray[np.int64]
    found: pl.Series
    expected: str
    path: str = ""
    sign: str | None = None


def wire_type(dtype: pl.DataType, sample: Sequence[Any] = ()) -> pl.DataType:
    """Return the type as which a column is read.

    Parameters
    ----------
    dtype
        The type that the schema promises.
    sample
        Some values of the column: where most are whole numbers, a temporal column is read as such. This decides
        about speed alone; the other kind of values is reported as unfit and read by itself.

    Examples
    --------
    >>> wire_type(pl.Int8()), wire_type(pl.Time()), wire_type(pl.Datetime("ms"), [Whole(5), Whole(6), "2013-01-01"])
    (Int64, String, Int64)
    """
    if isinstance(dtype, pl.List):
        items = [item for value in sample if type(value) is list for item in value]
        return pl.List(wire_type(instance(dtype.inner), items))
    if isinstance(dtype, pl.Struct):
        objects = [value for value in sample if type(value) is dict]
        fields = {f.name: wire_type(instance(f.dtype), [value.get(f.name) for value in objects]) for f in dtype.fields}
        return pl.Struct(fields)
    if isinstance(dtype, TEMPORALS):
        given = [value for value in sample if value is not None]
        return pl.Int64() if 2 * sum(isinstance(value, Whole) for value in given) > len(given) else pl.String()
    if isinstance(dtype, _AS_THEY_ARE):
        return dtype
    if dtype.is_integer() and not isinstance(dtype, pl.UInt128):  # the reader knows no number above those of Int128
        return pl.Int64()
    return pl.Float64() if dtype.is_float() else pl.String()


def convert(wire: pl.Series, dtype: pl.DataType, key: str | None, *, settled: bool) -> tuple[pl.Series, list[Unfit]]:
    """Turn a column as read into one of `dtype`, and report the values that do not fit (null in the result).

    Parameters
    ----------
    wire
        The column as read, of `wire_type(dtype, ...)`.
    dtype
        The type that the schema promises.
    key
        The name under which a payload holds the value; None inside of an array.
    settled
        Whether all values are known to be of the right kind, so that `"12"` for a temporal type stands for a number,
        and no text for something else.

    Examples
    --------
    >>> column, unfit = convert(pl.Series([1, 300]), pl.Int8(), "a", settled=True)
    >>> column.to_list(), unfit[0].rows.tolist(), unfit[0].expected
    ([1, None], [1], 'a whole number (Int8)')
    """
    match dtype:
        case pl.List():
            return _convert_list(wire, dtype, settled=settled)
        case pl.Struct():
            return _convert_struct(wire, dtype, settled=settled)
    converted = _convert_plain(wire, dtype, settled=settled)
    unfit = []
    if converted.null_count() != wire.null_count():
        unfit.append(_report(wire, converted.is_null() & wire.is_not_null(), dtype))
    if wire.dtype == pl.String and not settled:
        unfit += _doubts(wire, dtype, key)
    return converted, unfit


def _convert_list(wire: pl.Series, dtype: pl.List, *, settled: bool) -> tuple[pl.Series, list[Unfit]]:
    items = items_of(wire)
    converted, unfit = convert(items, instance(dtype.inner), None, settled=settled)
    rows = rows_of_items(wire) if unfit else None
    outer = [replace(u, rows=rows[u.rows], path="[]" + u.path) for u in unfit if rows is not None]
    return wire if converted is items else with_items(wire, converted), outer


def _convert_struct(wire: pl.Series, dtype: pl.Struct, *, settled: bool) -> tuple[pl.Series, list[Unfit]]:
    fields, outer, changed = [], [], False
    for field in dtype.fields:
        values = wire.struct.field(field.name)
        converted, unfit = convert(values, instance(field.dtype), field.name, settled=settled)
        fields.append(converted.alias(field.name))
        outer += [replace(u, path=f".{field.name}{u.path}") for u in unfit]
        changed |= converted is not values
    return with_fields(wire, fields) if changed else wire, outer


def _convert_plain(wire: pl.Series, dtype: pl.DataType, *, settled: bool) -> pl.Series:
    """Convert values that hold no others; what does not fit becomes null."""
    if wire.dtype == dtype:
        return wire
    if isinstance(dtype, TEMPORALS):
        return _temporal(wire, dtype, settled=settled)
    if wire.dtype == pl.String:
        return _from_text(wire, dtype)
    narrow = wire.cast(dtype, strict=False)
    if dtype.is_float():
        finite = narrow.is_finite()
        return narrow if finite.all() else only_where(narrow, finite)
    return narrow


def _from_text(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Binary):
        return text.str.decode("base64", strict=False)
    if isinstance(dtype, pl.Decimal):
        # the cast would round, so look first
        places = text.str.extract(r"\.([0-9]*?)0*$").str.len_bytes().fill_null(0)
        text = only_where(text, text.str.contains(_PLAIN_NUMBER) & (places <= dtype.scale))
    if isinstance(dtype, pl.UInt128):
        text = only_where(text, text.str.contains(WHOLE_NUMBER))
    return text.cast(dtype, strict=False)


def _temporal(wire: pl.Series, dtype: pl.DataType, *, settled: bool) -> pl.Series:
    numbers = wire
    if wire.dtype == pl.String:
        read, right = _read_text(wire, dtype)
        numbers = pl.Series(wire.name, read)
        if not right.all():
            numbers = only_where(numbers, pl.Series(right))
            if settled:
                whole = wire.str.extract(f"({WHOLE_NUMBER})").cast(pl.Int64, strict=False)
                numbers = numbers.zip_with(numbers.is_not_null(), whole)
    low, high = iso8601.bounds(dtype)
    inside = numbers.is_between(low, high)
    return (numbers if inside.all() else only_where(numbers, inside)).cast(dtype)


def _read_text(text: pl.Series, dtype: pl.DataType) -> tuple[iso8601.Numbers, iso8601.Mask]:
    match dtype:
        case pl.Date():
            return iso8601.dates(text)
        case pl.Time():
            return iso8601.times(text)
        case pl.Duration():
            return iso8601.durations(text, dtype.time_unit)
        case pl.Datetime():
            return iso8601.datetimes(text, dtype.time_unit)
    raise AssertionError(dtype)


def _doubts(text: pl.Series, dtype: pl.DataType, key: str | None) -> list[Unfit]:
    """Report text that the reader may have printed from something else."""
    if isinstance(dtype, TEXTS):
        doubts = [
            (_between(text, "-", ":"), _sign(key, _FRACTION)),
            (_between(text, "[", "\\") | _between(text, "{", "|"), _sign(key, _NESTED)),
        ]
    elif isinstance(dtype, pl.Binary):
        doubts = [(_between(text, "0", ":") | (text == "true"), _sign(key, _NO_TEXT))]
    elif isinstance(dtype, pl.Decimal):
        doubts = [(text.is_not_null(), _sign(key, _LONG_NUMBER))]
    elif isinstance(dtype, pl.UInt128):
        doubts = [(text.is_not_null(), _sign(key, _NO_WHOLE_NUMBER))]
    else:
        return []
    return [_report(text, looks, dtype, sign) for looks, sign in doubts if looks.any()]


def _sign(key: str | None, value: str) -> str | None:
    """Return the pattern of a payload that holds such a value under this key."""
    if key is None:
        return rf"[\[,]\s*{value}"
    if re.fullmatch(r"[A-Za-z0-9_ .$@/:-]+", key) is None:
        return None
    name = re.sub("([.$])", r"[\1]", key)
    # or a key is written with escapes: it may be this one
    return rf'"{name}"\s*:\s*{value}|\\[^"]*"\s*:'


def _report(found: pl.Series, mask: pl.Series, dtype: pl.DataType, sign: str | None = None) -> Unfit:
    rows = np.flatnonzero(mask.fill_null(value=False).to_numpy())
    return Unfit(rows, found[rows], expected(dtype), sign=sign)


def _between(text: pl.Series, first: str, end: str) -> pl.Series:
    return (text >= first) & (text < end)
