"""A look at a few records of many partitions at once, with an end.

Offsets have gaps: markers of transactions, aborted records and what compaction removed take offsets but never arrive. So a
span counts as read when a record at its end came, or the client's position is past it, or the broker says that there is no
more; never by the offset of the last record alone.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_INVALID, KafkaError, TopicPartition

from streamlab.connect.clients import passing
from streamlab.connect.embedded import EVICTION
from streamlab.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer, Message

    from streamlab.connect.clients import Deadline, Listener, Partition

    Span = tuple[int, int]
    """The first offset, and the one after the last."""

_BATCH, _WAIT = 2_000, 0.02
_WIDEN = 8


class Reader:
    """Reads spans of offsets with one consumer.

    Parameters
    ----------
    consumer
        Not in a group, and with `enable.partition.eof`.
    listener
        What hears of its errors.
    deadline
        When to give up.
    strict
        Whether a partition that cannot be read is an error; else it is left out, and `failed` says why.
    """

    def __init__(self, consumer: Consumer, listener: Listener, deadline: Deadline, *, strict: bool = True) -> None:
        self.failed: dict[Partition, str] = {}
        self._consumer, self._listener, self._deadline, self._strict = consumer, listener, deadline, strict

    def first(self, spans: Mapping[Partition, Span], accept: Callable[[Message], bool]) -> dict[Partition, Message]:
        """Return the first acceptable record of every span that has one."""
        found: dict[Partition, Message] = {}

        def take(place: Partition, message: Message) -> bool:
            if accept(message):
                found[place] = message
            return place not in found

        self._scan(spans, take)
        return found

    def last(self, spans: Mapping[Partition, Span], n: int) -> dict[Partition, list[Message]]:
        """Return the last `n` records of every span, oldest first; fewer where there are not so many."""
        found: dict[Partition, list[Message]] = {place: [] for place in spans}
        width = n
        todo = {place: (max(low, high - width), high) for place, (low, high) in spans.items()}
        while todo:
            kept: dict[Partition, deque[Message]] = {place: deque(maxlen=n) for place in todo}

            def take(place: Partition, message: Message, kept: Mapping[Partition, deque[Message]] = kept) -> bool:
                kept[place].append(message)
                return True

            self._scan(todo, take)
            for place in todo:
                found[place] = [*kept[place], *found[place]][-n:]
            # markers took some of the offsets: look further back where records are missing
            width *= _WIDEN
            short = {
                place: start for place, (start, _) in todo.items() if len(found[place]) < n and start > spans[place][0]
            }
            todo = {place: (max(spans[place][0], start - width), start) for place, start in short.items()}
        return found

    def _scan(self, spans: Mapping[Partition, Span], take: Callable[[Partition, Message], bool]) -> None:
        """Hand records to `take`, in order within a partition, until it says False or the span ends."""
        pending = {place: stop for place, (start, stop) in spans.items() if start < stop}
        if not pending:
            return
        self._consumer.assign([TopicPartition(*place, spans[place][0]) for place in pending])
        while pending:
            finished = []
            for message in self._consumer.consume(_BATCH, _WAIT):
                place = (message.topic() or "", message.partition() or 0)
                if place in pending and not self._goes_on(message, place, pending[place], take):
                    del pending[place]
                    finished.append(place)
            finished += self._passed(pending)
            if finished and pending:
                self._consumer.incremental_unassign([TopicPartition(*place) for place in finished])
            if pending and not self._deadline.left:
                self._give_up(pending)
        self._consumer.unassign()

    def _goes_on(
        self, message: Message, place: Partition, stop: int, take: Callable[[Partition, Message], bool]
    ) -> bool:
        error, offset = message.error(), message.offset() or 0
        if error is None:
            return offset < stop and take(place, message) and offset < stop - 1
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
            return False
        if passing(error):
            return True
        if self._strict:
            raise BrokerError(f"cannot read {place[0]!r} partition {place[1]}: {error.str()}.")
        self.failed[place] = error.str()
        return False

    def _passed(self, pending: dict[Partition, int]) -> list[Partition]:
        """Take out the partitions whose position is past their span's end."""
        reached = self._consumer.position([TopicPartition(*place) for place in pending])
        passed = [
            (at.topic, at.partition)
            for at in reached
            if at.offset != OFFSET_INVALID and at.offset >= pending[at.topic, at.partition]
        ]
        for place in passed:
            del pending[place]
        return passed

    def _give_up(self, pending: dict[Partition, int]) -> None:
        reason = f"records are missing after {self._deadline.seconds:g} s"
        if self._strict:
            topic, number = next(iter(pending))
            raise self._listener.failure(f"read {topic!r} partition {number} ({len(pending)} partitions)", reason)
        self.failed.update(dict.fromkeys(pending, reason))
        pending.clear()


def gone(topic: str, partition: int, offset: int, span: Span, *, embedded: bool) -> str:
    """Return what to say of an offset that a partition does not have.

    Examples
    --------
    >>> print(gone("flights", 3, 5, (1_000, 4_000), embedded=False))
    flights partition 3: offset 5 is gone; 995 records are lost: retention deleted them (...). It holds 1,000 to 4,000.
    """
    low, high = span
    if offset > high:
        lost = "the topic was made anew, or cut"
    else:
        reason = EVICTION if embedded else "retention deleted them (retention.ms, retention.bytes)"
        lost = f"{low - offset:,} records are lost: {reason}"
    return f"{topic} partition {partition}: offset {offset:,} is gone; {lost}. It holds {low:,} to {high:,}."


def timestamp(message: Message) -> int | None:
    """Return a record's timestamp in ms since 1970; None for the few that have none."""
    _, at = message.timestamp()
    return at if at >= 0 else None
