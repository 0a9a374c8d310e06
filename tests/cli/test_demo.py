"""The demo as a stranger meets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from streamlab.cli import app, demo, demo_check

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The whole demo, once, beside a kernel of the same name that is none."""
    folder = tmp_path_factory.mktemp("demo")
    other = tmp_path_factory.mktemp("jupyter")
    (other / "kernels" / "python3").mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "another Python", "language": "python"}
    (other / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    code = "from streamlab.cli import main; main()"
    env = {**os.environ, "COLUMNS": "100", "PYTHONWARNINGS": "error", "JUPYTER_PATH": str(other)}
    done = subprocess.run(
        [sys.executable, "-c", code, "demo"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done, folder / "streamlab-demo"


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["demo", *arguments])


def test_the_notebook_its_worker_and_polars_give_the_same(finished):
    done, folder = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal: every window, every count and every mean, in all three" in done.stdout
    expected = demo_check.answer(demo.WINDOW, demo.GRACE)
    rows = pl.read_parquet(folder / "delays.parquet")
    assert rows.height == expected.closed.height > 500
    assert demo_check.differences(rows, expected.closed).height == 0
    assert done.stdout.count(f"{rows.height:,}") == 3
    assert f"{expected.late:,} are late" in done.stdout


def test_it_says_nothing_to_developers(finished):
    done, _ = finished
    assert done.stderr == ""
    assert "Traceback" not in done.stdout


def test_it_leaves_the_notebook_a_page_and_the_worker(finished):
    _, folder = finished
    assert {path.name for path in folder.iterdir()} == {"01-tour.ipynb", "01-tour.html", "worker.py", "delays.parquet"}


def test_the_page_shows_its_results_with_no_kernel_no_network_and_no_script(finished):
    _, folder = finished
    page = (folder / "01-tour.html").read_text()
    assert "27,007 records" in page
    assert "saved picture" in page
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "@import" not in page
    assert len(page) < 500_000


def test_the_worker_stands_on_its_own(finished):
    _, folder = finished
    done = subprocess.run(
        [sys.executable, str(folder / "worker.py"), "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "--bootstrap-servers" in done.stdout
    assert "--window" in done.stdout  # a parameter of the tour


# --- what it compares ---


def test_polars_answer_counts_every_flight_once():
    found = demo_check.answer("3h", "2h")
    assert found.in_time + found.late == found.flown
    assert 0 < found.still_open < 10
    assert found.closed["flights"].sum() < found.in_time


def altered(rows: pl.DataFrame, **values: object) -> pl.DataFrame:
    first = pl.int_range(pl.len()) == 0
    return rows.with_columns(pl.when(first).then(value).otherwise(name).alias(name) for name, value in values.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: altered(rows, flights=pl.col("flights") + 1),
        lambda rows: altered(rows, mean_delay=pl.col("mean_delay") + 1e-6),
        lambda rows: altered(rows, mean_delay=pl.lit(None, pl.Float64)),
        lambda rows: altered(rows, worst=pl.lit(None, pl.Float64)),
        lambda rows: altered(rows, window_end=pl.col("window_end").dt.offset_by("1h")),
        lambda rows: rows.head(-1),
        lambda rows: pl.concat([rows, rows.head(1)]),
        lambda rows: rows.clear(),
    ],
)
def test_a_window_that_is_not_the_same_missing_or_there_twice_is_found(change):
    rows = demo_check.answer("3h", "2h").closed
    assert demo_check.differences(change(rows), rows).height > 0
    assert demo_check.differences(rows, change(rows)).height > 0


def test_means_may_differ_by_their_last_digits_and_rows_in_order():
    rows = demo_check.answer("3h", "2h").closed
    near = rows.with_columns(pl.col("mean_delay") * (1 + 1e-12)).sample(fraction=1, shuffle=True, seed=1)
    assert_frame_equal(demo_check.differences(near, rows), demo_check.differences(rows, rows))


# --- what can go wrong ---


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """The demo with its two runs left out: both give the right answer."""
    rows = demo_check.answer(demo.WINDOW, demo.GRACE).closed
    monkeypatch.setattr(demo, "_notebook", lambda *_: demo.Way("notebook", "", rows, 1.0))
    monkeypatch.setattr(demo, "_worker", lambda *_: demo.Way("worker.py", "", rows, 1.0))
    return rows


def test_equal_is_a_success(quick, tmp_path):
    assert invoke("--folder", str(tmp_path)).exit_code == 0


@pytest.mark.parametrize("which", ["notebook", "worker"])
def test_a_result_that_differs_is_a_failure_that_shows_it(quick, which, monkeypatch, tmp_path):
    wrong = altered(quick, flights=pl.col("flights") + 1)
    monkeypatch.setattr(demo, f"_{which}", lambda *_: demo.Way(which, "", wrong, 1.0))
    done = invoke("--folder", str(tmp_path))
    assert done.exit_code == 1
    assert f"DIFFERENT: {which}, 1 windows" in done.stdout
    assert "equal:" not in done.stdout


def test_a_worker_that_fails_is_told_with_what_it_said(tmp_path, monkeypatch):
    rows = demo_check.answer(demo.WINDOW, demo.GRACE).closed
    monkeypatch.setattr(demo, "_notebook", lambda *_: demo.Way("notebook", "", rows, 1.0))
    (tmp_path / "worker.py").write_text("import sys; sys.exit('no such topic [flights]')")
    done = invoke("--folder", str(tmp_path))
    assert done.exit_code == 1
    assert "worker.py ended with exit code 1" in str(done.exception)
    assert "no such topic [flights]" in str(done.exception)


def test_without_the_notebook_extra_it_says_in_one_line_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name in ("papermill", "bokeh") else name)
    done = invoke("--folder", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert done.stdout == "The demo runs a notebook and needs papermill, bokeh: pip install 'streamlab[notebook]'\n"
    assert not (tmp_path / "out").exists()


def test_open_without_jupyterlab_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "jupyterlab" else name)
    done = invoke("--open", "--folder", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "pip install 'streamlab[notebook]' jupyterlab" in done.stdout


def test_open_starts_jupyterlab_on_an_endless_tour_and_keeps_what_was_written_there(monkeypatch, tmp_path):
    started = []

    def start(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo.subprocess, "run", start)
    tour = tmp_path / "tour.ipynb"
    assert invoke("--open", "--folder", str(tmp_path)).exit_code == 0
    assert started[0][:4] == [sys.executable, "-m", "jupyterlab", str(tour)]
    assert started[0][4:] == (["--allow-root"] if os.geteuid() == 0 else [])
    assert "endless = True" in tour.read_text()
    tour.write_text("mine")
    assert invoke("--open", "--folder", str(tmp_path)).exit_code == 0
    assert tour.read_text() == "mine"
