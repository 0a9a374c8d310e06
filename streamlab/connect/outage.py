"""Which errors of a running client pass by themselves, and which end a query."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamlab.connect.source import OutageError
from streamlab.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PASSING = frozenset(
    {
        # local ones: the client connects again
        KafkaError._TRANSPORT,  # noqa: SLF001  # its public name, as are those below
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001  # what it knows of a topic is being asked for again
        KafkaError._WAIT_COORD,  # noqa: SLF001
        # a broker's: a leader or a coordinator is found again
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


def passing(error: KafkaError) -> bool:
    """Return whether an error goes by itself.

    Examples
    --------
    >>> passing(KafkaError(KafkaError.NOT_COORDINATOR)), passing(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    (True, False)
    """
    return not error.fatal() and (bool(error.retriable()) or error.code() in _PASSING)


@contextmanager
def explained(what: str, where: str) -> Iterator[None]:
    """Turn an error of the client into one that says what could not be done: an OutageError where it passes by itself."""
    try:
        yield
    except KafkaException as error:
        reason = error.args[0]
        kind = OutageError if passing(reason) else BrokerError
        raise kind(f"{where}: cannot {what}: {reason.str()}") from error


def sound(found: Sequence[TopicPartition] | None) -> list[TopicPartition]:
    """Return an answer about partitions, or raise what went wrong with one of them."""
    for at in found or ():
        if at.error is not None:
            raise KafkaException(at.error)
    return list(found or ())
