"""Segments: frames of state as checked, immutable blobs.

One blob is twelve bytes of header and an Arrow IPC stream. The same blob is a row of the store, a record of the changelog
and what memory is restored from, so it carries its own checksum: Arrow never reads a byte that was not checked before.

lz4 rather than zstd: it writes and reads partial rows in two thirds of the time, and the fifth of the size that zstd would
save costs less to write to disk than to compress. The stream form of Arrow IPC is 500 bytes smaller per blob
than the file form, and reads faster.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import polars as pl
from polars.exceptions import PanicException, PolarsError

from streamlab.errors import StateDamagedError, StateError

LIMIT = 512 * 1024
"""Bytes that one segment may have: a message of Kafka holds 1 MB."""

_MAGIC = b"SLG1"  # the last byte is the version of the format
_HEADER = struct.Struct("<4sII")  # magic, length of the payload, its CRC-32
_FILL = 0.9  # how much of the limit to aim at: rows differ in size


def encode(frame: pl.DataFrame) -> bytes:
    """Return a frame as one checked blob.

    Raises
    ------
    StateError
        The frame holds Python objects, or rows without columns: neither can be written.

    Examples
    --------
    >>> blob = encode(pl.DataFrame({"carrier": ["AA", "UA"], "flights": [3, 4]}))
    >>> blob[:4]
    b'SLG1'
    >>> decode(blob).rows()
    [('AA', 3), ('UA', 4)]
    """
    _check_frame(frame)
    buffer = BytesIO()
    buffer.write(
        bytes(_HEADER.size)
    )  # filled in below: to copy the payload behind a header costs as much as to write it
    frame.write_ipc_stream(buffer, compression="lz4")
    with buffer.getbuffer() as whole, whole[_HEADER.size :] as payload:
        _HEADER.pack_into(whole, 0, _MAGIC, len(payload), zlib.crc32(payload))
    return buffer.getvalue()


def decode(blob: bytes, key: str | None = None) -> pl.DataFrame:
    """Return the frame of a blob, after checking that it is what was written.

    Parameters
    ----------
    blob
        What `encode` returned.
    key
        The key that the blob was found under, for the message of an error.

    Raises
    ------
    StateDamagedError
        The blob is cut, changed, or no segment.

    Examples
    --------
    >>> blob = encode(pl.DataFrame({"flights": [3]}))
    >>> decode(blob[:20], "delays/0")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    streamlab.errors.StateDamagedError: segment 'delays/0': 8 bytes after the header, ... were written.
    """
    what = "a segment" if key is None else f"segment {key!r}"
    payload = memoryview(blob)[_HEADER.size :]
    if len(blob) < _HEADER.size:
        raise StateDamagedError(f"{what}: {len(blob)} bytes are too few for a segment.")
    magic, length, checksum = _HEADER.unpack_from(blob)
    if magic != _MAGIC:
        raise StateDamagedError(f"{what}: it begins with {magic!r}; a segment of this format begins with {_MAGIC!r}.")
    if length != len(payload):
        raise StateDamagedError(f"{what}: {len(payload)} bytes after the header, {length} were written.")
    if zlib.crc32(payload) != checksum:
        raise StateDamagedError(f"{what}: its bytes changed since they were written (the checksum differs).")
    try:
        return pl.read_ipc_stream(BytesIO(payload))
    except (PolarsError, PanicException, OSError, ValueError) as error:  # a right checksum over what is no Arrow
        raise StateDamagedError(f"{what}: it holds no Arrow data: {error}") from error


def cut(frame: pl.DataFrame, limit: int = LIMIT) -> list[bytes]:
    """Return a frame as blobs of at most `limit` bytes each, its rows in order; one row that is larger is a blob of its own.

    Parameters
    ----------
    frame
        Any number of rows; none gives one blob, which keeps the schema.
    limit
        Bytes that a blob may have.

    Examples
    --------
    >>> frame = pl.DataFrame({"n": range(100_000)})
    >>> blobs = cut(frame, limit=64 * 1024)
    >>> max(map(len, blobs)) <= 64 * 1024
    True
    >>> pl.concat(map(decode, blobs)).equals(frame)
    True
    """
    if frame.is_empty():
        return [encode(frame)]
    blobs: list[bytes] = []
    start, row_bytes = 0, frame.estimated_size() / frame.height
    while start < frame.height:
        rows = min(max(int(_FILL * limit / max(row_bytes, 1e-3)), 1), frame.height - start)
        while len(blob := encode(frame.slice(start, rows))) > limit and rows > 1:
            rows //= 2
        blobs.append(blob)
        start, row_bytes = start + rows, len(blob) / rows  # the next guess knows how well rows compress
    return blobs


def _check_frame(frame: pl.DataFrame) -> None:
    """Refuse what polars would write without an error and read back as something else."""
    if objects := [name for name, dtype in frame.schema.items() if _holds_objects(dtype)]:
        raise StateError(
            f"a segment of state: columns {objects} hold Python objects; only polars' own types can be kept."
        )
    if frame.height and not frame.width:
        raise StateError(f"a segment of state: {frame.height} rows without a column; at least one column is needed.")


def _holds_objects(dtype: object) -> bool:
    if isinstance(dtype, pl.Struct):
        return any(_holds_objects(field.dtype) for field in dtype.fields)
    if isinstance(dtype, pl.List | pl.Array):
        return _holds_objects(dtype.inner)
    return dtype == pl.Object
