from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.kafka.broker import (
    Broker,
    BrokerDiedError,
    NoTopicError,
    NotWrittenError,
    admin_of,
    consume_all,
    create_topic,
    produce,
)

ROOT = Path(__file__).parents[2]
JANUARY_2013 = 1_357_000_000_000
RECORDS = [(f"k{i % 7}".encode(), f"v{i}".encode(), JANUARY_2013 + i, None) for i in range(1000)]


@pytest.fixture(scope="module")
def broker(own_broker):
    return own_broker()


def values(broker: Broker, topic: str) -> list[bytes]:
    return sorted(message.value() or b"" for message in consume_all(broker.bootstrap, topic))


def until_refused(address: str, seconds: float = 30) -> bool:
    host, port = address.split(":")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            continue  # going down: no longer accepting, not yet refusing
    return False


def test_a_started_broker_names_itself_in_its_metadata_at_the_first_question(broker):
    metadata = admin_of(broker.bootstrap).list_topics(timeout=5)
    assert [f"{node.host}:{node.port}" for node in metadata.brokers.values()] == [broker.bootstrap]
    assert metadata.cluster_id == broker.cluster_id
    assert broker.running


@pytest.mark.parametrize("end", [Broker.kill, Broker.stop])
def test_records_are_there_at_the_same_address_after_an_end_and_a_start(broker, end):
    topic = create_topic(broker.bootstrap, "survives")
    produce(broker.bootstrap, topic, RECORDS)
    address = broker.bootstrap

    end(broker)
    assert not broker.running
    assert until_refused(address)
    broker.start()

    assert broker.bootstrap == address
    assert values(broker, topic) == sorted(value for _, value, _, _ in RECORDS)
    produce(broker.bootstrap, topic, [(b"k", b"written after", JANUARY_2013, None)])
    assert b"written after" in values(broker, topic)


def test_what_cannot_be_started_or_ended_says_why(own_broker):
    broker = own_broker()
    with pytest.raises(RuntimeError, match=r"is running; stop\(\) or kill\(\) it"):
        broker.start()
    broker.kill()
    with pytest.raises(BrokerDiedError, match="is not running"):
        broker.stop()
    with (broker.folder / "server.properties").open("a") as settings:
        settings.write("num.io.threads=many\n")
    with pytest.raises(BrokerDiedError, match=r"(?s)ended while starting.*num\.io\.threads"):
        broker.start()
    broker.close()
    assert not broker.folder.exists()


def test_settings_that_kafka_refuses_are_named(own_broker):
    with pytest.raises(BrokerDiedError, match=r"num\.io\.threads"):
        own_broker({"num.io.threads": "many"})


@pytest.fixture
def command_line(bootstrap, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kafka.broker"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address != bootstrap
        admin_of(address).list_topics(timeout=5)
        yield process, address
        process.kill()


def test_the_broker_ends_with_the_process_that_started_it_even_when_that_is_killed(command_line):
    process, address = command_line
    process.kill()
    assert until_refused(address)


def test_a_signal_ends_the_command_line_in_order(command_line, tmp_path):
    process, address = command_line
    assert list(tmp_path.glob("streamlab-kafka-*"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert until_refused(address)
    assert not list(tmp_path.glob("streamlab-kafka-*"))


def test_topics_have_the_shape_asked_for_and_names_of_their_own(bootstrap, topic):
    first, second = topic("shape", partitions=3), topic("shape", partitions=3)
    assert first != second
    assert first.startswith("shape-")
    known = admin_of(bootstrap).list_topics(timeout=5).topics
    assert len(known[first].partitions) == len(known[second].partitions) == 3


def test_records_come_back_as_they_were_written(bootstrap, topic):
    name = topic("as-written")
    written = [
        (b"a", b"1", JANUARY_2013, 3),
        (None, b"2", JANUARY_2013 - 5, 3),
        (b"a", None, JANUARY_2013, 0),
        (b"", b"", JANUARY_2013, 0),
    ]
    assert produce(bootstrap, name, written) == 4
    read = [(m.key(), m.value(), m.timestamp()[1], m.partition()) for m in consume_all(bootstrap, name)]
    assert read == written[2:] + written[:2]


def test_a_key_goes_to_the_partition_that_java_clients_choose(bootstrap, topic):
    name = topic("by-key")
    produce(bootstrap, name, [(b"21", b"x", JANUARY_2013, None)])
    # murmur2("21") = -973932308, from Kafka's own UtilsTest; the sign bit is dropped, then modulo 4
    assert [message.partition() for message in consume_all(bootstrap, name)] == [(-973932308 & 0x7FFFFFFF) % 4]


def test_an_empty_topic_is_read_at_once(bootstrap, topic):
    assert consume_all(bootstrap, topic("empty")) == []


def test_reading_ends_behind_the_markers_of_transactions_and_leaves_aborted_records_out(bootstrap, topic):
    name = topic("transactions", partitions=1)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    producer.init_transactions()
    for value, finish in ((b"kept", producer.commit_transaction), (b"dropped", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush()
        finish()
    assert [message.value() for message in consume_all(bootstrap, name)] == [b"kept"]
    assert [m.value() for m in consume_all(bootstrap, name, "read_uncommitted")] == [b"kept", b"dropped"]


def test_a_misspelt_topic_is_an_error_that_names_what_there_is(bootstrap, topic):
    name = topic("spelt")
    with pytest.raises(NoTopicError, match=name):
        consume_all(bootstrap, "speld")
    with pytest.raises(NoTopicError, match=name):
        produce(bootstrap, "speld", RECORDS)


def test_records_that_the_broker_refuses_are_counted(bootstrap, topic):
    name = topic("small", config={"max.message.bytes": "1000"})
    noise = os.urandom(5000)
    with pytest.raises(NotWrittenError, match=r"1 of 2 records did not reach .*b'big'.*too large"):
        produce(bootstrap, name, [(b"small", b"x", JANUARY_2013, 0), (b"big", noise, JANUARY_2013, 1)])
    with pytest.raises(NotWrittenError, match="timestamp 0"):
        produce(bootstrap, name, [(b"k", b"v", 0, None)])
