"""Brokers and topics for tests."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from confluent_kafka import KafkaException

from tests.kafka.broker import Broker, UnavailableError, admin_of, create_topic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
ANSWER_TIMEOUT = 10


class OwnBroker(Protocol):
    """Starts a broker for one test file alone."""

    def __call__(self, settings: Mapping[str, str] | None = None) -> Broker: ...


class Topic(Protocol):
    """Makes a topic of its own name at the run's broker."""

    def __call__(self, hint: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> str: ...


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def bootstrap(pytestconfig: pytest.Config) -> Iterator[str]:
    """Address of the run's broker: `$STREAMLAB_TEST_BOOTSTRAP`, else one that is started now and ends with the run."""
    if given := os.environ.get("STREAMLAB_TEST_BOOTSTRAP"):
        try:
            admin_of(given).list_topics(timeout=ANSWER_TIMEOUT)
        except KafkaException as error:
            pytest.fail(f"no Kafka answers at STREAMLAB_TEST_BOOTSTRAP={given}: {error}", pytrace=False)
        yield given
    else:
        with _broker(pytestconfig) as broker:
            yield broker.bootstrap


@pytest.fixture(scope="module")
def own_broker(pytestconfig: pytest.Config) -> Iterator[OwnBroker]:
    """Start brokers that a test may stop, kill and start again; they end with the test file, or by `close()`."""
    with ExitStack() as brokers:

        def start(settings: Mapping[str, str] | None = None) -> Broker:
            return brokers.enter_context(_broker(pytestconfig, settings))

        yield start


@pytest.fixture(scope="session")
def topic(bootstrap: str) -> Iterator[Topic]:
    """Make topics; they are deleted with the run."""
    made: list[str] = []

    def make(hint: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        made.append(create_topic(bootstrap, hint, partitions, config))
        return made[-1]

    yield make
    if made:
        admin = admin_of(bootstrap)
        for deleted in admin.delete_topics(made).values():
            deleted.result()


def _broker(config: pytest.Config, settings: Mapping[str, str] | None = None) -> Broker:
    try:
        return Broker(settings=settings)
    except UnavailableError as error:
        if config.getoption("require_kafka"):
            pytest.fail(f"--require-kafka, but no Apache Kafka here: {error}", pytrace=False)
        pytest.skip(f"no Apache Kafka here: {error}")
