"""What tests do with a broker: make a topic, fill it fast, read all of it."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_INVALID, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import KafkaError, Message

    Record = tuple[bytes | None, bytes | None, int, int | None]
    """Key, value, timestamp in ms, partition (None: by the key, as Java clients do)."""

TIMEOUT = 60.0
BATCH = 50_000


class NoTopicError(RuntimeError):
    """The broker has no topic of that name."""


class NotWrittenError(RuntimeError):
    """Records did not reach the broker."""


class NotReadError(RuntimeError):
    """Records that the broker has did not arrive."""


def admin_of(bootstrap: str, **settings: str | float) -> AdminClient:
    """Return an admin client that logs nothing: what it asked and how that went is in its answers."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **settings})


def create_topic(bootstrap: str, hint: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
    """Make a topic whose name begins with `hint` and is like no other; return its name once it can be used.

    Records stay for ever unless `config` says otherwise: a broker deletes by record timestamp, and those of tests lie
    years back.
    """
    name = f"{hint}-{uuid.uuid4().hex[:8]}"
    admin = admin_of(bootstrap)
    settings = {"retention.ms": "-1"} | dict(config or {})
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(TIMEOUT)
    deadline = time.monotonic() + TIMEOUT
    while not serves(admin, {name: partitions}):
        if time.monotonic() > deadline:
            raise NotWrittenError(f"topic {name!r} at {bootstrap} is not served {TIMEOUT:g} s after it was made")
        time.sleep(0.01)
    return name


def serves(admin: AdminClient, topics: Mapping[str, int]) -> bool:
    """Return whether every partition tells its end: metadata names a leader before that one knows that it leads."""
    partitions = [TopicPartition(topic, partition) for topic, count in topics.items() for partition in range(count)]
    if not partitions:
        return True
    end = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka leaves it untyped
    answers = admin.list_offsets(dict.fromkeys(partitions, end), request_timeout=1)
    return all(answer.exception(TIMEOUT) is None for answer in answers.values())


def produce(bootstrap: str, topic: str, records: Iterable[Record]) -> int:
    """Write records, in order within a partition and each exactly once; return how many.

    Raises
    ------
    NoTopicError
        The broker has no such topic.
    NotWrittenError
        The broker did not take a record.
    """
    _partitions(admin_of(bootstrap), topic)  # a missing one would take a minute to show
    refused: list[str] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        refused.append(f"key {message.key()!r} for partition {message.partition()}: {error}")

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "message.timeout.ms": int(TIMEOUT * 1000),
            "delivery.report.only.error": True,  # a call of Python per record would halve the speed
        }
    )
    count = 0
    for count, (key, value, timestamp, partition) in enumerate(records, 1):
        if timestamp <= 0:
            raise NotWrittenError(f"record {count} has timestamp {timestamp}: librdkafka would write the present time")
        where = -1 if partition is None else partition
        while True:
            try:
                producer.produce(topic, value, key, where, on_delivery, timestamp=timestamp)
                break
            except BufferError:
                producer.poll(0.1)
        if count % BATCH == 0:
            producer.poll(0)
    left = producer.flush()
    if refused or left:
        raise NotWrittenError(
            f"{len(refused) + left} of {count} records did not reach {topic!r} at {bootstrap}; the first: "
            f"{refused[0] if refused else 'still in the queue'}"
        )
    return count


def consume_all(bootstrap: str, topic: str, isolation: str = "read_committed") -> list[Message]:
    """Read a topic from its beginning to where it ends now, ordered by partition and offset.

    Joins no group and commits nothing.

    Raises
    ------
    NoTopicError
        The broker has no such topic.
    NotReadError
        Not all of it came in time.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "not-joined",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": isolation,
            "queued.min.messages": 500_000,
            "fetch.message.max.bytes": 8 << 20,
        }
    )
    try:
        return _read(consumer, topic, bootstrap)
    finally:
        consumer.close()


def _read(consumer: Consumer, topic: str, bootstrap: str) -> list[Message]:
    starts, ends = {}, {}
    for partition in _partitions(consumer, topic):
        starts[partition], ends[partition] = consumer.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT)
    consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
    messages: list[Message] = []
    deadline = time.monotonic() + TIMEOUT
    while missing := _missing(consumer, topic, starts, ends):
        batch = consumer.consume(min(missing, BATCH), 0.1)
        for message in batch:
            if (error := message.error()) is not None:
                raise NotReadError(f"reading {topic!r} at {bootstrap}: {error}")
        messages += batch
        if batch:
            deadline = time.monotonic() + TIMEOUT
        elif time.monotonic() > deadline:
            raise NotReadError(f"{missing} offsets of {topic!r} at {bootstrap} did not come within {TIMEOUT:g} s")
    ours = [message for message in messages if (message.offset() or 0) < ends[message.partition() or 0]]
    return sorted(ours, key=lambda message: (message.partition() or 0, message.offset() or 0))


def _missing(consumer: Consumer, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> int:
    # by position: behind the markers of a transaction, no record ever has the offset before the end
    reached = consumer.position([TopicPartition(topic, partition) for partition in starts])
    return sum(
        max(0, ends[at.partition] - (starts[at.partition] if at.offset == OFFSET_INVALID else at.offset))
        for at in reached
    )


def _partitions(client: AdminClient | Consumer, topic: str) -> list[int]:
    topics = client.list_topics(timeout=TIMEOUT).topics
    if topic not in topics:
        raise NoTopicError(f"no topic {topic!r}; the broker has {sorted(topics)}")
    return sorted(topics[topic].partitions)
