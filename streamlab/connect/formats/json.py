"""JSON: one object per payload.

What a column accepts, beside null (a field that is absent is null, an unknown one is ignored, of a repeated one the
first counts):

| type | accepts |
|---|---|
| integers | numbers without point and exponent, in the range of the type |
| floats | numbers, but none too large for the type |
| Boolean | `true`, `false` |
| String, Categorical, Enum | text; numbers and booleans, as they are written |
| Date, Time, Datetime, Duration | ISO 8601 text (see `iso8601`); whole numbers in the unit of the type (days for Date, \
ns for Time) |
| Decimal | numbers and text such as `"1.50"`, if they fit exactly |
| Binary | text in base64, with padding |
| List, Struct | arrays, objects |

Text without an offset is taken for UTC, and a Datetime without a time zone gets the time of day in UTC. Digits of a
second that are finer than the unit are dropped. Anything else makes its record a bad one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import polars as pl

from streamlab.connect.formats import Decoded
from streamlab.connect.formats.json_columns import TEMPORALS, TEXTS
from streamlab.connect.formats.json_encode import encode
from streamlab.connect.formats.json_infer import infer
from streamlab.connect.formats.json_lines import read, wire_schema
from streamlab.connect.formats.json_repair import take_apart
from streamlab.connect.formats.nested import instance
from streamlab.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Json", "encode"]

_VALID = (
    "integers, floats, Boolean, String, Categorical, Enum, Date, Datetime, Time, Duration, Decimal, Binary, "
    "List and Struct"
)


class Json:
    """Reads payloads that each hold one JSON object.

    Examples
    --------
    >>> schema = pl.Schema({"id": pl.Int64(), "at": pl.Datetime("ms", "UTC")})
    >>> decoded = Json().decode([b'{"id": 1, "at": "2013-01-01T05:00:00-05:00"}', b'{"id": "x"}'], schema)
    >>> decoded.rows.rows()
    [(1, datetime.datetime(2013, 1, 1, 10, 0, tzinfo=zoneinfo.ZoneInfo(key='UTC')))]
    >>> decoded.kept.tolist(), decoded.bad[0].index, decoded.bad[0].error
    ([0], 1, "column 'id': found 'x', expected a whole number (Int64)")
    """

    name: ClassVar[str] = "json"

    def check(self, schema: pl.Schema) -> None:
        """Refuse a schema that JSON cannot fill.

        Raises
        ------
        PlanError
            Naming the column, its type and the valid ones.

        Examples
        --------
        >>> Json().check(pl.Schema({"a": pl.List(pl.Object())}))
        Traceback (most recent call last):
        streamlab.errors.PlanError: json: column 'a[]' is of type Object; JSON can be read as integers, ...
        """
        if not schema:
            raise PlanError(f"json: the schema has no columns; name at least one, of {_VALID}.")
        for name, dtype in schema.items():
            _check(dtype, name)

    def infer(self, payloads: Sequence[bytes]) -> pl.Schema:
        """Guess a schema from a sample of payloads.

        Whole numbers become Int64 (a wider type where one is too large), numbers Float64, objects Struct, arrays List.
        Texts that all are ISO 8601 moments with date and time become `Datetime("ms", "UTC")`, or `Datetime("ms")` if
        none of them names an offset. What is always null becomes String, and so does what is of several kinds. Fields
        that only hold empty objects, and payloads that are no JSON objects, are left out.

        Raises
        ------
        PlanError
            When the sample holds nothing to guess from.

        Examples
        --------
        >>> dict(Json().infer([b'{"id": 1, "at": "2013-01-01T05:00:00Z"}', b'{"id": 2, "price": 1.5}']))
        {'id': Int64, 'at': Datetime(time_unit='ms', time_zone='UTC'), 'price': Float64}
        """
        return infer(payloads)

    def decode(self, payloads: Sequence[bytes], schema: pl.Schema) -> Decoded:
        """Turn payloads into rows, and say what is wrong with those that cannot be.

        Parameters
        ----------
        payloads
            Each is to hold one JSON object.
        schema
            What the objects are to hold; `check` has passed it.
        """
        if not payloads:
            return Decoded(schema.to_frame(), None, ())
        wire = wire_schema(schema, payloads)
        reading = read(payloads, schema, wire)
        if reading is not None and not len(reading.suspects()):
            return Decoded(reading.rows, None, ())
        return take_apart(payloads, schema, wire, reading)


def _check(dtype: pl.DataType, column: str) -> None:
    if isinstance(dtype, pl.List):
        _check(instance(dtype.inner), f"{column}[]")
    elif isinstance(dtype, pl.Struct) and dtype.fields:
        for field in dtype.fields:
            _check(instance(field.dtype), f"{column}.{field.name}")
    elif not (dtype.is_integer() or dtype.is_float()) and not isinstance(
        dtype, (pl.Boolean, *TEXTS, *TEMPORALS, pl.Binary, pl.Decimal)
    ):
        hint = " Try pl.List for it." if isinstance(dtype, pl.Array) else ""
        raise PlanError(f"json: column {column!r} is of type {dtype}; JSON can be read as {_VALID}.{hint}")
