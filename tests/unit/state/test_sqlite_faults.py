"""Kills, full disks and damage, on real files."""

from __future__ import annotations

import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamlab.errors import StateDamagedError, StateError, StateLockedError
from streamlab.state import database
from streamlab.state.segments import decode, encode
from streamlab.state.snapshot import read_head
from streamlab.state.sqlite import SqliteStore
from streamlab.state.store import Checkpoint, Size
from tests.unit.state import victim

if TYPE_CHECKING:
    from tests.unit.state.conftest import Commit

HEADER, TABLES = 200 * 8, 6 * 8192 * 8  # the bits that say what the file is, and what is where in it
ROOT = Path(__file__).parents[3]
FRAMES = {f"delays/{n}": pl.DataFrame({"n": range(n * 500)}) for n in range(12)}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", victim.__name__, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def sound_file() -> bytes:
    """Return a file with a head of eleven segments, and a checkpoint prepared."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        with SqliteStore(path) as store:
            blobs = {key: encode(frame) for key, frame in FRAMES.items()}
            last = blobs.popitem()
            first = Checkpoint("1" * 32, None, 1, "p", {"flights": {0: 123}}, {"mark": 17}, {"delays": "a window"})
            store.stage(first, blobs, [])
            store.promote()
            store.stage(Checkpoint("2" * 32, first.id, 2, "p", {}, {}, {}), dict([last]), ["delays/1"])
        return path.read_bytes()


SOUND = sound_file()


def read_all(store: SqliteStore) -> tuple[Checkpoint | None, Checkpoint | None, dict[str, pl.DataFrame]]:
    return store.head, store.prepared, {key: decode(blob, key) for key, blob in store.segments()}


def test_a_kill_before_any_statement_leaves_one_checkpoint_or_the_other(tmp_path: Path) -> None:
    origin = tmp_path / "origin" / "state.sqlite"
    with SqliteStore(origin) as store:
        for _ in range(4):
            victim.stage_next(store)
            store.promote()
    seen = []
    for statement in range(1, 100):
        path = tmp_path / str(statement) / "state.sqlite"
        shutil.copytree(origin.parent, path.parent)
        with start("step", path, statement) as process:
            code = process.wait(60)
        with SqliteStore(path) as store:
            head, prepared = store.head, store.prepared
            assert head is not None
            assert dict(store.segments()) == victim.contents(head.number)
            seen.append((head.number, prepared.number if prepared else None))
            if prepared is None:  # and it goes on from there
                victim.stage_next(store)
            store.promote()
            assert dict(store.segments()) == victim.contents(head.number + 1)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert seen == sorted(seen, key=[(4, None), (4, 5), (5, None)].index)
    assert seen.count((4, None)) >= 4  # begin, insert, insert, commit
    assert seen.count((4, 5)) >= 5
    assert seen.count((5, None)) == 1


@pytest.mark.parametrize("commits", [1, 7, 70, 140])
def test_a_kill_under_load_loses_nothing_that_was_promoted(tmp_path: Path, commits: int) -> None:
    path = tmp_path / "state.sqlite"
    with start("load", path) as process:
        assert process.stdout is not None
        for _ in range(commits):
            line = process.stdout.readline()
        process.kill()
    with SqliteStore(path) as store:
        assert store.head is not None
        assert store.head.number >= int(line) >= commits
        assert dict(store.segments()) == victim.contents(store.head.number)
        assert store.size() == Size(160_000 * min(store.head.number, 3), min(store.head.number, 3))


def test_the_process_that_holds_the_state_is_named_and_a_kill_sets_it_free(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with start("hold", path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StateLockedError, match=f"{path}: process {process.pid} on host .* holds it"):
            SqliteStore(path)
        process.kill()
    SqliteStore(path).close()


def test_a_full_disk_refuses_a_checkpoint_whole_and_the_store_goes_on(tmp_path: Path, commit: Commit) -> None:
    with SqliteStore(tmp_path / "state.sqlite") as store:
        first = commit(store, {"s/1": bytes(100_000)})
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 20}")
        with pytest.raises(
            StateError, match="no room left while staging checkpoint #2; nothing of it was written"
        ) as caught:
            commit.stage(store, {"s/2": b"small", "s/3": bytes(1_000_000)})
        assert "STREAMLAB_STATE_DIR" in str(caught.value)
        assert not isinstance(caught.value, StateDamagedError)
        assert (store.head, store.prepared, dict(store.segments())) == (first, None, {"s/1": bytes(100_000)})
        commit(store, {"s/2": b"fits"}, ["s/1"])
        assert dict(store.segments()) == {"s/2": b"fits"}
    with SqliteStore(tmp_path / "state.sqlite") as store:
        assert dict(store.segments()) == {"s/2": b"fits"}


@pytest.mark.parametrize("limit", [500_000, 1_000_001, 20_000_000])
def test_a_file_system_that_takes_no_more_bytes_refuses_and_then_goes_on(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "state.sqlite"
    with start("full", path, limit) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    error, number = output.splitlines()
    assert str(path) in error
    with SqliteStore(path) as store:
        assert store.head is not None
        assert store.head.number == int(number)
        assert dict(store.segments()) == victim.contents(int(number), victim.ALL)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.lists(st.integers(0, len(SOUND) * 8 - 1), min_size=1, max_size=6, unique=True)
    | st.lists(st.integers(0, TABLES), min_size=1, max_size=2, unique=True)
    | st.lists(st.integers(0, HEADER), min_size=1, max_size=1),
    unclean=st.booleans(),
)
@example(bits=[18 * 8], unclean=False)  # the file says that it is not to be written
@example(bits=[64711], unclean=False)  # the text of its tables is no text, and SQLite's message quotes it
@example(bits=[104 * 8 + 2], unclean=False)  # it says that it has no tables
def test_flipped_bits_in_the_file_are_damage_or_change_nothing(
    tmp_path: Path, bits: list[int], *, unclean: bool
) -> None:
    damaged = bytearray(SOUND)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    assert_damaged_or_the_same(tmp_path, bytes(damaged), unclean=unclean)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, len(SOUND) - 1),
    length=st.integers(1, 20_000),
    filler=st.sampled_from([b"\0", b"\xff", b"\x80\x04"]),
    unclean=st.booleans(),
)
def test_runs_of_lost_bytes_are_damage_or_change_nothing(
    tmp_path: Path, start: int, length: int, filler: bytes, *, unclean: bool
) -> None:
    length = min(length, len(SOUND) - start)
    damaged = SOUND[:start] + (filler * length)[:length] + SOUND[start + length :]
    assert_damaged_or_the_same(tmp_path, damaged, unclean=unclean)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(1, len(SOUND) - 1), unclean=st.booleans())
@example(length=1, unclean=False)
@example(length=8192, unclean=False)
@example(length=len(SOUND) - 1, unclean=False)
@example(length=len(SOUND) - 8192, unclean=True)
def test_a_file_that_was_cut_is_damage(tmp_path: Path, length: int, *, unclean: bool) -> None:
    assert_damaged_or_the_same(tmp_path, SOUND[:length], unclean=unclean, may_be_same=False)


def assert_damaged_or_the_same(folder: Path, contents: bytes, *, unclean: bool, may_be_same: bool = True) -> None:
    path = Path(tempfile.mkdtemp(dir=folder)) / "state.sqlite"
    path.write_bytes(contents)
    path.with_name("state.sqlite.lock").write_text("1 elsewhere\n" if unclean else "")
    head = {key: FRAMES[key] for key in list(FRAMES)[:-1]}
    told = ""
    try:
        with SqliteStore(path) as store:
            first, second, found = read_all(store)
            store.promote()
            promoted = read_all(store)[2]
    except StateDamagedError as error:
        told = str(error)
    if told:
        kept = [each for each in path.parent.iterdir() if each.suffix != ".lock"]
        assert any(each.stat().st_size for each in kept), "the file was deleted"
        assert str(path) in told or "segment" in told
    else:
        assert may_be_same
        assert first is not None
        assert second is not None
        assert (first.offsets, first.progress, second.parent) == ({"flights": {0: 123}}, {"mark": 17}, first.id)
        same(found, head)
        same(promoted, {key: frame for key, frame in FRAMES.items() if key != "delays/1"})
    shutil.rmtree(path.parent)


def same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert found.keys() == expected.keys()
    assert all(found[key].equals(expected[key]) for key in expected)


def break_a_chain(path: Path) -> None:
    """Point a page in the middle of a blob to one that is not there: no record tells of it, only a look at every page."""
    contents = bytearray(path.read_bytes())
    page = contents.index(b"second page" * 50) // 8192
    contents[page * 8192 : page * 8192 + 4] = b"\0\xff\xff\xff"
    path.write_bytes(contents)


def test_after_an_unclean_stop_every_page_is_looked_at(tmp_path: Path, commit: Commit) -> None:
    path = tmp_path / "state.sqlite"
    with SqliteStore(path) as store:
        commit(store, {"s/1": bytes(9_000) + b"second page" * 700 + bytes(50_000)})
    break_a_chain(path)
    with SqliteStore(path) as store, pytest.raises(StateDamagedError, match="reading segment 's/1'"):
        list(store.segments())
    path.with_name("state.sqlite.lock").write_text("1 elsewhere\n")
    with pytest.raises(StateDamagedError, match="damaged since an unclean stop") as caught:
        SqliteStore(path)
    assert "set aside as 'state.sqlite.damaged-1'" in str(caught.value)


def test_a_store_that_could_not_be_opened_after_an_unclean_stop_is_looked_at_the_next_time(
    tmp_path: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.sqlite"
    with SqliteStore(path) as store:
        commit(store, {"s/1": bytes(9_000) + b"second page" * 700 + bytes(50_000)})
    break_a_chain(path)
    path.with_name("state.sqlite.lock").write_text("1 elsewhere\n")
    monkeypatch.setattr(database, "_BUSY", 0.01)
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute("PRAGMA locking_mode = EXCLUSIVE")
    theirs.execute("DELETE FROM segments WHERE 0")
    with pytest.raises(StateLockedError, match="another program has locked the file while opening it"):
        SqliteStore(path)
    theirs.close()
    with pytest.raises(StateDamagedError, match="damaged since an unclean stop"):
        SqliteStore(path)


def test_a_damaged_file_is_set_aside_and_the_next_store_begins_anew(tmp_path: Path, commit: Commit) -> None:
    path = tmp_path / "state.sqlite"
    for number in (1, 2):
        with SqliteStore(path) as store:
            assert store.head is None
            commit(store, {"s/1": b"one"})
        damaged = path.read_bytes()[:-100]
        path.write_bytes(damaged)
        with pytest.raises(StateDamagedError, match=f"{path}: .* set aside as 'state.sqlite.damaged-{number}'"):
            SqliteStore(path)
        assert (tmp_path / f"state.sqlite.damaged-{number}").read_bytes() == damaged
    SqliteStore(path).close()


def test_a_store_whose_segments_turn_out_damaged_can_be_set_aside(tmp_path: Path, commit: Commit) -> None:
    path = tmp_path / "state.sqlite"
    store = SqliteStore(path)
    commit(store, {"s/1": b"one"})
    moved = store.set_aside()
    assert moved == tmp_path / "state.sqlite.damaged-1"
    with SqliteStore(path) as again:
        assert again.head is None
    with read_head(moved) as snapshot:
        assert dict(snapshot.segments()) == {"s/1": b"one"}


def test_a_missing_log_is_an_earlier_checkpoint_or_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with start("load", path) as process:
        assert process.stdout is not None
        for _ in range(130):
            process.stdout.readline()
        process.kill()
    path.with_name("state.sqlite-wal").unlink()
    path.with_name("state.sqlite-shm").unlink()
    try:
        with SqliteStore(path) as store:
            number = store.head.number if store.head else 0
            assert number < 130  # Kafka tells that it is not the newest
            assert dict(store.segments()) == (victim.contents(number) if number else {})
    except StateDamagedError:
        assert path.with_name("state.sqlite.damaged-1").exists()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM segments WHERE key = 's/1'",
        "INSERT INTO segments VALUES ('s/9', x'00')",
        "UPDATE segments SET key = 's/9' WHERE key = 's/1'",
        "UPDATE segments SET value = 'text' WHERE key = 's/1'",
        "UPDATE segments SET value = x'0000000000' WHERE key = 's/1'",
        "UPDATE segments SET key = NULL WHERE key = 's/1'",
        "UPDATE segments SET key = x'ff' WHERE key = 's/1'",
        "DELETE FROM checkpoints",
        "DELETE FROM checkpoints WHERE key = 'head'",
        "DELETE FROM checkpoints WHERE key = 'prep'",
        "UPDATE checkpoints SET key = 'other' WHERE key = 'prep'",
        "UPDATE checkpoints SET value = NULL",
        "UPDATE checkpoints SET value = 17",
        "UPDATE checkpoints SET value = replace(value, '123', '133')",
        "UPDATE checkpoints SET value = replace(value, 'number', 'nomber')",
        "INSERT OR REPLACE INTO checkpoints SELECT 'head', value FROM checkpoints WHERE key = 'prep'",
    ],
)
def test_rows_that_somebody_changed_are_found_when_the_file_is_opened(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.sqlite"
    with SqliteStore(path) as store:
        store.stage(Checkpoint("1" * 32, None, 1, "p", {"flights": {0: 123}}, {}, {}), {"s/1": b"one"}, [])
        store.promote()
        store.stage(Checkpoint("2" * 32, "1" * 32, 2, "p", {"flights": {0: 123}}, {}, {}), {"s/2": b"two"}, [])
    with sqlite3.connect(path) as db:
        db.execute(damage)
    db.close()
    with pytest.raises(StateDamagedError, match="set aside"):
        SqliteStore(path)


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("table", ["segments", "checkpoints"])
def test_a_pickle_planted_in_the_file_is_never_unpickled(tmp_path: Path, table: str) -> None:
    path, sung = tmp_path / "state.sqlite", tmp_path / "sung"
    planted = pickle.dumps(Canary(sung))
    with SqliteStore(path) as store:
        store.stage(Checkpoint.after(None, plan="p", offsets={}), {"s/1": bytes(len(planted))}, [])
        store.promote()
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {table} SET value = ?", (planted,))  # noqa: S608 - one of two names above
    db.close()
    with pytest.raises(StateDamagedError), SqliteStore(path) as store:
        read_all(store)
    assert not sung.exists()


@pytest.mark.parametrize("contents", [b"no database " * 100, pickle.dumps({"a": 1}) * 100])
def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(contents)
    with pytest.raises(StateDamagedError, match=r"set aside as 'state\.sqlite\.damaged-1'"):
        SqliteStore(path)
    assert (tmp_path / "state.sqlite.damaged-1").read_bytes() == contents


def test_a_program_that_has_the_file_locked_is_told_from_damage(tmp_path: Path, commit: Commit) -> None:
    path = tmp_path / "state.sqlite"
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
        store._db.execute("PRAGMA busy_timeout = 1")
        theirs = sqlite3.connect(path, isolation_level=None)
        theirs.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateLockedError, match="another program has locked the file while staging checkpoint #2"):
            commit.stage(store, {"s/2": b"two"})
        theirs.close()
        commit(store, {"s/2": b"two"})
        assert store.size() == Size(6, 2)
