"""Questions about topics and offsets, each answered before a deadline."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from streamlab.connect.clients import Deadline, Listener, made, passing
from streamlab.connect.settings import admin_settings
from streamlab.errors import UnknownTopicError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from confluent_kafka import IsolationLevel
    from confluent_kafka.admin import ClusterMetadata, TopicMetadata

    from streamlab.connect.clients import Partition
    from streamlab.connect.reading import Span
    from streamlab.errors import BrokerError

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # confluent-kafka gives it no types
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # nor this
INTERNAL = "__"
"""How the names of Kafka's own topics begin."""

_REACHABLE = 10.0
"""Seconds after which a broker that says nothing is one that cannot be reached, whatever time a longer question has."""

_SETTLED = 5.0
"""Seconds in which a partition without a leader may find one: an outage of one must not hold up a list of all."""

_FIRST_TRY, _BETWEEN_TRIES = 0.2, 0.05


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a cluster says of itself.

    Parameters
    ----------
    cluster_id
        Its identity; that of an embedded broker ends with it.
    brokers
        Addresses that clients use from the second question on.
    topics
        Topics and their numbers of partitions; with Kafka's own.
    """

    cluster_id: str
    brokers: tuple[str, ...]
    topics: Mapping[str, int]


class Admin:
    """A client that asks questions and makes topics.

    Parameters
    ----------
    client
        What asks.
    listener
        What hears of its errors.
    deadline
        When every answer is due.
    isolation
        Whether the end of a partition is before an unfinished transaction.
    """

    def __init__(self, client: AdminClient, listener: Listener, deadline: Deadline, isolation: IsolationLevel) -> None:
        self.deadline = deadline
        self._client, self._listener, self._isolation = client, listener, isolation

    def metadata(self, what: str) -> Metadata:
        """Return the brokers and all topics.

        Raises
        ------
        BrokerError
            If no broker answers in time, or one refuses: `what` cannot be done then.
        """
        found = self._metadata(what)
        return Metadata(
            str(found.cluster_id),
            tuple(f"{broker.host}:{broker.port}" for broker in found.brokers.values()),
            {name: len(topic.partitions) for name, topic in sorted(found.topics.items()) if topic.partitions},
        )

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has.

        Raises
        ------
        UnknownTopicError
            If there is no such topic.
        """
        found = self.metadata(f"ask for topic {topic!r}").topics
        if topic not in found:
            theirs = [name for name in found if not name.startswith(INTERNAL)]
            raise UnknownTopicError(topic, theirs, self._listener.where)
        return found[topic]

    def spans_of(self, topic: str) -> dict[Partition, Span]:
        """Return the first and the next offset of all partitions of a topic.

        Raises
        ------
        UnknownTopicError
            If there is no such topic.
        BrokerError
            If an offset is not known in time.
        """
        spans, failed = self.spans((topic, number) for number in range(self.partitions(topic)))
        if failed:
            raise self.incomplete("read offsets", failed)
        return spans

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> int:
        """Make a topic, wait until it can be used and return its partitions; one that is there stays as it is.

        Raises
        ------
        BrokerError
            If the broker refuses, or the topic cannot be used in time.
        """
        what = f"create topic {name!r} with {partitions} partitions"
        request = [NewTopic(name, partitions, config=dict(config))]
        try:
            self._client.create_topics(request, request_timeout=self._left)[name].result(self._left + 1)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process may have been faster
                raise self._refused(what, reason) from error
        while not _led(found := self._metadata(what).topics.get(name)):
            if not self.deadline.left:
                raise self._listener.failure(what, f"its partitions have no leaders after {self.deadline.seconds:g} s")
            self._client.poll(_BETWEEN_TRIES)
        return len(found.partitions) if found else 0

    def spans(self, places: Iterable[Partition]) -> tuple[dict[Partition, Span], dict[Partition, str]]:
        """Return the first and the next offset of partitions, and why some are not known."""
        places = list(places)
        low, no_low = self.offsets(dict.fromkeys(places, _EARLIEST))
        high, no_high = self.offsets(dict.fromkeys(low, _LATEST))
        # retention may delete between the two questions, and a transaction may end the readable part before `low`
        return {place: (low[place], max(low[place], end)) for place, end in high.items()}, {**no_low, **no_high}

    def offsets(self, wanted: Mapping[Partition, OffsetSpec]) -> tuple[dict[Partition, int], dict[Partition, str]]:
        """Return the offsets asked for, and why some are not known; asks again while a leader is being chosen."""
        found: dict[Partition, int] = {}
        failed: dict[Partition, str] = {}
        pending, settled = dict(wanted), Deadline(min(_SETTLED, self.deadline.left))
        while pending:
            futures = self._client.list_offsets(
                {TopicPartition(*place): spec for place, spec in pending.items()},
                isolation_level=self._isolation,
                request_timeout=self._left,
            )
            pending = {}
            for at, future in futures.items():
                place = (at.topic, at.partition)
                try:
                    found[place] = future.result(self._left + 1).offset
                except KafkaException as error:
                    reason = error.args[0]
                    failed[place] = reason.str()
                    if passing(reason) and settled.left:
                        pending[place] = wanted[place]
            self._client.poll(_BETWEEN_TRIES if pending else 0)
        return found, {place: reason for place, reason in failed.items() if place not in found}

    def incomplete(self, what: str, failed: Mapping[Partition, str]) -> BrokerError:
        """Return the error for offsets that are not known."""
        (topic, partition), reason = next(iter(failed.items()))
        return self._listener.failure(f"{what} of {topic!r} partition {partition} ({len(failed)} partitions)", reason)

    @property
    def _left(self) -> float:
        return max(_BETWEEN_TRIES, self.deadline.left)

    def _metadata(self, what: str) -> ClusterMetadata:
        """Ask for all topics: asking for one by name would make a missing one."""
        deadline, patience = Deadline(min(_REACHABLE, self.deadline.left)), _FIRST_TRY
        while True:
            reason = "the answer names no broker"
            try:
                found = self._client.list_topics(timeout=min(patience, max(_BETWEEN_TRIES, deadline.left)))
                if found.brokers:
                    return found
            except KafkaException as error:
                reason = error.args[0].str()
            self._client.poll(_BETWEEN_TRIES)  # hands the causes to the listener
            if self._listener.hopeless or not deadline.left:
                raise self._listener.failure(
                    what, f"no answer within {min(_REACHABLE, self.deadline.seconds):g} s ({reason})"
                )
            patience *= 2  # a far broker or a login takes longer

    def _refused(self, what: str, reason: KafkaError) -> BrokerError:
        self._client.poll(0)
        return self._listener.failure(what, reason.str().rstrip("."))


@contextmanager
def admin(settings: Mapping[str, Any], deadline: Deadline, isolation: IsolationLevel) -> Iterator[Admin]:
    """Open a client that asks questions; it is closed at the end of the block."""
    listener = Listener(settings["bootstrap.servers"], settings)
    with made(lambda: AdminClient(listener.added_to(admin_settings(settings))), settings) as client:
        yield Admin(client, listener, deadline, isolation)


def _led(topic: TopicMetadata | None) -> bool:
    return topic is not None and all(partition.leader >= 0 for partition in topic.partitions.values())
