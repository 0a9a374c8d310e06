"""Measure: python -m tests.bench tumbling|panel|operators --json FILE [--records N] [--keys N,N] [--only NAME,NAME].

tumbling and panel run programs side by side on one topic; operators drives each operator of the engine from memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench import operators
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
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "operators"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--records", type=int, default=4_000_000, help="how many to load (default: %(default)s)")
    parser.add_argument("--keys", default=",".join(map(str, operators.KEYS)), help="live keys (default: %(default)s)")
    parser.add_argument("--only", metavar="NAME,NAME", help="programs or operators to run (default: all)")
    wanted = parser.parse_args()
    known = [program.name for program in BENCHMARKS.get(wanted.benchmark, ())] or operators.NAMES
    only = wanted.only.split(",") if wanted.only else known
    if unknown := [name for name in only if name not in known]:
        parser.error(f"--only: no {unknown[0]!r}; {wanted.benchmark} has {','.join(known)}")
    if wanted.records < 1:
        parser.error(f"--records: {wanted.records} is not a number of records")
    return _operators(wanted, only) if wanted.benchmark == "operators" else _programs(wanted, only)


def _operators(wanted: argparse.Namespace, only: list[str]) -> int:
    """Measure operators; what failed is told at the end."""
    costs, failed = [], []
    for outcome in operators.measure(only, [int(count) for count in wanted.keys.split(",")]):
        (failed if isinstance(outcome, ProgramError) else costs).append(outcome)
    print(operators.table(costs))
    if wanted.json:
        wanted.json.write_text(operators.as_json(costs))
    for error in failed:
        print(f"failed: {error}", file=sys.stderr)
    return 1 if failed else 0


def _programs(wanted: argparse.Namespace, only: list[str]) -> int:
    """Measure programs on one topic; what failed is told at the end."""
    programs = {program.name: program for program in BENCHMARKS[wanted.benchmark]}
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
