"""Short-lived clients that answer within a deadline and can say why they could not.

librdkafka tries again for ever and tells the causes to its log and its error callback only. `Listener` keeps them, so that
the error that a person sees says "Connection refused" rather than "timed out".
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException

from streamlab.connect.settings import LOGGER, consumer_settings, scrub
from streamlab.errors import BrokerError, PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")
Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""

_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001  # here and below: their public names
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # of a topic that the metadata names: made a moment ago
    }
)
_CAUSES = frozenset({"FAIL", "BROKER", "ERROR"})
"""The kinds of log lines that tell why a connection failed."""

_NOISE = re.compile(
    r"\[thrd:[^]]*\]: |/(?:bootstrap|\d+)(?=: )| \(after \d+ms in state \w+(?:, \d+ identical error\(s\) suppressed)?\)"
)
_HOPELESS = re.compile(r"SASL|SSL handshake|certificate|Invalid response size|parse error|No brokers configured")
_ADVICE = (
    (r"Connection refused", "Nothing listens there: is the broker running, and is it this host and port?"),
    (r"resolve", "The host name is not known here: is it misspelt, or known inside the broker's network only?"),
    (r"SASL", "Check security.protocol, sasl.mechanism, sasl.username and sasl.password."),
    (r"PLAINTEXT broker", 'The broker speaks no TLS there: set security.protocol to "PLAINTEXT", or use its TLS port.'),
    (r"certificate|SSL", "Check security.protocol and ssl.ca.location and, for client certificates, ssl.key.location."),
    (r"Invalid response size", "What answers there is no Kafka: is it this port?"),
    (r"[Dd]isconnected", 'The listener may want TLS or a login: security.protocol is then "SSL" or "SASL_SSL".'),
    (r"parse error|No brokers", 'An address is host:port, such as "localhost:9092"; commas separate several.'),
    (
        r"[Tt]imed out|no answer",
        "Something may hold the connection but not answer as Kafka: is it this port? A firewall?",
    ),
)
_ADDRESS = re.compile(r"((plaintext|ssl|sasl_plaintext|sasl_ssl)://)?([^/\s:@]+|\[[0-9a-f:]+\])(:\d+)?", re.IGNORECASE)
_INSPECTION: dict[str, Any] = {
    "auto.offset.reset": "earliest",  # what retention deletes while one looks is no error
    "enable.partition.eof": True,
    "fetch.max.bytes": 16 << 20,
    # not less: of all partitions but one a broker sends only batches that fit, and the others would wait for their turn
    "fetch.message.max.bytes": 1 << 20,
    "fetch.queue.backoff.ms": 1,
    "fetch.wait.max.ms": 10,
    "queued.max.messages.kbytes": 65_536,
    "queued.min.messages": 1,
}


class Deadline:
    """A moment by which a call answers.

    Examples
    --------
    >>> Deadline(10).left > 9
    True
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; zero when it has passed."""
        return max(0.0, self._end - time.monotonic())


class Listener:
    """What one client says: passed on to logging, and remembered for the error that may follow.

    Parameters
    ----------
    where
        Addresses that the client was given.
    settings
        Its settings, whose secrets are kept out of every message; an `error_cb` in them is called too.
    """

    def __init__(self, where: str, settings: Mapping[str, Any]) -> None:
        self.causes: dict[str, None] = {}
        self.where, self._settings = scrub(where, {}), settings
        self._callback: Callable[[KafkaError], None] | None = settings.get("error_cb")

    def added_to(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings of a client that tells this listener."""
        return {**settings, "error_cb": self.error, "logger": self}

    def log(self, level: int, _form: str, kind: str, _client: str, text: str) -> None:
        """Take a line of librdkafka's log, as confluent-kafka hands it to a logger."""
        text = self._clean(text)
        known = text in self.causes
        if kind in _CAUSES:
            self.causes[text] = None
        LOGGER.log(logging.DEBUG if known else level, "%s: %s", kind, text)

    def error(self, error: KafkaError) -> None:
        """Take an error that belongs to no call."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN or "No brokers" in error.str():  # noqa: SLF001  # its public name
            self.causes[self._clean(error.str())] = None
        if self._callback is not None:
            self._callback(error)

    @property
    def hopeless(self) -> bool:
        """Whether trying again cannot help."""
        return any(_HOPELESS.search(cause) for cause in self.causes)

    def failure(self, what: str, reason: str) -> BrokerError:
        """Return the error for a call that got no answer: the causes, and what to do about them."""
        told = "; ".join(list(self.causes)[-2:]) or reason
        advice = next((text for pattern, text in _ADVICE if re.search(pattern, told)), "")
        hosts = [address.rpartition("://")[2].strip() for address in self.where.split(",")]
        if self.causes and not self.hopeless and not any(host in told for host in hosts):
            advice = (
                "The broker gave this address as its own (advertised.listeners), but it cannot be reached from here."
            )
        return BrokerError(f"cannot {what} at {self.where}: {told}. {advice}".rstrip())

    def _clean(self, text: str) -> str:
        return scrub(_NOISE.sub("", text), self._settings)


def passing(error: KafkaError) -> bool:
    """Whether a partition may answer in a moment: its topic is new, its leader moves, its broker restarts."""
    return error.code() in _PASSING


@contextmanager
def inspector(settings: Mapping[str, Any]) -> Iterator[tuple[Consumer, Listener]]:
    """Open a consumer for a look at a few records: it joins no group and commits nothing, and is closed at the end."""
    listener = Listener(settings["bootstrap.servers"], settings)
    chosen = {**consumer_settings(settings, group="streamlab-inspection"), **_INSPECTION}
    consumer = made(lambda: Consumer(listener.added_to(chosen)), settings)
    try:
        yield consumer, listener
    finally:
        consumer.close()


def check_addresses(bootstrap: str) -> None:
    """Refuse what is no list of addresses.

    Raises
    ------
    PlanError
        Naming the part that is none, and the valid form.

    Examples
    --------
    >>> check_addresses("http://localhost:9092")
    Traceback (most recent call last):
    streamlab.errors.PlanError: 'http://localhost:9092' is no address of a broker; valid is host:port, such as "localhost:9092"...
    """
    for address in bootstrap.split(","):
        if not _ADDRESS.fullmatch(address.strip()):
            raise PlanError(
                f"{scrub(address.strip(), {})!r} is no address of a broker; valid is host:port, such as "
                '"localhost:9092", several of them separated by commas.'
            )


def made(make: Callable[[], T], settings: Mapping[str, Any]) -> T:
    """Return a new client.

    Raises
    ------
    PlanError
        If librdkafka does not take the settings together; its words without the secrets in them.
    """
    try:
        return make()
    except (KafkaException, TypeError, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    # outside of the except block, so that the original, which may quote a secret, is not shown with it
    raise PlanError(f"Kafka settings: {scrub(reason, settings)}.")
