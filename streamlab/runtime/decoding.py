"""Fetched records become rows; what cannot be decoded becomes a dead letter, is skipped, or stops the query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.connect.formats.json import Json, encode
from streamlab.engine.batch import Ints, Rows
from streamlab.engine.event_time import event_times, unusable
from streamlab.errors import BadRecordError, RunError
from streamlab.plan.schema import METADATA
from streamlab.runtime.table_rows import table_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamlab.connect.formats import Format
    from streamlab.connect.source import Fetched, Offsets, Records
    from streamlab.engine.batch import Bools
    from streamlab.engine.lower import Bad
    from streamlab.plan.nodes import Source

FORMATS: dict[str, Format] = {"json": Json()}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used, with all that is needed to try it again."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    step: str
    error: str


@dataclass(slots=True)
class Arrivals:
    """One fetch, decoded: rows by source, what was bad, and where reading stands after it."""

    rows: dict[str, Rows]
    positions: Offsets
    ends: Mapping[str, Mapping[int, int]]
    at: int
    size: int
    finished: bool
    away: bool = False
    records: int = 0
    skipped: int = 0
    dead: list[DeadLetter] = field(default_factory=list)
    raw: dict[str, Records] = field(default_factory=dict)


class Decoder:
    """Decodes what a feed fetched for the sources of a plan."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self.keep_raw = False
        """Whether records go along with their rows, for steps that may find them bad later."""

    def decode(self, fetched: Fetched) -> Arrivals:
        """Return a fetch as rows."""
        arrivals = Arrivals(
            {}, fetched.positions, fetched.ends, fetched.at, fetched.size, fetched.finished, fetched.away
        )
        for records in fetched.records:
            source = self._sources[records.topic]
            arrivals.records += len(records.offset)
            arrivals.rows[records.topic] = self._rows(source, records, arrivals)
            if self.keep_raw:
                arrivals.raw[records.topic] = records
        return arrivals

    def _rows(self, source: Source, records: Records, arrivals: Arrivals) -> Rows:
        data, kept, deleted = self._columns(source, records, arrivals)
        partition, offset, index = (
            a if kept is None else a[kept] for a in (records.partition, records.offset, records.index)
        )
        if source.metadata:
            data = data.hstack(_metadata(records, kept))
        if source.event_time is not None:
            times, bad = event_times(data[source.event_time])
        else:
            times = _timestamps(records, kept)
            bad = unusable(times)
        if (
            source.event_time is not None and deleted is not None
        ):  # a tombstone has no columns: its time is the record's
            times = np.where(deleted, _timestamps(records, kept), times)
            bad = np.where(deleted, unusable(times), bad)
        rows = Rows(data, times, partition, offset, _arrival(index), deleted)
        if bad.any():
            what = f"event time {source.event_time or 'of the record'} is null, before 1970 or after the year 9998"
            where = np.flatnonzero(bad) if kept is None else kept[bad]
            self.bad(source, records, [(int(i), what) for i in where], arrivals)
            rows = rows.filter(~bad)
        return rows

    def _columns(
        self, source: Source, records: Records, arrivals: Arrivals
    ) -> tuple[pl.DataFrame, Ints | None, Bools | None]:
        """Return columns, the positions of the records that they are of (None: all), and which are deletions (None: none)."""
        if records.frame is not None:
            return records.frame.select(source.columns.names()), None, None
        data, kept = self._payloads(source, records, arrivals)
        if not source.is_table:
            return data, kept, None
        kept = np.arange(len(records.offset)) if kept is None else kept
        tombstones = np.array([i for i, value in enumerate(records.values) if value is None], np.int64)
        found = table_rows(source, records.keys, data, kept, tombstones)
        if found.bad:
            self.bad(source, records, sorted(found.bad), arrivals)
        arrivals.skipped += found.skipped
        return found.data, found.kept, found.deleted if found.deleted.any() else None

    def _payloads(self, source: Source, records: Records, arrivals: Arrivals) -> tuple[pl.DataFrame, Ints | None]:
        """Return decoded payloads and the positions of the records that they are of; None: all."""
        values, kept = records.values, None
        if None in values:
            present = [i for i, value in enumerate(values) if value is not None]
            if not source.is_table:
                arrivals.skipped += len(values) - len(present)
            kept, values = np.array(present, np.int64), [values[i] for i in present]
        decoded = FORMATS[source.format].decode(values, source.columns)  # type: ignore[arg-type]  # no value is None here
        if decoded.bad:
            found = [(int(b.index if kept is None else kept[b.index]), b.error) for b in decoded.bad]
            self.bad(source, records, found, arrivals)
        if decoded.kept is not None:
            kept = decoded.kept if kept is None else kept[decoded.kept]
        return decoded.rows, kept

    def set_aside(self, found: Iterable[Bad], arrivals: Arrivals) -> None:
        """Deal with records that a step found bad."""
        for bad in found:
            records = arrivals.raw[bad.source.topic]
            places = np.searchsorted(_arrival(records.index), np.unique(bad.rows.index))
            self.bad(bad.source, records, [(int(i), bad.error) for i in places], arrivals, bad.step)

    def bad(
        self,
        source: Source,
        records: Records,
        found: Sequence[tuple[int, str]],
        arrivals: Arrivals,
        step: str = "decode",
    ) -> None:
        """Deal with bad records as the source's `on_error` says."""
        if source.on_error == "skip":
            arrivals.skipped += len(found)
            return
        letters = [_letter(records, i, step, error) for i, error in found]
        if source.on_error == "raise":
            first = letters[0]
            raise BadRecordError(
                f"{first.topic} partition {first.partition} offset {first.offset}: {first.step}: {first.error}. "
                'Nothing from it on is committed. on_error="dead_letter" sets such records aside.'
            )
        arrivals.dead += letters


def _arrival(index: Ints) -> Ints:
    """Return the arrival indices of records: the odd ones (see `Rows`)."""
    return 2 * index + 1


def _letter(records: Records, i: int, step: str, error: str) -> DeadLetter:
    return DeadLetter(
        records.topic,
        int(records.partition[i]),
        int(records.offset[i]),
        None if records.timestamp is None else int(records.timestamp[i]),
        records.keys[i] if records.keys else None,
        records.values[i] if records.frame is None else encode(records.frame[i])[0],
        tuple(records.headers[i] or ()) if records.headers else (),
        step,
        error,
    )


def _timestamps(records: Records, kept: Ints | None) -> Ints:
    if records.timestamp is None:
        raise RunError(
            f"{records.topic}: its records have no timestamps; name the column of event times: event_time=..."
        )
    return records.timestamp if kept is None else records.timestamp[kept]


def _metadata(records: Records, kept: Ints | None) -> pl.DataFrame:
    which = range(len(records.offset)) if kept is None else kept.tolist()
    headers = [records.headers[i] or () for i in which] if records.headers else [()] * len(which)
    columns = {
        "_topic": [records.topic] * len(which),
        "_partition": records.partition if kept is None else records.partition[kept],
        "_offset": records.offset if kept is None else records.offset[kept],
        "_timestamp": _timestamps(records, kept),
        "_key": [records.keys[i] for i in which] if records.keys else [None] * len(which),
        "_headers": [[{"name": name, "value": value} for name, value in own] for own in headers],
    }
    return pl.DataFrame(columns, schema_overrides={"_key": pl.Binary, "_headers": METADATA["_headers"]}).cast(METADATA)
