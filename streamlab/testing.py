"""The testing kit: a pipeline driven record by record, with a clock moved by hand. The same engine, no broker, no threads."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from streamlab.connect import dead_letter
from streamlab.connect.formats.json import encode
from streamlab.connect.kafka_sink import keys_of
from streamlab.connect.partitioner import NO_PARTITION, partitions_of
from streamlab.connect.source import Fetched, Records
from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError, did_you_mean
from streamlab.pipeline import Pipeline
from streamlab.plan import schema as schemas
from streamlab.plan.pipeline import Plan
from streamlab.plan.sinks import Sink as SinkNode
from streamlab.replay import as_polars
from streamlab.results import Results
from streamlab.runtime import checkpoint
from streamlab.runtime.decoding import FORMATS, Decoder
from streamlab.runtime.resources import Outlets
from streamlab.runtime.tasks import Task
from streamlab.state.folders import STATE_FILE
from streamlab.state.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamlab.engine.batch import Rows
    from streamlab.engine.lower import Result
    from streamlab.runtime.decoding import DeadLetter
    from streamlab.runtime.metrics import Metrics

EPOCH = 1_700_000_000_000
"""Where the wall clock stands at first."""


@dataclass(frozen=True, slots=True)
class Record:
    """A result: its key (a value, or a tuple of several), its columns (None: the key is deleted), its event time in milliseconds."""

    key: Any
    value: dict[str, Any] | None
    timestamp: int


class StreamTester:
    """Drives a stream, a table or a pipeline by hand.

    Every call of `send` is a micro-batch of one record, `send_batch` one of several. A partition to which nothing was sent is empty,
    and so idle.

    Parameters
    ----------
    what
        The stream, the table, or a pipeline.
    tables
        Static tables by topic: frames whose rows are sent as records of time 0 before anything else, each to the partition of its key.
    partitions
        How many partitions each topic has.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> flights = sl.Kafka("localhost:9092").stream("flights", schema={"carrier": pl.String})
    >>> counts = flights.group_by("carrier").window(sl.tumbling("1m")).agg(pl.len().alias("n"))
    >>> with StreamTester(counts) as t:
    ...     t.send("flights", {"carrier": "AA"}, timestamp=0)
    ...     t.send("flights", {"carrier": "AA"}, timestamp=60_000)
    ...     [(r.key, r.value["n"], r.timestamp) for r in t.read()]
    [('AA', 1, 59999)]
    """

    def __init__(
        self, what: Results | Pipeline, *, tables: Mapping[str, Any] | None = None, partitions: int = 1
    ) -> None:
        if partitions < 1:
            raise PlanError(f"StreamTester: partitions={partitions}; a topic has one or more.")
        self._plan = _plan_of(what)
        self._partitions, self._now = partitions, EPOCH
        self._folder = tempfile.TemporaryDirectory(prefix="streamlab-tester-")
        self._sent: dict[str, dict[int, int]] = {
            s.topic: dict.fromkeys(range(partitions), 0) for s in self._plan.sources
        }
        self._results: list[Record] = []
        self._late: list[Record] = []
        self._dead: list[DeadLetter] = []
        try:
            self._open()
            for topic, frame in (tables or {}).items():
                self._give(topic, frame)
        except BaseException:
            self._folder.cleanup()
            raise

    def _give(self, topic: str, frame: Any) -> None:
        """Send the rows of a static table."""
        known = {name: source for name, source in self._task.graph.sources.items() if source.is_table}
        if topic not in known:
            raise PlanError(
                f"StreamTester: tables={topic!r}: the plan reads no such table; there are {list(known)}.{did_you_mean(topic, known)}"
            )
        rows = as_polars(frame, f"StreamTester: tables={topic!r}")
        by = known[topic].table_key
        schemas.require(f"StreamTester: tables={topic!r}", by, rows.schema)
        keys = keys_of(rows, by, composite=len(by) > 1)
        places = partitions_of(keys, self._partitions)
        given = zip(encode(rows), keys, np.where(places == NO_PARTITION, 0, places).tolist(), strict=True)
        self.send_batch(
            topic, [{"value": v, "key": k, "timestamp": 0, "partition": at} for v, k, at in given], wrapped=True
        )

    def _open(self) -> None:
        self._store = SqliteStore(Path(self._folder.name) / STATE_FILE, durable=False)
        checkpoint.recover(self._store, None, None)
        self._task = Task(self._plan, self._store, now=lambda: self._now)
        self._decoder = Decoder(self._task.graph.sources)
        self._decoder.keep_raw = self._task.graph.restamps
        self._task.load()
        bounds = {topic: {p: (0, high) for p, high in at.items()} for topic, at in self._sent.items()}
        self._task.assign(bounds, {topic: dict(at) for topic, at in self._sent.items()})
        self._keep(self._task.tick())  # empty partitions are idle from the start

    def send(
        self,
        topic: str,
        value: Mapping[str, Any] | bytes | None,
        *,
        key: Any = None,
        timestamp: int | None = None,
        partition: int = 0,
    ) -> None:
        """Send one record, as a micro-batch of one.

        Parameters
        ----------
        topic
            Where to.
        value
            Columns as JSON values, raw bytes, or None for a record without a payload: in a table it deletes the key.
        key
            The record key; of a table with several key columns a tuple of them.
        timestamp
            The record timestamp in milliseconds; default: the wall clock.
        partition
            Which partition.
        """
        self.send_batch(
            topic, [{"value": value, "key": key, "timestamp": timestamp, "partition": partition}], wrapped=True
        )

    def send_batch(self, topic: str, records: Iterable[Any], *, wrapped: bool = False) -> None:
        """Send several records as one micro-batch.

        Parameters
        ----------
        topic
            Where to.
        records
            Columns as JSON values, raw bytes or None; with ``wrapped=True`` dicts of the arguments of `send`: value, key, timestamp,
            partition.
        wrapped
            Whether records say their key, timestamp and partition.
        """
        if topic not in self._sent:
            raise PlanError(
                f"send: no source reads {topic!r}; there are {list(self._sent)}.{did_you_mean(topic, self._sent)}"
            )
        given = [_wrapped(record) if wrapped else {"value": record} for record in records]
        if given:
            self._deliver(self._fetched(topic, given))

    def _deliver(self, fetched: Fetched) -> None:
        arrivals = self._decoder.decode(fetched)
        result = self._task.process(arrivals)
        self._decoder.set_aside(result.bad, arrivals)
        self._task.count(arrivals)
        self._dead += arrivals.dead
        self._keep(result)

    def _fetched(self, topic: str, given: list[dict[str, Any]]) -> Fetched:
        partitions = [self._checked(topic, record.get("partition") or 0) for record in given]
        stamps = [self._now if record.get("timestamp") is None else record["timestamp"] for record in given]
        offsets = [self._next_offset(topic, partition) for partition in partitions]
        partition, offset, index, stamp = (
            np.array(c, np.int64) for c in (partitions, offsets, range(len(given)), stamps)
        )
        by = self._task.graph.sources[topic].table_key
        values, keys = [record["value"] for record in given], [_key(record.get("key"), by) for record in given]
        frame = self._as_frame(topic, values)
        payloads = [] if frame is not None else list(map(_payload, values))
        records = Records(topic, payloads, frame, partition, offset, index, stamp, keys)
        ends = {topic: dict(self._sent[topic])}
        return Fetched((records,), ends, ends, self._now, count=len(given))

    def _as_frame(self, topic: str, values: list[Any]) -> pl.DataFrame | None:
        """Return values as the typed rows of a frame or file that is replayed; None for a source that decodes."""
        source = self._task.graph.sources[topic]
        if source.format in FORMATS:
            return None
        try:
            return pl.DataFrame(values, schema=source.columns, orient="row")
        except (PolarsError, TypeError, ValueError) as error:
            raise PlanError(f"send: {topic!r} is a {source.kind} of {source.columns}: {error}") from error

    def _checked(self, topic: str, partition: int) -> int:
        if not 0 <= partition < self._partitions:
            raise PlanError(
                f"send: partition {partition}; {topic!r} has {self._partitions}: StreamTester(..., partitions=...)."
            )
        return partition

    def _next_offset(self, topic: str, partition: int) -> int:
        offset = self._sent[topic][partition]
        self._sent[topic][partition] = offset + 1
        return offset

    def advance(self, by: Duration) -> None:
        """Move the wall clock on: partitions go idle, and windows on a quiet live stream close."""
        self._now += milliseconds(by, "advance")
        self._keep(self._task.tick())

    def close_input(self) -> None:
        """End the input, as a bounded `collect` does: every window closes."""
        self._keep(self._task.close())

    def _keep(self, result: Result) -> None:
        for name, rows in result.sinks.items():
            self._results += _records(self._task.graph.sinks[name], rows)
        for step, rows in result.late.items():
            self._late += _late_records(self._task.graph.stateful[step].node.late_keys, rows)

    def read(self) -> list[Record]:
        """Return the results since the last read, in order."""
        found, self._results = self._results, []
        return found

    def late(self) -> list[Record]:
        """Return the rows that came too late since the last call, with the window and the watermark they missed."""
        found, self._late = self._late, []
        return found

    def dead_letters(self) -> pl.DataFrame:
        """Return the records that could not be used since the last call."""
        found, self._dead = self._dead, []
        return dead_letter.frame_of(found)

    def state(self) -> pl.DataFrame:
        """Return what each step holds: step, rows, bytes, windows."""
        held = [(name, h.rows, h.bytes, h.windows) for name, h in self._task.holding().items()]
        schema = {"step": pl.String, "rows": pl.Int64, "bytes": pl.Int64, "windows": pl.Int64}
        return pl.DataFrame(held, schema=schema, orient="row")

    def table(self, name: str) -> pl.DataFrame:
        """Return a table sink's rows."""
        tables = {sink.target: key for key, sink in self._task.graph.sinks.items() if sink.kind == "table"}
        if name not in tables:
            raise PlanError(f"table: no table sink {name!r}; there are {list(tables)}.{did_you_mean(name, tables)}")
        return self._task.graph.tables[tables[name]].frame()

    def metrics(self) -> Metrics:
        """Return the counters."""
        held = self._task.holding().values()
        return self._task.counters.snapshot(0.0, 0.0, sum(h.bytes for h in held), sum(h.rows for h in held))

    def restart(self) -> None:
        """Stop and open again from the persisted state."""
        checkpoint.commit(self._task, Outlets().flush, None)
        counters = self._task.counters
        self._store.close()
        self._open()
        self._task.counters = counters

    def close(self) -> None:
        """Let go of the state."""
        self._store.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        """Return the tester."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def _key(key: Any, by: tuple[str, ...]) -> bytes | None:
    if isinstance(key, tuple) and len(key) == len(by):
        key = dict(zip(by, key, strict=True))
    return (
        key
        if key is None or isinstance(key, bytes)
        else (key if isinstance(key, str) else json.dumps(key, default=_text)).encode()
    )


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _payload(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else json.dumps(value, default=_text).encode()


def _plan_of(what: Any) -> Plan:
    if isinstance(what, Results):
        return Plan((SinkNode(what.node, "memory", "results"),))
    if isinstance(what, Pipeline):
        return what.plan
    raise PlanError(f"StreamTester: {type(what).__name__} cannot be driven; give a stream, a table or a Pipeline.")


def _wrapped(record: Mapping[str, Any]) -> dict[str, Any]:
    for name in record:
        if name not in _ARGUMENTS:
            raise PlanError(f"send_batch: {name!r} is none of {list(_ARGUMENTS)}.{did_you_mean(name, _ARGUMENTS)}")
    return {"value": None, **record}


_ARGUMENTS = ("value", "key", "timestamp", "partition")


def _records(sink: SinkNode, rows: Rows) -> list[Record]:
    by = sink.by if sink.kind == "kafka" else sink.input.record_key
    gone = [False] * rows.height if rows.deleted is None else rows.deleted.tolist()
    return _as_records(by, rows, gone)


def _late_records(by: tuple[str, ...], rows: Rows) -> list[Record]:
    return _as_records(by, rows, [False] * rows.height)


def _as_records(by: tuple[str, ...], rows: Rows, gone: list[bool]) -> list[Record]:
    keys = rows.data.select(by).rows() if by else [(None,)] * rows.height
    values = rows.data.rows(named=True)
    found = zip(keys, values, rows.time.tolist(), gone, strict=True)
    return [Record(key[0] if len(key) == 1 else key, None if dead else value, time) for key, value, time, dead in found]
