"""The floor: consume and decode on one thread, and throw the rows away.

python -m tests.bench.programs.bare_loop BOOTSTRAP TOPIC RESULTS RECORDS prints one JSON line. RESULTS stays empty.
"""

from __future__ import annotations

import json
import sys
import time

import polars as pl
from confluent_kafka import Consumer, TopicPartition

SCHEMA = {"user": pl.String, "amount": pl.Float64, "ts": pl.Int64, "country": pl.String, "ok": pl.Boolean}
BATCH = 20_000


def main(bootstrap: str, topic: str, _results: str, records: str) -> None:
    """Read the given number of records."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "not-joined",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "check.crcs": False,
            "queued.min.messages": 500_000,
            "queued.max.messages.kbytes": 262_144,
            "fetch.message.max.bytes": 8 << 20,
            "fetch.max.bytes": 64 << 20,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    rows, began = 0, 0.0
    while rows < int(records):
        values = [message.value() or b"" for message in consumer.consume(BATCH, 0.1)]
        began = began or (time.perf_counter() if values else 0.0)
        if values:
            rows += pl.read_ndjson(b"\n".join(values), schema=SCHEMA).height
    seconds = time.perf_counter() - began
    consumer.close()
    print(json.dumps({"records": rows, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
