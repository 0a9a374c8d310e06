from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlitedict import SqliteDict

from streamlab.errors import PlanError, StateDamagedError, StateError, StateLockedError
from streamlab.state import catalogue
from streamlab.state.catalogue import KEPT, PipelineEntry, Run, pipelines, record_run, runs
from streamlab.state.lock import FileLock

ROOT = Path(__file__).parents[3]
RUN = Run("delays", "c1", "2013-01-05T08:00:00+00:00", 1.5, 100, 7, 2, 1, "done")
WRITER = """
import sys
from streamlab.state.catalogue import Run, record_run
for n in range(30):
    record_run(Run(sys.argv[1], "c1", f"2013-01-05T08:00:{n:02d}+00:00", n, n, 0, 0, 0, "done"))
    record_run(Run("shared", "c1", f"2013-01-05T08:00:{n:02d}+00:00", n, n, 0, 0, 0, sys.argv[1]))
"""


def at(second: int) -> str:
    return f"2013-01-05T08:{second // 60:02d}:{second % 60:02d}+00:00"


@pytest.fixture(autouse=True)
def path(state_folder: Path) -> Path:
    return state_folder / "catalogue.sqlite"


def test_a_run_comes_back_as_it_was_written() -> None:
    failed = replace(RUN, started=at(90), outcome="failed", error="join: no column 'ü'")
    record_run(RUN)
    record_run(failed)
    assert runs() == runs("delays") == [RUN, failed]
    assert runs("other") == []
    assert pipelines() == [PipelineEntry("delays", "c1", 2, failed)]


def test_before_the_first_run_there_is_nothing_and_nothing_is_made(state_folder: Path) -> None:
    assert (runs(), pipelines()) == ([], [])
    assert not state_folder.exists()


def test_runs_of_all_pipelines_and_clusters_come_in_the_order_of_time() -> None:
    others = [
        replace(RUN, started=at(2)),
        replace(RUN, pipeline="a", started=at(3)),
        replace(RUN, cluster="c0", started=at(1)),
    ]
    for run in others:
        record_run(run)
    assert [run.started for run in runs()] == [at(1), at(2), at(3)]
    assert [(entry.pipeline, entry.cluster) for entry in pipelines()] == [
        ("a", "c1"),
        ("delays", "c0"),
        ("delays", "c1"),
    ]


def test_the_last_hundred_runs_of_each_pipeline_are_kept(path: Path) -> None:
    record_run(replace(RUN, pipeline="other"))
    with catalogue._opened(path) as table:
        write(table, [asdict(replace(RUN, started=at(second))) for second in range(KEPT - 1)])
    for second in range(KEPT - 1, KEPT + 5):
        record_run(replace(RUN, started=at(second)))
    assert [run.started for run in runs("delays")] == [at(second) for second in range(5, KEPT + 5)]
    assert len(runs("other")) == 1


def test_a_very_long_error_is_cut() -> None:
    record_run(replace(RUN, error="x" * 1_000_000))
    assert runs()[0].error == "x" * 2000


@pytest.mark.parametrize("started", ["2013-01-05T08:00:00", "2013-01-05T08:00:00+02:00", "yesterday", ""])
def test_a_time_that_is_not_utc_is_refused(started: str) -> None:
    with pytest.raises(StateError, match=r"is no time in UTC; '2013-01-05T08:00:00\+00:00' is"):
        record_run(replace(RUN, started=started))
    record_run(replace(RUN, started="2013-01-05T08:00:00Z"))


def test_names_that_no_folder_can_have_are_refused() -> None:
    with pytest.raises(PlanError):
        record_run(replace(RUN, pipeline="a/b"))
    with pytest.raises(PlanError):
        record_run(replace(RUN, cluster=".."))


def test_a_number_that_json_has_not_is_refused_and_the_rest_stays() -> None:
    record_run(RUN)
    with pytest.raises(StateError, match="the catalogue: Out of range float"):
        record_run(replace(RUN, seconds=float("nan")))
    assert runs() == [RUN]


def test_the_catalogue_is_for_this_user_alone_and_durable(path: Path) -> None:
    record_run(RUN)
    path.chmod(0o644)
    with catalogue._opened(path) as table:
        assert table.conn.select_one("PRAGMA synchronous") == (2,)
    assert [each.stat().st_mode & 0o777 for each in (path, path.parent)] == [0o600, 0o700]
    assert {each.name for each in path.parent.iterdir()} == {"catalogue.sqlite", "catalogue.sqlite.lock"}


def test_values_are_text_that_anybody_can_read(path: Path) -> None:
    record_run(RUN)
    with sqlite3.connect(path) as db:
        ((key, value),) = db.execute("SELECT key, value FROM runs").fetchall()
    db.close()
    assert key == "c1/delays"
    assert '"outcome":"done"' in value


def test_two_processes_and_this_one_write_at_once() -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name], cwd=ROOT) for name in ("one", "two")]
    threads = [threading.Thread(target=record_run, args=(replace(RUN, started=at(n)),)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert [(entry.pipeline, entry.runs) for entry in pipelines()] == [
        ("delays", 10),
        ("one", 30),
        ("shared", 60),
        ("two", 30),
    ]


def test_who_cannot_get_at_the_catalogue_gives_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_run(RUN)
    monkeypatch.setattr(catalogue, "_PATIENCE", 0.05)
    lock = FileLock(path)
    with pytest.raises(StateLockedError, match=r"catalogue\.sqlite: another query of this process"):
        record_run(RUN)
    lock.release()


def write(table: SqliteDict, value: list[object]) -> None:
    table["c1/delays"] = value
    table.commit()


def test_a_commit_that_fails_is_an_error_and_no_wait_for_ever(path: Path) -> None:
    record_run(RUN)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM runs").fetchall()
    with catalogue._opened(path) as table:
        table.conn.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            write(table, [])  # the commit needs the file alone, and sqlitedict's thread ends with the error
        assert not table.conn.is_alive()
        with pytest.raises(StateError, match="the catalogue's thread has ended"):
            table.commit()
    reader.close()
    assert runs() == [RUN]
    record_run(replace(RUN, started=at(1)))
    assert len(runs()) == 2


class Full(catalogue._Table):
    """A catalogue on a disk with no room for more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.conn.execute("PRAGMA max_page_count = 1")


def test_a_full_disk_is_an_error_that_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_run(RUN)
    large = replace(RUN, outcome="x" * 100_000)
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "_Table", Full)
        with pytest.raises(StateError, match=f"{path}: no room left while using the catalogue of runs"):
            record_run(large)
    assert runs() == [RUN]


def test_a_thread_that_has_ended_is_noticed_by_the_next_call(path: Path) -> None:
    with catalogue._opened(path) as table:
        table.conn.close()
        with pytest.raises(StateError, match="the catalogue's thread has ended"):
            table.conn.select_one("SELECT 1")


def test_nothing_is_printed_or_logged_when_it_fails(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with catalogue._opened(path) as table:
        table.conn.execute("INSERT INTO missing VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="no such table: missing"):
            table.commit()
    assert capfd.readouterr() == ("", "")


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_planted_in_it_is_never_unpickled(path: Path, tmp_path: Path) -> None:
    record_run(RUN)
    with SqliteDict(str(path), "runs", autocommit=True) as planted:
        planted["c1/delays"] = Canary(tmp_path / "sung")
    with pytest.raises(StateDamagedError, match=r"set aside as 'catalogue\.sqlite\.damaged-1'"):
        runs()
    assert not (tmp_path / "sung").exists()
    assert runs() == []
    record_run(RUN)
    assert runs() == [RUN]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE runs SET value = replace(value, '100', '900')",
        "UPDATE runs SET value = NULL",
        "UPDATE runs SET value = 7",
        "UPDATE runs SET value = x'ff'",
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END",
    ],
)
def test_what_somebody_changed_is_found_and_set_aside(path: Path, damage: str) -> None:
    record_run(RUN)
    with sqlite3.connect(path) as db:
        db.execute(damage)
    db.close()
    with pytest.raises(StateDamagedError, match="set aside"):
        runs()
    record_run(RUN)
    assert runs() == [RUN]


@pytest.mark.parametrize("keep", [0.9, 0.3])
def test_a_file_that_was_cut_is_set_aside(path: Path, keep: float) -> None:
    record_run(RUN)
    with catalogue._opened(path) as table:
        write(table, [asdict(replace(RUN, error="x" * 500))] * 60)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(StateDamagedError, match="set aside"):
        record_run(RUN)
    record_run(RUN)
    assert runs() == [RUN]


def test_runs_that_were_written_with_other_fields_are_damage(path: Path) -> None:
    with catalogue._opened(path) as table:
        write(table, [{"pipeline": "delays"}])
    with pytest.raises(StateDamagedError, match="what is no run"):
        runs()


def test_a_folder_below_a_file_cannot_hold_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "file" / "x"))
    with pytest.raises(StateError, match="Not a directory"):
        record_run(RUN)
    assert runs() == []
