"""A worker that kills itself: python -m tests.kafka.kill_worker MODULE BOOTSTRAP TOPIC FOLDER [STEP NTH].

It runs the pipeline of the module's `pipeline_of` to the end of its topic, in many small commits, and kills itself with SIGKILL when
a commit passes STEP for the NTH time. Without a step it runs for ever, for somebody else to kill, and says "going" after its first
commit.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path

import streamlab as sl
from streamlab.connect import kafka_source
from streamlab.runtime import checkpoint, runner
from tests.kafka.support import delays, stream

BATCH = 1_000


def pipeline_of(bootstrap: str, topic: str, folder: Path) -> sl.Pipeline:
    """Return the pipeline: its sinks are Kafka, a table and Parquet files below `folder`."""
    out = delays(stream(bootstrap, topic))
    return sl.Pipeline(
        [out.sink_kafka(f"{topic}-out"), out.sink_table("delays"), out.sink_parquet(folder / "parquet")],
        name=f"p-{topic}",
    )


def main(module: str, bootstrap: str, topic: str, folder: str, where: str = "", nth: str = "1") -> None:
    """Run until killed."""
    build = importlib.import_module(module).pipeline_of
    passed = 0

    def reached(step: str) -> None:
        nonlocal passed
        passed += step == (where or "promoted")
        if where and passed == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
        if not where and passed == 1:
            sys.stdout.write("going\n")
            sys.stdout.flush()

    checkpoint.reached = reached
    runner.COMMIT_SECONDS = 0.0
    kafka_source._BATCH = BATCH
    build(bootstrap, topic, Path(folder)).run(until="latest" if where else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
