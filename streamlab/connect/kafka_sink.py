"""Results to Kafka topics: keyed JSON, in the partition that a Java client would choose."""

from __future__ import annotations

import json
from threading import Event
from typing import TYPE_CHECKING, Any

import polars as pl
from confluent_kafka import KafkaError, KafkaException, Producer

from streamlab.connect.clients import made
from streamlab.connect.formats.json import encode
from streamlab.connect.source import OutageError
from streamlab.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message

    from streamlab.connect.sink import Batch

_FLUSH_SECONDS = 5.0
_FULL_SECONDS = 0.1
_POLL_EVERY = 10_000
STOP_SECONDS = 10.0
"""How long a broker that is away is waited for by a query that was asked to stop."""

LARGEST = 64 << 20
"""Bytes of the largest record that is sent: a dead letter or a late row may be as large as what was read, and some more."""

# how long a broker is waited for is not the client's to decide
_PATIENT = {"message.max.bytes": LARGEST, "message.timeout.ms": 0}


class KafkaWriter:
    """One producer for all topics of a pipeline; used by one thread.

    Parameters
    ----------
    settings
        Settings of librdkafka.
    stop
        Set when whoever uses it wants to end: then a full producer is not waited for.
    """

    def __init__(self, settings: Mapping[str, Any], stop: Event | None = None) -> None:
        self._where = settings.get("bootstrap.servers", "the broker")
        # only failures are reported: a call a record would cost more than the record
        reporting = {"delivery.report.only.error": True, "on_delivery": self._delivered}
        self._producer = made(lambda: Producer({**_PATIENT, **settings, **reporting}), settings)
        self._failed: str | None = None
        self._stop = stop or Event()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = f"topic {message.topic()!r}: {error.str()}"

    def send(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        times: Sequence[int],
        headers: Sequence[list[tuple[str, bytes | None]]] | None = None,
    ) -> None:
        """Hand records to the producer; it waits where the producer is full."""
        produce, extra, full = self._producer.produce, dict[str, Any](), 0.0
        for i, (value, key, time) in enumerate(zip(values, keys, times, strict=True)):
            if headers is not None:
                extra["headers"] = headers[i]
            while True:
                try:
                    produce(topic, value, key, timestamp=time, **extra)
                    break
                except BufferError:
                    self._producer.poll(_FULL_SECONDS)
                    self._check()
                    full += _FULL_SECONDS
                    if self._stop.is_set() and full > STOP_SECONDS:
                        raise self._undelivered(len(self._producer)) from None
                except KafkaException as error:
                    raise BrokerError(f"{topic!r} at {self._where}: {error.args[0].str()}") from error
            if i % _POLL_EVERY == 0:
                self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Wait until the broker has all that was sent.

        Raises
        ------
        OutageError
            If it has not after some seconds: try again.
        BrokerError
            If it refused a record.
        """
        left = self._producer.flush(_FLUSH_SECONDS)
        self._check()
        if left:
            raise self._undelivered(left)

    def _undelivered(self, left: int) -> OutageError:
        return OutageError(f"{self._where}: {left:,} records are undelivered; is the broker there?")

    def _check(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise BrokerError(f"{self._where} did not take a record for {failed}")

    def close(self) -> None:
        """Drop what was not flushed."""
        self._producer.purge()
        self._producer.flush(1.0)


class KafkaOutlet:
    """Results to one topic: each row a JSON object, a deletion a tombstone."""

    def __init__(self, writer: KafkaWriter, topic: str, by: Sequence[str], *, composite: bool = False) -> None:
        self._writer, self._topic, self._by = writer, topic, tuple(by)
        self._composite = composite or len(by) > 1

    def recover(self, number: int) -> None:
        """Do nothing: what a topic has stays (at-least-once)."""

    def write(self, batch: Batch) -> None:
        """Send rows."""
        values: list[bytes | None] = list(encode(batch.data))
        if batch.deleted is not None:
            values = [None if gone else value for value, gone in zip(values, batch.deleted.tolist(), strict=True)]
        self._writer.send(
            self._topic, values, keys_of(batch.data, self._by, composite=self._composite), batch.time.tolist()
        )

    def flush(self, number: int) -> None:  # noqa: ARG002  # a topic knows no checkpoints
        """Wait until the broker has all."""
        self._writer.flush()

    def close(self) -> None:
        """Do nothing: the writer belongs to the pipeline."""


def keys_of(data: pl.DataFrame, by: Sequence[str], *, composite: bool) -> Sequence[bytes | None]:
    """Return record keys: the text of one column, or a JSON object of several.

    Examples
    --------
    >>> keys_of(pl.DataFrame({"a": ["x", None], "n": [1, 2]}), ["a"], composite=False)
    [b'x', None]
    >>> keys_of(pl.DataFrame({"a": ["x"], "n": [1]}), ["a", "n"], composite=True)
    [b'{"a":"x","n":1}']
    """
    if not by:
        return [None] * data.height
    keys = data.select(by)
    if composite:
        return encode(keys)
    column = keys.to_series()
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return [None if key is None else key.encode() for key in column.cast(pl.String).to_list()]
    if column.dtype == pl.Binary:
        return column.to_list()
    name = column.name
    return [None if (key := json.loads(text)[name]) is None else str(key).encode() for text in encode(keys)]
