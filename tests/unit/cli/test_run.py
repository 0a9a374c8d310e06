"""What `streamlab run` takes and refuses, before any kernel is started."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import nbformat
import pytest
from typer.testing import CliRunner

from streamlab.cli import app, run
from streamlab.cli.job_result import Error, Result, Runs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a notebook with parameters, and one without."""
    monkeypatch.chdir(tmp_path)
    for name, tags in (("daily", ["parameters"]), ("plain", [])):
        book = nbformat.v4.new_notebook()
        book.cells.append(nbformat.v4.new_code_cell('date = "2013-01-05"\nn = 5', metadata={"tags": tags}))
        nbformat.write(book, tmp_path / f"{name}.ipynb")
    (tmp_path / "text.ipynb").write_text("no notebook")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "broken.yaml").write_text("a: [1")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dialy.ipynb"], "no notebook 'dialy.ipynb'. Did you mean 'daily.ipynb'?"),
        (["text.ipynb"], "'text.ipynb' is no Jupyter notebook: "),
        (["daily.ipynb", "-p", "dat", "x"], "has no parameter 'dat'; it has ['date', 'n']. Did you mean 'date'?"),
        (["plain.ipynb", "-p", "date", "x"], "none of its cells is tagged 'parameters'"),
        (["daily.ipynb", "-f", "nope.yaml"], "-f 'nope.yaml': No such file or directory."),
        (["daily.ipynb", "-f", "list.yaml"], "-f 'list.yaml' holds no parameters"),
        (["daily.ipynb", "-f", "broken.yaml"], "-f 'broken.yaml' is no YAML"),
        (["daily.ipynb", "--kernel", "pyton3"], "no Jupyter kernel 'pyton3'"),
        (["daily.ipynb", "--timeout", "0"], "--timeout 0: the time limit is a number of seconds above 0"),
        (["daily.ipynb", "--timeout", "nan"], "--timeout nan: the time limit"),
        (["daily.ipynb", "-o", "daily.ipynb"], "'daily.ipynb' is the notebook itself"),
        (["daily.ipynb", "-o", "folder"], "'folder' is a folder"),
        (["daily.ipynb", "-o", "text.ipynb/out.ipynb"], "no file can be made in 'text.ipynb'"),
        (["daily.ipynb", "-o", "out-{dat}.ipynb"], "braces name a parameter"),
        (["daily.ipynb", "--result", "folder"], "'folder' is a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_run_is_refused_with_code_2_in_one_line(folder: Path, arguments: list[str], said: str) -> None:
    before = sorted(folder.iterdir())
    done = CliRunner().invoke(app, ["run", *arguments])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["daily.ipynb", "-p", "date"], "-p takes a name and a value: -p NAME VALUE."),
        (["daily.ipynb", "-r"], "-r takes a name and a value"),
        (["daily.ipynb", "--timeout", "soon"], "--timeout"),
        (["daily.ipynb", "--time", "5"], "No such option"),
        ([], "Missing argument"),
    ],
    ids=["-p", "-r", "--timeout", "unknown", "none"],
)
def test_a_wrong_flag_is_usage(folder: Path, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["run", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_an_example_and_the_exit_codes() -> None:
    shown = " ".join(CliRunner().invoke(app, ["run", "--help"]).stdout.split())
    assert "Example: streamlab run notebook.ipynb -p date 2013-01-05 -p n 5 -o out.ipynb" in shown
    assert "130 interrupted; 143 terminated" in shown


def test_without_the_extra_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["run", "daily.ipynb"])
    assert done.exit_code == 2
    assert done.stderr == "error: streamlab run needs papermill and ipykernel: pip install 'streamlab[notebook]'\n"


def test_nothing_of_papermill_is_imported_by_the_package_or_its_commands() -> None:
    code = (
        "import sys, streamlab, streamlab.cli\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('papermill', 'nbclient', 'nbformat', 'jupyter_client')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "text", ["5", "-5", "0.5", "1e3", "True", "False", "None", "true", "2013-01-05", "", "nan", "007", " 5"]
)
def test_values_are_typed_as_papermill_types_them(text: str) -> None:
    from papermill.cli import _resolve_type

    assert repr(run.typed(text)) == repr(_resolve_type(text))


def test_parameters_come_from_files_then_from_the_command_line(folder: Path) -> None:
    (folder / "more.yaml").write_text("date: 2013-01-05\nn: 1\ncarriers: [AA, UA]\n")
    found = run._parameters([folder / "more.yaml"], ["n\0002", "name\0 5 "], ["n\0003"])
    assert found == {"date": "2013-01-05", "n": "3", "carriers": ["AA", "UA"], "name": 5}


def test_half_a_line_of_a_killed_kernel_is_left_and_a_run_without_an_end_was_killed(tmp_path: Path) -> None:
    line = {
        "run": 0, "name": "p", "fingerprint": "f", "since": None, "records": 5, "processed": 5, "results": 1, "late": 0, "late_rows": 0,
        "dead_letters": 0, "skipped": 0, "seconds": 1.0, "status": "running", "error": None,
    }  # fmt: skip
    path = tmp_path / "runs"
    runs = Runs(path, {})
    assert runs.told() == []
    path.write_text(json.dumps(line) + "\n" + json.dumps(line | {"records": 9})[:20])
    assert (runs.told()[0]["status"], runs.told()[0]["records"]) == ("killed", 5)
    path.write_text(json.dumps(line) + "\n" + json.dumps(line | {"records": 9, "status": "stopped"}) + "\n")
    assert (runs.told()[0]["status"], runs.told()[0]["records"]) == ("stopped", 9)
    assert runs.failed() is None


def test_a_run_that_failed_and_was_run_again_with_success_is_no_failure(tmp_path: Path) -> None:
    line = {"run": 0, "name": "p", "fingerprint": "f", "records": 5, "status": "failed"}
    path = tmp_path / "runs"
    path.write_text(json.dumps(line) + "\n")
    runs = Runs(path, {})
    assert runs.failed() == line
    with path.open("a") as file:
        file.write(json.dumps(line | {"run": 1, "status": "stopped"}) + "\n")
    assert runs.failed() is None


def test_a_result_is_written_whole_and_replaces_the_last(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    error = Error("KeyError", "'x'", 3)
    Result("failed", 1, "a", "b", {"n": 1}, "2013-01-05T00:00:00+00:00", 1.5, [], error).write(path)
    assert json.loads(path.read_text())["error"] == {"type": "KeyError", "message": "'x'", "cell": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
