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
# more digits than any type holds
_LONGEST_NUMBER = 60
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WHOLE_NUMBER = re.compile(WHOLE_NUMBER.replace("$", r"\Z"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_recursion = Lock()


class NotJsonError(ValueError):
    """A payload is no JSON object."""


class KindError(ValueError):
    """A value is not of the kind that its column expects."""


class _WrongError(ValueError):
    """The same, with the words still to come."""


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


def shaper(dtype: pl.DataType, column: str) -> Callable[[Any], Any]:
    """Return what looks at the kind of a parsed value, and returns it as it must be written for the fast reader.

    It raises a KindError that names the column, what was found and what is expected.

    Examples
    --------
    >>> shaper(pl.String(), "a")(Real("1.50")), shaper(pl.Float32(), "a")(Real("1.50"))
    ('1.50', 1.5)
    >>> shaper(pl.List(pl.Int8()), "a")([Whole("1"), Whole("300")])
    Traceback (most recent call last):
    streamlab.connect.formats.json_value.KindError: column 'a[]': found 300, expected a whole number (Int8)
    """
    kinds = {type(None): _same, **_kinds(dtype, column)}

    def shape(value: Any) -> Any:
        try:
            return kinds.get(type(value), _wrong)(value)
        except _WrongError:
            raise KindError(misfit(column, found(value), expected(dtype))) from None

    return shape


def _kinds(dtype: pl.DataType, column: str) -> dict[type, Callable[[Any], Any]]:
    """Return what to do with each kind of value that a type accepts."""
    if isinstance(dtype, pl.List):
        item = shaper(instance(dtype.inner), f"{column}[]")
        return {list: lambda values: [item(value) for value in values]}
    if isinstance(dtype, pl.Struct):
        fields = {f.name: shaper(instance(f.dtype), f"{column}.{f.name}") for f in dtype.fields}
        return {dict: lambda value: {name: shape(value.get(name)) for name, shape in fields.items()}}
    if isinstance(dtype, pl.UInt128):
        return {Whole: _digits}
    if dtype.is_integer():
        low, high = INTEGER_BOUNDS[type(dtype)]
        return {Whole: lambda value: _integer(value, low, high)}
    return _plain_kinds(dtype)


def _plain_kinds(dtype: pl.DataType) -> dict[type, Callable[[Any], Any]]:
    if isinstance(dtype, TEXTS):
        return {str: _characters, Whole: str, Real: str, bool: found}
    if isinstance(dtype, TEMPORALS):
        # whole numbers are written as text here, so that no text may look like one
        return {str: _no_number, Whole: _digits}
    if isinstance(dtype, pl.Decimal):
        return {str: _characters, Whole: _without_exponent, Real: _without_exponent}
    if dtype.is_float():
        return {Whole: _finite, Real: _finite}
    return {bool: _same} if isinstance(dtype, pl.Boolean) else {str: _characters}


def _same(value: Any) -> Any:
    return value


def _wrong(_: Any) -> Never:
    raise _WrongError


def _characters(value: str) -> str:
    """Refuse half of a surrogate pair: it is no character."""
    return value if value.isascii() or not _SURROGATE.search(value) else _wrong(value)


def _no_number(value: str) -> str:
    return _wrong(value) if _WHOLE_NUMBER.match(value) else _characters(value)


def _digits(value: str) -> str:
    return "0" if value == "-0" else str(value)


def _finite(value: str) -> float:
    # the fast reader takes -0 for an integer, which has no sign
    number = 0.0 if value == "-0" else float(value)
    return number if math.isfinite(number) else _wrong(value)


def _integer(value: str, low: int, high: int) -> int:
    # Python refuses to read very long ones
    number = int(value) if len(value) <= _LONGEST_NUMBER else high + 1
    return number if low <= number <= high else _wrong(value)


def _without_exponent(value: str) -> str:
    if not value.lower().partition("e")[0].strip("-0."):
        return "0"
    try:
        number = Decimal(value)
    except InvalidOperation:  # an exponent beyond all measure
        _wrong(value)
    if abs(number.adjusted()) > _LONGEST_NUMBER:
        _wrong(value)
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


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


def _no_constant(name: str) -> Never:
    raise NotJsonError(f"not one JSON object: {name} is no JSON number")


def _integer_bounds() -> dict[type[pl.DataType], tuple[int, int]]:
    signed = {pl.Int8: 8, pl.Int16: 16, pl.Int32: 32, pl.Int64: 64, pl.Int128: 128}
    unsigned = {pl.UInt8: 8, pl.UInt16: 16, pl.UInt32: 32, pl.UInt64: 64, pl.UInt128: 128}
    bounds: dict[type[pl.DataType], tuple[int, int]] = {
        dtype: (-(1 << bits - 1), (1 << bits - 1) - 1) for dtype, bits in signed.items()
    }
    return bounds | {dtype: (0, (1 << bits) - 1) for dtype, bits in unsigned.items()}


INTEGER_BOUNDS = _integer_bounds()
_DECODER = json.JSONDecoder(
    object_pairs_hook=_first_wins, parse_int=Whole, parse_float=Real, parse_constant=_no_constant
)
