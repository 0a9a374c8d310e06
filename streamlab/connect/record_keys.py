"""Record keys as columns: the way back from what `sink_kafka` writes.

The key of one column is its text, or a JSON object with that column alone; that of several is a JSON object of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from streamlab.connect.formats import BadPayload, Decoded
from streamlab.connect.formats.json import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def read_keys(keys: Sequence[bytes], schema: pl.Schema) -> Decoded:
    """Return record keys as rows of the key columns, and what is wrong with those that are no such keys.

    Parameters
    ----------
    keys
        Record keys, none of them null.
    schema
        The key columns.

    Examples
    --------
    >>> read_keys([b"AA", b'{"carrier":"UA"}'], pl.Schema({"carrier": pl.String()})).rows["carrier"].to_list()
    ['AA', 'UA']
    >>> read_keys([b"7", b"seven"], pl.Schema({"id": pl.Int64()})).bad[0].error
    "the record key b'seven': column 'id': found 'seven', expected a whole number (Int64)"
    >>> read_keys([b'{"a":"x","n":1}'], pl.Schema({"a": pl.String(), "n": pl.Int64()})).rows.rows()
    [('x', 1)]
    """
    payloads = list(keys)
    if len(schema) == 1:
        ((name, dtype),) = schema.items()
        if dtype == pl.Binary:
            return Decoded(pl.DataFrame({name: payloads}, schema=schema), None, ())
        payloads = [_object(name, key, is_text=isinstance(dtype, _TEXTS)) for key in keys]
    found = Json().decode(payloads, schema)
    bad = tuple(BadPayload(one.index, f"the record key {keys[one.index]!r}: {one.error}") for one in found.bad)
    return Decoded(found.rows, found.kept, bad)


def _object(name: str, key: bytes, *, is_text: bool) -> bytes:
    """Return the key of one column as a JSON object; one that is such an object already is left as it is."""
    if key[:1] == b"{":
        try:
            found = json.loads(key)
        except ValueError:
            found = None
        if isinstance(found, dict) and list(found) == [name]:
            return key
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return key  # no JSON either: it is judged there
    return json.dumps({name: text if is_text else _scalar(text)}).encode()


def _scalar(text: str) -> object:
    """Return a number or a truth value where the text is that of one; else the text."""
    try:
        found = json.loads(text.lower() if text in {"True", "False"} else text)
    except ValueError:
        return text
    return found if isinstance(found, bool | int | float) else text
