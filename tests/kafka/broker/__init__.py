"""One real Apache Kafka on this machine, and what tests do with it."""

from __future__ import annotations

from tests.kafka.broker.broker import Broker, BrokerDiedError
from tests.kafka.broker.client import (
    NoTopicError,
    NotReadError,
    NotWrittenError,
    admin_of,
    consume_all,
    create_topic,
    produce,
)
from tests.kafka.broker.jars import UnavailableError

__all__ = [
    "Broker",
    "BrokerDiedError",
    "NoTopicError",
    "NotReadError",
    "NotWrittenError",
    "UnavailableError",
    "admin_of",
    "consume_all",
    "create_topic",
    "produce",
]
