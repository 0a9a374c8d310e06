"""Short-lived clients that answer within a deadline and can say why they could not.

librdkafka tries again for ever and tells the causes to its log and its error callback only. `Listener` keeps them, so that
the error that a person sees says "Connection refused" rather than "timed out".
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamlab.connect.settings import LOGGER, admin_settings, consumer_settings, scrub
from streamlab.errors import BrokerError, PlanError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka.admin import ClusterMetadata

_SLICE = 0.2
"""Seconds between two looks at what went wrong."""

_NOISE = re.compile(r"\[thrd:[^]]*\]: |/(?:bootstrap|\d+)(?=: )| \(after [^)]*\)|^\S+: (?=\S+:\d+: )")
_HOPELESS = re.compile(
    r"SASL|SSL handshake|certificate|Invalid response size|parse error|No brokers configured|authentication", re.IGNORECASE
)
_ADVICE = (
    (r"Connection refused", "Nothing listens there: is the broker running, and is it this host and port?"),
    (r"resolve", "The host name is not known here: is it misspelt, or only known inside the broker's network?"),
    (r"SASL|authentication", "Check security.protocol, sasl.mechanism, sasl.username and sasl.password."),
    (r"PLAINTEXT broker listener", 'The broker speaks no TLS there: set security.protocol to "PLAINTEXT" or use its TLS port.'),
    (r"certificate|SSL|ssl", "Check security.protocol, ssl.ca.location and, with client certificates, ssl.key.location."),
    (r"Invalid response size", "What answers there is no Kafka: is it this port?"),
    (r"[Dd]isconnected|closed by peer", 'The listener may want TLS or a login: set security.protocol to "SSL" or "SASL_SSL".'),
    (r"parse error|No brokers", 'An address is host:port, such as "localhost:9092"; several are separated by commas.'),
    (r"[Tt]imed out|timeout", "Something takes the connection but does not answer as Kafka: is it this port, and does a firewall let it through?"),
)
_INSPECTION: dict[str, Any] = {
    "auto.offset.reset": "earliest",  # what retention deletes while one looks is no error
    "enable.partition.eof": True,
    "fetch.max.bytes": 16 << 20,
    # not less: a broker gives all partitions but one only batches that fit, and the rest would wait for their turn
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


@dataclass(slots=True)
class Listener:
    """What one client says: passed on to logging, and remembered for the error that may follow.

    Parameters
    ----------
    settings
        The client's settings, whose secrets are kept out of every message.
    logger
        Where messages go.
    """

    settings: Mapping[str, Any]
    logger: logging.Logger = LOGGER
    causes: dict[str, None] = field(default_factory=dict)
    _user_callback: Callable[[KafkaError], None] | None = None

    def log(self, level: int, _format: str, facility: str, _client: str, text: str) -> None:
        """Take a line of librdkafka's log; confluent-kafka calls it like a logger's method."""
        text = self._clean(text)
        if facility in {"FAIL", "BROKER", "REQTMOUT", "ERROR"} and text not in self.causes:
            self.causes[text] = None
        self.logger.log(level, "%s: %s", facility, text)

    def error(self, error: KafkaError) -> None:
        """Take an error that belongs to no call."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self.causes:  # noqa: SLF001  # so named in the public API
            self.causes[self._clean(error.str())] = None
        if self._user_callback is not None:
            self._user_callback(error)

    def __call__(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings with this listener in them."""
        self._user_callback = settings.get("error_cb")
        return {**settings, "error_cb": self.error, "logger": self}

    @property
    def hopeless(self) -> bool:
        """Whether trying again cannot help."""
        return any(_HOPELESS.search(cause) for cause in self.causes)

    def failure(self, what: str, where: str, seconds: float) -> BrokerError:
        """Return the error for a call that got no answer: the cause, and what to do about it."""
        causes = [cause for cause in self.causes if "brokers are down" not in cause]
        told = "; ".join(causes[-2:]) or f"no answer within {seconds:g} s (timed out)"
        advice = next((text for pattern, text in _ADVICE if re.search(pattern, told)), "")
        elsewhere = [cause for cause in causes if not any(host and host in cause for host in where.split(","))]
        if causes and len(elsewhere) == len(causes) and not self.hopeless:
            advice = "The broker names this address for itself (advertised.listeners), and it cannot be reached from here."
        return BrokerError(f"cannot {what} at {where}: {told}. {advice}".rstrip())

    def _clean(self, text: str) -> str:
        return scrub(_NOISE.sub("", text), self.settings)


@contextmanager
def admin_client(settings: Mapping[str, Any]) -> Iterator[tuple[AdminClient, Listener]]:
    """Open a client that asks questions; close it afterwards."""
    listener = Listener(settings)
    client = made(lambda: AdminClient(listener(admin_settings(settings))), settings)
    with client:
        yield client, listener


@contextmanager
def inspector(settings: Mapping[str, Any]) -> Iterator[tuple[Consumer, Listener]]:
    """Open a consumer for a look at a few records: assigned only, so it joins no group, and it commits nothing."""
    listener = Listener(settings)
    chosen = {**consumer_settings(settings, group="streamlab-inspection"), **_INSPECTION}
    client = made(lambda: Consumer(listener(chosen)), settings)
    try:
        yield client, listener
    finally:
        client.close()


def made[T](make: Callable[[], T], settings: Mapping[str, Any]) -> T: ...
