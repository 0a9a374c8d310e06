"""What a panel shows of a query: read from it once, in one place, and inert from then on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from streamlab.runtime.metrics import Metrics
    from streamlab.runtime.query import Query

ROWS, KEPT = 2_000, 100
"""Newest results that a chart is made of; newest late rows and dead letters."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a source. `event_time` is its stream time in milliseconds since 1970 (UTC)."""

    topic: str
    number: int
    position: int
    lag: int
    event_time: int | None
    idle: bool
    holds: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A query at one moment.

    Parameters
    ----------
    sink, keys
        The sink whose results these are, and the columns that identify one of its rows.
    at
        When it was, or ended.
    watermark
        The smallest stream time of the partitions that are not idle, in milliseconds since 1970.
    since_checkpoint
        Milliseconds.
    """

    name: str
    status: str
    error: str | None
    kept: str
    seconds: float
    at: datetime
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    sink: str
    keys: tuple[str, ...]
    plan: str
    metrics: Metrics
    partitions: tuple[Partition, ...]
    watermark: int | None
    since_checkpoint: float | None
    rows: pl.DataFrame
    late: pl.DataFrame
    dead_letters: pl.DataFrame

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return self.status in {"running", "paused"}

    @property
    def lag(self) -> int:
        """Records that are still to be read."""
        return sum(partition.lag for partition in self.partitions)


def take(query: Query, sink: str | None = None) -> Snapshot:
    """Read a query."""
    partitions = tuple(Partition(*row) for row in _partitions(query))
    error = None if query.error is None else f"{type(query.error).__name__}: {query.error}"
    marks = [p.event_time for p in partitions if p.holds and p.event_time is not None]
    metrics, committed = query.metrics, query.committed_at
    since = None if committed is None else (time.monotonic() - committed) * 1000
    sinks = {node.target: node for node in query.plan.sinks}
    shown = sinks[sink] if sink is not None else next(iter(sinks.values()))
    keys = shown.input.keys
    rows = query.frame(ROWS, sink=shown.target)
    if shown.input.is_table and keys:
        rows = rows.unique(keys, keep="last", maintain_order=True)
    return Snapshot(
        query.name,
        query.status,
        error,
        query.kept,
        metrics.seconds,
        query.started + timedelta(seconds=metrics.seconds),
        tuple(source.topic for source in query.plan.sources),
        tuple(sinks),
        shown.target,
        keys,
        query.explain(),
        metrics,
        partitions,
        min(marks, default=None),
        since,
        rows,
        query.newest_late(KEPT),
        query.dead_letters.tail(KEPT),
    )


def _partitions(query: Query) -> list[tuple[str, int, int, int, int | None, bool, bool]]:
    found = query.lag().drop("end")
    return found.with_columns(found["event_time"].dt.epoch("ms")).rows()
