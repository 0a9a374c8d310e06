"""A notebook as a job: what has arrived since last time, then the end; what is left, and what is said."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.jobs import Done, job, notebook

PIPELINE = """
import subprocess, sys, threading
import polars as pl, streamlab as sl
from IPython.display import display
rows = pl.DataFrame({"user": ["a", "b"] * n, "ts": range(2 * n)})
events = sl.from_frame(rows, event_time="ts", topic="events")
counts = events.group_by("user").window(sl.tumbling("1m"), emit="updates").agg(pl.len().alias("n"))
"""
KEYS = [
    "outcome", "exit_code", "notebook", "output", "parameters", "started", "seconds", "pipelines", "error",
]  # fmt: skip
RUN_KEYS = [
    "name", "fingerprint", "records", "processed", "results", "late", "late_rows", "dead_letters", "skipped", "seconds", "status", "error",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    """One notebook, written for exploring, run three times as a job."""
    path = notebook(
        tmp_path_factory.mktemp("job") / "counts {x}.ipynb",
        PIPELINE,
        'query = sl.Pipeline([counts.sink_table("counts")], name="counts").start()',
        'shown = display("before", display_id=True)\n'
        'later = threading.Thread(target=lambda: (query.wait(), shown.update("after")))\nlater.start()',
        'print(subprocess.run([sys.executable, "-c", "import os; print(os.environ.get(\'STREAMLAB_JOB\'))"], '
        "capture_output=True, text=True).stdout)",
        "later.join()",
        "print(n, password, label)",
        parameters='n = 5\npassword = ""\nlabel = "x"',
    )
    given = ("-p", "n", "20", "-p", "password", "hunter2", "-r", "label", "007")
    first = job(path, *given)
    kept = Done(first.code, first.out, first.err, path.parent / "first")
    kept.folder.mkdir()
    text = (path.parent / "result.json").read_text()
    for name in ("result.json", "counts {x}.out.ipynb"):
        (path.parent / name).rename(kept.folder / name)
    (kept.folder / "result.json").write_text(text.replace(str(path.parent), str(kept.folder)))
    return [
        kept,
        job(path, *given),
        job(path, *given, "--fail-if-nothing", "--result", "other/place.json", "-o", "o-{n}.ipynb"),
    ]


def test_a_job_is_done_with_code_0_and_leaves_its_result(runs: list[Done]) -> None:
    result = runs[0].result
    assert runs[0].code == 0
    assert list(result) == KEYS
    assert (result["outcome"], result["exit_code"], result["error"]) == ("done", 0, None)
    (ran,) = result["pipelines"]
    assert list(ran) == RUN_KEYS
    assert (ran["name"], ran["records"], ran["processed"], ran["status"]) == ("counts", 40, 40, "stopped")
    assert result["notebook"].endswith("counts {x}.ipynb")


def test_parameters_are_typed_and_secrets_are_in_no_file(runs: list[Done]) -> None:
    assert runs[0].result["parameters"] == {"n": 20, "password": "***", "label": "007"}
    injected = next(cell for cell in runs[0].book.cells if "injected-parameters" in cell.metadata.tags)
    assert injected.source == '# Parameters\nn = 20\npassword = "***"\nlabel = "007"\n'
    shown = runs[0].texts[-1]
    assert shown == "20 hunter2 007\n"  # the notebook was given it, and printed it itself
    texts = [file.read_text() for file in runs[0].folder.iterdir()]
    assert sum(text.count("hunter2") for text in texts) == 1


def test_the_executed_notebook_is_papermills_and_has_no_cell_too_many(runs: list[Done]) -> None:
    book = runs[0].book
    assert len(book.cells) == 8  # the seven it has, and the injected one
    assert book.metadata.papermill.exception is None
    assert book.metadata.papermill.parameters == {"n": 20, "password": "***", "label": "007"}
    assert {cell.metadata.papermill.status for cell in book.cells} == {"completed"}
    assert [cell.execution_count for cell in book.cells] == list(range(1, 9))


def test_what_a_thread_of_an_earlier_cell_shows_is_in_the_executed_notebook(runs: list[Done]) -> None:
    assert "'after'" in runs[0].texts
    assert "'before'" not in runs[0].texts


def test_a_program_that_the_notebook_starts_is_no_part_of_the_job(runs: list[Done]) -> None:
    assert "None\n\n" in runs[0].texts


def test_the_screen_says_what_was_done_and_where_it_is_and_nothing_else(runs: list[Done]) -> None:
    first, *told = runs[0].out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ running .*counts \{x\}\.ipynb", first)
    told = [line for line in told if not re.match(r"\d\d:\d\d:\d\dZ (the kernel is starting|cell \d of 8)", line)]
    assert len(told) == 2
    assert re.fullmatch(r"done in \d+\.\d s: counts read 40 records, 2 results", told[0])
    assert re.fullmatch(r"notebook: .*counts \{x\}\.out\.ipynb, result: .*result\.json", told[1])
    assert runs[0].err == ""


def test_a_second_run_with_nothing_new_does_nothing_and_says_so(runs: list[Done]) -> None:
    result = runs[1].result
    assert runs[1].code == 0
    assert (result["outcome"], result["exit_code"], result["pipelines"][0]["records"]) == ("nothing", 0, 0)
    assert re.search(r"nothing new for counts since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", runs[1].out)


def test_nothing_new_can_be_a_failure_of_its_own(runs: list[Done]) -> None:
    assert runs[2].code == 3
    elsewhere = (runs[2].folder / "other" / "place.json").read_text()
    assert '"exit_code": 3' in elsewhere
    assert '"outcome": "nothing"' in elsewhere
    assert (runs[2].folder / "o-20.ipynb").exists()


def test_a_cell_that_fails_is_named_with_its_error_and_no_traceback(tmp_path) -> None:
    path = notebook(tmp_path / "fails.ipynb", "import streamlab", "1 / 0", "print('never')")
    done = job(path, "-o", str(tmp_path / "new" / "out.ipynb"), "--result", str(tmp_path / "result.json"))
    assert done.code == 1
    assert done.result["outcome"] == "failed"
    assert done.result["error"] == {"type": "ZeroDivisionError", "message": "division by zero", "cell": 2}
    assert re.match(r"failed in cell 2 after \d+\.\d s: ZeroDivisionError: division by zero\n", done.err)
    assert "Traceback" not in done.err + done.out
    assert str(tmp_path / "new" / "out.ipynb") in done.err
    assert done.marks == [("ZeroDivisionError", "division by zero")]
    assert "An Exception was encountered" in done.book.cells[0].source  # papermill's own mark
    assert "never" not in "".join(done.texts)


def test_a_query_that_fails_in_the_background_makes_the_job_fail(tmp_path) -> None:
    path = notebook(
        tmp_path / "background.ipynb",
        PIPELINE.replace("n,", "5,").replace("* n", "* 5"),
        "def broken(frame):\n    raise OSError('disk full')",
        "query = sl.Pipeline([counts.sink_frame(broken)], name='broken').start()",
        "'the last cell is done'",
    )
    done = job(path)
    (ran,) = done.result["pipelines"]
    assert (done.code, done.result["outcome"], ran["status"]) == (1, "failed", "failed")
    assert "disk full" in ran["error"]["message"]
    assert "pipeline 'broken' failed" in done.err
    assert done.result["error"]["cell"] is None
    assert len(done.marks) == 1
    assert "disk full" in done.marks[0][1]


def test_a_kernel_that_dies_fails_the_job_and_says_how(tmp_path) -> None:
    done = job(notebook(tmp_path / "dies.ipynb", "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)", "1"))
    assert done.code == 1
    assert done.result["error"]["cell"] == 2
    assert "the kernel was killed by signal 9" in done.result["error"]["message"]
    assert [name for name, _ in done.marks] == ["DeadKernelError"]


def test_a_broker_that_is_not_there_fails_the_job_in_time_and_is_named(tmp_path) -> None:
    path = notebook(
        tmp_path / "gone.ipynb",
        "import polars as pl, streamlab as sl",
        "stream = sl.Kafka().stream('t', schema={'user': pl.String})",
        "sl.Pipeline([stream.sink_table('t', key='user')], name='gone').run()",
    )
    done = job(path, "--bootstrap-servers", "127.0.0.1:1")
    assert done.code == 1
    assert done.result["error"]["cell"] == 3
    assert done.result["error"]["type"] in ("BrokerError", "OutageError")
    assert "127.0.0.1:1" in done.err
    assert done.result["seconds"] < 25
    assert done.result["pipelines"] == []
