"""What a running client hears of its brokers: whether they are away, and which errors pass by themselves."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamlab.connect.source import OutageError
from streamlab.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOOK_SECONDS = 0.5
"""How often one looks whether a broker is back."""

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
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # if the topic is there: a broker that has just started may not know it yet
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


class Watch:
    """What a consumer hears of its brokers. Used by the thread that owns the consumer.

    An error may be of one broker of several, or of none that matters, so it is only a reason to look whether all partitions answer.

    Parameters
    ----------
    where
        Addresses that the client was given.
    told
        The user's own `error_cb`.
    """

    def __init__(self, where: str, told: Callable[[KafkaError], None] | None = None) -> None:
        self._where, self._told = where, told
        self._heard: list[KafkaError] = []
        self._trouble = ""  # since the last look
        self._away_since: float | None = None
        self._next_look = 0.0

    def hear(self, error: KafkaError) -> None:
        """Take an error that belongs to no call."""
        self._heard.append(error)
        self._trouble = error.str()
        if self._told is not None:
            self._told(error)

    def heard(self) -> Sequence[KafkaError]:
        """Return the errors since the last call."""
        heard, self._heard = self._heard, []
        return heard

    def look(self, ask: Callable[[], None], patience: float | None) -> bool:
        """After an error, see whether the brokers answer; return whether they did not, now or the last time.

        Parameters
        ----------
        ask
            Asks them something, or raises.
        patience
            How many seconds they may be away; None: for ever.

        Raises
        ------
        BrokerError
            If they are away for longer.
        """
        now, was_away = time.monotonic(), self._away_since is not None
        if now < self._next_look or not (was_away or self._trouble):
            return was_away
        self._next_look = now + LOOK_SECONDS
        trouble, self._trouble = self._trouble, ""
        try:
            ask()
        except KafkaException as error:
            self._away_since = self._away_since or now
            if patience is not None and now - self._away_since > patience:
                reason = trouble or error.args[0].str()
                raise BrokerError(f"{self._where} is away for {patience:.0f} s: {reason}") from error
            return True
        self._away_since = None
        return was_away
