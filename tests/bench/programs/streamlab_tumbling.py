"""Count, sum and mean per user and 10 s, 2 s grace, final results to Kafka, by streamlab in one process.

python -m tests.bench.programs.streamlab_tumbling BOOTSTRAP TOPIC RESULTS RECORDS prints one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import polars as pl

import streamlab as sl

SCHEMA = {
    "user": pl.String(),
    "amount": pl.Float64(),
    "ts": pl.Datetime("ms", "UTC"),
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
        report = sl.Pipeline([windows.sink_kafka(results, key="user")], name=results).run(until="latest")
    if report.records != int(records):
        sys.exit(f"{report.records} records of {records} came")
    print(json.dumps({"records": report.records, "seconds": round(report.seconds, 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
