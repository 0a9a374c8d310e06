"""Frames and files replayed as streams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from polars.exceptions import PolarsError

from streamlab.connect.memory import FrameOrigin, NdjsonOrigin, ParquetOrigin
from streamlab.errors import PlanError
from streamlab.frame import StreamFrame
from streamlab.plan.nodes import Source
from streamlab.plan.schema import declared
from streamlab.runtime.decoding import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polars.datatypes import DataType, DataTypeClass

_SAMPLE = 1_000


def from_frame(frame: Any, *, event_time: str, topic: str = "frame", key: str | None = None) -> StreamFrame:
    """Return a DataFrame replayed as a stream: its rows in order, as one partition.

    Parameters
    ----------
    frame
        A polars or pandas frame.
    event_time
        The column of event times: Datetime, Date, or an integer of milliseconds since 1970 (UTC).
    topic
        What the stream is called.
    key
        As in `Kafka.stream`.

    Examples
    --------
    >>> import polars as pl
    >>> from_frame(pl.DataFrame({"ts": [0, 1]}), event_time="ts").collect().height
    2
    """
    rows = frame if isinstance(frame, pl.DataFrame) else _from_pandas(frame)
    return StreamFrame(Source(topic, rows.schema, FrameOrigin(rows), "frame", "frame", event_time, key, "raise", None))


def _from_pandas(frame: Any) -> pl.DataFrame:
    try:
        made = pl.from_pandas(frame)
    except (TypeError, ValueError) as error:
        raise PlanError(
            f"from_frame: {type(frame).__name__} is no frame; give a polars or pandas DataFrame."
        ) from error
    if not isinstance(made, pl.DataFrame):
        raise PlanError(f"from_frame: {type(frame).__name__} is no frame; give a polars or pandas DataFrame.")
    return made


def from_parquet(path: str | Path, *, event_time: str, topic: str | None = None, key: str | None = None) -> StreamFrame:
    """Return Parquet files replayed as a stream, read a batch at a time.

    Parameters
    ----------
    path
        A file, or a pattern such as ``"flights/*.parquet"``; files in order of their names.
    event_time, key
        As in `from_frame`.
    topic
        What the stream is called; default: the file's name.
    """
    try:
        schema = pl.scan_parquet(path).collect_schema()
    except (PolarsError, OSError) as error:
        raise PlanError(f"from_parquet {str(path)!r}: {str(error).splitlines()[0]}") from error
    origin = ParquetOrigin(str(path))
    return StreamFrame(
        Source(topic or Path(path).stem, schema, origin, "parquet", "parquet", event_time, key, "raise", None)
    )


def from_ndjson(
    path: str | Path,
    *,
    event_time: str,
    schema: Mapping[str, DataType | DataTypeClass] | None = None,
    topic: str | None = None,
    key: str | None = None,
    on_error: Literal["dead_letter", "skip", "raise"] = "dead_letter",
) -> StreamFrame:
    """Return a file of JSON lines replayed as a stream, decoded as strictly as a topic.

    Parameters
    ----------
    path
        The file.
    event_time, key
        As in `from_frame`.
    schema
        Columns and types; None: inferred from the first thousand lines.
    topic
        What the stream is called; default: the file's name.
    on_error
        As in `Kafka.stream`.
    """
    file = Path(path)
    if not file.is_file():
        raise PlanError(f"from_ndjson: no file {str(path)!r}.")
    if schema is None:
        with file.open("rb") as lines:
            sample = [line for line, _ in zip(lines, range(_SAMPLE), strict=False) if line.strip()]
        schema = FORMATS["json"].infer(sample)
    columns = declared(f"from_ndjson {str(path)!r}", schema)
    FORMATS["json"].check(columns)
    origin = NdjsonOrigin(str(file))
    return StreamFrame(Source(topic or file.stem, columns, origin, "ndjson", "json", event_time, key, on_error, None))
