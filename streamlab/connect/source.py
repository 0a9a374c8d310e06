"""What a place that records come from promises to the runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from streamlab.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    import polars as pl

Offsets = dict[str, dict[int, int]]
"""Topic to partition to the next offset."""


class OutageError(BrokerError):
    """A broker is away and may come back: what failed can be tried again."""


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one topic as they came: payloads to decode, or a frame that needs no decoding.

    Parameters
    ----------
    topic
        Where they come from.
    values
        Payloads; None where a record has none.
    frame
        Columns, if the source has typed rows; then `values` is empty.
    partition, offset, index
        Place of each record in the topic, and in the order of arrival of the whole fetch.
    timestamp
        Record timestamps in milliseconds; None when nobody asked for them.
    keys, headers
        Of each record, for what is seldom needed; empty where the source has none. The client's own records are not kept: letting go of
        them on another thread costs more than reading them.
    """

    topic: str
    values: Sequence[bytes | None]
    frame: pl.DataFrame | None
    partition: np.ndarray[Any, Any]
    offset: np.ndarray[Any, Any]
    index: np.ndarray[Any, Any]
    timestamp: np.ndarray[Any, Any] | None
    keys: Sequence[bytes | None] = ()
    headers: Sequence[Any] = ()

    def take(self, which: np.ndarray[Any, Any]) -> Records:
        """Return payload records by position."""
        places = which.tolist()
        return Records(
            self.topic,
            [self.values[i] for i in places],
            None,
            self.partition[which],
            self.offset[which],
            self.index[which],
            None if self.timestamp is None else self.timestamp[which],
            [self.keys[i] for i in places],
            [self.headers[i] for i in places],
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """One fetch: records by topic, where reading stands after it, and where the topics end as far as is known.

    `away` says that nobody listened since the fetch before: a broker was away, or the thread was busy. Silence means nothing then.
    """

    records: tuple[Records, ...]
    positions: Offsets
    ends: Mapping[str, Mapping[int, int]]
    at: int  # wall clock, milliseconds
    size: int = 0  # bytes
    finished: bool = False
    count: int = field(default=0)
    away: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What the place of commit last agreed to: offsets, and the checkpoint they belong to."""

    offsets: Offsets
    checkpoint: str | None


class Feed(Protocol):
    """Records of all topics of a plan, read in order. One thread owns a feed and makes every call on it."""

    decides: bool
    """Whether the feed keeps commits (Kafka does); else the state store decides alone."""

    def partitions(self) -> Mapping[str, int]:
        """Return how many partitions each topic has."""
        ...

    def bounds(self) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        """Return the first and the next offset of every partition."""
        ...

    def committed(self) -> Decision:
        """Return the last commit."""
        ...

    def start(self, offsets: Offsets, until: Offsets | None) -> None:
        """Read from `offsets`; with `until`, never at or past those."""
        ...

    def fetch(self, timeout: float) -> Fetched:
        """Return what comes within `timeout` seconds."""
        ...

    def hold(self, partitions: Collection[tuple[str, int]]) -> None:
        """Hand out no records of these partitions, topic and number, until told otherwise; best effort."""
        ...

    def commit(self, offsets: Offsets, checkpoint: str) -> None:
        """Commit offsets with the id of the checkpoint they belong to.

        Raises
        ------
        OutageError
            If a broker is away: try again.
        """
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
