"""A Kafka cluster and what can be asked of it: topics, offsets, a look at records.

Every call opens a client, answers before its timeout and closes the client again; in between nothing is connected. What
reads records continuously has clients of its own, made with `Cluster.settings`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import IsolationLevel
from confluent_kafka.admin import OffsetSpec

from streamlab.connect import records
from streamlab.connect.admin import INTERNAL, admin
from streamlab.connect.clients import Deadline, check_addresses, inspector
from streamlab.connect.embedded import CLIENT_SETTINGS, EmbeddedBroker
from streamlab.connect.reading import Reader, gone, timestamp
from streamlab.connect.settings import LOGGER, check_settings, redact, scrub
from streamlab.errors import BrokerError, PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl
    from confluent_kafka import Message

    from streamlab.connect.admin import Admin, Metadata

TIMEOUT, READING_TIMEOUT = 10.0, 30.0
"""Seconds after which a question without an answer is an error: without and with reading records."""


@dataclass(frozen=True, slots=True, repr=False)
class Cluster:
    """A Kafka cluster; nothing is connected until something is asked.

    Parameters
    ----------
    bootstrap
        Addresses, such as ``"localhost:9092"``; commas separate several.
    user
        Settings of librdkafka.
    embedded
        The broker, where it is one inside this process; found by its address.

    Raises
    ------
    PlanError
        For an address that is none, or a setting that is not valid.

    Examples
    --------
    >>> Cluster("localhost:9092", {"sasl.password": "hunter2"})
    Cluster('localhost:9092', {'sasl.password': '***'})
    """

    bootstrap: str
    user: Mapping[str, Any] = field(default_factory=dict, hash=False)
    embedded: EmbeddedBroker | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Fail where the mistake is written, not when something is asked."""
        check_addresses(self.bootstrap)
        for name in ("bootstrap.servers", "metadata.broker.list"):
            if name in self.user:
                raise PlanError(
                    f"Kafka setting {name!r}: the addresses are given once, as {self.bootstrap!r}; remove it."
                )
        check_settings(self.user)
        object.__setattr__(self, "user", dict(self.user))
        object.__setattr__(self, "embedded", self.embedded or EmbeddedBroker.at(self.bootstrap))

    @property
    def settings(self) -> dict[str, Any]:
        """The user's settings with the addresses, for `consumer_settings` and `producer_settings`."""
        needed = CLIENT_SETTINGS if self.embedded else {}
        return {**needed, **self.user, "bootstrap.servers": self.bootstrap}

    def describe(self) -> str:
        """Return the arguments that make it, secrets left out."""
        return f"({scrub(self.bootstrap, {})!r}{f', {redact(self.user)}' if self.user else ''})"

    def __repr__(self) -> str:
        return f"Cluster{self.describe()}"

    def metadata(self, timeout: float = TIMEOUT) -> Metadata:
        """Return what the cluster says of itself.

        Raises
        ------
        BrokerError
            If no broker answers within `timeout` seconds, or one refuses; with the cause and what to do about it.
        """
        with self._asking(timeout) as client:
            return client.metadata("reach a broker")

    def cluster_id(self, timeout: float = TIMEOUT) -> str:
        """Return the cluster's identity.

        Raises
        ------
        BrokerError
            If no broker answers in time.
        """
        return self.metadata(timeout).cluster_id

    def partitions(self, topic: str, timeout: float = TIMEOUT) -> int:
        """Return how many partitions a topic has; a missing one is not made by asking.

        Raises
        ------
        UnknownTopicError
            If there is no such topic.
        BrokerError
            If no broker answers in time.
        """
        with self._asking(timeout) as client:
            return client.partitions(topic)

    def create_topic(
        self, name: str, partitions: int, config: Mapping[str, str] | None = None, timeout: float = TIMEOUT
    ) -> int:
        """Make a topic where it is missing, and return how many partitions it has; one that is there stays as it is.

        Parameters
        ----------
        name
            Its name.
        partitions
            How many it gets.
        config
            Settings of the topic, such as ``{"retention.ms": "-1"}``; an embedded broker has none.
        timeout
            Seconds until it can be used.

        Raises
        ------
        BrokerError
            If the broker refuses, or does not answer in time.
        """
        with self._asking(timeout) as client:
            found = client.metadata(f"create topic {name!r}").topics
            if name in found:
                return found[name]
            if self.embedded is None:
                return client.create_topic(name, partitions, config or {})
        self.embedded.create_topic(name, partitions)
        if config:
            LOGGER.info("topic %r: an embedded broker has no settings of topics; %s do nothing", name, dict(config))
        return partitions

    def watermarks(
        self, topic: str, *, uncommitted: bool = False, timeout: float = TIMEOUT
    ) -> dict[int, tuple[int, int]]:
        """Return the first and the next offset of every partition.

        Parameters
        ----------
        topic
            Its name.
        uncommitted
            Whether the end is that of all records; else it is where an unfinished transaction begins, which is as far as
            a `read_committed` consumer gets.
        timeout
            Seconds.

        Raises
        ------
        UnknownTopicError
            If there is no such topic.
        BrokerError
            If no broker answers in time.
        """
        with self._asking(timeout, uncommitted=uncommitted) as client:
            return {number: span for (_, number), span in client.spans_of(topic).items()}

    def require_offsets(self, topic: str, offsets: Mapping[int, int], timeout: float = TIMEOUT) -> None:
        """Check that reading can go on at these offsets.

        Raises
        ------
        BrokerError
            If records there are gone, or the topic ends before; with what is lost.
        """
        spans = self.watermarks(topic, uncommitted=True, timeout=timeout)
        for number, offset in offsets.items():
            low, high = spans.get(number, (0, 0))
            if not low <= offset <= high:
                raise BrokerError(gone(topic, number, offset, (low, high), embedded=self.embedded is not None))

    def dropped(self, topic: str, timeout: float = TIMEOUT) -> dict[int, int]:
        """Return how many of the oldest records of each partition are gone, where any are."""
        return {number: low for number, (low, _) in self.watermarks(topic, timeout=timeout).items() if low}

    def offsets_for_time(self, topic: str, at: int, timeout: float = READING_TIMEOUT) -> dict[int, int]:
        """Return where to begin in every partition to get the records from a moment on.

        That is the first record stamped `at` (ms since 1970) or later, or the end where there is none. An embedded broker
        does not know: there the records are read from the beginning to find it, 5 MiB a partition at most.

        Raises
        ------
        UnknownTopicError
            If there is no such topic.
        BrokerError
            If no broker answers in time.
        """
        with self._asking(timeout) as client:
            spans = client.spans_of(topic)
            if self.embedded is None:
                first, failed = client.offsets(dict.fromkeys(spans, OffsetSpec.for_timestamp(max(0, at))))
                if failed:
                    raise client.incomplete(f"find offsets of {topic!r} by time", failed)
            else:
                with self._reading(client.deadline) as reader:
                    stamped = reader.first(spans, lambda message: (timestamp(message) or 0) >= at)
                first = {place: message.offset() or 0 for place, message in stamped.items()}
        return {place[1]: first[place] if first.get(place, -1) >= 0 else high for place, (_, high) in spans.items()}

    def newest(self, topic: str, timeout: float = READING_TIMEOUT) -> int | None:
        """Return the newest timestamp among the last records of the partitions, in ms since 1970; None if it is empty."""
        tails = self._tails(topic, 1, timeout)
        return max((at for at in map(timestamp, tails) if at is not None), default=None)

    def topics(self, timeout: float = READING_TIMEOUT) -> pl.DataFrame:
        """Return the topics: name, partitions, records, oldest, newest.

        `records` is the span of offsets, so markers of transactions and what compaction removed count too. `oldest` and
        `newest` are timestamps among the first and the last records of the partitions, null for an empty topic. Where a
        partition cannot be read, all three are null. Kafka's own topics are left out.

        Raises
        ------
        BrokerError
            If no broker answers in time.
        """
        with self._asking(timeout) as client:
            found = client.metadata("list topics").topics
            counts = {name: count for name, count in found.items() if not name.startswith(INTERNAL)}
            spans, failed = client.spans((name, number) for name, count in counts.items() for number in range(count))
            with self._reading(client.deadline, strict=False) as reader:
                heads, tails = reader.first(spans, lambda _: True), reader.last(spans, 1)
        for place, reason in (failed := {**failed, **reader.failed}).items():
            LOGGER.warning("topic %r partition %d cannot be read: %s", *place, reason)
        known = {place: span for place, span in spans.items() if place not in failed}
        return records.topics_frame(counts, known, heads.values(), [m for last in tails.values() for m in last])

    def peek(self, topic: str, n: int = 20, timeout: float = READING_TIMEOUT) -> pl.DataFrame:
        r"""Return the newest records as they are: partition, offset, timestamp, key, value, headers; oldest first.

        Text is shown as such, bytes that are no UTF-8 as ``\xff``. Joins no group and commits nothing.

        Raises
        ------
        PlanError
            If `n` is negative.
        UnknownTopicError
            If there is no such topic.
        BrokerError
            If no broker answers in time.
        """
        if n < 0:
            raise PlanError(f"peek {topic!r}: n={n}; valid is a number of records, 0 or more.")
        return records.records_frame(self._tails(topic, n, timeout)[-n:] if n else [])

    def sample(self, topic: str, n: int, timeout: float = READING_TIMEOUT) -> list[bytes | None]:
        """Return payloads of about `n` of the newest records, as many from each partition, oldest first.

        Raises
        ------
        UnknownTopicError
            If there is no such topic.
        """
        return [message.value() for message in self._tails(topic, n, timeout, shared=True)]

    def _tails(self, topic: str, n: int, timeout: float, *, shared: bool = False) -> list[Message]:
        """Return the last `n` records of every partition, or of all together where they share them."""
        with self._asking(timeout) as client:
            spans = {place: span for place, span in client.spans_of(topic).items() if span[0] < span[1]}
            if not spans or not n:
                return []
            with self._reading(client.deadline) as reader:
                tails = reader.last(spans, -(-n // len(spans)) if shared else n)
        return records.in_time(message for messages in tails.values() for message in messages)

    @contextmanager
    def _asking(self, timeout: float, *, uncommitted: bool = False) -> Iterator[Admin]:
        everything = uncommitted or self.user.get("isolation.level") == "read_uncommitted"
        isolation = IsolationLevel.READ_UNCOMMITTED if everything else IsolationLevel.READ_COMMITTED
        with admin(self.settings, Deadline(timeout), isolation) as client:
            yield client

    @contextmanager
    def _reading(self, deadline: Deadline, *, strict: bool = True) -> Iterator[Reader]:
        with inspector(self.settings) as (consumer, listener):
            yield Reader(consumer, listener, deadline, strict=strict)
