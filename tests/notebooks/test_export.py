"""Notebooks become workers: the same plan, and the same results, or a refusal that names the line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from polars.testing import assert_frame_equal
from traitlets.config import Config

import streamlab as sl
from streamlab.export import planning
from streamlab.export.kernel import export_file
from streamlab.state.folders import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

BOOKS = Path(__file__).parent / "export"
ALIKE = ("helpers", "order", "redefinition", "magics", "classes", "lambdas", "changes", "nested")
SECONDS = 60


def events(count: int = 2_000) -> str:
    """Return JSON lines: nested, with ISO times in milliseconds, somewhat out of order."""
    chance, lines = random.Random(7), []  # noqa: S311  # records to count, not secrets
    begin = datetime(2024, 3, 1, 12, tzinfo=UTC)
    for n in range(count):
        at = begin + timedelta(milliseconds=n * 150 - chance.randrange(2_000))
        row = {
            "user": chance.choice(["ann", "bob", "cem"]),
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "amount": chance.randrange(4_000) / 100,
            "place": {"city": chance.choice(["Bonn", "Köln"]), "zone": chance.randrange(1, 5)},
            "tags": chance.sample(["new", "gift", "late"], chance.randrange(3)),
        }
        lines.append(json.dumps(row))
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the records that the notebooks read, and keep state there."""
    (tmp_path / "events.ndjson").write_text(events())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(STATE_DIR, str(tmp_path / "notebook-state"))
    return tmp_path


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """IPython as a kernel has it, in this process."""
    InteractiveShell.clear_instance()
    config = Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}})
    made = InteractiveShell.instance(config=config)
    main = sys.modules["__main__"]
    yield made
    made.reset(new_session=False)
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = main


def execute(shell: InteractiveShell, name: str) -> dict[str, Any]:
    """Execute a notebook's cells, in the order that its metadata says if there is one; return what it leaves."""
    book = nbformat.read(BOOKS / f"{name}.ipynb", as_version=4)
    for n in book.metadata.get("execution_order", range(len(book.cells))):
        if book.cells[n].cell_type == "code":
            shell.run_cell(book.cells[n].source, store_history=True, silent=False)
    found: dict[str, Any] = shell.user_ns
    return found


def worker(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the worker with a state of its own."""
    environment = {**os.environ, STATE_DIR: str(folder / "worker-state")}
    command = [sys.executable, "-W", "error", "worker.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)


def table(pipeline: str, state: Path, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """Return the table "out" that a pipeline left in a state folder, sorted."""
    monkeypatch.setenv(STATE_DIR, str(state))
    frame = sl.open_table(pipeline, "out").frame()
    return frame.sort([name for name, dtype in frame.schema.items() if not dtype.is_numeric()])


def assert_tidy(script: Path) -> None:
    """Fail unless ruff has nothing to say, by its own defaults and of the order of imports."""
    for command in (["check"], ["check", "--select", "I"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(script)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ALIKE)
def test_a_worker_has_the_notebooks_plan_and_gives_its_results(
    name: str, folder: Path, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = execute(shell, name)["pipeline"]
    exported = pipeline.export("worker.py")
    assert exported.fingerprint == planning.outline(pipeline.plan)["fingerprint"]
    assert_tidy(folder / "worker.py")
    done = worker(folder, "run", "--until", "latest")
    assert done.returncode == 0, done.stderr
    assert "records=2,000" in done.stderr
    ours = table(name, folder / "notebook-state", monkeypatch)
    theirs = table(name, folder / "worker-state", monkeypatch)
    assert ours.height >= 3
    assert_frame_equal(ours, theirs)


def test_parameters_become_flags_that_change_the_results(
    folder: Path, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(BOOKS / "nested.ipynb"))
    exported = execute(shell, "nested")["pipeline"].export("worker.py")
    assert exported.parameters == ("size", "least", "zones")
    assert worker(folder, "--zones", "[1]", "--least", "20", "run", "--until", "latest").returncode == 0
    rows = table("nested", folder / "worker-state", monkeypatch)
    lines = [json.loads(line) for line in (folder / "events.ndjson").read_text().splitlines()]
    wanted = [row for row in lines if row["place"]["zone"] == 1 and row["amount"] * 1.19 >= 20]
    assert rows["n"].sum() == sum(len(row["tags"]) for row in wanted)


def test_what_is_left_out_is_listed(folder: Path, shell: InteractiveShell) -> None:
    shown = repr(execute(shell, "magics")["pipeline"].export("worker.py"))
    for line in ("In[1] line 5: %load_ext", "In[2] line 1: %%time (its cell is kept)", "In[3] line 1: a shell command",
                 "In[5] line 1: %%bash and its cell", "In[7] line 1: chosen.preview()", "In[7] line 2: display()",
                 "In[8] line 3: report = .run()", "In[9] line 3: query = .start()"):  # fmt: skip
        assert f"left out {line}" in shown
    script = (folder / "worker.py").read_text()
    for word in ("autoreload", "echo", "bash", "display", "preview", "report", "assert", "files"):
        assert word not in script.split('"""', 2)[2]


REFUSED = {
    "missing": r"In\[4\] line 3: 'LIMIT' has no source: no executed cell binds it; what exec\(\)",
    "results": r"In\[3\] line 1: 'first' is the result of .collect\(\), which an export leaves out; write the value in a cell",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_source_is_refused_by_name_and_line(name: str, folder: Path, shell: InteractiveShell) -> None:
    pipeline = execute(shell, name)["pipeline"]
    with pytest.raises(sl.StreamlabError, match=REFUSED[name]):
        pipeline.export("worker.py")
    assert sorted(path.name for path in folder.glob("*.py")) == []


def test_outside_a_notebook_it_says_what_to_do_instead(tmp_path: Path) -> None:
    code = (
        "import polars as pl, streamlab as sl\n"
        "events = sl.from_frame(pl.DataFrame({'k': [1], 'ts': [0]}), event_time='ts')\n"
        "try:\n    sl.Pipeline([events.sink_table('t', key='k')], name='p').export('worker.py')\n"
        "except sl.StreamlabError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "there is no notebook here" in done.stdout
    assert "streamlab export notebook.ipynb" in done.stdout


def test_a_notebook_that_is_not_open_is_executed_with_nothing_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "several.ipynb").write_bytes((BOOKS / "several.ipynb").read_bytes())
    exported = export_file(folder / "several.ipynb", folder / "worker.py", "second")
    assert "cell 7 line 2: query = .start()" in exported.dropped
    assert not (folder / "notebook-state").exists()
    assert worker(folder, "run", "--until", "latest").returncode == 0
    assert table("second", folder / "worker-state", monkeypatch)["user"].to_list() == ["ann", "bob", "cem"]
    with pytest.raises(
        sl.StreamlabError, match="defines several pipelines: 'first', 'second'; say which: --pipeline NAME"
    ):
        export_file(folder / "several.ipynb", folder / "other.py")
    assert not (folder / "other.py").exists()
