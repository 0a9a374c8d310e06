"""The benchmark programs run and are judged rightly; how fast they are is no test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.runner import Program, ProgramError, Row, measure, python_module, table
from tests.kafka.broker import admin_of

ROOT = Path(__file__).parents[2]
RECORDS = 5_000
BARE_LOOP = Program("bare_loop", python_module("tests.bench.programs.bare_loop"))


def saying(text: str, code: int = 0) -> Program:
    return Program("talker", lambda: [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({code})"])


@pytest.fixture
def here(bootstrap, monkeypatch):
    monkeypatch.setenv("STREAMLAB_TEST_BOOTSTRAP", bootstrap)
    return bootstrap


def test_the_command_line_prints_a_table_writes_json_and_leaves_no_topic(here, tmp_path):
    file = tmp_path / "rows.json"
    asked = ["tumbling", "--records", str(RECORDS), "--only", "bare_loop", "--json", file]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (row,) = json.loads(file.read_text())["rows"]
    assert list(row) == ["name", "records_per_s", "records", "seconds"]
    assert row["name"] == "bare_loop"
    assert row["records"] == RECORDS
    assert row["records_per_s"] == pytest.approx(RECORDS / row["seconds"], rel=0.01)
    assert done.stdout.splitlines()[1].split() == [
        "bare_loop",
        f"{RECORDS:,}",
        f"{row['seconds']:.2f}",
        f"{row['records_per_s']:,}",
        "1.00",
    ]
    admin = admin_of(here)
    assert not [name for name in admin.list_topics(timeout=5).topics if name.startswith("bench-")]


def test_a_program_that_is_not_there_is_named_with_those_that_are():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "tumbling", "--only", "flink"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"STREAMLAB_TEST_BOOTSTRAP": "127.0.0.1:1"},
    )
    assert done.returncode == 2
    assert "--only: no 'flink'; tumbling has streamlab,bare_loop,kafka_streams,quix" in done.stderr


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (saying("out of luck", code=3), r"talker: exit code 3; it said:\nout of luck"),
        (saying("hello"), "its last line is no JSON object"),
        (saying('{"records": 7}'), "its last line is no JSON object"),
        (saying('{"records": 7, "seconds": 1}'), "7 records in 1.0 s, where 100 records were to be read"),
    ],
)
def test_a_program_that_fails_is_an_outcome_and_the_next_one_runs(program, reason):
    failed, row = measure([program, BARE_LOOP], 100)
    assert isinstance(failed, ProgramError)
    with pytest.raises(ProgramError, match=reason):
        raise failed
    assert isinstance(row, Row)
    assert row.records == 100


@pytest.mark.usefixtures("here")
def test_a_slow_program_is_asked_for_a_part_of_the_topic():
    echo = "import json, sys; print(json.dumps({'records': int(sys.argv[4]), 'seconds': 0.5}))"
    part = Program("part", lambda: [sys.executable, "-c", echo], most_records=10)
    assert list(measure([part], 100)) == [Row("part", 20, 10, 0.5)]


def test_rows_are_set_beside_the_bare_loop():
    rows = [Row("streamlab", 500, 1000, 2.0), Row("bare_loop", 1000, 1000, 1.0)]
    assert [line.split()[-1] for line in table(rows, "bare_loop").splitlines()[1:]] == ["0.50", "1.00"]
    assert table(rows[:1], "bare_loop").splitlines()[1].split()[-1] == "-"
