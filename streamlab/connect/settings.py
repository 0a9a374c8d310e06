"""Settings of the Kafka clients: good defaults, what a user may change, and what must never be shown.

A user's settings are librdkafka's, for all clients at once: each client is given those that it knows. The user's word
wins over a default, except where the engine would lose or double records by it: that is refused with the reason.

Why the defaults differ from librdkafka's own:

- `fetch.queue.backoff.ms=10` (1000): when the queue is full the client stops fetching for that long. At a million records
  a second half a million queued ones last half a second, so the default makes the reader wait.
- `queued.*`, `fetch.*` and `batch.size`: large batches, since a call costs more than a record.
- `check.crcs`: a flipped bit is an error, not a wrong number. It costs less than can be measured.
- `reconnect.backoff.max.ms=1000` (10000): a broker that is back is found within a second.
- `retry.backoff.ms=5` of a transactional producer (100): the broker answers "concurrent transactions" for a few
  milliseconds after each commit.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from streamlab.connect import librdkafka
from streamlab.connect.setting_names import ALIASES, CONSUMER_ONLY, PRODUCER_ONLY, SHARED
from streamlab.errors import PlanError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = logging.getLogger("streamlab.kafka")
LOGGER.addHandler(logging.NullHandler())  # without a handler Python would print warnings to stderr

_NOT_THE_USERS = {
    "enable.auto.commit": "offsets are committed with the state and the results that they belong to, once a checkpoint; remove it",
    "enable.auto.offset.store": "offsets are committed with a checkpoint, never by themselves; remove it",
    "auto.offset.reset": "an offset that is gone is an error that names what is lost, never a silent jump; where a pipeline that has "
    'never run begins is said with kafka.stream(..., start="earliest")',
    "group.id": 'the consumer group is the name of the pipeline; say sl.Pipeline(..., name="...")',
    "transactional.id": "it is made of the pipeline's name and the task, so that a second worker is fenced; remove it",
    "default.topic.config": "write its settings beside the others, not in a dict of their own",
    "default_topic_conf": "write its settings beside the others, not in a dict of their own",
    "delivery.report.only.error": "the engine decides whether it hears of every delivery; remove it",
    "logger": 'the clients write to logging.getLogger("streamlab.kafka"); give that a handler',
}
_RUNS_CODE = {
    "plugin.library.paths": "loads a library into this process",
    "sasl.kerberos.kinit.cmd": "runs a shell command",
    "ssl.engine.location": "loads a library into this process",
}
_CONNECTING: dict[str, Any] = {
    "client.id": "streamlab",
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 1_000,
}
_CONSUMING: dict[str, Any] = {
    "auto.offset.reset": "error",
    "check.crcs": True,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": False,
    "fetch.max.bytes": 64 << 20,
    "fetch.message.max.bytes": 8 << 20,
    "fetch.queue.backoff.ms": 10,
    "isolation.level": "read_committed",
    "partition.assignment.strategy": "cooperative-sticky",
    "queued.max.messages.kbytes": 262_144,
    "queued.min.messages": 500_000,
}
_PRODUCING: dict[str, Any] = {
    "acks": "all",
    "batch.size": 1_000_000,
    "compression.type": "lz4",
    "enable.idempotence": True,
    "linger.ms": 10,
    "partitioner": "murmur2_random",  # as Java clients do, so that others' keyed topics are co-partitioned with ours
    "queue.buffering.max.kbytes": 524_288,
    "queue.buffering.max.messages": 2_000_000,
}
_TRANSACTIONS: dict[str, Any] = {"retry.backoff.ms": 5, "transaction.timeout.ms": 15_000}
_ASKING: dict[str, Any] = {
    # under the ten seconds after which a question fails, so that the cause is known by then
    "api.version.request.timeout.ms": 4_000,
    "socket.connection.setup.timeout.ms": 4_000,
}
_IDEMPOTENT_IN_FLIGHT = 5

HIDDEN = "***"
_SECRET = re.compile(r"password|passphrase|secret|token|key|credential|jwt|sasl|auth|user\.info", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
# of sasl.*, words that are the same for everyone: hidden in a repr for good measure, left standing in messages
_COMMON_WORDS = re.compile(r"mechanisms?$|method$|service\.name$|\.type$|algorithm$|enable")
_SHORTEST_SECRET = 3


def consumer_settings(user: Mapping[str, Any], *, group: str, from_file: bool = False) -> dict[str, Any]:
    """Return the settings of a consumer.

    Parameters
    ----------
    user
        The user's settings; those of producers are left out.
    group
        Consumer group that commits go to.
    from_file
        Whether the settings come from a file: then those that run code are refused.

    Raises
    ------
    PlanError
        For a setting that librdkafka does not know, or that only the engine may decide.

    Examples
    --------
    >>> settings = consumer_settings({"fetch.max.bytes": 1_000_000, "linger.ms": 5}, group="delays")
    >>> settings["fetch.max.bytes"], settings["group.id"], "linger.ms" in settings
    (1000000, 'delays', False)
    """
    chosen = _chosen(user, PRODUCER_ONLY, from_file=from_file)
    defaults = {**_CONNECTING, **_CONSUMING}
    if chosen.get("group.protocol") == "consumer":  # there the broker assigns, and librdkafka refuses a strategy
        del defaults["partition.assignment.strategy"]
    return {**defaults, **chosen, "group.id": group, "logger": LOGGER}


def producer_settings(
    user: Mapping[str, Any], *, transactional_id: str | None = None, from_file: bool = False
) -> dict[str, Any]:
    """Return the settings of a producer.

    Parameters
    ----------
    user
        The user's settings; those of consumers are left out.
    transactional_id
        Identity of a transactional producer; None for one without transactions.
    from_file
        Whether the settings come from a file: then those that run code are refused.

    Raises
    ------
    PlanError
        For a setting that librdkafka does not know, or that only the engine may decide.

    Examples
    --------
    >>> producer_settings({"linger.ms": 200})["linger.ms"]
    200
    >>> producer_settings({"acks": 1})["enable.idempotence"]  # it needs all acknowledgements
    False
    """
    chosen = _chosen(user, CONSUMER_ONLY, from_file=from_file)
    defaults = {**_CONNECTING, **_PRODUCING, **(_TRANSACTIONS if transactional_id else {})}
    defaults["enable.idempotence"] = _can_be_idempotent(chosen)
    transactional = {"transactional.id": transactional_id} if transactional_id else {}
    return {**defaults, **chosen, **transactional, "logger": LOGGER}


def admin_settings(user: Mapping[str, Any], *, from_file: bool = False) -> dict[str, Any]:
    """Return the settings of a client that asks and makes topics.

    Raises
    ------
    PlanError
        For a setting that librdkafka does not know, or that only the engine may decide.

    Examples
    --------
    >>> "linger.ms" in admin_settings({"linger.ms": 5, "security.protocol": "SSL"})
    False
    """
    chosen = _chosen(user, CONSUMER_ONLY | PRODUCER_ONLY, from_file=from_file)
    return {**_CONNECTING, **_ASKING, **chosen, "logger": LOGGER}


def check_settings(user: Mapping[str, Any], *, from_file: bool = False) -> None:
    """Refuse what librdkafka does not know or take, what only the engine may decide and, from a file, what runs code.

    Connects to nothing.

    Raises
    ------
    PlanError
        Naming the setting, the reason and what is valid.

    Examples
    --------
    >>> check_settings({"lingr.ms": 5})
    Traceback (most recent call last):
    streamlab.errors.PlanError: Kafka setting 'lingr.ms': No such configuration property: "lingr.ms". Did you mean 'linger.ms'?
    """
    for name, value in user.items():
        if reason := _NOT_THE_USERS.get(ALIASES.get(name, name)):
            raise PlanError(f"Kafka setting {name!r} cannot be set: {reason}.")
        if from_file and (danger := _RUNS_CODE.get(name)):
            raise PlanError(
                f"Kafka setting {name!r} is refused from a file, because it {danger}: set it in your own code."
            )
        if name in _RUNS_CODE or not isinstance(value, str | int | float):
            continue  # trying those would run the code; callbacks are no text
        if reason := librdkafka.refusal(name, str(value).lower() if isinstance(value, bool) else str(value)):
            raise bad_setting(name, reason, user)


def bad_setting(name: str, reason: str, user: Mapping[str, Any]) -> PlanError:
    """Return the error for a setting that librdkafka refuses; its words without the secrets in them."""
    near = did_you_mean(name, (CONSUMER_ONLY | PRODUCER_ONLY | SHARED) - {name}) if "No such" in reason else ""
    return PlanError(f"Kafka setting {name!r}: {scrub(reason, user)}.{near}")


def _chosen(user: Mapping[str, Any], others: frozenset[str], *, from_file: bool) -> dict[str, Any]:
    """Return the user's settings under their one name, without those of other clients."""
    check_settings(user, from_file=from_file)
    return {ALIASES.get(name, name): value for name, value in user.items() if name not in others}


def _can_be_idempotent(chosen: Mapping[str, Any]) -> bool:
    """Whether what the user chose leaves room for the default: librdkafka refuses the rest."""
    return (
        str(chosen.get("acks", "all")) in {"all", "-1"}
        and int(chosen.get("max.in.flight", 1)) <= _IDEMPOTENT_IN_FLIGHT
        and int(chosen.get("retries", 1)) > 0
    )


def redact(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they may be shown: secrets as `***`, callbacks by their kind alone.

    Secret is what is named so (`password`, `secret`, `token`, `key`, `credential`, all of `sasl.*`) and a user with a
    password before the host of an address.

    Examples
    --------
    >>> redact({"bootstrap.servers": "localhost:9092", "sasl.password": "hunter2", "schema.registry": "https://me:pw@host"})
    {'bootstrap.servers': 'localhost:9092', 'sasl.password': '***', 'schema.registry': 'https://***@host'}
    """
    return {name: HIDDEN if _SECRET.search(name) else _shown(value) for name, value in settings.items()}


def scrub(text: str, settings: Mapping[str, Any]) -> str:
    """Return a text without the secrets of these settings: what a library says may quote them.

    Examples
    --------
    >>> scrub('Invalid value "hunter2"', {"ssl.key.password": "hunter2"})
    'Invalid value "***"'
    """
    for name, value in settings.items():
        if _SECRET.search(name) and not _COMMON_WORDS.search(name) and len(str(value)) >= _SHORTEST_SECRET:
            text = text.replace(str(value), HIDDEN)
    return _IN_ADDRESS.sub(HIDDEN, text)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return _IN_ADDRESS.sub(HIDDEN, value)
    if isinstance(value, dict):
        return redact(value)
    return value if isinstance(value, int | float | None) else f"<{type(value).__name__}>"
