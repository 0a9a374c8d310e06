"""Records from Kafka topics: one consumer, owned by the one thread that makes every call on it.

Partitions are assigned, not subscribed to: a pipeline is one process here, and assigning is at once where joining a group takes seconds.
Commits go to the pipeline's group all the same, so that any tool shows its lag.
"""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from streamlab.connect.clients import made
from streamlab.connect.held_back import HeldBack
from streamlab.connect.outage import LOOK_SECONDS, Watch, explained, passing, sound
from streamlab.connect.reading import gone
from streamlab.connect.settings import LOGGER, consumer_settings
from streamlab.connect.source import Decision, Fetched, Offsets, OutageError, Records
from streamlab.errors import BrokerError, RunError, UnknownTopicError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from streamlab.connect.cluster import Cluster

_BATCH = 20_000
_BATCH_BYTES = 16 << 20
_TIMEOUT = 10.0
_LOOK_TIMEOUT, _MISSING_SECONDS = 1.0, 5.0
_BUSY_MS = 1_000  # a thread that fetches for ever comes by several times a second
LONGEST_OUTAGE = 600.0
"""Seconds that a bounded run waits for a broker; one that runs for ever waits for ever."""

_SOON = {
    "session.timeout.ms": 6_000,  # how long a commit waits for its coordinator; there is no session, for nothing is subscribed to
    "max.poll.interval.ms": 86_400_000,  # a query may be paused for long
    "socket.timeout.ms": 10_000,  # a broker that hangs is noticed before its partitions seem idle
}


class KafkaFeed:
    """A feed over topics of one cluster.

    Parameters
    ----------
    cluster
        Where the topics are.
    topics
        Topic to whether its record timestamps are asked for with every record.
    group
        Consumer group that commits go to; None: nothing is committed.
    """

    def __init__(self, cluster: Cluster, topics: Mapping[str, bool], group: str | None) -> None:
        self.decides = group is not None
        self._cluster, self._topics, self._group = cluster, dict(topics), group
        self._counts = {topic: cluster.partitions(topic) for topic in topics}
        settings = {**_SOON, **consumer_settings(cluster.settings, group=group or "streamlab-no-group")}
        self._watch = Watch(cluster.bootstrap, settings.get("error_cb"))
        self._consumer = made(lambda: Consumer({**settings, "error_cb": self._watch.hear}), settings)
        self._missing_since: float | None = None
        self._fetched = _now()
        self._positions: Offsets = {topic: {} for topic in topics}
        self._until: Offsets | None = None
        self._size = 1_000.0  # bytes of a record, as seen lately
        self._ends: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        self._back = HeldBack()
        self._full: set[tuple[str, int]] = set()

    def partitions(self) -> Mapping[str, int]:
        """Return how many partitions each topic has."""
        return self._counts

    def bounds(self) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        """Return the first and the next offset of every partition."""
        return {topic: self._cluster.watermarks(topic) for topic in self._topics}

    def committed(self) -> Decision:
        """Return the group's last commit.

        Raises
        ------
        RunError
            If its partitions were committed by different checkpoints: something else commits to the group.
        """
        if not self.decides:
            return Decision({}, None)
        asked = [TopicPartition(topic, p) for topic, count in self._counts.items() for p in range(count)]
        found = self._asked(asked)
        there = [at for at in found if at.offset >= 0]
        marks = {at.metadata for at in there if at.metadata}
        if len(marks) > 1:
            raise RunError(
                f"group {self._group!r}: its offsets come from {len(marks)} different checkpoints; something else commits to this group. "
                "Give the pipeline a name of its own."
            )
        offsets: Offsets = defaultdict(dict)
        for at in there:
            offsets[at.topic][at.partition] = at.offset
        return Decision(dict(offsets), next(iter(marks), None))

    def _asked(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """Ask for committed offsets, again where the broker is not ready: a group's coordinator takes its time after a restart."""
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                with explained("read the committed offsets", self._cluster.bootstrap):
                    return sound(self._consumer.committed(places, timeout=_TIMEOUT))
            except OutageError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_SECONDS)

    def start(self, offsets: Offsets, until: Offsets | None) -> None:
        """Read from `offsets`; with `until`, never at or past those.

        Raises
        ------
        RunError
            If an offset is gone from its topic: records were deleted before they were read.
        """
        bounds = self.bounds()
        self._positions = {topic: dict(at) for topic, at in offsets.items()}
        self._check_positions(bounds)
        self._ends = {topic: {p: high for p, (_, high) in at.items()} for topic, at in bounds.items()}
        self._until = until
        with explained("read", self._cluster.bootstrap):
            for topic in offsets:  # else the client finds out who leads them by a timer, up to a second later
                self._consumer.list_topics(topic, timeout=_TIMEOUT)
        places = [TopicPartition(t, p, o) for t, at in offsets.items() for p, o in at.items()]
        self._consumer.assign(places)
        self._consumer.resume(places)  # what an earlier start has paused
        self._pause_finished()

    def fetch(self, timeout: float) -> Fetched:
        """Return what comes within `timeout` seconds."""
        with _collector_resting():
            records, at = self._consume(timeout)
            if not self._back.resting:
                records = self._back.sort_out(records, _BATCH)
                self._pause_full()
        self._advance(records)
        size = sum(sum(map(len, filter(None, r.values))) for r in records)
        count = sum(len(r.offset) for r in records)
        if count:
            self._size = 0.5 * self._size + 0.5 * (size / count + 100)
        away = self._watch.look(self._ask_ends, LONGEST_OUTAGE if self._until is not None else None)
        away, self._fetched = away or at - self._fetched > _BUSY_MS, at
        positions = {topic: dict(p) for topic, p in self._positions.items()}
        return Fetched(records, positions, self._ends, at, size, self._finished(), count, away)

    def hold(self, partitions: Collection[tuple[str, int]]) -> None:
        """Hand out no records of these partitions until told otherwise."""
        self._back.hold(partitions)

    def _pause_full(self) -> None:
        """Fetch no more of a partition of which a lot is held back."""
        full = self._back.full()
        for places, act in ((full - self._full, self._consumer.pause), (self._full - full, self._consumer.resume)):
            if places:
                act([TopicPartition(topic, partition) for topic, partition in places])
        self._full = full
        self._pause_finished()

    def _consume(self, timeout: float) -> tuple[tuple[Records, ...], int]:
        """Return records and when they came; the client's own go at the end of this call."""
        count = int(min(_BATCH, max(100, _BATCH_BYTES / self._size)))
        messages = self._consumer.consume(count, timeout)
        at = _now()
        errors = [error for m in messages if (error := m.error()) is not None]
        if errors:
            messages = [m for m in messages if m.error() is None]
        for error in errors:
            self._watch.hear(error)
        self._judge(self._watch.heard())
        return (self._records(messages) if messages else ()), at

    def _records(self, messages: Sequence[Message]) -> tuple[Records, ...]:
        if len(self._topics) == 1:
            (topic,) = self._topics
            parts = [self._of_topic(topic, messages, np.arange(len(messages)))]
        else:
            names = [m.topic() for m in messages]
            places = {
                topic: np.array([i for i, name in enumerate(names) if name == topic], np.int64)
                for topic in self._topics
            }
            parts = [
                self._of_topic(t, [messages[i] for i in index], index) for t, index in places.items() if len(index)
            ]
        return tuple(self._within(part) for part in parts)

    def _of_topic(self, topic: str, messages: Sequence[Message], index: np.ndarray[Any, Any]) -> Records:
        n = len(messages)
        partition = np.fromiter([m.partition() for m in messages], np.int64, n)
        offset = np.fromiter([m.offset() for m in messages], np.int64, n)
        stamps = np.fromiter([m.timestamp()[1] for m in messages], np.int64, n) if self._topics[topic] else None
        keys, headers = [m.key() for m in messages], [m.headers() for m in messages]
        return Records(topic, [m.value() for m in messages], None, partition, offset, index, stamps, keys, headers)

    def _within(self, records: Records) -> Records:
        """Leave out what lies at or past the end of a bounded run."""
        if self._until is None:
            return records
        until = self._until[records.topic]
        limit = np.array([until.get(p, 0) for p in range(max(until, default=-1) + 1)], np.int64)
        keep = records.offset < limit[records.partition]
        if keep.all():
            return records
        return records.take(np.flatnonzero(keep))

    def _advance(self, records: Sequence[Records]) -> None:
        for part in records:
            at = self._positions[part.topic]
            order = np.argsort(part.partition, kind="stable")
            last = np.flatnonzero(np.diff(part.partition[order], append=-1))
            at.update(zip(part.partition[order][last].tolist(), (part.offset[order][last] + 1).tolist(), strict=True))
        if records or self._until is not None:
            self._learn()
        if not records:
            self._skip_gaps()

    def _learn(self) -> None:
        """Take the ends of the partitions from what the client knows; also of those whose records wait in its queue."""
        for topic, at in self._ends.items():
            for partition, known in at.items():
                _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
                if high is not None and high > known:
                    at[partition] = high
        self._pause_finished()

    def _skip_gaps(self) -> None:
        """Move past what is no record: transaction markers and compacted offsets."""
        asked = [TopicPartition(t, p) for t, ps in self._positions.items() for p in ps if (t, p) not in self._back.kept]
        for at in self._consumer.position(asked):
            if at.offset != OFFSET_INVALID and at.offset > self._positions[at.topic][at.partition]:
                until = self._until[at.topic].get(at.partition, 0) if self._until else at.offset
                self._positions[at.topic][at.partition] = max(
                    self._positions[at.topic][at.partition], min(at.offset, until)
                )

    def _done(self, topic: str, partition: int) -> bool:
        return self._until is not None and self._positions[topic][partition] >= self._until[topic].get(partition, 0)

    def _pause_finished(self) -> None:
        if self._until is not None:
            done = [TopicPartition(t, p) for t, ps in self._positions.items() for p in ps if self._done(t, p)]
            if done:
                self._consumer.pause(done)

    def _finished(self) -> bool:
        return self._until is not None and all(self._done(t, p) for t, ps in self._positions.items() for p in ps)

    # --- trouble ---

    def _judge(self, errors: Sequence[KafkaError]) -> None:
        """Raise what will not pass."""
        for error in errors:
            if not passing(error):
                if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  # its public name
                    self._check_positions(self.bounds())
                raise BrokerError(f"{self._cluster.bootstrap}: {error.str()}")
        if any(error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART for error in errors):
            self._check_topics()

    def _check_positions(self, bounds: Mapping[str, Mapping[int, tuple[int, int]]]) -> None:
        for topic, at in self._positions.items():
            for partition, offset in at.items():
                low, high = bounds[topic][partition]
                if not low <= offset <= high:
                    what = gone(topic, partition, offset, (low, high), embedded=self._cluster.embedded is not None)
                    name = self._group or "NAME"
                    raise RunError(
                        f"{what} To go on from what is there: streamlab reset {name}, or another pipeline name."
                    )

    def _check_topics(self) -> None:
        """Fail if a topic stays away; a broker that does not answer has not said so, and one that just started may err."""
        try:
            for topic in self._topics:
                self._cluster.partitions(topic, timeout=_LOOK_TIMEOUT)
        except UnknownTopicError:
            self._missing_since = self._missing_since or time.monotonic()
            if time.monotonic() - self._missing_since > _MISSING_SECONDS:
                raise
        except BrokerError as error:
            LOGGER.info("topics cannot be looked for: %s", error)
        else:
            self._missing_since = None

    def _ask_ends(self) -> None:
        for topic, at in self._positions.items():
            for partition in at:
                found = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), _LOOK_TIMEOUT)
                self._ends[topic][partition] = max(found[1], self._ends[topic].get(partition, 0))

    def commit(self, offsets: Offsets, checkpoint: str) -> None:
        """Commit offsets with the id of the checkpoint they belong to.

        Raises
        ------
        OutageError
            If the broker is away, or its coordinator of groups not ready: try again.
        BrokerError
            If it refuses.
        """
        places = [TopicPartition(t, p, o, checkpoint) for t, at in offsets.items() for p, o in at.items()]
        with explained("commit offsets", self._cluster.bootstrap):
            try:
                sound(self._consumer.commit(offsets=places, asynchronous=False))
            except KafkaException as error:
                self._judge([error.args[0]])
                raise

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def _now() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _collector_resting() -> Iterator[None]:
    """Keep the garbage collector from running.

    It tracks each record that the client makes, so a fetch of 20,000 sets it off again and again, each time over all that the process
    holds, which in a notebook is a lot. None of these records outlives the fetch. Fetching takes half the time so.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
