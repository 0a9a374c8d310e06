"""The same windows as `streamlab_tumbling`, five times over in a Jupyter kernel, with the live panel or without; the median counts.

python -m tests.bench.programs.panel with|without BOOTSTRAP TOPIC RESULTS RECORDS prints one JSON line.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile

import nbformat
from nbclient import NotebookClient

ROUNDS = 5
SETUP = """
import time
import polars as pl
import streamlab as sl
from tests.bench.programs.streamlab_tumbling import SCHEMA

events = sl.Kafka({bootstrap!r}).stream({topic!r}, schema=SCHEMA, event_time="ts", key="user")
windows = (
    events.group_by("user")
    .window(sl.tumbling("10s", grace="2s"), name="windows")
    .agg(pl.len().alias("n"), pl.col("amount").sum().alias("total"), pl.col("amount").mean().alias("mean"))
)
"""
ROUND = """
query = sl.Pipeline([windows.sink_kafka({results!r}, key="user")], name="{results}-{number}").start(until="latest")
{show}
while not (first := query.report.records) and query.status == "running":
    query.wait(0.001)
began = time.perf_counter()
query.wait()
done = query.report.records
print(done, (time.perf_counter() - began) * done / max(1, done - first))
"""


def main(how: str, bootstrap: str, topic: str, results: str, records: str) -> None:
    """Run over what the topic holds."""
    show = {"with": "query.show();", "without": ""}[how]
    cells = [SETUP.format(bootstrap=bootstrap, topic=topic)]
    cells += [ROUND.format(results=results, number=number, show=show) for number in range(ROUNDS)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with tempfile.TemporaryDirectory() as state:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%env STREAMLAB_STATE_DIR={state}"))
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    said = [output.text for cell in notebook.cells[2:] for output in cell.outputs if output.output_type == "stream"]
    rounds = [tuple(map(float, text.split())) for text in said]
    if [done for done, _ in rounds] != [float(records)] * ROUNDS:
        sys.exit(f"not every round read {records} records: {said}")
    print(json.dumps({"records": int(records), "seconds": round(statistics.median(s for _, s in rounds), 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
