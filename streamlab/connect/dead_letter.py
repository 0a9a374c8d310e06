"""Bad records to the dead-letter topic: the original bytes, with where they came from and why in the headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.connect.kafka_sink import KafkaWriter

Headers = list[tuple[str, bytes | None]]

PREFIX = "streamlab."
"""Headers of ours begin with this."""

SCHEMA = pl.Schema(
    {
        "topic": pl.String(),
        "partition": pl.Int64(),
        "offset": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "key": pl.Binary(),
        "value": pl.Binary(),
        "step": pl.String(),
        "error": pl.String(),
    }
)
"""Columns of dead letters as a frame."""


def frame_of(letters: Sequence[Any]) -> pl.DataFrame:
    """Return dead letters as a frame."""
    columns = {name: [getattr(letter, name) for letter in letters] for name in SCHEMA}
    return pl.DataFrame(columns, schema={**SCHEMA, "timestamp": pl.Int64()}).cast({"timestamp": SCHEMA["timestamp"]})


def headers_of(letter: Any) -> Headers:
    """Return a letter's headers: its own, then topic, partition, offset, step and error."""
    own: Headers = list(letter.headers)
    said = [
        (PREFIX + name, str(getattr(letter, name)).encode())
        for name in ("topic", "partition", "offset", "step", "error")
    ]
    return own + said


def send(writer: KafkaWriter, topic: str, letters: Sequence[Any], now: int) -> None:
    """Send letters, stamped with the present: a broker deletes by record timestamp, and theirs may be long past."""
    writer.send(
        topic,
        [x.value for x in letters],
        [x.key for x in letters],
        [now] * len(letters),
        [headers_of(x) for x in letters],
    )
