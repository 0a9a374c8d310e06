"""A job is stopped: by Ctrl-C, SIGTERM, its time limit, twice, with -9. What was done is committed, and no kernel is left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import streamlab as sl
from tests.kafka.support import eventually
from tests.notebooks.jobs import SLOW, Done, ended, is_alive, job, notebook, started, stopped

if TYPE_CHECKING:
    import pytest

ENDLESS = (
    "from pathlib import Path\nimport os, threading\nPath('pid').write_text(str(os.getpid()))\nPath('here').touch()"
)
STUBBORN = """
while True:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
"""


def committed(done: Done, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the number of rows in the table that the pipeline has committed."""
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(done.folder / "state"))
    return int(sl.open_table("slow", "totals").frame()["n"].sum())


def test_sigterm_stops_a_running_pipeline_with_a_commit(tmp_path, monkeypatch) -> None:
    done = stopped(notebook(tmp_path / "slow.ipynb", SLOW + "pipeline.run()", "print('never')"), signal.SIGTERM)
    (ran,) = done.result["pipelines"]
    assert (done.code, done.result["exit_code"], done.result["outcome"]) == (143, 143, "terminated")
    assert done.result["error"] == {"type": "KeyboardInterrupt", "message": "terminated by SIGTERM", "cell": 1}
    assert ran["status"] == "stopped"
    assert 40_000 <= ran["records"] < 3_000_000
    assert committed(done, monkeypatch) == ran["records"]
    assert [name for name, _ in done.marks] == ["KeyboardInterrupt"]
    assert "never" not in "".join(done.texts)
    assert done.err.startswith("terminated in cell 1 after ")
    assert f"committed: slow read {ran['records']:,} records" in done.err


def test_ctrl_c_stops_a_query_that_runs_on_after_the_last_cell_with_a_commit(tmp_path, monkeypatch) -> None:
    done = stopped(notebook(tmp_path / "slow.ipynb", SLOW, "query = pipeline.start()"), signal.SIGINT)
    (ran,) = done.result["pipelines"]
    assert (done.code, done.result["exit_code"], done.result["outcome"]) == (130, 130, "interrupted")
    assert (ran["status"], done.result["error"]["cell"]) == ("stopped", None)
    assert ran["records"] < 3_000_000
    assert committed(done, monkeypatch) == ran["records"]
    assert done.marks == [("KeyboardInterrupt", "interrupted by SIGINT")]


def test_the_time_limit_stops_the_notebook_with_a_commit_and_the_next_run_goes_on(tmp_path, monkeypatch) -> None:
    cells = (SLOW.replace("3_000_000", "600_000"), "state.pause = pause", "query = pipeline.start()\nquery.wait()")
    path = notebook(tmp_path / "slow.ipynb", *cells, parameters="pause = 1.0")
    first = job(path, "--timeout", "6")
    (ran,) = first.result["pipelines"]
    assert (first.code, first.result["outcome"], first.result["error"]["type"]) == (1, "timeout", "TimeoutError")
    assert first.result["error"]["message"] == "the time limit of 6 s is over"
    assert 0 < ran["records"] < 600_000
    assert committed(first, monkeypatch) == ran["records"]
    second = job(path, "-p", "pause", "0")
    assert second.code == 0, second.err
    assert second.result["pipelines"][0]["records"] == 600_000 - ran["records"]
    assert committed(second, monkeypatch) == 600_000


def test_a_second_signal_ends_a_notebook_that_does_not_listen(tmp_path) -> None:
    path = notebook(tmp_path / "stubborn.ipynb", ENDLESS, STUBBORN, "print('never')")
    with started(path) as process:
        eventually((tmp_path / "here").exists, "the notebook gets to the place")
        process.send_signal(signal.SIGTERM)
        assert any("terminated by SIGTERM: stopping" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
        done = ended(process, path)
    assert (done.code, done.result["outcome"]) == (143, "terminated")
    assert done.result["seconds"] < 20
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert done.marks == [("KeyboardInterrupt", "terminated by SIGTERM")]


def test_no_kernel_survives_a_job_that_is_killed(tmp_path) -> None:
    with started(notebook(tmp_path / "endless.ipynb", ENDLESS, STUBBORN)) as process:
        eventually((tmp_path / "here").exists, "the notebook gets to the place")
        process.kill()
    kernel = int((tmp_path / "pid").read_text())
    eventually(lambda: not is_alive(kernel), "the kernel ends by itself", seconds=20)
    assert not (tmp_path / "result.json").exists()
