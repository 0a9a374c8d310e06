from __future__ import annotations

import logging
import re
import socket
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from streamlab.connect.cluster import Cluster
from streamlab.connect.partitioner import NO_PARTITION, partitions_of
from streamlab.connect.records import RECORDS, TOPICS
from streamlab.connect.settings import consumer_settings, producer_settings
from streamlab.errors import BrokerError, PlanError, UnknownTopicError
from tests.kafka.broker import Broker, UnavailableError, consume_all, produce

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.kafka.conftest import OwnBroker

JANUARY_2013 = 1_357_000_000_000
CANARY = "canary-7f3a9"


@pytest.fixture
def cluster(bootstrap: str) -> Cluster:
    return Cluster(bootstrap)


def utc(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def numbered(numbers: Iterable[int], partitions: int = 1) -> list[tuple[bytes, bytes, int, int]]:
    return [(b"k%d" % i, b"v%d" % i, JANUARY_2013 + i, i % partitions) for i in numbers]


def transactional(cluster: Cluster, topic: str) -> Producer:
    writer = Producer(producer_settings(cluster.settings, transactional_id=f"writer-of-{topic}"))
    writer.init_transactions(20)
    return writer


def write(writer: Producer, topic: str, numbers: Iterable[int]) -> None:
    writer.begin_transaction()
    for i in numbers:
        writer.produce(topic, b"v%d" % i, b"k", 0, timestamp=JANUARY_2013 + i)
    writer.flush(20)


# topics


def test_a_cluster_says_its_identity_brokers_and_topics(cluster, bootstrap, topic):
    name = topic("known", 7)
    found = cluster.metadata()
    assert found.brokers == (bootstrap,)
    assert found.topics[name] == cluster.partitions(name) == 7
    assert (
        found.cluster_id == cluster.cluster_id() == AdminClient({"bootstrap.servers": bootstrap}).cluster_id(timeout=10)
    )


def test_a_missing_topic_is_an_error_with_the_near_miss_and_is_not_made_by_asking(cluster, topic):
    name = topic("flights")
    for ask in (cluster.partitions, cluster.watermarks, cluster.peek, cluster.newest):
        with pytest.raises(UnknownTopicError, match=f"Did you mean '{name}'"):
            ask(name[:-1])
    assert name[:-1] not in cluster.metadata().topics


def test_a_topic_is_made_with_its_settings_and_once_only(cluster, bootstrap, topic):
    name, admin = topic("x") + "-made", AdminClient({"bootstrap.servers": bootstrap})
    try:
        assert cluster.create_topic(name, 3, {"cleanup.policy": "compact", "retention.ms": "-1"}) == 3
        assert cluster.watermarks(name) == {0: (0, 0), 1: (0, 0), 2: (0, 0)}  # at once
        assert cluster.create_topic(name, 9) == 3
        resource = ConfigResource(ResourceType.TOPIC, name)
        config = admin.describe_configs([resource])[resource].result()
        assert (config["cleanup.policy"].value, config["retention.ms"].value) == ("compact", "-1")
    finally:
        admin.delete_topics([name])[name].result()


@pytest.mark.parametrize(
    ("name", "partitions", "config", "reason"),
    [
        ("a b", 1, {}, "Topic name is invalid"),
        ("fine", 0, {}, "invalid non-positive value"),
        ("fine", 1, {"no.such": "1"}, "Unknown topic config name: no.such"),
        ("fine", 1, {"retention.ms": "soon"}, "Invalid value soon"),
    ],
)
def test_what_the_broker_refuses_to_make_is_said_in_its_words(cluster, name, partitions, config, reason):
    with pytest.raises(BrokerError, match=reason) as refused:
        cluster.create_topic(name, partitions, config)
    assert f"cannot create topic '{name}' with {partitions} partitions at {cluster.bootstrap}" in str(refused.value)


def test_topics_are_listed_with_records_and_times_and_without_kafkas_own(cluster, bootstrap, topic):
    empty, full = topic("a-empty", 2), topic("b-full", 3)
    produce(bootstrap, full, numbered(range(100), 3))
    with_offsets = Consumer(consumer_settings(cluster.settings, group=full))  # so that __consumer_offsets is there
    with_offsets.commit(offsets=[TopicPartition(full, 0, 1)], asynchronous=False)
    with_offsets.close()
    assert "__consumer_offsets" in cluster.metadata().topics
    found = cluster.topics()
    assert found.schema == TOPICS
    rows = {row[0]: row for row in found.rows()}
    assert rows[empty] == (empty, 2, 0, None, None)
    assert rows[full] == (full, 3, 100, utc(JANUARY_2013), utc(JANUARY_2013 + 99))
    assert not any(name.startswith("__") for name in rows)
    assert list(rows) == sorted(rows)


def test_hundreds_of_partitions_are_listed_in_seconds(cluster, bootstrap, topic):
    wide = topic("wide", 300)
    produce(bootstrap, wide, numbered(range(30_000), 300))
    began = time.monotonic()
    row = cluster.topics().filter(name=wide).row(0)
    assert time.monotonic() - began < 15
    assert row == (wide, 300, 30_000, utc(JANUARY_2013), utc(JANUARY_2013 + 29_999))
    assert cluster.peek(wide, 50)["value"].to_list() == [f"v{i}" for i in range(29_950, 30_000)]


# offsets


def test_offsets_of_a_time_come_from_the_broker(cluster, bootstrap, topic):
    name = topic("timed", 2)
    produce(bootstrap, name, [(None, b"x", JANUARY_2013 + 10 * i, i % 2) for i in range(20)])
    assert cluster.offsets_for_time(name, JANUARY_2013 + 100) == {0: 5, 1: 5}
    assert cluster.offsets_for_time(name, JANUARY_2013 + 101) == {0: 6, 1: 5}
    assert cluster.offsets_for_time(name, -5) == {0: 0, 1: 0}
    assert cluster.offsets_for_time(name, JANUARY_2013 + 9999) == {0: 10, 1: 10}
    assert cluster.newest(name) == JANUARY_2013 + 190


def test_deleted_records_are_an_error_that_says_how_many_are_lost(cluster, bootstrap, topic):
    name = topic("cut", 1)
    produce(bootstrap, name, numbered(range(100)))
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for deleted in admin.delete_records([TopicPartition(name, 0, 40)]).values():
        deleted.result()
    assert cluster.watermarks(name) == {0: (40, 100)}
    assert cluster.dropped(name) == {0: 40}
    cluster.require_offsets(name, {0: 40})
    with pytest.raises(BrokerError, match=r"offset 7 is gone; 33 records are lost: retention deleted them.*40 to 100"):
        cluster.require_offsets(name, {0: 7})
    assert cluster.peek(name, 1000)["offset"].to_list() == list(range(40, 100))
    assert cluster.offsets_for_time(name, JANUARY_2013) == {0: 40}


# transactions and gaps


def test_an_unfinished_transaction_is_not_seen_but_counts_where_asked_for(cluster, topic):
    name = topic("open", 1)
    writer = transactional(cluster, name)
    write(writer, name, range(3))
    writer.commit_transaction(20)
    write(writer, name, range(3, 5))  # offset 3 is the marker
    try:
        assert cluster.watermarks(name) == {0: (0, 4)}
        assert cluster.watermarks(name, uncommitted=True) == {0: (0, 6)}
        assert cluster.peek(name)["value"].to_list() == ["v0", "v1", "v2"]
        assert cluster.newest(name) == JANUARY_2013 + 2
        everything = Cluster(cluster.bootstrap, {"isolation.level": "read_uncommitted"})
        assert everything.peek(name)["value"].to_list() == [f"v{i}" for i in range(5)]
        assert everything.watermarks(name) == {0: (0, 6)}
    finally:
        writer.abort_transaction(20)


def test_behind_markers_and_aborted_records_the_newest_are_found_all_the_same(cluster, topic):
    name = topic("gaps", 1)
    writer = transactional(cluster, name)
    for i in range(30):  # a marker after each record
        write(writer, name, [i])
        writer.commit_transaction(20)
    write(writer, name, range(1000, 1500))
    writer.abort_transaction(20)
    assert cluster.watermarks(name) == {0: (0, 561)}
    assert cluster.peek(name, 7)["value"].to_list() == [f"v{i}" for i in range(23, 30)]
    assert cluster.peek(name, 100)["value"].to_list() == [f"v{i}" for i in range(30)]
    assert cluster.newest(name) == JANUARY_2013 + 29
    row = cluster.topics().filter(name=name).row(0)
    assert row == (name, 1, 561, utc(JANUARY_2013), utc(JANUARY_2013 + 29))


def test_a_topic_of_aborted_records_alone_is_empty_to_look_at(cluster, topic):
    name = topic("aborted", 1)
    writer = transactional(cluster, name)
    write(writer, name, range(10))
    writer.abort_transaction(20)
    found = cluster.peek(name)
    assert (found.schema, found.height) == (RECORDS, 0)
    assert cluster.newest(name) is None
    assert cluster.sample(name, 5) == []
    assert cluster.topics().filter(name=name).row(0) == (name, 1, 11, None, None)


@pytest.fixture(scope="module")
def broker(own_broker: OwnBroker) -> Broker:
    return own_broker({"log.cleaner.backoff.ms": "50"})


def test_what_compaction_removed_is_stepped_over(broker):
    with_gaps = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.001",
        "segment.ms": "100",
        "retention.ms": "-1",
    }
    cluster = Cluster(broker.bootstrap)
    cluster.create_topic("compacted", 1, with_gaps)
    now = int(time.time() * 1000)
    deadline, filler = time.monotonic() + 60, 0
    produce(broker.bootstrap, "compacted", [(b"k%d" % (i % 3), b"v%d" % i, now + i, 0) for i in range(300)])
    while len(consume_all(broker.bootstrap, "compacted")) >= 300:
        assert time.monotonic() < deadline, "the broker compacted nothing"
        filler += 1  # a new segment lets the one before be compacted
        produce(broker.bootstrap, "compacted", [(b"filler", b"f", now + 1000 + filler, 0)])
    assert cluster.watermarks("compacted") == {0: (0, 300 + filler)}
    values = cluster.peek("compacted", 1000)["value"].to_list()
    assert [value for value in values if value != "f"] == ["v297", "v298", "v299"]
    first = cluster.topics().filter(name="compacted")["oldest"].item()
    assert first == utc(now + 297)


# looking leaves no trace


def test_looking_joins_no_group_and_commits_nothing(bootstrap, topic):
    name = topic("seen", 4)
    produce(bootstrap, name, numbered(range(100), 4))
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def groups() -> set[str]:
        return {group.group_id for group in admin.list_consumer_groups().result().valid}

    before, cluster = groups(), Cluster(bootstrap)
    cluster.peek(name)
    cluster.topics()
    cluster.sample(name, 10)
    cluster.offsets_for_time(name, JANUARY_2013)
    assert groups() == before


# keys


def test_a_keyed_record_lands_where_our_murmur2_says(cluster, topic):
    name, count = topic("keyed", 7), 7
    keys = [b"21", b"foobar", b"abc", b"", b"\xff" * 9, *(b"key-%d" % i for i in range(500))]
    sent = Producer(producer_settings(cluster.settings))
    for key in keys:
        sent.produce(name, key, key, timestamp=JANUARY_2013)
    assert sent.flush(20) == 0
    found = {message.value() or b"": message.partition() for message in consume_all(cluster.bootstrap, name)}
    assert [found[key] for key in keys] == partitions_of(keys, count).tolist()


def test_records_without_a_key_are_spread(cluster, topic):
    name = topic("keyless", 4)
    sent = Producer(producer_settings({**cluster.settings, "sticky.partitioning.linger.ms": 0}))
    for i in range(400):
        sent.produce(name, b"%d" % i, timestamp=JANUARY_2013)
    assert sent.flush(20) == 0
    assert {message.partition() for message in consume_all(cluster.bootstrap, name)} == {0, 1, 2, 3}
    assert set(partitions_of([None] * 3, 4).tolist()) == {NO_PARTITION}


# refusals


@pytest.mark.parametrize(
    ("user", "advice"),
    [
        ({"security.protocol": "SSL"}, 'The broker speaks no TLS there: set security.protocol to "PLAINTEXT"'),
        (
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "me",
                "sasl.password": CANARY,
            },
            "Check security.protocol, sasl.mechanism",
        ),
    ],
)
def test_a_wrong_protocol_is_recognised_at_once(bootstrap, user, advice, capfd):
    began = time.monotonic()
    with pytest.raises(BrokerError, match=advice) as refused:
        Cluster(bootstrap, user).metadata()
    assert time.monotonic() - began < 5
    assert bootstrap in str(refused.value)
    assert CANARY not in str(refused.value)
    assert capfd.readouterr().err == ""


@pytest.fixture(scope="module")
def guarded(bootstrap: str, pytestconfig: pytest.Config) -> Iterator[str]:  # skips where no broker can be had
    """Start a broker that wants a login, and return where."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        plain, login, controller = (each.getsockname()[1] for each in sockets)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    listeners = f"PLAINTEXT://127.0.0.1:{plain},GUARDED://127.0.0.1:{login}"
    settings = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": f'{module} required user_me="{CANARY}";',
    }
    try:
        broker = Broker(plain, settings)
    except UnavailableError as error:
        if pytestconfig.getoption("require_kafka"):
            raise
        pytest.skip(f"no Apache Kafka here: {error}")
    with broker:
        yield f"127.0.0.1:{login}"


def login_with(password: str) -> dict[str, str]:
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": password,
    }


def test_a_right_login_is_let_in(guarded):
    cluster = Cluster(guarded, login_with(CANARY))
    assert cluster.create_topic("flights", 2, {"retention.ms": "-1"}) == 2
    assert cluster.peek("flights").height == 0


@pytest.mark.parametrize("user", [login_with("wrong-" + CANARY), {}])
def test_a_wrong_login_is_recognised_and_the_password_not_shown(guarded, user, capfd, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(BrokerError) as refused:
        Cluster(guarded, user).metadata(timeout=3)
    assert re.search(
        "Authentication failed: Invalid username or password" if user else "Disconnected", str(refused.value)
    )
    assert "sasl.password" in str(refused.value) if user else "login" in str(refused.value)
    assert CANARY not in str(refused.value) + caplog.text
    assert capfd.readouterr().err == ""


def test_a_broker_that_restarts_is_found_again(broker):
    cluster = Cluster(broker.bootstrap)
    cluster.create_topic("lasting", 1, {"retention.ms": "-1"})
    produce(broker.bootstrap, "lasting", numbered(range(3)))
    broker.kill()
    with pytest.raises(BrokerError, match="Connection refused"):
        cluster.metadata(timeout=0.5)
    broker.start()
    assert cluster.peek("lasting")["value"].to_list() == ["v0", "v1", "v2"]


def test_nothing_is_logged_above_debug_when_all_is_well(cluster, bootstrap, topic, caplog, capfd):
    name = topic("quiet", 2)
    produce(bootstrap, name, numbered(range(10), 2))
    with caplog.at_level(logging.INFO, "streamlab.kafka"):
        cluster.peek(name)
        cluster.watermarks(name)
    assert [record for record in caplog.records if record.name == "streamlab.kafka"] == []
    assert capfd.readouterr().err == ""


def test_a_setting_that_is_refused_shows_no_secret(bootstrap):
    with pytest.raises(PlanError) as refused:
        Cluster(bootstrap, {"security.protocol": "SSL", "ssl.key.pem": CANARY}).metadata()
    assert CANARY not in str(refused.value)
