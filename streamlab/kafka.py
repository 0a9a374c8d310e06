"""Kafka: a cluster as a person holds it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from streamlab.connect.cluster import Cluster
from streamlab.connect.embedded import EmbeddedBroker
from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError, did_you_mean
from streamlab.frame import StreamFrame
from streamlab.plan.nodes import Source
from streamlab.plan.schema import declared
from streamlab.runtime.decoding import FORMATS
from streamlab.runtime.resources import check_start
from streamlab.table import StreamTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import polars as pl
    from polars.datatypes import DataType, DataTypeClass

BOOTSTRAP = "STREAMLAB_BOOTSTRAP_SERVERS"
"""The environment variable that names the brokers."""

ON_ERROR = ("dead_letter", "skip", "raise")
_SAMPLE = 1_000


class Kafka:
    """A Kafka cluster; inert until something is asked of it.

    Parameters
    ----------
    bootstrap_servers
        Addresses, such as ``"localhost:9092"``. Default: $STREAMLAB_BOOTSTRAP_SERVERS.
    settings, more
        Any settings of librdkafka, by their own names: ``Kafka("host:9092", {"security.protocol": "SASL_SSL", ...})``. Those that only
        a consumer or a producer knows go to that one.

    Examples
    --------
    >>> Kafka("localhost:9092", {"sasl.password": "hunter2"})
    Kafka('localhost:9092', {'sasl.password': '***'})
    """

    def __init__(
        self, bootstrap_servers: str | None = None, settings: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        servers = bootstrap_servers or os.environ.get(BOOTSTRAP)
        if not servers:
            raise PlanError(
                f'Kafka: no address; give one, such as Kafka("localhost:9092"), or set {BOOTSTRAP}, or use Kafka.embedded().'
            )
        self.cluster = Cluster(servers, {**(settings or {}), **more})

    @classmethod
    def embedded(cls, topics: Mapping[str, int] | None = None) -> Kafka:
        """Return a broker inside this process, for demos and tests: in memory, gone with the process.

        Parameters
        ----------
        topics
            Topics to make, with their numbers of partitions.

        Examples
        --------
        >>> Kafka.embedded({"doc.embedded": 2}).peek("doc.embedded").height
        0
        """
        broker = EmbeddedBroker.shared()
        for name, partitions in (topics or {}).items():
            broker.create_topic(name, partitions)
        kafka = cls.__new__(cls)
        kafka.cluster = Cluster(broker.bootstrap, {}, embedded=broker)
        return kafka

    def topics(self) -> pl.DataFrame:
        """Return the cluster's topics: name, partitions, records, and timestamps of the oldest and newest record.

        Raises
        ------
        BrokerError
            If the broker cannot be reached within ten seconds.

        Examples
        --------
        >>> import polars as pl
        >>> kafka = Kafka.embedded({"doc.topics": 3})
        >>> kafka.topics().filter(pl.col("name") == "doc.topics").select("partitions", "records").rows()
        [(3, 0)]
        """
        return self.cluster.topics()

    def peek(self, topic: str, n: int = 20) -> pl.DataFrame:
        """Return the newest raw records of a topic: joins no group, commits nothing.

        Raises
        ------
        UnknownTopicError
            If there is no such topic.

        Examples
        --------
        >>> Kafka.embedded({"doc.peek": 1}).peek("doc.peek").columns
        ['partition', 'offset', 'timestamp', 'key', 'value', 'headers']
        """
        return self.cluster.peek(topic, n)

    def stream(
        self,
        topic: str,
        *,
        schema: Mapping[str, DataType | DataTypeClass] | None = None,
        format: str = "json",  # noqa: A002  # the field's word, and the contract's
        event_time: str | None = None,
        key: str | None = None,
        on_error: Literal["dead_letter", "skip", "raise"] = "dead_letter",
        idle_timeout: Duration | None = "30s",
        start: str | datetime = "earliest",
        metadata: bool = False,
    ) -> StreamFrame:
        """Return a topic's records as a stream.

        Parameters
        ----------
        topic
            Its name.
        schema
            Columns and types. None: a sample is read now, and what was inferred is in the frame's schema.
        format
            How payloads are written: "json".
        event_time
            The column of event times: Datetime, Date, or an integer of milliseconds since 1970 (UTC). Default: the record timestamp.
        key
            A promise: rows equal in this column share a partition. Windows by it then run per partition.
        on_error
            What becomes of a record that cannot be decoded: "dead_letter" sets it aside, "skip" counts it, "raise" stops.
        idle_timeout
            How long a partition may be silent before it stops holding windows open; None: for ever.
        start
            Where a pipeline that has never run begins: "earliest", "latest", a duration such as "1h" ago, or a datetime.
        metadata
            Whether to add _topic, _partition, _offset, _timestamp, _key and _headers.

        Raises
        ------
        PlanError
            If an option is not valid, or the topic is empty and the schema is to be inferred.
        UnknownTopicError
            If the schema is to be inferred and there is no such topic.

        Examples
        --------
        >>> import polars as pl
        >>> Kafka("localhost:9092").stream("flights", schema={"carrier": pl.String}, key="carrier")  # touches no broker
        StreamFrame[carrier: String]
        kafka 'flights' (json), event time record timestamp, key carrier, idle after 30s, errors: dead_letter
        """
        columns, idle = self._checked(f"stream {topic!r}", topic, schema, format, on_error, idle_timeout)
        return StreamFrame(
            Source(
                topic,
                columns,
                self.cluster,
                "kafka",
                format,
                event_time,
                key,
                on_error,
                idle,
                check_start(start),
                metadata,
            )
        )

    def table(
        self,
        topic: str,
        *,
        key: str | Sequence[str],
        schema: Mapping[str, DataType | DataTypeClass] | None = None,
        format: str = "json",  # noqa: A002  # the field's word, and the contract's
        event_time: str | None = None,
        on_error: Literal["dead_letter", "skip", "raise"] = "dead_letter",
        idle_timeout: Duration | None = "30s",
        history: Duration | None = None,
    ) -> StreamTable:
        """Return a topic's records as a table: the newest row of every key; a record without a payload deletes its key.

        The topic is read from its beginning, and to its end before the first record of a stream beside it is processed.

        Parameters
        ----------
        topic
            Its name; a compacted topic is what it is made for.
        key
            Column or columns that identify a row. Where a record lacks one, and in a deletion, it is taken from the record key: the text of
            one column, or a JSON object, as `sink_kafka` writes it. Records with a null in it are skipped.
        schema
            Columns and types, those of the key too. None: a sample is read now.
        format, on_error, idle_timeout
            As in `stream`.
        event_time
            The column of event times; default: the record timestamp, which is also that of deletions.
        history
            For how long, in event time, versions of a row are kept, so that a join finds the row as of a record's own time.

        Raises
        ------
        PlanError
            If an option is not valid, a key column is not in the schema, or the topic is empty and the schema is to be inferred.

        Examples
        --------
        >>> import polars as pl
        >>> Kafka("localhost:9092").table("airlines", key="carrier", schema={"carrier": pl.String, "name": pl.String})
        StreamTable[carrier: String, name: String] by carrier
        kafka 'airlines' (json), table by carrier, event time record timestamp, idle after 30s, errors: dead_letter
        """
        step = f"table {topic!r}"
        columns, idle = self._checked(step, topic, schema, format, on_error, idle_timeout)
        by = (key,) if isinstance(key, str) else tuple(key)
        if not by:
            raise PlanError(f"{step}: key is empty; name the columns that identify a row, of {columns.names()}.")
        kept = None if history is None else milliseconds(history, f"{step}: history", positive=True)
        options = {"event_time": event_time, "on_error": on_error, "idle_timeout": idle, "table_key": by}
        return StreamTable(Source(topic, columns, self.cluster, "kafka", format, history=kept, **options))  # type: ignore[arg-type]  # as named

    def _checked(
        self,
        step: str,
        topic: str,
        schema: Mapping[str, DataType | DataTypeClass] | None,
        format: str,  # noqa: A002  # as in stream()
        on_error: str,
        idle_timeout: Duration | None,
    ) -> tuple[pl.Schema, int | None]:
        """Return the columns and the idle timeout in milliseconds of a topic that is read with these options."""
        if format not in FORMATS:
            raise PlanError(f"{step}: format={format!r}; valid are {list(FORMATS)}.{did_you_mean(format, FORMATS)}")
        if on_error not in ON_ERROR:
            raise PlanError(
                f"{step}: on_error={on_error!r}; valid are {list(ON_ERROR)}.{did_you_mean(on_error, ON_ERROR)}"
            )
        columns = self._infer(topic, format) if schema is None else declared(step, schema)
        FORMATS[format].check(columns)
        return columns, None if idle_timeout is None else milliseconds(idle_timeout, f"{step}: idle_timeout")

    def _infer(self, topic: str, format: str) -> pl.Schema:  # noqa: A002  # as in stream()
        sample = [value for value in self.cluster.sample(topic, _SAMPLE) if value is not None]
        if not sample:
            raise PlanError(
                f"stream {topic!r}: the topic is empty, so there is nothing to infer a schema from; give schema=."
            )
        return FORMATS[format].infer(sample)

    def __repr__(self) -> str:
        """Say what it is, secrets left out; touches no broker."""
        return f"Kafka{self.cluster.describe()}"
