"""The command line as a stranger meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

import streamlab as sl
from streamlab.state.folders import STATE_DIR

if TYPE_CHECKING:
    from pathlib import Path


def streamlab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, 200 columns wide."""
    code = "from streamlab.cli import main; main()"
    env = {**os.environ, "COLUMNS": "200", "PYTHONWARNINGS": "error", **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=env, timeout=120, check=False
    )


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with one pipeline in it."""
    monkeypatch.setenv(STATE_DIR, str(tmp_path))
    rows = pl.DataFrame({"user": ["a", "b", "a"], "ts": [0, 1, 120_000]})
    events = sl.from_frame(rows, event_time="ts", topic="events")
    counts = events.group_by("user").window(sl.tumbling("1m"), name="per-minute").agg(pl.len().alias("n"))
    sl.Pipeline([counts.sink_table("counts")], name="user-counts").run()
    return tmp_path


def test_without_arguments_it_says_what_there_is() -> None:
    shown = streamlab("--help").stdout
    for command in ("demo", "doctor", "lag", "state", "reset"):
        assert command in shown


@pytest.mark.parametrize("command", ["demo", "doctor", "lag", "state", "reset"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = streamlab(command, "--help")
    assert done.returncode == 0
    assert f"Example: streamlab {command}" in done.stdout


def test_state_lists_pipelines_and_shows_the_steps_of_one(kept: Path) -> None:
    listed = streamlab("state", STREAMLAB_STATE_DIR=str(kept))
    assert "user-counts" in listed.stdout
    shown = streamlab("state", "user-counts", STREAMLAB_STATE_DIR=str(kept)).stdout
    assert "per-minute" in shown
    assert "table:counts" in shown
    assert "events: next offsets p0 3" in shown


def test_an_unknown_pipeline_is_an_error_that_names_the_near_miss(kept: Path) -> None:
    done = streamlab("state", "user-count", STREAMLAB_STATE_DIR=str(kept))
    assert done.returncode == 1
    assert "Did you mean 'user-counts'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_reset_changes_nothing_until_told_yes(kept: Path) -> None:
    first = streamlab("reset", "user-counts", STREAMLAB_STATE_DIR=str(kept))
    assert "nothing was changed" in first.stdout
    assert len(sl.open_table("user-counts", "counts")) == 2
    second = streamlab("reset", "user-counts", "--yes", STREAMLAB_STATE_DIR=str(kept))
    assert second.returncode == 0
    with pytest.raises(sl.StreamlabError, match="no pipeline 'user-counts'"):
        sl.open_table("user-counts", "counts")


def test_lag_without_a_broker_shows_positions(kept: Path) -> None:
    shown = streamlab("lag", "user-counts", STREAMLAB_STATE_DIR=str(kept)).stdout
    assert "events" in shown
    assert "1970-01-01 00:02:00" in shown


def test_doctor_names_a_broker_that_does_not_answer(tmp_path: Path) -> None:
    done = streamlab("doctor", "--bootstrap-servers", "127.0.0.1:1", STREAMLAB_STATE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout
    assert "polars" in done.stdout
