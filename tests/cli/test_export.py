"""`streamlab export` as a stranger meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from pathlib import Path

START = "import polars as pl\nimport streamlab as sl\n%matplotlib inline"
STREAM = (
    "kafka = sl.Kafka.embedded({'flights': 1})\n"
    "flights = kafka.stream('flights', schema={'carrier': pl.String, 'delay': pl.Float64})"
)
PIPELINE = "out = flights.filter(pl.col('delay') > limit)\npipeline = sl.Pipeline([out.sink_kafka('late')], name='late-flights')"
RUN = (
    "report = pipeline.run()\nassert report.records > 5\nfor row in pipeline.start().frame().iter_rows():\n    print(row)\n"
    "query = pipeline.start()\nwhile query.status == 'running' or not query.wait(1):\n    pass\n"
    "query.stop(), query.lag()['lag'].sum() + 1, f'{report.seconds:.1f}', flights.show(), flights.collect().height"
)


def write(folder: Path, *cells: str) -> None:
    """Write a notebook; its second cell is tagged."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(book, folder / "book.ipynb")


def export(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    code = "from streamlab.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "export", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={**os.environ, "STREAMLAB_LIMIT": "99", "STREAMLAB_STATE_DIR": str(folder / "state")},
    )


def test_a_notebook_becomes_a_worker_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    write(tmp_path, START, "limit = 15.0", STREAM, "", PIPELINE, RUN, "raise ValueError('in the end')")
    done = export(tmp_path, "book.ipynb", "-o", "late.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("late.py: pipeline 'late-flights', ")
    assert "parameters: --limit\n" in done.stdout
    assert "left out cell 1 line 3: %matplotlib\n" in done.stdout
    assert "left out cell 6 line 1: report = .run()\n" in done.stdout
    assert 'limit = worker.parameter("limit", 15.0)' in (tmp_path / "late.py").read_text()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["book.ipynb", "late.py"]
    assert not (tmp_path / "state").exists()


def test_a_needed_cell_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        START,
        "limit = 15.0",
        STREAM,
        "x = 1\nlimit = missing_file()",
        PIPELINE.replace("limit", "limit + x + y"),
        "y = 1 / 0",
    )
    done = export(tmp_path, "book.ipynb")
    assert done.returncode == 1
    assert "the notebook defines no pipeline" in done.stderr
    assert "cell 4 line 2: NameError: name 'missing_file' is not defined" in done.stderr
    assert "cell 5 line 1: NameError: name 'y' is not defined" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "worker.py").exists()


def test_a_file_that_is_not_there_or_no_notebook_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "book.ipynb").write_text("no notebook")
    done = export(tmp_path, "bok.ipynb")
    assert done.returncode == 1
    assert "no notebook 'bok.ipynb'. Did you mean 'book.ipynb'?" in done.stderr
    done = export(tmp_path, "book.ipynb")
    assert done.returncode == 1
    assert "'book.ipynb' is no Jupyter notebook: " in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_an_example(tmp_path: Path) -> None:
    done = export(tmp_path, "--help")
    assert done.returncode == 0
    assert "Example: streamlab export notebook.ipynb -o worker.py" in done.stdout
