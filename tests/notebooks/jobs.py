"""What the tests of jobs share: notebooks made of cells, jobs in processes of their own, what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from tests.kafka.support import eventually

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

    from nbformat import NotebookNode

SECONDS = 120
RECIPES = Path(__file__).parents[2] / "recipes"
_COMMAND = [sys.executable, "-c", "from streamlab.cli import main; main()", "run"]

SLOW = """
import threading
from pathlib import Path
import polars as pl, streamlab as sl
def slow(frame):
    threading.Event().wait(state.pause)
    if state.add(frame.height) >= 40_000:
        Path("here").touch()
class State:
    rows, pause = 0, 0.05
    def add(self, n):
        self.rows += n
        return self.rows
state = State()
rows = pl.DataFrame({"user": ["a"] * 3_000_000, "ts": range(3_000_000)})
events = sl.from_frame(rows, event_time="ts", topic="events")
totals = events.group_by("user").agg(pl.len().alias("n"))
pipeline = sl.Pipeline([events.sink_frame(slow), totals.sink_table("totals")], name="slow")
"""
"""Cell: a pipeline of some seconds, which makes the file `here` once it has come some way."""


def notebook(path: Path, *cells: str, parameters: str | None = None) -> Path:
    """Write a notebook of code cells; the first one tagged, if it has parameters."""
    book = nbformat.v4.new_notebook()
    if parameters is not None:
        book.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    book.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(book, path)
    return path


@dataclass(frozen=True, slots=True)
class Done:
    """How a job ended, and what it left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        """What `result.json` holds."""
        return json.loads((self.folder / "result.json").read_text())

    @property
    def book(self) -> NotebookNode:
        """The executed notebook."""
        return nbformat.read(self.result["output"], as_version=4)

    @property
    def texts(self) -> list[str]:
        """What its cells show, as text."""
        outputs = [output for cell in self.book.cells for output in cell.get("outputs", ())]
        return [
            output.text if "text" in output else output.get("data", output).get("text/plain", "") for output in outputs
        ]

    @property
    def marks(self) -> list[tuple[str, str]]:
        """Names and texts of the errors that its cells show."""
        outputs = [output for cell in self.book.cells for output in cell.get("outputs", ())]
        return [(output.ename, output.evalue) for output in outputs if output.output_type == "error"]


def job(path: Path, *options: str, cwd: Path | None = None, **environment: str) -> Done:
    """Run a notebook as a job, to its end."""
    with started(path, *options, cwd=cwd, **environment) as process:
        return ended(process, path, cwd)


@contextmanager
def started(path: Path, *options: str, cwd: Path | None = None, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a notebook as a job; it is over when the block is."""
    env = {**os.environ, "STREAMLAB_STATE_DIR": str((cwd or path.parent) / "state"), **environment}
    process = subprocess.Popen(
        [*_COMMAND, str(path), *options],
        cwd=cwd or path.parent, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], path: Path, cwd: Path | None = None) -> Done:
    """Wait for a job."""
    out, err = process.communicate(timeout=SECONDS)
    return Done(process.returncode, out, err, cwd or path.parent)


def stopped(path: Path, *signals: signal.Signals, options: tuple[str, ...] = ()) -> Done:
    """Run a job that makes the file `here`, and then send it signals."""
    here = path.parent / "here"
    here.unlink(missing_ok=True)
    with started(path, *options) as process:
        eventually(lambda: here.exists() or process.poll() is not None, "the notebook gets to the place")
        for number in signals:
            process.send_signal(number)
        return ended(process, path)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is not just waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
