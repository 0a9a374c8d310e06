"""Frames and files replayed as topics of one partition: the offset of a record is its row number."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import polars as pl

from streamlab.connect.source import Decision, Fetched, Offsets, Records

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

BATCH = 20_000


@dataclass(frozen=True, eq=False)
class FrameOrigin:
    """Rows of a frame."""

    frame: pl.DataFrame = field(repr=False)

    def read(self, first: int, count: int) -> pl.DataFrame:
        """Return rows by number."""
        return self.frame.slice(first, count)

    def height(self) -> int:
        """Return how many rows there are."""
        return self.frame.height


@dataclass(frozen=True, eq=False)
class ParquetOrigin:
    """Rows of Parquet files, read a batch at a time."""

    path: str

    def read(self, first: int, count: int) -> pl.DataFrame:
        """Return rows by number."""
        return pl.scan_parquet(self.path).slice(first, count).collect()

    def height(self) -> int:
        """Return how many rows there are."""
        return int(pl.scan_parquet(self.path).select(pl.len()).collect().item())


@dataclass(eq=False)
class NdjsonOrigin:
    """Lines of a file, each a payload to decode."""

    path: str

    def height(self) -> int:
        """Return how many lines there are."""
        with Path(self.path).open("rb") as lines:
            return sum(1 for _ in lines)


class ReplayFeed:
    """A feed over frames and files: batches of each in turn. Nothing is committed here: the state store decides alone."""

    decides = False

    def __init__(self, origins: Mapping[str, FrameOrigin | ParquetOrigin | NdjsonOrigin], batch: int = BATCH) -> None:
        self._origins, self._batch = dict(origins), batch
        self._heights = {topic: origin.height() for topic, origin in self._origins.items()}
        self._positions: Offsets = {topic: {0: 0} for topic in self._origins}
        self._files: dict[str, BinaryIO] = {}
        self._held: set[str] = set()
        self._turn = 0

    def partitions(self) -> Mapping[str, int]:
        """Return one for each topic."""
        return dict.fromkeys(self._origins, 1)

    def bounds(self) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        """Return the row numbers there are."""
        return {topic: {0: (0, height)} for topic, height in self._heights.items()}

    def committed(self) -> Decision:
        """Return that nothing is decided here."""
        return Decision({}, None)

    def start(self, offsets: Offsets, until: Offsets | None) -> None:
        """Read from row numbers on."""
        self._positions = {topic: dict(offsets.get(topic, {0: 0})) for topic in self._origins}
        if until is not None:
            self._heights = {topic: until[topic][0] for topic in self._origins}

    def fetch(self, timeout: float) -> Fetched:  # noqa: ARG002  # a replay never waits
        """Return the next batch of the next source that has one."""
        records = self._next()
        finished = all(self._positions[t][0] >= height for t, height in self._heights.items())
        ends = {topic: {0: height} for topic, height in self._heights.items()}
        positions = {topic: dict(at) for topic, at in self._positions.items()}
        size = 0 if records is None else _size(records)
        count = 0 if records is None else len(records.offset)
        return Fetched(() if records is None else (records,), positions, ends, _now(), size, finished, count)

    def _next(self) -> Records | None:
        topics = list(self._origins)
        for step in range(len(topics)):
            topic = topics[(self._turn + step) % len(topics)]
            if topic in self._held and self._others_have_some():
                continue
            first = self._positions[topic][0]
            count = min(self._batch, self._heights[topic] - first)
            if count > 0:
                self._turn = (self._turn + step + 1) % len(topics)
                self._positions[topic][0] = first + count
                return self._read(topic, first, count)
        return None

    def _others_have_some(self) -> bool:
        return any(self._positions[t][0] < height for t, height in self._heights.items() if t not in self._held)

    def _read(self, topic: str, first: int, count: int) -> Records:
        origin = self._origins[topic]
        values: list[bytes | None] = []
        frame = None
        if isinstance(origin, NdjsonOrigin):
            values = [line.rstrip(b"\r\n") or None for line in islice(self._lines(topic, first), count)]
        else:
            frame = origin.read(first, count)
        places = np.arange(first, first + count)
        return Records(topic, values, frame, np.zeros(count, np.int64), places, np.arange(count), None)

    def _lines(self, topic: str, first: int) -> BinaryIO:
        if topic not in self._files:
            self._files[topic] = Path(self._origins[topic].path).open("rb")  # type: ignore[union-attr]  # noqa: SIM115  # see close()
            for _ in islice(self._files[topic], first):
                pass
        return self._files[topic]

    def hold(self, partitions: Collection[tuple[str, int]]) -> None:
        """Read the topics that are held back only when there is nothing else to read."""
        self._held = {topic for topic, _ in partitions}

    def commit(self, offsets: Offsets, checkpoint: str) -> None:
        """Do nothing: the state store holds the offsets."""

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


def _size(records: Records) -> int:
    if records.frame is not None:
        return int(records.frame.estimated_size())
    return sum(len(value or b"") for value in records.values)


def _now() -> int:
    return time.time_ns() // 1_000_000
