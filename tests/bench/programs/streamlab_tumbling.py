"""Count, sum and mean per user and 10 s, 2 s grace, final results to Kafka, by streamlab in one process.

python -m tests.bench.programs.streamlab_tumbling BOOTSTRAP TOPIC RESULTS RECORDS prints one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time

import polars as pl

import streamlab as sl

SCHEMA = {
    "user": pl.String(),
    "amount": pl.Float64(),
    "ts": pl.Int64(),
    "country": pl.String(),
    "ok": pl.Boolean(),
}


def main(bootstrap: str, topic: str, results: str, records: str) -> None:
    """Run over what the topic holds."""
    windows = (
        sl.Kafka(bootstrap)
        .stream(topic, schema=SCHEMA, event_time="ts", key="user")
        .group_by("user")
        .window(sl.tumbling("10s", grace="2s"), emit="final", name="windows")
        .agg(pl.len().alias("n"), pl.col("amount").sum().alias("total"), pl.col("amount").mean().alias("mean"))
    )
    with tempfile.TemporaryDirectory() as state:
        os.environ["STREAMLAB_STATE_DIR"] = state
        query = sl.Pipeline([windows.sink_kafka(results, key="user")], name=results).start(until="latest")
        while not (first := query.report.records) and query.status == "running":
            query.wait(0.001)
        began = time.perf_counter()
        query.wait()
        done = query.report.records
        # the clock starts with the first micro-batch done: its records are left out of the rate
        seconds = (time.perf_counter() - began) * done / max(1, done - first)
    if done != int(records):
        sys.exit(f"{done} records of {records} came")
    print(json.dumps({"records": done, "seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
