"""Rows to JSON, a column at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from streamlab.connect.formats import iso8601
from streamlab.connect.formats.json_columns import TEMPORALS
from streamlab.connect.formats.nested import instance, items_of, with_fields, with_items
from streamlab.errors import StepError

if TYPE_CHECKING:
    from streamlab.connect.formats.iso8601 import Unit

_DIGITS: dict[Unit, str] = {"ms": "%.3f", "us": "%.6f", "ns": "%.9f"}


def encode(rows: pl.DataFrame) -> list[bytes]:
    """Write each row as one JSON object, all columns in order, null as null.

    Moments become ISO 8601 text in their full precision, with `Z` if the type has a time zone (they are written in UTC
    then); durations ISO 8601 text; decimals text, since most readers would make doubles of them; binary base64 text;
    NaN and the infinities null, for which JSON has no number. `Json().decode` reads all of this back to the same rows.

    Raises
    ------
    StepError
        When a moment is outside of the years 1 to 9999, for which ISO 8601 has no text, or a column holds Python objects.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> encode(pl.DataFrame({"id": [7], "at": [datetime(2013, 1, 1, 5, tzinfo=UTC)]}))
    [b'{"id":7,"at":"2013-01-01T05:00:00.000000Z"}']
    """
    if rows.width == 0:
        return [b"{}"] * rows.height
    plain = pl.DataFrame({column.name: _plain(column, column.dtype, column.name) for column in rows.iter_columns()})
    return plain.to_struct().struct.json_encode().cast(pl.Binary).to_list()


def _plain(values: pl.Series, dtype: pl.DataType, column: str) -> pl.Series:
    """Turn a column into one of a type that JSON has; the same object where it is one already."""
    match dtype:
        case pl.Array():
            return _plain(values.arr.to_list(), pl.List(dtype.inner), column)
        case pl.List():
            items = items_of(values)
            plain = _plain(items, instance(dtype.inner), column)
            return values if plain is items else with_items(values, plain)
        case pl.Struct():
            fields = [values.struct.field(field.name) for field in dtype.fields]
            plains = [_plain(f, instance(f.dtype), column).alias(f.name) for f in fields]
            same = all(plain is field for plain, field in zip(plains, fields, strict=True))
            return values if same else with_fields(values, plains)
        case pl.Binary():
            return values.bin.encode("base64")
        case pl.Object():
            raise StepError(f"json: column {column!r} holds Python objects (pl.Object), which JSON cannot write.")
    return _text(values, dtype, column) if isinstance(dtype, TEMPORALS) else values


def _text(values: pl.Series, dtype: pl.DataType, column: str) -> pl.Series:
    numbers = values.to_physical()
    low, high = iso8601.bounds(dtype)
    inside = numbers.is_between(low, high)
    if not inside.all():
        raise StepError(
            f"json: column {column!r} ({dtype}) holds {numbers.filter(~inside)[0]}, for which ISO 8601 has no text "
            "(moments in the years 1 to 9999, durations of less than 10**9 days); filter such rows out, or write the "
            "number: pl.col(...).to_physical()."
        )
    if isinstance(dtype, pl.Datetime):
        zone = "" if dtype.time_zone is None else "Z"
        utc = values if dtype.time_zone is None else values.dt.convert_time_zone("UTC")
        return utc.dt.to_string(f"%Y-%m-%dT%H:%M:%S{_DIGITS[dtype.time_unit]}{zone}")
    return values.dt.to_string("iso")
