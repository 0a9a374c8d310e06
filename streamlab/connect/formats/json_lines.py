"""Read a batch of payloads in one call: the fast way, for batches in which nothing is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.connect.formats.json_columns import TEMPORALS, Unfit, convert, wire_type
from streamlab.connect.formats.json_value import NotJsonError, parse
from streamlab.connect.formats.nested import instance

if TYPE_CHECKING:
    from collections.abc import Sequence

# where to look for samples: out of step with anything that comes at regular distances
_SAMPLES = (0, 0.236, 0.382, 0.618, 0.854)
_NEWLINE = ord("\n")
# other halves the reader refuses
_HALF_CHARACTER = r"\\u[dD][89abAB][0-9a-fA-F]{2}(?:[^\\]|\\[^u])"


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows as read, one for each payload.

    Parameters
    ----------
    rows
        With the schema asked for; null where a value is unfit.
    unfit
        The values that do not fit, each with its column's name.
    broken
        Positions of rows that may hold a broken character.
    """

    rows: pl.DataFrame
    unfit: list[tuple[str, Unfit]]
    broken: npt.NDArray[np.int64]

    def suspects(self) -> npt.NDArray[np.int64]:
        """Return the positions of the rows with which something is or may be wrong, in order."""
        return np.unique(np.concatenate([self.broken, *(unfit.rows for _, unfit in self.unfit)]))


def read(payloads: Sequence[bytes], schema: pl.Schema, wire: pl.Schema, *, settled: bool = False) -> Reading | None:
    """Read payloads of one JSON object each; None when they cannot be read together.

    Parameters
    ----------
    payloads
        At least one.
    schema
        What to read.
    wire
        The types as which the columns are read, of `wire_schema`.
    settled
        Whether all values are known to be of the right kind (see `convert`).

    Examples
    --------
    >>> schema = pl.Schema({"a": pl.Int64()})
    >>> read([b'{"a": 1}', b'{"a": 2}'], schema, schema).rows["a"].to_list()
    [1, 2]
    >>> read([b'{"a": 1}', b'{"a": 2'], schema, schema) is None
    True
    """
    buffer = b"\n".join(payloads)
    # the reader unpacks what begins like a compressed file
    if not buffer.startswith((b"{", b" ", b"\t", b"\r")):
        return None
    # one line must be one payload; the reader leaves blank lines out, so the number of rows tells
    if np.count_nonzero(np.frombuffer(buffer, np.uint8) == _NEWLINE) != len(payloads) - 1:
        return None
    try:
        table = pl.read_ndjson(buffer, schema=wire)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if table.height != len(payloads):
        return None
    columns, unfit = [], []
    for column in table.iter_columns():
        converted, problems = convert(column, instance(schema[column.name]), column.name, settled=settled)
        columns.append(converted)
        unfit += [(column.name, problem) for problem in (_in_doubt(p, payloads) for p in problems) if len(problem.rows)]
    return Reading(pl.DataFrame(dict(zip(schema, columns, strict=True))), unfit, _half_characters(buffer, payloads))


def wire_schema(schema: pl.Schema, payloads: Sequence[bytes]) -> pl.Schema:
    """Choose the types as which columns are read: some payloads tell how moments are written.

    Examples
    --------
    >>> dict(wire_schema(pl.Schema({"t": pl.Datetime("ms")}), [b'{"t": 5}']))
    {'t': Int64}
    """
    objects = []
    if payloads and any(_holds_time(dtype) for dtype in schema.dtypes()):
        for part in _SAMPLES:
            try:
                objects.append(parse(payloads[int(part * len(payloads))]))
            except NotJsonError:
                continue
    sample = {name: [found.get(name) for found in objects] for name in schema}
    return pl.Schema({name: wire_type(instance(dtype), sample[name]) for name, dtype in schema.items()})


def _holds_time(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List):
        return _holds_time(instance(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return any(_holds_time(instance(field.dtype)) for field in dtype.fields)
    return isinstance(dtype, TEMPORALS)


def _half_characters(buffer: bytes, payloads: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Find payloads with half of a surrogate pair, for which the reader puts a NUL."""
    # the first look costs next to nothing, and mostly it is enough
    if b"\\" not in buffer or not (b"\\ud" in buffer or b"\\uD" in buffer):
        return np.empty(0, np.int64)
    shown = pl.Series(payloads, dtype=pl.Binary).cast(pl.String).str.contains(_HALF_CHARACTER)
    return np.flatnonzero(shown.to_numpy())


def _in_doubt(unfit: Unfit, payloads: Sequence[bytes]) -> Unfit:
    """Drop the rows whose payload shows that nothing is wrong."""
    if unfit.sign is None:
        return unfit
    texts = pl.Series([payloads[row] for row in unfit.rows.tolist()], dtype=pl.Binary).cast(pl.String)
    shown = texts.str.contains(unfit.sign).to_numpy()
    return Unfit(unfit.rows[shown], unfit.found.filter(pl.Series(shown)), unfit.expected, unfit.path)
