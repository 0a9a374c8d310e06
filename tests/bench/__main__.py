"""Measure programs side by side: python -m tests.bench tumbling|panel --json FILE [--records N] [--only NAME,NAME]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench.runner import (
    HERE,
    Program,
    ProgramError,
    Row,
    as_json,
    java_class,
    measure,
    python_module,
    python_script,
    table,
)
from tests.kafka.broker import BrokerDiedError, UnavailableError

BENCHMARKS = {
    "tumbling": (
        Program("streamlab", python_module("tests.bench.programs.streamlab_tumbling")),
        Program("bare_loop", python_module("tests.bench.programs.bare_loop")),
        Program("kafka_streams", java_class(HERE / "peers" / "kafka_streams", "Tumbling")),
        Program("quix", python_script(HERE / "peers" / "quix", "tumbling.py"), most_records=300_000),
    ),
    "panel": (
        Program("without_panel", python_module("tests.bench.programs.panel", "without")),
        Program("with_panel", python_module("tests.bench.programs.panel", "with")),
    ),
}

BASES = {"tumbling": "bare_loop", "panel": "without_panel"}
"""What the others are compared with."""


def main() -> int:
    """Return 0, or 1 when a program failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--records", type=int, default=4_000_000, help="how many to load (default: %(default)s)")
    parser.add_argument("--only", metavar="NAME,NAME", help="programs to run (default: all)")
    wanted = parser.parse_args()
    programs = {program.name: program for program in BENCHMARKS[wanted.benchmark]}
    only = wanted.only.split(",") if wanted.only else list(programs)
    if unknown := [name for name in only if name not in programs]:
        parser.error(f"--only: no program {unknown[0]!r}; {wanted.benchmark} has {','.join(programs)}")
    if wanted.records < 1:
        parser.error(f"--records: {wanted.records} is not a number of records")

    try:
        outcomes = list(measure([programs[name] for name in programs if name in only], wanted.records))
    except (BrokerDiedError, ProgramError, UnavailableError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    rows = [outcome for outcome in outcomes if isinstance(outcome, Row)]
    print(table(rows, BASES[wanted.benchmark]))
    if wanted.json:
        wanted.json.write_text(as_json(rows))
    for outcome in outcomes:
        if not isinstance(outcome, Row):
            print(f"failed: {outcome}", file=sys.stderr)
    return 0 if len(rows) == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
