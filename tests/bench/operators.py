"""What a record costs in each operator, by how many keys are live: batches from memory through the engine, a checkpoint a second.

Each figure comes from a process of its own: `python -m tests.bench.operators OPERATOR KEYS` prints it as a line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamlab.connect.formats.json import Json
from streamlab.engine.batch import Rows
from streamlab.plan.pipeline import Plan
from streamlab.plan.sinks import Sink
from streamlab.runtime import checkpoint
from streamlab.runtime.decoding import Arrivals
from streamlab.runtime.resources import Outlets
from streamlab.runtime.tasks import Task
from streamlab.state.sqlite import SqliteStore
from tests.bench.runner import ProgramError, python_module, said_by
from tests.bench.workloads import BATCH, WORKLOADS, batches, every_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.workloads import Batch

KEYS = (1_000, 100_000, 1_000_000)
WARM, MEASURED = 1.2, 1.2
"""How many windows go by before and while it is measured."""
LEAST = 50
"""Batches that are measured at least."""
JSON = "json_decode"
NAMES = [JSON, *WORKLOADS]
COMMIT_SECONDS = 1.0


@dataclass(frozen=True)
class Cost:
    """What a record costs, and what is held: when half of the measured time has gone by, and at its end."""

    operator: str
    keys: int
    us_per_record: float
    records: int
    windows: float = 0.0
    held_rows_midway: int = 0
    held_rows: int = 0
    peak_mb: int = 0


def cost(operator: str, keys: int) -> Cost:
    """Measure one operator."""
    if operator == JSON:
        return _decoding()
    workload = WORKLOADS[operator]
    window = 2 * keys / BATCH  # in batches
    warm, measured = int(WARM * window) + 1, max(LEAST, int(MEASURED * window))
    with tempfile.TemporaryDirectory() as folder:
        driven = _Driven(workload.plan(), Path(folder))
        if workload.load:
            for batch in every_key(keys):
                driven.process(batch)
        spent, midway = 0.0, 0
        for number, batch in enumerate(batches(workload, keys, warm + measured)):
            seconds = driven.process(batch)
            spent += seconds if number >= warm else 0.0
            if number == warm + measured // 2:
                midway = driven.held()
        held = driven.held()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    records = measured * BATCH
    return Cost(operator, keys, round(spent / records * 1e6, 3), records, measured / window, midway, held, peak)


class _Driven:
    """An engine with its state on disk, a checkpoint a second."""

    def __init__(self, stream: Any, folder: Path) -> None:
        plan = Plan((Sink(stream.node, "memory", "results"),), "bench")
        self._store = SqliteStore(folder / "state.db")
        self._task = Task(plan, self._store, now=lambda: 0)
        self._task.assign({topic: {0: (0, 1 << 40)} for topic in self._task.graph.sources}, _positions(self._task, 0))
        self._done, self._committed = 0, time.perf_counter()

    def process(self, batch: Batch) -> float:
        """Run a batch, and a commit if it is due; return the seconds they took."""
        arrivals = self._arrivals(batch)
        began = time.perf_counter()
        self._task.process(arrivals)
        if time.perf_counter() - self._committed >= COMMIT_SECONDS:
            checkpoint.commit(self._task, Outlets().flush, None)
            self._committed = time.perf_counter()
        return time.perf_counter() - began

    def held(self) -> int:
        """Return how many rows the operators hold."""
        return sum(holding.rows for holding in self._task.holding().values())

    def _arrivals(self, batch: Batch) -> Arrivals:
        rows = {}
        for topic, frame in batch.frames.items():
            place, none = np.asarray(batch.places[topic], np.int64), np.zeros(frame.height, np.int64)
            times = frame["ts"].dt.epoch("ms").to_numpy()
            rows[topic] = Rows(frame, times, none, self._done + place, 2 * place + 1)
        self._done += sum(frame.height for frame in batch.frames.values())
        ends = {topic: {0: 1 << 40} for topic in self._task.graph.sources}
        positions = _positions(self._task, self._done)
        return Arrivals(rows, positions, ends, 0, 0, finished=False, records=BATCH)


def _positions(task: Task, at: int) -> dict[str, dict[int, int]]:
    return {topic: {0: at} for topic in task.graph.sources}


def _decoding() -> Cost:
    """Measure how long the same records take to be decoded from JSON."""
    workload, spent, records = WORKLOADS["tumbling_final"], 0.0, 0
    schema = workload.plan().node.inputs[0].schema
    for batch in batches(workload, KEYS[-1], LEAST):
        payloads = batch.frames["events"].write_ndjson().encode().splitlines()
        began = time.perf_counter()
        decoded = Json().decode(payloads, schema)
        spent += time.perf_counter() - began
        assert decoded.rows.height == len(payloads)
        records += len(payloads)
    return Cost(JSON, 0, round(spent / records * 1e6, 3), records)


def measure(only: Sequence[str], keys: Sequence[int]) -> Iterator[Cost | ProgramError]:
    """Yield the cost of each operator, each measured in a process of its own."""
    for operator in only:
        for count in (0,) if operator == JSON else keys:
            try:
                said = said_by([*python_module("tests.bench.operators", operator, str(count))()])
            except ProgramError as error:
                yield ProgramError(f"{operator}, {count:,} keys: {error}")
            else:
                yield Cost(**json.loads(said.splitlines()[-1]))


def table(costs: Sequence[Cost]) -> str:
    """Return the figures as text: microseconds a record, as a multiple of decoding, and of the same at fewer keys."""
    decode = next((each.us_per_record for each in costs if each.operator == JSON), None)
    lines = [
        f"{'operator':<20}{'keys':>11}{'us/record':>11}{'x decode':>10}{'windows':>9}{'rows midway':>13}{'rows at end':>13}{'peak MB':>9}"
    ]
    for each in costs:
        ratio = f"{each.us_per_record / decode:.2f}" if decode else "-"
        lines.append(
            f"{each.operator:<20}{each.keys:>11,}{each.us_per_record:>11.3f}{ratio:>10}{each.windows:>9.1f}"
            f"{each.held_rows_midway:>13,}{each.held_rows:>13,}{each.peak_mb:>9,}"
        )
    return "\n".join(lines)


def as_json(costs: Sequence[Cost]) -> str:
    """Return the figures as a JSON document."""
    return json.dumps({"rows": [asdict(each) for each in costs]}, indent=2) + "\n"


if __name__ == "__main__":
    print(json.dumps(asdict(cost(sys.argv[1], int(sys.argv[2])))))
