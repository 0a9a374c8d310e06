"""What each operator is measured on: a plan, and records with about two for each key and window, at so many keys live at once.

Keys are drawn at random. Event time goes so that a window, or the reach of a join, holds two records a key; a session has two on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import streamlab as sl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH = 20_000
SPAN = 1_000_000
"""Milliseconds of event time in which two records of each key come."""
START = 1_700_000_000_000

SCHEMA = {"key": pl.String, "kind": pl.String, "value": pl.Float64, "count": pl.Int64, "ts": pl.Datetime("ms", "UTC")}
AGGREGATIONS = (
    pl.len().alias("n"),
    pl.col("value").sum().alias("total"),
    pl.col("value").max().alias("most"),
)
LENGTH = timedelta(milliseconds=SPAN)


@dataclass(frozen=True)
class Workload:
    """How an operator is driven.

    Parameters
    ----------
    plan
        Makes the stream or table that is measured.
    load
        Whether a row of every key comes first, to the topic "table", outside the measured time.
    topics
        The topics that batches go to in turn, with the share of a batch that each gets.
    universe
        How many keys are drawn from, for each key that is live.
    """

    plan: Callable[[], Any]
    load: bool = False
    topics: tuple[tuple[str, float], ...] = (("events", 1.0),)
    universe: float = 1.0


def _stream(topic: str) -> Any:
    return sl.Kafka("localhost:9092").stream(topic, schema=SCHEMA, event_time="ts", idle_timeout=None)


def _table() -> Any:
    return sl.Kafka("localhost:9092").table("table", schema=SCHEMA, key="key", event_time="ts", idle_timeout=None)


def _windowed(window: Any, emit: str) -> Callable[[], Any]:
    return lambda: _stream("events").group_by("key").window(window, emit=emit).agg(*AGGREGATIONS)


_SIDES = (("left", 0.5), ("right", 0.5))
_GAP = timedelta(
    milliseconds=round(SPAN * log(2))
)  # a record is followed by another within the gap in one of two cases

WORKLOADS = {
    "tumbling_final": Workload(_windowed(sl.tumbling(LENGTH), "final")),
    "tumbling_updates": Workload(_windowed(sl.tumbling(LENGTH), "updates")),
    "hopping_final": Workload(_windowed(sl.hopping(LENGTH, every=LENGTH / 5), "final")),
    "hopping_updates": Workload(_windowed(sl.hopping(LENGTH, every=LENGTH / 5), "updates")),
    "sliding_final": Workload(_windowed(sl.sliding(LENGTH), "final")),
    "sliding_updates": Workload(_windowed(sl.sliding(LENGTH), "updates")),
    "session_final": Workload(_windowed(sl.session(_GAP), "final"), universe=2.0),
    "session_updates": Workload(_windowed(sl.session(_GAP), "updates"), universe=2.0),
    "group_updates": Workload(lambda: _stream("events").group_by("key").agg(*AGGREGATIONS)),
    "table_aggregation": Workload(
        lambda: _table().group_by("kind").agg(pl.len().alias("n"), pl.col("value").sum().alias("total")),
        load=True,
        topics=(("table", 1.0),),
    ),
    "stream_table_join": Workload(
        lambda: _stream("events").join(_table(), on="key"), load=True, topics=(("events", 0.9), ("table", 0.1))
    ),
    "interval_join": Workload(
        lambda: _stream("left").join_interval(_stream("right"), on="key", before=LENGTH / 2, after=LENGTH / 2),
        topics=_SIDES,
    ),
    "as_of_join": Workload(
        lambda: _stream("left").join_asof(_stream("right"), on="ts", by="key", tolerance=LENGTH), topics=_SIDES
    ),
    "deduplication": Workload(lambda: _stream("events").unique("key", within=LENGTH)),
}


@dataclass(frozen=True)
class Batch:
    """Records of one micro-batch, of several topics in a random order."""

    frames: dict[str, pl.DataFrame]
    places: dict[str, Any]


def batches(workload: Workload, keys: int, count: int) -> Iterator[Batch]:
    """Yield random batches, event times ascending."""
    drawn = np.random.default_rng(7)
    names = [topic for topic, _ in workload.topics]
    shares = [share for _, share in workload.topics]
    for number in range(count):
        at = np.arange(number * BATCH, (number + 1) * BATCH)
        times = START + at * SPAN // (2 * keys)
        side = drawn.choice(len(names), BATCH, p=shares)
        frame = _rows(drawn.integers(0, int(keys * workload.universe), BATCH), times, keys, drawn)
        places = {name: np.flatnonzero(side == i) for i, name in enumerate(names)}
        yield Batch({name: frame[where] for name, where in places.items()}, places)


def every_key(keys: int) -> Iterator[Batch]:
    """Yield a row of every key, as the topic of a table holds them."""
    drawn = np.random.default_rng(1)
    for first in range(0, keys, BATCH):
        which = np.arange(first, min(first + BATCH, keys))
        frame = _rows(which, np.full(len(which), START), keys, drawn)
        yield Batch({"table": frame}, {"table": np.arange(len(which))})


def _rows(keys: Any, times: Any, live: int, drawn: Any) -> pl.DataFrame:
    kinds = drawn.integers(0, max(1, live // 2), len(keys))  # two rows of a table in each
    return pl.DataFrame(
        {
            "key": "user-" + pl.Series(keys).cast(pl.String).str.zfill(8),
            "kind": "kind-" + pl.Series(kinds).cast(pl.String).str.zfill(8),
            "value": drawn.random(len(keys)).round(4) * 1000,
            "count": drawn.integers(0, 100, len(keys)),
            "ts": pl.Series(times).cast(SCHEMA["ts"]),
        }
    )
