from __future__ import annotations

import ctypes
import inspect
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from streamlab.connect.clients import Deadline, Partition, inspector
from streamlab.connect.cluster import Cluster
from streamlab.connect.embedded import EmbeddedBroker
from streamlab.connect.librdkafka import library
from streamlab.connect.reading import Reader, gone, timestamp
from streamlab.connect.settings import producer_settings
from streamlab.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka import Message

START = 1_357_000_000_000
A, B = ("flights", 0), ("flights", 1)
NO_LEADER = -1


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({"flights": 2}) as running:
        yield running


@pytest.fixture
def cluster(broker: EmbeddedBroker) -> Cluster:
    return Cluster(broker.bootstrap)


def write(cluster: Cluster, partition: int, count: int) -> None:
    sent = Producer(producer_settings(cluster.settings))
    for i in range(count):
        sent.produce("flights", b"%d" % i, partition=partition, timestamp=START + i)
    assert sent.flush(10) == 0


def write_in_transactions(cluster: Cluster, count: int) -> None:
    """Write to the first partition, with the marker of a transaction after every record."""
    sent = Producer(producer_settings(cluster.settings, transactional_id="t"))
    sent.init_transactions(10)
    for i in range(count):
        sent.begin_transaction()
        sent.produce("flights", b"%d" % i, partition=0, timestamp=START + i)
        sent.commit_transaction(10)


def take_leader(broker: EmbeddedBroker, partition: int) -> None:
    calls = library()
    calls.rd_kafka_mock_partition_set_leader.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.c_int32,
    )
    assert calls.rd_kafka_mock_partition_set_leader(broker._cluster, b"flights", partition, NO_LEADER) == 0


def offsets(found: Mapping[Partition, list[Message]]) -> dict[Partition, list[int | None]]:
    return {place: [message.offset() for message in messages] for place, messages in found.items()}


def test_the_first_and_the_last_of_a_span_are_those_inside_it(cluster):
    write(cluster, 0, 100)
    write(cluster, 1, 10)
    with inspector(cluster.settings) as (consumer, listener):
        reader = Reader(consumer, listener, Deadline(10))
        heads = reader.first({A: (20, 90), B: (5, 5)}, lambda _: True)
        assert {place: message.offset() for place, message in heads.items()} == {A: 20}
        assert offsets(reader.last({A: (20, 90), B: (0, 10)}, 3)) == {A: [87, 88, 89], B: [7, 8, 9]}
        assert offsets(reader.last({A: (20, 22)}, 3)) == {A: [20, 21]}
        assert offsets(reader.last({A: (0, 1), B: (3, 3)}, 3)) == {A: [0], B: []}


def test_the_first_that_is_accepted_is_found_or_none(cluster):
    write(cluster, 0, 100)
    with inspector(cluster.settings) as (consumer, listener):
        reader = Reader(consumer, listener, Deadline(10))
        late = reader.first({A: (0, 100)}, lambda message: (timestamp(message) or 0) >= START + 77)
        never = reader.first({A: (0, 100)}, lambda _: False)
    assert (late[A].offset(), never) == (77, {})


def test_where_markers_take_offsets_the_last_are_looked_for_further_back(cluster):
    write_in_transactions(cluster, 40)
    with inspector(cluster.settings) as (consumer, listener):
        reader = Reader(consumer, listener, Deadline(10))
        assert offsets(reader.last({A: (0, 80)}, 5)) == {A: [70, 72, 74, 76, 78]}
        assert offsets(reader.last({A: (0, 80)}, 1)) == {A: [78]}
        assert offsets(reader.last({A: (75, 80)}, 5)) == {A: [76, 78]}
        assert offsets(reader.last({A: (79, 80)}, 5)) == {A: []}


def test_a_partition_that_cannot_be_read_ends_the_reading_in_time(broker, cluster):
    write(cluster, 0, 3)
    write(cluster, 1, 3)
    take_leader(broker, 1)
    with inspector(cluster.settings) as (consumer, listener):
        reader = Reader(consumer, listener, Deadline(0.5))
        with pytest.raises(
            BrokerError, match=r"cannot read 'flights' partition 1 \(1 partitions\).*missing after 0.5 s"
        ):
            reader.last({A: (0, 3), B: (0, 3)}, 1)


def test_where_it_is_no_error_the_others_are_read_and_the_reason_kept(broker, cluster):
    write(cluster, 0, 3)
    write(cluster, 1, 3)
    take_leader(broker, 1)
    with inspector(cluster.settings) as (consumer, listener):
        reader = Reader(consumer, listener, Deadline(0.5), strict=False)
        found = reader.first({A: (0, 3), B: (0, 3)}, lambda _: True)
        assert offsets(reader.last({B: (0, 3)}, 1)) == {B: []}
    assert set(found) == {A}
    assert reader.failed == {B: "records are missing after 0.5 s"}


def test_a_list_of_topics_says_nothing_of_one_that_cannot_be_read(broker, cluster, monkeypatch, caplog):
    # by way of the cluster: a run that collects doctests may have loaded the module twice
    monkeypatch.setitem(inspect.unwrap(Cluster.topics.__globals__["admin"]).__globals__, "_SETTLED", 0.2)
    broker.create_topic("weather", 1)
    write(cluster, 0, 3)
    take_leader(broker, 1)
    assert cluster.topics().rows() == [("flights", 2, None, None, None), ("weather", 1, 0, None, None)]
    assert "topic 'flights' partition 1 cannot be read" in caplog.text
    with pytest.raises(BrokerError, match="cannot read offsets of 'flights' partition 1"):
        cluster.watermarks("flights")


@pytest.mark.parametrize(
    ("offset", "embedded", "reason"),
    [
        (1, False, "9 records are lost: retention"),
        (1, True, "9 records are lost: the embedded broker keeps 5 MiB"),
        (21, True, "made anew"),
    ],
)
def test_a_missing_offset_is_explained_by_where_it_was(offset, embedded, reason):
    told = gone("flights", 3, offset, (10, 20), embedded=embedded)
    assert f"flights partition 3: offset {offset} is gone" in told
    assert reason in told
    assert told.endswith("It holds 10 to 20.")
