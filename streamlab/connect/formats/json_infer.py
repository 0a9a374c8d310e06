"""Guess a schema from a sample of JSON payloads."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.connect.formats import iso8601
from streamlab.connect.formats.json_value import INTEGER_BOUNDS, NotJsonError, parse
from streamlab.connect.formats.json_words import Real, Whole
from streamlab.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

_OFFSET = re.compile(r"(?:Z|z|[+-]\d\d(?::?\d\d)?)\Z")
_DATE = len("2013-01-01")


def infer(payloads: Sequence[bytes]) -> pl.Schema:
    """Guess a schema from a sample of payloads; those that are no JSON objects are left out.

    Raises
    ------
    PlanError
        When the sample holds nothing to guess from.
    """
    objects, problem = [], "the sample is empty"
    for place, payload in enumerate(payloads):
        try:
            objects.append(parse(payload))
        except NotJsonError as error:
            problem = f"payload {place}: {error}"
    fields = _fields(objects)
    if not fields:
        reason = f"the objects have no fields with values, such as {objects[0]}" if objects else problem
        raise PlanError(
            f"json: there is nothing to infer a schema from ({reason}); pass schema=, such as schema={{'id': pl.Int64}}."
        )
    return pl.Schema(fields)


def _fields(objects: Sequence[dict[str, Any]]) -> dict[str, pl.DataType]:
    """Type each field, in the order of first sight."""
    values: dict[str, list[Any]] = {}
    for fields in objects:
        for name, value in fields.items():
            values.setdefault(name, []).append(value)
    typed = {name: _type([value for value in found if value is not None]) for name, found in values.items()}
    return {name: dtype for name, dtype in typed.items() if dtype is not None}


def _type(values: list[Any]) -> pl.DataType | None:
    """Return the type that holds all values; None when they are objects without any field."""
    kinds = {type(value) for value in values}
    if kinds == {dict}:
        fields = _fields(values)
        return pl.Struct(fields) if fields else None
    if kinds == {list}:
        inner = _type([item for items in values for item in items if item is not None])
        return None if inner is None else pl.List(inner)
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {Whole}:
        return _whole([Decimal(value) for value in values])
    if kinds and kinds <= {Whole, Real}:
        return pl.Float64()
    return _text(values) if kinds == {str} else pl.String()


def _whole(numbers: list[Decimal]) -> pl.DataType:
    low, high = min(numbers), max(numbers)
    for dtype in (pl.Int64, pl.UInt64, pl.Int128):
        least, most = INTEGER_BOUNDS[dtype]
        if least <= low and high <= most:
            return dtype()
    return pl.Float64()


def _text(values: list[str]) -> pl.DataType:
    text = pl.Series(values)
    _, read = iso8601.datetimes(text, "ms")
    if not read.all() or any(len(value) <= _DATE for value in values):
        return pl.String()
    # without any offset nothing is said about UTC
    return pl.Datetime("ms", "UTC" if any(_OFFSET.search(value, _DATE) for value in values) else None)
