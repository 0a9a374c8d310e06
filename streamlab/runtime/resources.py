"""What a plan needs of the world: a feed, a store, outlets, topics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from streamlab.connect.cluster import Cluster
from streamlab.connect.kafka_sink import LARGEST, KafkaOutlet, KafkaWriter
from streamlab.connect.kafka_source import KafkaFeed
from streamlab.connect.memory import ReplayFeed
from streamlab.connect.settings import producer_settings
from streamlab.connect.sink import FunctionOutlet, ParquetOutlet
from streamlab.connect.tables_first import TablesFirst
from streamlab.durations import milliseconds
from streamlab.errors import BrokerError, PlanError
from streamlab.state.folders import STATE_FILE, pipeline_folder
from streamlab.state.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from threading import Event

    from streamlab.connect.sink import Outlet
    from streamlab.connect.source import Feed, Offsets
    from streamlab.plan.nodes import Source
    from streamlab.plan.pipeline import Plan
    from streamlab.plan.sinks import Sink

_AHEAD = "message.timestamp.after.max.ms"
"""How far ahead of a broker's clock a record may be stamped: an hour by default, and then it refuses results of clocks far ahead."""

REPLAYS = "replays"
"""In place of a cluster's id: the folder of pipelines over frames and files."""

INTERNAL_TOPIC = {
    "retention.ms": str(7 * 24 * 3600 * 1000),
    "message.timestamp.type": "LogAppendTime",  # a week from now, not from the event time
    "max.message.bytes": str(LARGEST),  # what comes here may be as large as what was read
}
"""Settings of the topics of late rows and dead letters."""


def cluster_of(plan: Plan) -> Cluster | None:
    """Return the cluster that a plan reads from; None for frames and files.

    Raises
    ------
    PlanError
        If it reads from more than one, or from a cluster and a frame.
    """
    origins = list({id(source.origin): source.origin for source in plan.sources}.values())
    clusters = [origin for origin in origins if isinstance(origin, Cluster)]
    if clusters and (len({cluster.bootstrap for cluster in clusters}) > 1 or len(clusters) < len(origins)):
        names = [source.describe() for source in plan.sources]
        raise PlanError(f"one pipeline reads from one Kafka cluster, or from frames and files; this one has {names}.")
    return clusters[0] if clusters else None


def feed_opener(plan: Plan, group: str | None) -> Callable[[], Feed]:
    """Return what makes the feed of a plan's sources, on the thread that will own it."""
    cluster = cluster_of(plan)
    if cluster is None:
        origins = {source.topic: source.origin for source in plan.sources}
        return lambda: ReplayFeed(origins)
    stamps = {source.topic: source.event_time is None or source.metadata or source.is_table for source in plan.sources}
    return lambda: TablesFirst(KafkaFeed(cluster, stamps, group))


def begin(feed: Feed, starts: Offsets, until: Offsets | None, loading: Offsets) -> None:
    """Let a feed read from `starts`, tables that are still to be loaded first."""
    if isinstance(feed, TablesFirst):
        feed.load(loading)
    feed.start(starts, until)


def store_folder(plan: Plan) -> Path:
    """Return the folder of a named plan's state."""
    if plan.name is None:
        raise PlanError("an unnamed pipeline has no folder for state; give it a name.")
    cluster = cluster_of(plan)
    if cluster is not None and cluster.embedded is not None:
        return pipeline_folder(cluster.cluster_id(), plan.name, root=cluster.embedded.state_folder)
    return pipeline_folder(REPLAYS if cluster is None else cluster.cluster_id(), plan.name)


def open_store(folder: Path | None) -> SqliteStore:
    """Return the store in a plan's folder; None: a temporary one, for a plan without a name."""
    return SqliteStore.temporary() if folder is None else SqliteStore(folder / STATE_FILE)


def first_offsets(source: Source, feed_bounds: Mapping[int, tuple[int, int]], now: int) -> dict[int, int]:
    """Return where a pipeline that has never run begins to read a source."""
    start = source.start
    if start == "earliest":
        return {p: low for p, (low, _) in feed_bounds.items()}
    if start == "latest":
        return {p: high for p, (_, high) in feed_bounds.items()}
    at = int(start.timestamp() * 1000) if isinstance(start, datetime) else now - milliseconds(start, "stream: start")
    if not isinstance(source.origin, Cluster):
        raise PlanError(
            f"stream {source.topic!r}: start={start!r} needs record timestamps, which a replay has none of."
        )
    found = source.origin.offsets_for_time(source.topic, at)
    return {p: found.get(p, high) for p, (_, high) in feed_bounds.items()}


def check_start(start: object) -> object:
    """Return a valid `start`, or raise a PlanError."""
    if isinstance(start, datetime):
        return start if start.tzinfo else start.replace(tzinfo=UTC)
    if start not in ("earliest", "latest"):
        if not isinstance(start, str | timedelta):
            raise PlanError(
                f'stream: start={start!r}; valid are "earliest", "latest", a duration such as "1h" ago, or a datetime.'
            )
        milliseconds(start, "stream: start")
    return start


@dataclass
class Outlets:
    """Where a running plan's results, late rows and dead letters go."""

    by_sink: dict[str, Outlet] = field(default_factory=dict)
    writers: dict[str, KafkaWriter] = field(default_factory=dict)
    late: KafkaOutlet | None = None
    dead_letters: tuple[KafkaWriter, str] | None = None

    def flush(self, number: int) -> None:
        """Make all that was sent safe."""
        for outlet in self.by_sink.values():
            outlet.flush(number)
        for writer in self.writers.values():
            writer.flush()

    def recover(self, number: int) -> None:
        """Undo what came after checkpoint `number`, where that is possible."""
        for outlet in self.by_sink.values():
            outlet.recover(number)

    def close(self) -> None:
        """Let go of everything."""
        for outlet in self.by_sink.values():
            outlet.close()
        for writer in self.writers.values():
            writer.close()


def open_outlets(plan: Plan, stop: Event) -> Outlets:
    """Open what a plan's sinks need; topics that are missing are made. Once `stop` is set, no broker is waited for for long."""
    outlets, source = Outlets(), cluster_of(plan)

    def writer(cluster: Cluster) -> KafkaWriter:
        if cluster.bootstrap not in outlets.writers:
            outlets.writers[cluster.bootstrap] = KafkaWriter(producer_settings(cluster.settings), stop)
        return outlets.writers[cluster.bootstrap]

    for sink in plan.sinks:
        name = f"{sink.kind}:{sink.target}"
        if sink.kind == "kafka":
            cluster = sink.origin or source
            if cluster is None:
                raise PlanError(
                    f"sink_kafka {sink.target!r}: the pipeline reads from no cluster; say where to: sink_kafka(..., kafka=kafka)."
                )
            _make_sink_topic(plan, sink, cluster)
            outlets.by_sink[name] = KafkaOutlet(writer(cluster), sink.target, sink.by, composite=sink.input.is_table)
        elif sink.kind == "parquet":
            writer_name = plan.name or f"unnamed-{time.time_ns()}"
            outlets.by_sink[name] = ParquetOutlet(sink.target, writer_name, sink.mark)
        elif sink.kind == "frame" and sink.function is not None:
            outlets.by_sink[name] = FunctionOutlet(sink.target, sink.function, sink.mark)
    if plan.name is not None and source is not None:
        for topic in (f"{plan.name}.late", f"{plan.name}.dead-letters"):
            source.create_topic(topic, 1, INTERNAL_TOPIC)
        outlets.late = KafkaOutlet(writer(source), f"{plan.name}.late", ())
        outlets.dead_letters = (writer(source), f"{plan.name}.dead-letters")
    return outlets


def _make_sink_topic(plan: Plan, sink: Sink, cluster: Cluster) -> None:
    """Make a sink's topic where it is missing: results carry event times, by which a broker would delete them at once."""
    counts = [s.origin.partitions(s.topic) for s in plan.sources if isinstance(s.origin, Cluster)]
    config = {"retention.ms": "-1", **({"cleanup.policy": "compact"} if sink.input.is_table else {})}
    try:
        cluster.create_topic(sink.target, max(counts, default=1), {**config, _AHEAD: str((1 << 63) - 1)})
    except BrokerError as error:
        if _AHEAD not in str(error):
            raise
        cluster.create_topic(sink.target, max(counts, default=1), config)  # a broker before 3.6: it sets no such limit
