from __future__ import annotations

import ctypes
import inspect
import logging
import socket
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from confluent_kafka import Producer

from streamlab.connect.cluster import Cluster
from streamlab.connect.embedded import EmbeddedBroker
from streamlab.connect.librdkafka import library
from streamlab.connect.records import RECORDS, TOPICS
from streamlab.connect.settings import producer_settings
from streamlab.errors import BrokerError, PlanError, UnknownTopicError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Record = tuple[int, int, bytes | None, bytes | None]
    """Partition, timestamp, key, value."""

CANARY = "canary-7f3a9"
START = 1_357_000_000_000
HEADERS: list[tuple[str, str | bytes | None]] = [("trace", b"\xffz"), ("none", None)]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({"flights": 3, "empty": 2}) as running:
        yield running


@pytest.fixture
def cluster(broker: EmbeddedBroker) -> Cluster:
    return Cluster(broker.bootstrap)


def write(cluster: Cluster, topic: str, records: Iterable[Record]) -> None:
    sent = Producer(producer_settings(cluster.settings))
    for partition, at, key, value in records:
        sent.produce(topic, value, key, partition, timestamp=at, headers=HEADERS)
    assert sent.flush(10) == 0


def utc(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def refused_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], object]], str]]:
    """Listen on loopback and answer each connection with a function; returns the address."""
    listeners: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], object]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return  # closed: the test is over
                with closing(connection):
                    answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def client_threads() -> int:
    """Return how many threads of librdkafka this process has."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("this system does not list threads")
    return sum((task / "comm").read_text().startswith("rdk:") for task in tasks.iterdir())


# a cluster by itself


def test_a_cluster_is_inert_and_shows_no_secret():
    cluster = Cluster("no-such-host.invalid:9092", {"sasl.password": CANARY, "ssl.key.pem": CANARY, "linger.ms": 5})
    assert repr(cluster) == (
        "Cluster('no-such-host.invalid:9092', {'sasl.password': '***', 'ssl.key.pem': '***', 'linger.ms': 5})"
    )
    assert cluster.describe() == repr(cluster).removeprefix("Cluster")
    assert cluster.settings["bootstrap.servers"] == "no-such-host.invalid:9092"
    assert cluster.embedded is None


def test_clusters_are_values():
    assert Cluster("a:1", {"linger.ms": 5}) == Cluster("a:1", {"linger.ms": 5})
    assert Cluster("a:1", {"linger.ms": 5}) != Cluster("a:1")
    assert len({Cluster("a:1", {"linger.ms": 5}), Cluster("a:1", {"linger.ms": 5})}) == 1


def test_later_changes_of_the_users_settings_do_not_reach_it():
    user = {"linger.ms": 5}
    cluster = Cluster("a:1", user)
    user["linger.ms"] = 6
    cluster.settings["linger.ms"] = 7
    assert cluster.settings["linger.ms"] == 5


@pytest.mark.parametrize(
    "address", ["a:1", "a", "a:1,b:2", "a:1, b:2", "SASL_SSL://a.b:9093", "[::1]:9092", "10.0.0.1:9"]
)
def test_addresses_may_have_any_form_that_librdkafka_reads(address):
    assert Cluster(address).bootstrap == address


@pytest.mark.parametrize(
    "address", ["", " ", "a:1,", "http://a:1", "a:b", "a b:1", "kafka://a:1", "a:1/x", f"SSL://me:{CANARY}@a:1"]
)
def test_what_is_no_address_is_refused_with_the_valid_form(address):
    with pytest.raises(
        PlanError, match=r'no address of a broker; valid is host:port, such as "localhost:9092"'
    ) as refused:
        Cluster(address)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"bootstrap.servers": "b:2"}, "the addresses are given once"),
        ({"metadata.broker.list": "b:2"}, "the addresses are given once"),
        ({"auto.offset.reset": "latest"}, "never a silent jump"),
        ({"lingr.ms": 2}, r"Did you mean 'linger\.ms'"),
    ],
)
def test_a_wrong_setting_is_refused_when_it_is_written(user, message):
    with pytest.raises(PlanError, match=message):
        Cluster("a:1", user)


def test_settings_that_do_not_go_together_are_refused_in_librdkafkas_words_without_its_secrets():
    cluster = Cluster("a:1", {"security.protocol": "SSL", "ssl.key.pem": CANARY})
    with pytest.raises(PlanError, match="not in PEM format") as refused:
        cluster.metadata()
    assert CANARY not in str(refused.value)
    assert refused.value.__context__ is None
    assert refused.value.__cause__ is None


# a broker that does not answer


@pytest.mark.parametrize(
    "ask",
    [
        Cluster.metadata, Cluster.cluster_id, Cluster.topics, lambda c, timeout: c.peek("x", timeout=timeout),
        lambda c, timeout: c.create_topic("x", 1, timeout=timeout), lambda c, timeout: c.watermarks("x", timeout=timeout),
        lambda c, timeout: c.offsets_for_time("x", 0, timeout=timeout), lambda c, timeout: c.sample("x", 1, timeout=timeout),
    ],
)  # fmt: skip
def test_a_broker_that_is_not_there_is_an_error_in_time_with_the_cause_and_what_to_do(ask, capfd, caplog):
    address, began = refused_address(), time.monotonic()
    with caplog.at_level(logging.DEBUG, "streamlab.kafka"), pytest.raises(BrokerError) as failed:
        ask(Cluster(address), timeout=0.5)
    assert time.monotonic() - began < 3
    assert f"at {address}: {address}: Connect to ipv4#{address} failed: Connection refused." in str(failed.value)
    assert "is the broker running" in str(failed.value)
    assert capfd.readouterr().err == ""
    assert "Connection refused" in caplog.text


def test_a_longer_question_waits_no_longer_for_a_broker_that_cannot_be_reached(monkeypatch):
    # by way of the cluster: a run that collects doctests may have loaded the module twice
    monkeypatch.setitem(inspect.unwrap(Cluster.topics.__globals__["admin"]).__globals__, "_REACHABLE", 0.5)
    began = time.monotonic()
    with pytest.raises(BrokerError, match="Connection refused"):
        Cluster(refused_address()).topics(timeout=60)
    assert time.monotonic() - began < 5


def test_a_host_that_does_not_exist_is_named(capfd):
    with pytest.raises(BrokerError, match=r"no-such-host\.invalid.*The host name is not known here"):
        Cluster("no-such-host.invalid:9092").metadata(timeout=1)
    assert capfd.readouterr().err == ""


def test_something_else_than_kafka_is_recognised_at_once(serve, capfd):
    address = serve(lambda c: (c.recv(1000), c.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")))
    began = time.monotonic()
    with pytest.raises(BrokerError, match="What answers there is no Kafka"):
        Cluster(address).metadata(timeout=10)
    assert time.monotonic() - began < 5
    assert capfd.readouterr().err == ""


def test_a_listener_that_hangs_up_may_want_tls(serve):
    address = serve(lambda c: c.recv(1000))
    with pytest.raises(BrokerError, match=r"Disconnected.*may want TLS or a login"):
        Cluster(address).metadata(timeout=1)


def test_a_listener_that_says_nothing_is_given_up(serve):
    over = threading.Event()
    address = serve(lambda _: over.wait(30))
    cluster, began = Cluster(address, {"api.version.request.timeout.ms": 300}), time.monotonic()
    with pytest.raises(BrokerError, match=r"no answer within 0.2 s.*is it this port"):
        cluster.metadata(timeout=0.2)
    with pytest.raises(BrokerError, match=r"ApiVersionRequest failed: Local: Timed out.*is it this port"):
        cluster.metadata(timeout=3)
    assert time.monotonic() - began < 8
    over.set()


def test_an_address_that_the_broker_gives_but_nobody_can_reach_is_told_from_the_users(broker, cluster):
    write(cluster, "flights", [(0, START, None, b"x")])
    calls = library()
    calls.rd_kafka_mock_broker_set_host_port.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    calls.rd_kafka_mock_broker_set_host_port(broker._cluster, 1, b"kafka.invalid", 9092)
    with pytest.raises(BrokerError, match=r"kafka\.invalid:9092.*advertised\.listeners"):
        cluster.watermarks("flights", timeout=1.5)


def test_the_users_own_error_callback_hears_of_failures_too():
    heard: list[Any] = []
    with pytest.raises(BrokerError):
        Cluster(refused_address(), {"error_cb": heard.append}).metadata(timeout=0.5)
    assert any("Connection refused" in error.str() for error in heard)


# topics


def test_metadata_names_the_cluster_its_brokers_and_topics(cluster, broker):
    found = cluster.metadata()
    assert found.brokers == (broker.bootstrap,)
    assert found.topics == {"empty": 2, "flights": 3}
    assert found.cluster_id == cluster.cluster_id() != ""


def test_two_embedded_brokers_are_two_clusters(cluster):
    with EmbeddedBroker() as other:
        assert Cluster(other.bootstrap).cluster_id() != cluster.cluster_id()


@pytest.mark.parametrize(
    "ask",
    [Cluster.partitions, Cluster.watermarks, Cluster.peek, Cluster.newest, lambda c, t: c.offsets_for_time(t, 0),
     lambda c, t: c.sample(t, 1), lambda c, t: c.require_offsets(t, {0: 0})],
)  # fmt: skip
def test_a_missing_topic_is_an_error_with_the_near_miss_and_is_not_made_by_asking(cluster, ask):
    with pytest.raises(UnknownTopicError, match=r"no topic 'flight'.*\['empty', 'flights'\].*Did you mean 'flights'"):
        ask(cluster, "flight")
    assert set(cluster.metadata().topics) == {"empty", "flights"}


def test_a_topic_is_made_once_and_keeps_its_size(cluster):
    assert cluster.create_topic("made", 5, {"retention.ms": "-1"}) == 5
    assert cluster.create_topic("made", 7) == 5
    assert cluster.partitions("made") == 5


def test_settings_that_an_embedded_topic_does_not_have_are_mentioned_in_the_log(cluster, caplog):
    with caplog.at_level(logging.INFO, "streamlab.kafka"):
        cluster.create_topic("made", 1, {"cleanup.policy": "compact"})
    assert "{'cleanup.policy': 'compact'} do nothing" in caplog.text


def test_topics_are_listed_with_their_records_and_times(cluster):
    write(cluster, "flights", [(0, START, b"k", b"v"), (0, START + 5, None, b"v"), (2, START + 3, None, None)])
    write(cluster, "__internal", [(0, START, None, b"x")])
    found = cluster.topics()
    assert found.schema == TOPICS
    assert found.rows() == [
        ("empty", 2, 0, None, None),
        ("flights", 3, 3, utc(START), utc(START + 5)),
    ]


def test_no_topics_make_an_empty_frame_of_the_same_columns():
    with EmbeddedBroker() as bare:
        found = Cluster(bare.bootstrap).topics()
    assert found.schema == TOPICS
    assert found.height == 0


# offsets


def test_watermarks_are_the_first_and_next_offset_of_every_partition(cluster):
    write(cluster, "flights", [(0, START, None, b"x")] * 3 + [(2, START, None, b"x")])
    assert cluster.watermarks("flights") == {0: (0, 3), 1: (0, 0), 2: (0, 1)}
    assert cluster.watermarks("flights", uncommitted=True) == {0: (0, 3), 1: (0, 0), 2: (0, 1)}


def test_offsets_of_a_time_are_found_although_the_embedded_broker_does_not_know_them(cluster):
    write(cluster, "flights", [(i % 2, START + 10 * i, None, b"x") for i in range(20)])
    assert cluster.offsets_for_time("flights", START + 100) == {0: 5, 1: 5, 2: 0}
    assert cluster.offsets_for_time("flights", START + 101) == {0: 6, 1: 5, 2: 0}
    assert cluster.offsets_for_time("flights", 0) == {0: 0, 1: 0, 2: 0}
    assert cluster.offsets_for_time("flights", START + 9999) == {0: 10, 1: 10, 2: 0}


def test_of_out_of_order_records_the_first_in_the_partition_counts(cluster):
    write(cluster, "flights", [(0, START + at, None, b"x") for at in (0, 50, 10, 60)])
    assert cluster.offsets_for_time("flights", START + 20)[0] == 1


def test_the_newest_time_is_that_of_all_partitions_last_records(cluster):
    assert cluster.newest("flights") is None
    write(cluster, "flights", [(0, START + 9, None, b"x"), (1, START + 7, None, b"x")])
    assert cluster.newest("flights") == START + 9


def test_offsets_that_are_there_or_next_are_fine_and_others_are_named(cluster):
    write(cluster, "flights", [(0, START, None, b"x")] * 3)
    cluster.require_offsets("flights", {0: 0, 1: 0})
    cluster.require_offsets("flights", {0: 3})
    with pytest.raises(BrokerError, match=r"flights partition 0: offset 4 is gone; the topic was made anew.*0 to 3"):
        cluster.require_offsets("flights", {0: 4})
    with pytest.raises(BrokerError, match="partition 9: offset 1 is gone"):
        cluster.require_offsets("flights", {9: 1})


# records


def test_peek_shows_the_newest_records_oldest_first(cluster):
    write(cluster, "flights", [(i % 3, START + i, b"k%d" % i, b"v%d" % i) for i in range(100)])
    found = cluster.peek("flights", 4)
    assert found.schema == RECORDS
    assert found.rows() == [
        (
            i % 3,
            i // 3,
            utc(START + i),
            f"k{i}",
            f"v{i}",
            [{"name": "trace", "value": r"\xffz"}, {"name": "none", "value": None}],
        )
        for i in range(96, 100)
    ]


def test_peek_shows_bytes_that_are_no_text_escaped_and_nothing_as_null(cluster):
    values = [b"\xff\x00{", "naïve ✈".encode(), None, b"", b"<script>"]
    write(cluster, "flights", [(0, START + i, value, value) for i, value in enumerate(values)])
    found = cluster.peek("flights")
    assert found["value"].to_list() == [r"\xff\x00{", "naïve ✈", None, "", "<script>"]
    assert found["key"].to_list() == found["value"].to_list()


@pytest.mark.parametrize("n", [0, 1, 20])
def test_peek_at_an_empty_topic_is_an_empty_frame_of_the_same_columns(cluster, n):
    found = cluster.peek("empty", n)
    assert found.schema == RECORDS
    assert found.height == 0


def test_peek_takes_what_there_is_when_more_is_asked_for(cluster):
    write(cluster, "flights", [(0, START, None, b"x")] * 3)
    assert cluster.peek("flights", 1000).height == 3
    assert cluster.peek("flights", 0).height == 0


def test_peek_refuses_a_negative_number(cluster):
    with pytest.raises(PlanError, match="n=-1; valid is a number of records, 0 or more"):
        cluster.peek("flights", -1)


def test_a_sample_is_drawn_from_all_partitions_that_have_records(cluster):
    write(cluster, "flights", [(i % 2, START + i, None, b"%d" % i) for i in range(100)])
    assert cluster.sample("flights", 10) == [b"%d" % i for i in range(90, 100)]
    assert cluster.sample("empty", 10) == []


def test_one_looks_at_many_partitions_at_once():
    with EmbeddedBroker({"wide": 200}) as broker:
        cluster = Cluster(broker.bootstrap)
        write(cluster, "wide", [(i % 200, START + i, None, b"%d" % i) for i in range(2000)])
        began = time.monotonic()
        found = cluster.topics()
        assert time.monotonic() - began < 10
        assert found.rows() == [("wide", 200, 2000, utc(START), utc(START + 1999))]
        assert cluster.peek("wide", 300)["value"].to_list() == [str(i) for i in range(1700, 2000)]


def test_all_clients_are_closed_again_and_nothing_is_printed(cluster, capfd):
    write(cluster, "flights", [(0, START, None, b"x")])
    before = client_threads()
    for ask in (cluster.topics, lambda: cluster.peek("flights"), lambda: cluster.offsets_for_time("flights", START)):
        ask()
    with pytest.raises(BrokerError):
        Cluster(refused_address()).metadata(timeout=0.3)
    assert client_threads() == before
    assert capfd.readouterr().err == ""


def test_the_frames_can_be_worked_with(cluster):
    write(cluster, "flights", [(0, START, None, b'{"n": 1}')])
    found = cluster.peek("flights").select(pl.col("value").str.json_path_match("$.n"))
    assert found.item() == "1"
