"""Values that a person's function keeps: JSON values, or polars frames, as bytes and back."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import polars as pl

from streamlab.errors import PlanError

_JSON, _FRAME, _SERIES, _PARTS = b"j", b"f", b"s", b"d"

Frame = pl.DataFrame | pl.Series


def encode(value: Any) -> bytes:
    """Return a value as bytes: JSON, Arrow for a frame or a series, or both for a dict that has such.

    Raises
    ------
    PlanError
        If it is neither, or a dict has keys that are no text, which JSON would change.

    Examples
    --------
    >>> encode({"total": 3})
    b'j{"total": 3}'
    >>> decode(encode({"recent": pl.DataFrame({"x": [1]}), "total": 3}))["recent"].rows()
    [(1,)]
    >>> encode({1: "one"})
    Traceback (most recent call last):
    ...
    streamlab.errors.PlanError: the state has the dict key 1 (int); JSON has text keys only: write {'1': ...}.
    """
    if isinstance(value, Frame):
        return (_FRAME if isinstance(value, pl.DataFrame) else _SERIES) + _ipc(value)
    if isinstance(value, dict) and any(isinstance(part, Frame) for part in value.values()):
        _check_keys(value)
        return _PARTS + msgspec.msgpack.encode({name: encode(part) for name, part in value.items()})
    _check(value)
    return _JSON + json.dumps(value).encode()


def decode(kept: bytes) -> Any:
    """Return the value that `encode` was given; a tuple has become a list."""
    kind, rest = kept[:1], kept[1:]
    if kind == _JSON:
        return json.loads(rest)
    if kind == _PARTS:
        return {name: decode(part) for name, part in msgspec.msgpack.decode(rest).items()}
    frame = pl.read_ipc_stream(rest)
    return frame if kind == _FRAME else frame.to_series()


def described(value: Any) -> Any:
    """Return a value as JSON values that tell it from others, for the fingerprint.

    Examples
    --------
    >>> described(pl.Series("x", [1]))
    ['series', [['x', 'Int64']], '[{"x":1}]']
    """
    if isinstance(value, Frame):
        frame = value if isinstance(value, pl.DataFrame) else value.to_frame()
        columns = [[name, str(dtype)] for name, dtype in frame.schema.items()]
        return ["frame" if frame is value else "series", columns, frame.write_json()]
    if isinstance(value, dict) and any(isinstance(part, Frame) for part in value.values()):
        _check_keys(value)
        return ["parts", [[name, described(part)] for name, part in value.items()]]
    return ["json", encode(value)[1:].decode()]


def _ipc(value: Frame) -> bytes:
    written = io.BytesIO()
    frame = value if isinstance(value, pl.DataFrame) else value.to_frame()
    frame.write_ipc_stream(
        written, compat_level=pl.CompatLevel.oldest()
    )  # the new layout writes all that a slice was cut from
    return written.getvalue()


def _check(value: Any) -> None:
    """Refuse what JSON does not have."""
    if isinstance(value, dict):
        _check_keys(value)
        for part in value.values():
            _check(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check(part)
    elif isinstance(value, Frame):
        raise PlanError(
            "the state has a polars frame deep inside; a frame may be the state, or a value of the dict that is the state."
        )
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise PlanError(
            f"the state has {value!r} ({type(value).__name__}); it may be made of None, numbers, text, lists and dicts, "
            "or be a polars DataFrame or Series, or a dict of such."
        )


def _check_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise PlanError(
                f"the state has the dict key {key!r} ({type(key).__name__}); JSON has text keys only: write {{{str(key)!r}: ...}}."
            )
