from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamlab.errors import StateDamagedError, StateError
from streamlab.state.snapshot import read_head
from streamlab.state.sqlite import SqliteStore
from streamlab.state.store import Size

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.unit.state.conftest import Commit

ROOT = Path(__file__).parents[3]
READER = """
import sys
from streamlab.state.snapshot import read_head
with read_head(sys.argv[1]) as snapshot:
    print(snapshot.checkpoint.number, dict(snapshot.segments("s/")), flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c1" / "delays" / "state.sqlite"


def read_elsewhere(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_the_head_is_read_beside_a_running_engine_and_stays_as_it_was(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        first = commit(store, {"s/1": b"one", "t/1": b"other"})
        commit.stage(store, {"s/2": b"two"}, ["s/1"])
        with read_head(path) as snapshot:
            store.promote()
            commit(store, {"s/3": b"three"}, ["s/2"])
            assert (snapshot.checkpoint, snapshot.size()) == (first, Size(8, 2))
            assert list(snapshot.segments()) == [("s/1", b"one"), ("t/1", b"other")]
            assert list(snapshot.segments("s/")) == [("s/1", b"one")]
        with read_head(path) as snapshot:
            assert (snapshot.checkpoint, dict(snapshot.segments("s/"))) == (store.head, {"s/3": b"three"})


def test_the_engine_goes_on_after_a_reader_in_its_own_process(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        for number in range(20):
            commit(store, {f"s/{number}": bytes(200_000)})
            with read_head(path) as snapshot:
                assert snapshot.size().entries == number + 1
    assert not path.with_name("state.sqlite-wal").exists()


def test_the_head_is_read_from_another_process_while_the_engine_runs_and_after(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
        commit.stage(store, {"s/2": b"two"})
        assert read_elsewhere(path) == "1 {'s/1': b'one'}"
        store.promote()
        assert read_elsewhere(path) == "2 {'s/1': b'one', 's/2': b'two'}"
    assert not path.with_name("state.sqlite-wal").exists()
    assert read_elsewhere(path) == "2 {'s/1': b'one', 's/2': b'two'}"
    with SqliteStore(path) as store:  # a reader leaves nothing that an engine minds
        commit(store, {}, ["s/1"])


def test_the_head_of_a_killed_engine_is_read_with_its_log(path: Path, tmp_path: Path, commit: Commit) -> None:
    image = tmp_path / "image"
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
        shutil.copytree(path.parent, image)  # what a kill leaves on disk
    (image / "state.sqlite-shm").unlink()
    assert (image / "state.sqlite-wal").stat().st_size > 0
    with read_head(image / "state.sqlite") as snapshot:
        assert dict(snapshot.segments()) == {"s/1": b"one"}


def test_a_snapshot_cannot_write(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
    with read_head(path) as snapshot, pytest.raises(sqlite3.OperationalError, match="readonly"):
        snapshot._connection.execute("DELETE FROM segments")


def test_before_the_first_checkpoint_there_is_none(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        commit.stage(store, {"s/1": b"one"})
        with read_head(path) as snapshot:
            assert (snapshot.checkpoint, list(snapshot.segments()), snapshot.size()) == (None, [], Size(0, 0))


def test_a_file_that_is_not_there_is_answered_with_the_pipelines_that_are(tmp_path: Path) -> None:
    for name in ("carrier-delays", "other"):
        SqliteStore(tmp_path / name / "state.sqlite").close()
    missing = tmp_path / "carier-delays" / "state.sqlite"
    with pytest.raises(StateError) as caught:
        read_head(missing)
    assert str(missing) in str(caught.value)
    assert "['carrier-delays', 'other']" in str(caught.value)
    assert "Did you mean 'carrier-delays'?" in str(caught.value)
    assert not missing.parent.exists()


def test_a_folder_without_pipelines_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no pipeline is there"):
        read_head(tmp_path / "c1" / "delays" / "state.sqlite")


def test_a_file_that_no_engine_has_written_yet_says_so(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(StateError, match=f"{path}: no state is in it yet"):
        read_head(path)


def test_damage_is_told_and_the_file_stays_where_it_is(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
    damaged = path.read_bytes()[:-100]
    path.write_bytes(damaged)
    with pytest.raises(StateDamagedError, match=str(path)):
        read_head(path)
    assert path.read_bytes() == damaged
    path.write_bytes(b"no database " * 100)
    with pytest.raises(StateDamagedError, match=str(path)):
        read_head(path)


def test_a_path_with_signs_that_mean_something_in_an_address_is_read(tmp_path: Path, commit: Commit) -> None:
    path = tmp_path / "a ?mode=rw&x=%41#y" / "state.sqlite"
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
    with read_head(path) as snapshot:
        assert dict(snapshot.segments()) == {"s/1": b"one"}


@pytest.mark.parametrize("log", [False, True])
def test_a_folder_that_the_reader_cannot_write_to_is_read_when_no_log_is_there(
    open_folder: Path,
    powerless: Callable[[], AbstractContextManager[None]],
    commit: Commit,
    *,
    log: bool,
) -> None:
    path, kept = open_folder / "kept" / "state.sqlite", open_folder / "read" / "state.sqlite"
    kept.parent.mkdir()
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
        if log:
            shutil.copy(path.with_name("state.sqlite-wal"), kept.with_name("state.sqlite-wal"))
            shutil.copy(path, kept)
    if not log:
        shutil.copy(path, kept)
    for each in kept.parent.iterdir():
        each.chmod(0o644)
    kept.parent.chmod(0o555)
    with powerless():
        if log:
            with pytest.raises(StateError, match=f"{kept} cannot be read: an engine's log is beside it"):
                read_head(kept)
        else:
            with read_head(kept) as snapshot:
                assert dict(snapshot.segments()) == {"s/1": b"one"}


def test_a_file_of_another_user_says_as_whom_to_read_it(
    open_folder: Path, powerless: Callable[[], AbstractContextManager[None]]
) -> None:
    path = open_folder / "state.sqlite"
    SqliteStore(path).close()
    path.chmod(0o000)
    with powerless(), pytest.raises(StateError, match=f"{path} cannot be read: .* as the user that runs the pipeline"):
        read_head(path)
    path.chmod(0o600)
    open_folder.chmod(0o000)
    with powerless(), pytest.raises(StateError, match=r"cannot be read: .*Permission denied"):
        read_head(path)
