"""What a look at a cluster shows: topics and raw records as data frames."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import polars as pl

from streamlab.connect.reading import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from streamlab.connect.clients import Partition
    from streamlab.connect.reading import Span

_TIME = pl.Datetime("ms", "UTC")

TOPICS = pl.Schema(
    {"name": pl.String(), "partitions": pl.Int64(), "records": pl.Int64(), "oldest": _TIME, "newest": _TIME}
)
RECORDS = pl.Schema(
    {
        "partition": pl.Int64(),
        "offset": pl.Int64(),
        "timestamp": _TIME,
        "key": pl.String(),
        "value": pl.String(),
        "headers": pl.List(pl.Struct({"name": pl.String, "value": pl.String})),
    }
)


def topics_frame(
    counts: Mapping[str, int],
    spans: Mapping[Partition, Span],
    heads: Iterable[Message],
    tails: Iterable[Message],
) -> pl.DataFrame:
    """Return a row for each topic.

    Parameters
    ----------
    counts
        Topics and their numbers of partitions.
    spans
        Offsets of the partitions; where one is missing, its topic's records are not known.
    heads, tails
        The first and the last record of the partitions that have one.
    """
    oldest, newest = _stamps(heads), _stamps(tails)
    rows = []
    for name, count in counts.items():
        known = [spans[name, number] for number in range(count) if (name, number) in spans]
        whole = len(known) == count
        rows.append(
            (
                name,
                count,
                sum(high - low for low, high in known) if whole else None,
                min(oldest[name], default=None) if whole else None,
                max(newest[name], default=None) if whole else None,
            )
        )
    return pl.DataFrame(rows, TOPICS, orient="row").sort("name")


def records_frame(messages: Sequence[Message]) -> pl.DataFrame:
    """Return a row for each record, in the given order."""
    rows = [
        (
            message.partition(),
            message.offset(),
            timestamp(message),
            shown(message.key()),
            shown(message.value()),
            [{"name": name, "value": shown(value)} for name, value in _headers(message)],
        )
        for message in messages
    ]
    return pl.DataFrame(rows, RECORDS, orient="row")


def in_time(messages: Iterable[Message]) -> list[Message]:
    """Return records by timestamp; those of one by partition and offset."""
    return sorted(messages, key=lambda m: (timestamp(m) or 0, m.partition() or 0, m.offset() or 0))


def shown(value: bytes | str | None) -> str | None:
    r"""Return bytes as text; what is no UTF-8 as its code.

    Examples
    --------
    >>> print(shown("naïve".encode()), shown(b"\x00\xff{"))
    naïve \x00\xff{
    """
    if value is None or isinstance(value, str):
        return value
    return value.decode(errors="backslashreplace").replace("\x00", r"\x00")


def _headers(message: Message) -> Iterable[tuple[str, bytes | str | None]]:
    headers = message.headers() or ()
    return headers.items() if isinstance(headers, dict) else headers


def _stamps(messages: Iterable[Message]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for message in messages:
        if (at := timestamp(message)) is not None:
            found[message.topic() or ""].append(at)
    return found
