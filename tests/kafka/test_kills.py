"""kill -9 at every point of the commit, and at any time under load: nothing is lost, and what is kept with the offsets is never doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

import streamlab as sl
from streamlab.runtime.checkpoint import STEPS
from tests.kafka import kill_worker
from tests.kafka.kill_worker import pipeline_of
from tests.kafka.support import (
    SECONDS,
    assert_at_least_once,
    assert_same,
    assert_settled,
    batch_answer,
    close_windows,
    committed,
    comparable,
    flights,
    head,
    results,
    send_flights,
)

ROOT = Path(__file__).parents[2]
FLIGHTS = 15_000
KILLS = 4


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def worker(bootstrap, tmp_path):
    """Start workers; none is left behind."""
    started: list[subprocess.Popen[str]] = []

    def start(topic: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.kafka.kill_worker", kill_worker.__name__]
        command += [bootstrap, topic, str(tmp_path), *arguments]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ.copy()))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def assert_whole(bootstrap: str, topic: str, folder: Path) -> int:
    """Fail if anything is lost or, but in Kafka, doubled; return how many windows came twice there."""
    expected = batch_answer(flights(FLIGHTS))
    assert_same(comparable(sl.open_table(f"p-{topic}", "delays").frame()), expected)
    assert_same(comparable(pl.read_parquet(folder / "parquet" / "*.parquet")), expected)
    assert_settled(bootstrap, f"p-{topic}", topic)
    return assert_at_least_once(results(bootstrap, f"{topic}-out"), expected)


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_a_step_of_the_commit_goes_on_where_it_was(bootstrap, topic, tmp_path, worker, step):
    source = topic("flights")
    send_flights(bootstrap, source, flights(FLIGHTS))
    close_windows(bootstrap, source)
    for nth in (1, 14):
        assert worker(source, step, str(nth)).wait(SECONDS) == -signal.SIGKILL
        kept, (_, marks) = head(f"p-{source}"), committed(bootstrap, f"p-{source}", source)
        in_step = marks == (set() if kept is None else {kept.id})
        assert in_step == (step != "committed")  # the one place where Kafka knows and the state does not
    pipeline_of(bootstrap, source, tmp_path).run()
    doubled = assert_whole(bootstrap, source, tmp_path)
    assert step == "staged" or (doubled > 0) == (step == "flushed")  # what was staged may have been sent already


def test_a_worker_killed_at_any_time_under_load_loses_nothing(bootstrap, topic, tmp_path, worker):
    source, chance = topic("flights"), random.Random(11)  # noqa: S311  # the same times in every run
    for part in flights(FLIGHTS).iter_slices(FLIGHTS // KILLS):
        few = part.height // 5
        send_flights(bootstrap, source, part.head(few))  # before the start: an empty partition is idle at once
        sending = threading.Thread(target=send_slowly, args=(bootstrap, source, part.tail(-few), few))
        sending.start()
        process = worker(source)
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        with pytest.raises(subprocess.TimeoutExpired):  # it would go on for ever
            process.wait(chance.uniform(0, 0.4))
        process.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL
        sending.join()
    close_windows(bootstrap, source)
    report = pipeline_of(bootstrap, source, tmp_path).run()
    assert 0 < report.records < FLIGHTS
    assert_whole(bootstrap, source, tmp_path)


def send_slowly(bootstrap: str, topic: str, part: pl.DataFrame, few: int) -> None:
    for some in part.iter_slices(few):
        send_flights(bootstrap, topic, some)
