"""Take a batch apart that cannot be read in one call, so that a bad record costs itself and nothing else.

1. Put every payload on one line, without a byte order mark: often that is all.
2. Let a typed decoder (msgspec: quick, but with rules of its own) point out suspects, and read the rest in one call.
   What it overlooks is found by halving.
3. Look at each suspect by itself. Those that turn out to be good are written anew and read in one call.

So a payload's verdict and row depend on the payload alone: whoever points at it, step 3 decides.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from operator import length_hint
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.connect.formats import BadPayload, Decoded
from streamlab.connect.formats.json_columns import TEMPORALS, TEXTS
from streamlab.connect.formats.json_lines import Reading, read, wire_schema
from streamlab.connect.formats.json_value import BYTE_ORDER_MARK, INTEGER_BOUNDS, KindError, NotJsonError, parse, shaper
from streamlab.connect.formats.json_words import Real, found, misfit
from streamlab.connect.formats.nested import instance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# numbers for which the reader has no type
_HUGE = r"[0-9][eE]\+?[0-9]{3}|[0-9]{39}"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
# so many payloads are as quickly looked at one by one as read once more
_FEW = 64
_KINDS: dict[type[pl.DataType], Any] = {
    **dict.fromkeys(TEXTS, str | int | float | bool),
    pl.Binary: str,
    pl.Decimal: str | int | float,
    pl.Boolean: bool,
}
# msgspec knows no bounds beyond these
_HIGH = INTEGER_BOUNDS[pl.Int64][1]
_Fields: TypeAlias = tuple[tuple[str, pl.DataType], ...]


def take_apart(payloads: Sequence[bytes], schema: pl.Schema, wire: pl.Schema, reading: Reading | None) -> Decoded:
    """Decode payloads of which some are not clean.

    Parameters
    ----------
    payloads
        At least one.
    schema
        What to read.
    wire
        The types as which the columns are read, of `wire_schema`.
    reading
        What `read` made of them: None, or rows with suspects.
    """
    lines = payloads if reading is not None else [_one_line(payload) for payload in payloads]
    batch = _Batch(payloads, lines, schema, wire)
    everything = np.arange(len(payloads))
    if reading is None and lines != payloads:
        reading = read(lines, schema, wire)
    if reading is None:
        suspects = _suspects(lines, schema, wire)
        batch.doubtful.append(everything[suspects])
        batch.halve(everything[~suspects])
    else:
        batch.keep(everything, reading)
    batch.settle()
    return batch.result()


@dataclass(slots=True)
class _Batch:
    """Payloads on their way to a verdict, named by their position."""

    payloads: Sequence[bytes]
    lines: Sequence[bytes]
    schema: pl.Schema
    wire: pl.Schema
    doubtful: list[npt.NDArray[np.int64]] = field(default_factory=list)
    kept: list[npt.NDArray[np.int64]] = field(default_factory=list)
    rows: list[pl.DataFrame] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)

    def halve(self, where: npt.NDArray[np.int64]) -> None:
        """Read lines together, or else in halves, down to a few that become doubtful."""
        reading = read([self.lines[place] for place in where], self.schema, self.wire) if len(where) else None
        if reading is not None:
            self.keep(where, reading)
        elif len(where) <= _FEW:
            self.doubtful.append(where)
        else:
            for half in np.array_split(where, 2):
                self.halve(half)

    def keep(self, where: npt.NDArray[np.int64], reading: Reading) -> None:
        """Take over the rows that were read, but for the suspects."""
        sound = np.ones(len(where), np.bool_)
        sound[reading.suspects()] = False
        self.kept.append(where[sound])
        self.rows.append(reading.rows if sound.all() else reading.rows.filter(sound))
        self.doubtful.append(where[~sound])

    def settle(self) -> None:
        """Look at each doubtful payload by itself; read those of the right kinds."""
        shaped: dict[int, bytes] = {}
        shape = _shaper(tuple(self.schema.items()))
        for place in np.concatenate(self.doubtful).tolist():
            try:
                shaped[place] = shape(parse(self.payloads[place]))
            except (NotJsonError, KindError) as error:
                self.bad[place] = str(error)
        if shaped:
            self._read_shaped(np.array(list(shaped), np.int64), list(shaped.values()))

    def _read_shaped(self, where: npt.NDArray[np.int64], lines: list[bytes]) -> None:
        reading = read(lines, self.schema, wire_schema(self.schema, ()), settled=True)
        if reading is not None:
            for column, unfit in reading.unfit:
                for place, value in zip(where[unfit.rows].tolist(), unfit.found, strict=True):
                    self.bad.setdefault(place, misfit(column + unfit.path, _found(value), unfit.expected))
            sound = ~np.isin(where, list(self.bad))
            self.kept.append(where[sound])
            self.rows.append(reading.rows.filter(sound))
        elif len(where) == 1:
            self.bad[int(where[0])] = f"the reader refuses it: {found(lines[0].decode())}"
        else:
            middle = len(where) // 2
            self._read_shaped(where[:middle], lines[:middle])
            self._read_shaped(where[middle:], lines[middle:])

    def result(self) -> Decoded:
        """Put everything back in order."""
        kept = np.concatenate([np.empty(0, np.int64), *self.kept])
        rows = pl.concat([self.schema.to_frame(), *self.rows])
        order = np.argsort(kept)
        bad = tuple(BadPayload(place, self.bad[place]) for place in sorted(self.bad))
        return Decoded(rows[order], kept[order] if bad else None, bad)


def _one_line(payload: bytes) -> bytes:
    """Leave out a byte order mark, and make line ends tabs: white space too, and forbidden inside of text as well."""
    return payload.removeprefix(BYTE_ORDER_MARK).replace(b"\n", b"\t")


def _suspects(lines: Sequence[bytes], schema: pl.Schema, wire: pl.Schema) -> npt.NDArray[np.bool_]:
    """Mark the lines that msgspec refuses."""
    decode = _decoder(tuple(schema.items()), tuple(wire.items()))
    suspects = np.zeros(len(lines), np.bool_)
    rest = iter(lines)
    while length_hint(rest):
        try:
            deque(map(decode, rest), maxlen=0)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            suspects[len(lines) - length_hint(rest) - 1] = True
    # msgspec does not look into fields that it skips
    for place, line in enumerate(lines):
        if not line.isascii():
            suspects[place] |= not _is_utf8(line)
    sound = np.flatnonzero(~suspects)
    huge = pl.Series([lines[place] for place in sound.tolist()], dtype=pl.Binary).cast(pl.String).str.contains(_HUGE)
    suspects[sound[huge.to_numpy()]] = True
    return suspects


def _found(value: Any) -> str:
    """Show a value that was read; numbers have been written as text for some types."""
    return found(Real(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=64)
def _shaper(schema: _Fields) -> Callable[[dict[str, Any]], bytes]:
    """Return what checks a parsed object and writes the fields of the schema."""
    shapers = [(name, shaper(instance(dtype), name)) for name, dtype in schema]
    encode = msgspec.json.Encoder().encode

    return lambda fields: encode({name: shape(fields.get(name)) for name, shape in shapers})


@lru_cache(maxsize=64)
def _decoder(schema: _Fields, wire: _Fields) -> Callable[[bytes], object]:
    return msgspec.json.Decoder(_structure(schema, wire)).decode


def _structure(schema: _Fields, wire: _Fields) -> type[msgspec.Struct]:
    """Return the type of an object with these fields, all optional."""
    fields, names = [], {}
    for place, ((name, dtype), (_, read_as)) in enumerate(zip(schema, wire, strict=True)):
        # msgspec knows no field that must be written with an escape; then it does not look at it
        if _ESCAPED.search(name) is None:
            names[f"field_{place}"] = name
            fields.append((f"field_{place}", _type(instance(dtype), instance(read_as)), None))
    return msgspec.defstruct("Fields", fields, rename=names, gc=False)


def _type(dtype: pl.DataType, wire: pl.DataType) -> Any:
    """Return what msgspec is to expect of a value."""
    if isinstance(dtype, pl.Struct) and isinstance(wire, pl.Struct):
        kind: Any = _structure(
            tuple((f.name, instance(f.dtype)) for f in dtype.fields),
            tuple((f.name, instance(f.dtype)) for f in wire.fields),
        )
    elif isinstance(dtype, pl.List) and isinstance(wire, pl.List):
        kind = list[_type(instance(dtype.inner), instance(wire.inner))]  # type: ignore[misc]  # made at run time
    elif isinstance(dtype, TEMPORALS):
        kind = int if wire.is_integer() else str
    elif dtype.is_integer():
        low, high = INTEGER_BOUNDS[type(dtype)]
        kind = Annotated[int, msgspec.Meta(ge=low, le=high)] if high <= _HIGH else int
    else:
        kind = _KINDS.get(type(dtype), float)
    return kind | None
