"""One payload at a time, slowly: what JSON it holds, and whether each value is of the right kind.

Numbers keep the text that they were written as. What comes out is written as JSON again, for the fast reader to read:
so a value has one meaning, whichever way its payload took.
"""

from __future__ import annotations

import json
import math
import re
import sys
from decimal import Decimal, InvalidOperation
from threading import Lock
from typing import TYPE_CHECKING, Any, Never

import numpy as np
import polars as pl

from streamlab.connect.formats.json_columns import TEMPORALS, TEXTS, WHOLE_NUMBER
from streamlab.connect.formats.json_words import Real, Whole, expected, found, misfit
from streamlab.connect.formats.nested import instance

if TYPE_CHECKING:
    from collections.abc import Callable

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# the depth at which the fast reader gives up
_DEEPEST = 1024
# and one that needs no look
_SHALLOW = 200
_LONGEST_DECIMAL = 60
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WHOLE_NUMBER = re.compile(WHOLE_NUMBER.replace("$", r"\Z"))
_recursion = Lock()


class NotJsonError(ValueError):
    """A payload is no JSON object."""


class KindError(ValueError):
    """A value is not of the kind that its column expects."""


def parse(payload: bytes) -> dict[str, Any]:
    """Return the JSON object that a payload holds; of a repeated field the first.

    Raises
    ------
    NotJsonError
        Saying what the payload holds instead.

    Examples
    --------
    >>> parse(b'{"a": 1.50, "b": [true, null], "a": 2}')
    {'a': '1.50', 'b': [True, None]}
    >>> parse(b'{"a": NaN}')
    Traceback (most recent call last):
    streamlab.connect.formats.json_value.NotJsonError: not one JSON object: NaN is no JSON number
    """
    try:
        text = payload.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise NotJsonError(f"not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start}") from None
    if not text.strip(" \t\r\n"):
        raise NotJsonError("empty payload, expected one JSON object")
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        problem = "text after the end" if error.msg == "Extra data" else error.msg.lower()
        near = text[max(0, error.pos - 20) : error.pos + 20]
        raise NotJsonError(f"not one JSON object: {problem} at character {error.pos}, near {near!r}") from None
    if type(value) is not dict:
        raise NotJsonError(f"found {found(value)}, expected one JSON object")
    return value


def shape(value: Any, dtype: pl.DataType, column: str) -> Any:
    """Return a value as `json.dumps` must write it for the fast reader, after a look at its kind.

    Raises
    ------
    KindError
        Naming the column, what was found and what is expected.

    Examples
    --------
    >>> shape(Real("1.50"), pl.String(), "a"), shape(Real("1.50"), pl.Float32(), "a")
    ('1.50', 1.5)
    >>> shape(Real("1.50"), pl.Int64(), "a")
    Traceback (most recent call last):
    streamlab.connect.formats.json_value.KindError: column 'a': found 1.50, expected a whole number (Int64)
    """
    return None if value is None else _SHAPES[type(value)](value, dtype, column)


def _shape_array(value: list[Any], dtype: pl.DataType, column: str) -> list[Any]:
    if not isinstance(dtype, pl.List):
        _refuse(value, dtype, column)
    inner = instance(dtype.inner)
    return [shape(item, inner, f"{column}[{place}]") for place, item in enumerate(value)]


def _shape_object(value: dict[str, Any], dtype: pl.DataType, column: str) -> dict[str, Any]:
    if not isinstance(dtype, pl.Struct):
        _refuse(value, dtype, column)
    return {f.name: shape(value.get(f.name), instance(f.dtype), f"{column}.{f.name}") for f in dtype.fields}


def _shape_truth(value: bool, dtype: pl.DataType, column: str) -> bool | str:
    if isinstance(dtype, TEXTS):
        return found(value)
    return value if isinstance(dtype, pl.Boolean) else _refuse(value, dtype, column)


def _shape_text(value: str, dtype: pl.DataType, column: str) -> str:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise KindError(f"column {column!r}: {found(value)} holds half of a surrogate pair, which is no character")
    # a number for these is written as text below
    number = isinstance(dtype, TEMPORALS) and _WHOLE_NUMBER.match(value)
    if number or not isinstance(dtype, (*TEXTS, *TEMPORALS, pl.Binary, pl.Decimal)):
        _refuse(value, dtype, column)
    return value


def _shape_number(value: Whole | Real, dtype: pl.DataType, column: str) -> str | int | float:
    whole = type(value) is Whole
    if isinstance(dtype, TEXTS):
        return str(value)
    if dtype.is_float():
        number = float(value)
        return number if math.isfinite(number) else _refuse(value, dtype, column)
    if isinstance(dtype, pl.Decimal):
        return _plain(value, dtype, column)
    if whole and isinstance(dtype, TEMPORALS):
        return "0" if value == "-0" else str(value)
    if whole and dtype.is_integer() and len(value) <= len(str(-(2**127))):
        integer = int(value)
        low, high = INTEGER_BOUNDS[type(dtype)]
        if low <= integer <= high:
            return integer
    return _refuse(value, dtype, column)


def _plain(value: str, dtype: pl.DataType, column: str) -> str:
    """Write a number without an exponent."""
    if not value.lower().partition("e")[0].strip("-0."):
        return "0"
    try:
        number = Decimal(value)
    except InvalidOperation:  # an exponent beyond all measure
        _refuse(value, dtype, column)
    if abs(number.adjusted()) > _LONGEST_DECIMAL:
        _refuse(value, dtype, column)
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _refuse(value: Any, dtype: pl.DataType, column: str) -> Never:
    raise KindError(misfit(column, found(value), expected(dtype)))


def _decode(text: str) -> Any:
    """Decode JSON, as deep as the fast reader does."""
    if text.count("[") + text.count("{") <= _SHALLOW:
        return _DECODER.decode(text)
    bare = np.frombuffer(_STRING.sub("", text).encode(), np.uint8)
    opened = np.isin(bare, [*b"[{"]).astype(np.int64) - np.isin(bare, [*b"]}"])
    if opened.cumsum().max(initial=0) > _DEEPEST:
        raise NotJsonError(f"not one JSON object: nested deeper than {_DEEPEST} levels")
    with _recursion:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + 2 * _DEEPEST)
        try:
            return _DECODER.decode(text)
        finally:
            sys.setrecursionlimit(limit)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        fields.update(reversed(pairs))
    return fields


def _no_number(name: str) -> Never:
    raise NotJsonError(f"not one JSON object: {name} is no JSON number")


def _integer_bounds() -> dict[type[pl.DataType], tuple[int, int]]:
    signed = {pl.Int8: 8, pl.Int16: 16, pl.Int32: 32, pl.Int64: 64, pl.Int128: 128}
    unsigned = {pl.UInt8: 8, pl.UInt16: 16, pl.UInt32: 32, pl.UInt64: 64, pl.UInt128: 128}
    bounds: dict[type[pl.DataType], tuple[int, int]] = {
        dtype: (-(1 << bits - 1), (1 << bits - 1) - 1) for dtype, bits in signed.items()
    }
    return bounds | {dtype: (0, (1 << bits) - 1) for dtype, bits in unsigned.items()}


INTEGER_BOUNDS = _integer_bounds()
_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins, parse_int=Whole, parse_float=Real, parse_constant=_no_number)
_SHAPES: dict[type, Callable[[Any, pl.DataType, str], Any]] = {
    list: _shape_array,
    dict: _shape_object,
    bool: _shape_truth,
    str: _shape_text,
    Whole: _shape_number,
    Real: _shape_number,
}
