from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamlab.connect import embedded
from streamlab.connect.cluster import Cluster
from streamlab.connect.embedded import AUTO_PARTITIONS, CAPACITY, CLIENT_SETTINGS, LIMITS, EmbeddedBroker
from streamlab.connect.settings import consumer_settings, producer_settings
from streamlab.errors import BrokerError, PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Message

RANDOM = os.urandom(60_000)  # nothing shrinks it


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def producer(broker: EmbeddedBroker, **settings: Any) -> Producer:
    named = {name.replace("_", "."): value for name, value in settings.items()}
    return Producer(producer_settings({**named, "bootstrap.servers": broker.bootstrap}))


@contextmanager
def consumer(broker: EmbeddedBroker, group: str = "g", **settings: Any) -> Iterator[Consumer]:
    user = {**CLIENT_SETTINGS, **settings, "bootstrap.servers": broker.bootstrap}
    with closing(Consumer({**consumer_settings(user, group=group), "enable.partition.eof": True})) as opened:
        yield opened


def until_end(opened: Consumer) -> list[Message]:
    """Return what comes before the first end of a partition."""
    found: list[Message] = []
    while True:
        for message in opened.consume(100, 0.05):
            if (error := message.error()) is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
            else:
                raise KafkaException(error)


def test_a_broker_has_the_topics_it_is_made_with(broker):
    with EmbeddedBroker({"flights": 6, "weather": 1}) as other:
        assert dict(other.topics) == {"flights": 6, "weather": 1}
        found = AdminClient({"bootstrap.servers": other.bootstrap}).list_topics(timeout=5).topics
        assert {name: len(topic.partitions) for name, topic in found.items()} == {"flights": 6, "weather": 1}
    assert other.bootstrap != broker.bootstrap


def test_it_listens_on_loopback_alone(broker):
    assert broker.bootstrap.startswith("127.0.0.1:")


def test_records_keep_their_key_headers_timestamp_and_order(broker):
    broker.create_topic("flights", 2)
    sent = producer(broker)
    for i in range(100):
        sent.produce(
            "flights", b"%d" % i, b"AA", 1, timestamp=1_357_000_000_000 + i, headers=[("h", b"\xff"), ("h", None)]
        )
    assert sent.flush(10) == 0
    with consumer(broker) as opened:
        opened.assign([TopicPartition("flights", 1, 0)])
        found = until_end(opened)
    assert [message.value() for message in found] == [b"%d" % i for i in range(100)]
    assert [message.timestamp()[1] for message in found] == [1_357_000_000_000 + i for i in range(100)]
    assert {message.key() for message in found} == {b"AA"}
    assert found[0].headers() == [("h", b"\xff"), ("h", None)]


def test_making_a_topic_again_changes_nothing_but_another_size_is_refused(broker):
    broker.create_topic("flights", 3)
    broker.create_topic("flights", 3)
    with pytest.raises(PlanError, match=r"'flights': 5 partitions are asked for, but it has 3.*Use 3, or another name"):
        broker.create_topic("flights", 5)
    assert dict(broker.topics) == {"flights": 3}


def test_a_topic_that_a_client_makes_by_writing_to_it_has_the_documented_size(broker):
    sent = producer(broker)
    sent.produce("made.by.writing", b"x")
    assert sent.flush(10) == 0
    assert len(sent.list_topics(timeout=5).topics["made.by.writing"].partitions) == AUTO_PARTITIONS
    assert dict(broker.topics) == {}
    broker.create_topic("made.by.writing", AUTO_PARTITIONS)
    with pytest.raises(PlanError, match=f"but it has {AUTO_PARTITIONS}"):
        broker.create_topic("made.by.writing", AUTO_PARTITIONS + 1)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "flüge", ".", "..", "x" * 250, "a\n", "a\0b"])
def test_a_name_that_no_kafka_takes_is_refused_here_too(broker, name):
    with pytest.raises(PlanError, match="a name has 1 to 249"):
        broker.create_topic(name, 1)


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_topic_has_at_least_one_partition(broker, partitions):
    with pytest.raises(PlanError, match=f"{partitions} partitions; a topic has at least 1"):
        broker.create_topic("flights", partitions)


def test_offsets_are_committed_with_metadata_without_joining_and_read_back(broker):
    broker.create_topic("flights", 3)
    with consumer(broker) as opened:
        opened.assign([TopicPartition("flights", 0, 0)])
        opened.commit(offsets=[TopicPartition("flights", 1, 7, "checkpoint-ü")], asynchronous=False)
    with consumer(broker) as opened:
        found = opened.committed([TopicPartition("flights", p) for p in range(3)], timeout=5)
    assert [(at.offset, at.metadata) for at in found] == [(-1001, None), (7, "checkpoint-ü"), (-1001, None)]


def test_joining_a_group_does_not_wait_for_members_that_never_come(broker):
    broker.create_topic("flights", 1)
    sent = producer(broker)
    sent.produce("flights", b"x")
    sent.flush(10)
    joined = threading.Event()
    with consumer(broker) as opened:
        opened.subscribe(["flights"], on_assign=lambda _consumer, _partitions: joined.set())
        for _ in range(20):
            opened.consume(1, 0.1)
            if joined.is_set():
                break
    assert joined.is_set()  # within two seconds; three would have been waited for


def test_once_a_group_had_a_member_it_takes_no_commits_from_others(broker):
    # what the notes of the module say; if this fails, librdkafka has changed and they are to be changed too
    broker.create_topic("flights", 1)
    with consumer(broker) as member:
        member.subscribe(["flights"])
        while not member.assignment():
            member.consume(1, 0.1)
    with consumer(broker) as other, pytest.raises(KafkaException, match="UNKNOWN_MEMBER_ID"):
        other.commit(offsets=[TopicPartition("flights", 0, 1)], asynchronous=False)


def test_a_partition_keeps_the_newest_five_mebibytes_and_loss_shows_in_its_first_offset(broker):
    broker.create_topic("flights", 1)
    sent = producer(broker, linger_ms=0, batch_size=1, compression_type="none")
    cluster = Cluster(broker.bootstrap)
    whole = CAPACITY // (len(RANDOM) + 100)  # a batch of one record has less than 100 bytes more
    for _ in range(whole):
        sent.produce("flights", RANDOM, partition=0)
        sent.flush(10)
    assert cluster.watermarks("flights") == {0: (0, whole)}
    assert cluster.dropped("flights") == {}
    for _ in range(3):
        sent.produce("flights", RANDOM, partition=0)
        sent.flush(10)
    ((low, high),) = cluster.watermarks("flights").values()
    assert high == whole + 3
    assert 1 <= low <= 3
    assert (high - low) * len(RANDOM) <= CAPACITY
    assert cluster.dropped("flights") == {0: low}


def test_compressed_records_take_less_of_the_capacity(broker):
    broker.create_topic("flights", 1)
    sent = producer(broker)
    for i in range(100_000):
        sent.produce("flights", b'{"carrier": "AA", "dep_delay": %d, "origin": "JFK", "dest": "LAX", "year": 2013}' % i)
    assert sent.flush(30) == 0
    assert Cluster(broker.bootstrap).watermarks("flights") == {0: (0, 100_000)}  # 8 MB as they were


@pytest.fixture
def overflown(broker: EmbeddedBroker) -> EmbeddedBroker:
    broker.create_topic("flights", 2)
    sent = producer(broker, linger_ms=0, batch_size=1, compression_type="none")
    for _ in range(CAPACITY // len(RANDOM) + 5):
        sent.produce("flights", RANDOM, partition=0)
    sent.flush(30)
    return broker


def test_reading_on_at_a_dropped_offset_is_an_error_that_says_what_is_lost_and_why(overflown):
    cluster = Cluster(overflown.bootstrap)
    ((_, (low, high)), _) = cluster.watermarks("flights").items()
    cluster.require_offsets("flights", {0: low, 1: 0})
    with pytest.raises(BrokerError) as gone:
        cluster.require_offsets("flights", {0: 1, 1: 0})
    assert str(gone.value) == (
        f"flights partition 0: offset 1 is gone; {low - 1} records are lost: the embedded broker keeps 5 MiB of each partition, "
        f"as sent, and drops the oldest. More partitions hold more, an Apache Kafka holds all. It holds {low} to {high}."
    )


def test_a_consumer_with_our_settings_never_jumps_over_what_was_dropped(overflown):
    with consumer(overflown) as opened:
        opened.assign([TopicPartition("flights", 0, 0)])
        (first,) = opened.consume(1, 10)
    error = first.error()
    assert error is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET


def test_transactions_are_accepted_but_not_honoured_which_is_why_exactly_once_is_refused(broker):
    broker.create_topic("out", 1)
    writer = Producer(producer_settings({"bootstrap.servers": broker.bootstrap}, transactional_id="t"))
    writer.init_transactions(10)
    writer.begin_transaction()
    writer.produce("out", b"aborted")
    writer.flush(10)
    writer.abort_transaction(10)
    with consumer(broker) as opened:
        writer.begin_transaction()
        group = opened.consumer_group_metadata()
        writer.send_offsets_to_transaction([TopicPartition("out", 0, 1)], group, 10)
        writer.commit_transaction(10)
        (at,) = opened.committed([TopicPartition("out", 0)], timeout=5)
        opened.assign([TopicPartition("out", 0, 0)])
        seen = [message.value() for message in until_end(opened)]
    assert (seen, at.offset) == ([b"aborted"], -1001)
    with pytest.raises(PlanError, match=r"cannot do exactly-once: .*aborted.*Use an Apache Kafka") as refused:
        broker.refuse("exactly-once")
    assert LIMITS["exactly-once"] in str(refused.value)


def test_every_limit_can_be_named_and_a_misspelt_one_gets_the_near_miss(broker):
    for what in LIMITS:
        with pytest.raises(PlanError, match=f"cannot do {what}"):
            broker.refuse(what)
    with pytest.raises(PlanError, match="Did you mean 'exactly-once'"):
        broker.refuse("exactly once")


def test_the_shared_broker_is_one_for_all_threads_and_found_by_its_address():
    found: list[EmbeddedBroker] = []
    threads = [threading.Thread(target=lambda: found.append(EmbeddedBroker.shared())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    assert EmbeddedBroker.at(found[0].bootstrap) is found[0]
    assert EmbeddedBroker.at("127.0.0.1:1") is None


def test_a_shared_broker_that_was_closed_is_followed_by_a_new_one(monkeypatch):
    monkeypatch.setattr(EmbeddedBroker, "_shared", None)
    first = EmbeddedBroker.shared()
    first.close()
    second = EmbeddedBroker.shared()
    assert second is not first
    assert second.running
    second.close()


def test_a_closed_broker_is_unreachable_says_so_and_can_be_closed_again(broker):
    broker.close()
    broker.close()
    assert not broker.running
    assert EmbeddedBroker.at(broker.bootstrap) is None
    assert repr(broker) == f"EmbeddedBroker('{broker.bootstrap}', closed)"
    with pytest.raises(BrokerError, match="is closed; topic 'flights' cannot be made"):
        broker.create_topic("flights", 1)
    with pytest.raises(BrokerError, match="Connection refused"):
        Cluster(broker.bootstrap).metadata(timeout=0.5)


def test_a_broker_ends_when_nothing_refers_to_it_but_not_while_a_cluster_does():
    address = EmbeddedBroker().bootstrap
    gc.collect()
    assert EmbeddedBroker.at(address) is None
    broker = EmbeddedBroker({"flights": 1})
    cluster = Cluster(broker.bootstrap)
    del broker
    gc.collect()
    assert cluster.partitions("flights") == 1
    assert cluster.embedded is not None
    cluster.embedded.close()


def test_the_state_folder_is_one_for_its_owner_only_and_goes_with_the_broker(broker):
    folder = broker.state_folder
    assert folder == broker.state_folder
    assert folder.is_dir()
    if os.name == "posix":
        assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "state.db").touch()
    broker.close()
    assert not folder.exists()


def test_a_library_that_cannot_start_a_broker_is_an_error(monkeypatch):
    class Failing:
        destroyed: list[int] = []  # noqa: RUF012  # it lives for one test

        def rd_kafka_mock_cluster_new(self, _handle: int, _brokers: int) -> None:
            return None

        def rd_kafka_destroy(self, handle: int) -> None:
            self.destroyed.append(handle)

    monkeypatch.setattr(embedded, "library", Failing)
    monkeypatch.setattr(embedded, "quiet_handle", lambda: 42)
    with pytest.raises(BrokerError, match="could not be started"):
        EmbeddedBroker()
    assert Failing.destroyed == [42]


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )


def test_a_process_that_leaves_it_running_ends_in_order_prints_nothing_and_leaves_no_folder():
    ended = in_a_process("""
        from confluent_kafka import Producer
        from streamlab.connect.cluster import Cluster
        from streamlab.connect.embedded import EmbeddedBroker
        from streamlab.connect.settings import producer_settings

        broker = EmbeddedBroker.shared()
        broker.create_topic("flights", 2)
        cluster = Cluster(broker.bootstrap)
        producer = Producer(producer_settings(cluster.settings))
        producer.produce("flights", b"x")
        producer.flush(10)
        assert cluster.topics()["records"].to_list() == [1]
        print(broker.state_folder)
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not Path(ended.stdout.strip()).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_gets_a_shared_broker_of_its_own_and_leaves_its_parents_alone():
    ended = in_a_process("""
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tried here
        from streamlab.connect.cluster import Cluster
        from streamlab.connect.embedded import EmbeddedBroker

        parent = EmbeddedBroker.shared()
        parent.create_topic("flights", 2)
        folder = parent.state_folder
        if (child := os.fork()) == 0:
            try:
                assert not parent.running
                own = EmbeddedBroker.shared()
                assert own.bootstrap != parent.bootstrap
                own.create_topic("own", 1)
                parent.close()
            except BaseException:
                os._exit(1)
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert parent.running and folder.is_dir()
        assert Cluster(parent.bootstrap).partitions("flights") == 2
    """)
    assert (ended.returncode, ended.stderr) == (0, "")
