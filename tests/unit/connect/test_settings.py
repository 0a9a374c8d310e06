from __future__ import annotations

import ctypes
import functools
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from streamlab.connect.librdkafka import library
from streamlab.connect.setting_names import ALIASES, CONSUMER_ONLY, PRODUCER_ONLY, SHARED
from streamlab.connect.settings import (
    LOGGER,
    admin_settings,
    check_settings,
    consumer_settings,
    producer_settings,
    redact,
    scrub,
)
from streamlab.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CANARY = "canary-7f3a9"

# they are no values to be set, or change what the test looks at
INTERNAL = {"builtin.features", "enabled_events", "enable_sasl_queue", "log.queue", "ssl.ca.certificate.stores"}

# settings of topics, which librdkafka does not list with the others
OF_TOPICS = {
    "acks": "all",
    "auto.offset.reset": "error",
    "compression.level": "-1",
    "consume.callback.max.messages": "1",
    "message.timeout.ms": "1000",
    "partitioner": "random",
    "request.timeout.ms": "1000",
}


class Lines:
    """Takes the log of a client."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def log(self, _level: int, _form: str, _kind: str, _client: str, text: str) -> None:
        self.texts.append(text)

    def complaints(self) -> list[str]:
        return [text for text in self.texts if "No `bootstrap.servers`" not in text]


def said_by(
    make: Callable[[dict[str, Any]], Consumer | Producer | AdminClient], settings: Mapping[str, Any]
) -> list[str]:
    lines = Lines()
    client = make({**settings, "logger": lines})
    client.poll(0)
    if isinstance(client, Consumer):
        client.close()
    return lines.complaints()


def known_to_librdkafka() -> dict[str, Any]:
    calls, count = library(), ctypes.c_size_t()
    calls.rd_kafka_conf_dump.restype = ctypes.POINTER(ctypes.c_char_p)
    calls.rd_kafka_conf_dump.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t))
    conf = calls.rd_kafka_conf_new()
    found = calls.rd_kafka_conf_dump(conf, ctypes.byref(count))
    pairs = {found[i].decode(): (found[i + 1] or b"").decode() for i in range(0, count.value, 2)}
    calls.rd_kafka_conf_destroy(conf)
    booleans = {"true": True, "false": False}  # confluent-kafka takes one of them as a bool only
    return {
        name: booleans.get(value, value)
        for name, value in pairs.items()
        if value and not name.endswith("_cb") and name not in INTERNAL
    }


def warned(texts: list[str], kind: str) -> set[str]:
    return set(re.findall(rf"property (\S+) is a {kind} property", "\n".join(texts)))


def names(settings: Mapping[str, Any]) -> set[str]:
    return set(settings) - {"logger"}


def test_librdkafka_warns_about_exactly_the_names_that_are_kept_from_each_client():
    defaults = known_to_librdkafka() | OF_TOPICS
    assert len(defaults) > 80
    for_consumers = warned(said_by(Producer, defaults), "consumer")
    for_producers = warned(said_by(Consumer, {**defaults, "group.id": "g"}), "producer")
    assert len(for_consumers) > 20
    assert len(for_producers) > 10
    assert for_consumers <= CONSUMER_ONLY
    assert for_producers <= PRODUCER_ONLY
    shared = set(defaults) - CONSUMER_ONLY - PRODUCER_ONLY
    assert not shared & (for_consumers | for_producers)


def test_no_name_is_in_two_sets_and_an_alias_is_for_the_client_of_its_setting():
    assert not CONSUMER_ONLY & PRODUCER_ONLY
    assert not SHARED & (CONSUMER_ONLY | PRODUCER_ONLY)
    for kind in (CONSUMER_ONLY, PRODUCER_ONLY):
        assert all((alias in kind) == (name in kind) for alias, name in ALIASES.items())


@pytest.mark.parametrize("user", [{}, {"group.protocol": "consumer"}])
def test_a_consumer_takes_its_defaults_without_a_word(user):
    assert said_by(Consumer, consumer_settings(user, group="g")) == []


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"acks": 1},
        {"request.required.acks": "0"},
        {"max.in.flight": 50},
        {"retries": 0},
        {"message.send.max.retries": 0},
    ],
)
def test_a_producer_takes_its_defaults_beside_what_the_user_chose(user):
    settings = producer_settings(user)
    assert settings["enable.idempotence"] is (not user)
    assert said_by(Producer, settings) == []


def test_a_transactional_producer_waits_little_between_transactions():
    settings = producer_settings({}, transactional_id="delays-0")
    assert settings["transactional.id"] == "delays-0"
    assert (settings["retry.backoff.ms"], settings["transaction.timeout.ms"]) == (5, 15_000)
    assert said_by(Producer, settings) == []
    assert "retry.backoff.ms" not in producer_settings({})
    assert producer_settings({"retry.backoff.ms": 50}, transactional_id="x")["retry.backoff.ms"] == 50


def test_an_admin_client_takes_its_defaults_without_a_word():
    assert said_by(AdminClient, admin_settings({})) == []


def test_the_users_word_wins_over_a_default_under_either_name_of_a_setting():
    settings = consumer_settings({"max.partition.fetch.bytes": 1000, "isolation.level": "read_uncommitted"}, group="g")
    assert settings["fetch.message.max.bytes"] == 1000
    assert "max.partition.fetch.bytes" not in settings
    assert settings["isolation.level"] == "read_uncommitted"
    settings = producer_settings({"queue.buffering.max.ms": 77, "compression.codec": "zstd", "partitioner": "fnv1a"})
    assert (settings["linger.ms"], settings["compression.type"], settings["partitioner"]) == (77, "zstd", "fnv1a")


def test_a_setting_goes_only_to_the_clients_that_know_it():
    user = {"linger.ms": 1, "fetch.min.bytes": 2, "security.protocol": "SSL", "stats_cb": print}
    assert {"security.protocol", "stats_cb", "fetch.min.bytes"} <= names(consumer_settings(user, group="g"))
    assert "linger.ms" not in consumer_settings(user, group="g")
    assert {"security.protocol", "stats_cb", "linger.ms"} <= names(producer_settings(user))
    assert "fetch.min.bytes" not in producer_settings(user)
    assert not {"linger.ms", "fetch.min.bytes"} & names(admin_settings(user))


def test_the_users_mapping_is_left_as_it_was():
    user = {"linger.ms": 1, "max.partition.fetch.bytes": 1000}
    consumer_settings(user, group="g")
    producer_settings(user)
    assert user == {"linger.ms": 1, "max.partition.fetch.bytes": 1000}


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("enable.auto.commit", True, "once a checkpoint"),
        ("auto.commit.enable", "false", "once a checkpoint"),
        ("enable.auto.offset.store", True, "checkpoint"),
        ("auto.offset.reset", "earliest", "start="),
        ("group.id", "mine", "name="),
        ("transactional.id", "mine", "remove it"),
        ("default.topic.config", {"acks": 1}, "beside the others"),
        ("logger", logging.getLogger(), "streamlab.kafka"),
    ],
)
@pytest.mark.parametrize("build", [functools.partial(consumer_settings, group="g"), producer_settings, admin_settings])
def test_what_would_break_the_engine_is_refused_with_the_reason_and_the_valid_way(build, name, value, valid):
    with pytest.raises(PlanError, match="cannot be set") as refused:
        build({name: value})
    assert repr(name) in str(refused.value)
    assert valid in str(refused.value)


@pytest.mark.parametrize("name", ["plugin.library.paths", "ssl.engine.location", "sasl.kerberos.kinit.cmd"])
@pytest.mark.parametrize("build", [functools.partial(consumer_settings, group="g"), producer_settings, admin_settings])
def test_what_runs_code_is_refused_from_a_file_only(build, name):
    with pytest.raises(PlanError, match=f"{name}.*refused from a file"):
        build({name: "/tmp/x"}, from_file=True)  # noqa: S108  # no file is made
    assert build({name: "x"})[name] == "x"


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"lingr.ms": 5}, "No such configuration property: \"lingr.ms\".*Did you mean 'linger.ms'?"),
        ({"fetch.max.byte": 5}, "Did you mean 'fetch.max.bytes'?"),
        ({"security.protocoll": "SSL"}, "Did you mean 'security.protocol'?"),
        ({"zzz": 5}, 'No such configuration property: "zzz".$'),
        ({"linger.ms": "soon"}, "Kafka setting 'linger.ms': Invalid value"),
        ({"acks": 5000}, "outside allowed range -1..1000"),
        ({"compression.type": "lzma"}, 'Invalid value "lzma"'),
    ],
)
def test_what_librdkafka_does_not_take_is_said_in_its_words_with_the_near_miss(user, message):
    with pytest.raises(PlanError, match=message):
        check_settings(user)


def test_a_boolean_may_be_written_in_python():
    check_settings({"enable.idempotence": True, "socket.keepalive.enable": False})


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password", "sasl.username", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "ssl.key.password",
        "ssl.key.pem", "ssl.key.location", "ssl_key", "ssl.keystore.password", "schema.registry.basic.auth.user.info",
        "api_token", "SASL.PASSWORD",
    ],
)  # fmt: skip
def test_secrets_are_hidden_by_their_names(name):
    assert redact({name: CANARY}) == {name: "***"}


def test_secrets_inside_other_values_are_hidden_and_the_rest_is_shown():
    shown = redact(
        {
            "bootstrap.servers": "a:1,b:2",
            "socket.keepalive.enable": True,
            "partition.assignment.strategy": "cooperative-sticky",
            "linger.ms": 5,
            "schema.registry.url": f"https://me:{CANARY}@registry/path",
            "oauth_cb": functools.partial(print, CANARY),
            "stats_cb": functools.partial(print, CANARY),
            "nested": {"sasl.password": CANARY, "linger.ms": 1},
            "ssl_ca": None,
        }
    )
    assert CANARY not in repr(shown)
    assert shown["bootstrap.servers"] == "a:1,b:2"
    assert shown["socket.keepalive.enable"] is True
    assert shown["partition.assignment.strategy"] == "cooperative-sticky"
    assert shown["linger.ms"] == 5
    assert shown["schema.registry.url"] == "https://***@registry/path"
    assert shown["stats_cb"] == "<partial>"
    assert shown["nested"] == {"sasl.password": "***", "linger.ms": 1}


def test_a_message_loses_secrets_but_not_common_words():
    settings = {"sasl.password": CANARY, "sasl.mechanism": "PLAIN", "ssl.key.password": "", "linger.ms": 10}
    text = f"SASL PLAIN failed for {CANARY} at https://u:{CANARY}@h after 10 ms"
    assert scrub(text, settings) == "SASL PLAIN failed for *** at https://***@h after 10 ms"


def test_a_refused_value_is_not_quoted_where_it_is_a_secret():
    with pytest.raises(PlanError) as refused:
        check_settings(
            {"sasl.oauthbearer.assertion.algorithm": "ES256", "enable.sasl.oauthbearer.unsecure.jwt": CANARY}
        )
    assert CANARY not in str(refused.value)


def test_clients_write_to_one_logger_that_prints_nothing_by_itself():
    assert LOGGER.name == "streamlab.kafka"
    assert any(isinstance(handler, logging.NullHandler) for handler in LOGGER.handlers)
    for settings in (consumer_settings({}, group="g"), producer_settings({}), admin_settings({})):
        assert settings["logger"] is LOGGER
