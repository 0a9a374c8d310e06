from __future__ import annotations

import gc
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlitedict import SqliteDict

from streamlab.errors import StateDamagedError, StateError, StateLockedError
from streamlab.state.sqlite import SqliteStore
from streamlab.state.store import Checkpoint, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.unit.state.conftest import Commit

FIELDS: dict[str, Any] = {"plan": "p", "offsets": {"flights": {0: 1}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c1" / "delays" / "state.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        yield opened


def test_a_new_store_is_empty(store: SqliteStore) -> None:
    assert (store.head, store.prepared, list(store.segments()), store.size()) == (None, None, [], Size(0, 0))


def test_what_is_staged_is_out_of_sight_until_it_is_promoted(store: SqliteStore, commit: Commit) -> None:
    first = commit(store, {"s/1": b"one", "s/2": b"two"})
    second = commit.stage(store, {"s/3": b"three"}, ["s/1"])
    assert (store.head, store.prepared, store.size()) == (first, second, Size(6, 2))
    assert list(store.segments()) == [("s/1", b"one"), ("s/2", b"two")]
    store.promote()
    assert (store.head, store.prepared, store.size()) == (second, None, Size(8, 2))
    assert list(store.segments()) == [("s/2", b"two"), ("s/3", b"three")]


def test_what_is_discarded_was_never_there(store: SqliteStore, commit: Commit) -> None:
    first = commit(store, {"s/1": b"one"})
    commit.stage(store, {"s/2": b"two"}, ["s/1"])
    store.discard()
    store.discard()  # nothing is prepared any more, and nothing happens
    assert (store.head, store.prepared, list(store.segments())) == (first, None, [("s/1", b"one")])
    commit(store, {"s/2": b"another"})
    assert dict(store.segments()) == {"s/1": b"one", "s/2": b"another"}


def test_a_prepared_checkpoint_stays_so_over_a_restart(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        first = commit(store, {"s/1": b"one"})
        second = commit.stage(store, {"s/2": b"two"}, ["s/1"])
    with SqliteStore(path) as store:
        assert (store.head, store.prepared, list(store.segments())) == (first, second, [("s/1", b"one")])
        store.promote()
    with SqliteStore(path) as store:
        assert (store.head, store.prepared, list(store.segments())) == (second, None, [("s/2", b"two")])


def test_a_first_checkpoint_can_be_prepared_and_discarded_after_a_restart(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        first = commit.stage(store, {"s/1": b"one"})
    with SqliteStore(path) as store:
        assert (store.head, store.prepared, list(store.segments())) == (None, first, [])
        store.discard()
    with SqliteStore(path) as store:
        assert (store.head, store.prepared) == (None, None)


def test_segments_come_in_the_order_of_the_bytes_of_their_keys(store: SqliteStore, commit: Commit) -> None:
    keys = ["b", "a/10", "a/9", "a", "Z", "ä", "a/é", "a/𝄞", "a/\uffee", "a/\U0010fffd0", "a0"]
    commit(store, {key: key.encode() for key in keys if key.isprintable()})
    found = [key for key, _ in store.segments()]
    assert found == sorted(found, key=str.encode)
    assert [key for key, _ in store.segments("a/")] == ["a/10", "a/9", "a/é", "a/\uffee", "a/𝄞"]
    assert [key for key, _ in store.segments("a%")] == []


def test_an_empty_segment_and_one_over_many_pages_come_back_as_they_were(store: SqliteStore, commit: Commit) -> None:
    large = os.urandom(3_000_000)
    commit(store, {"empty": b"", "large": large})
    assert dict(store.segments()) == {"empty": b"", "large": large}


def test_a_checkpoint_may_change_no_segment_at_all(store: SqliteStore, commit: Commit) -> None:
    commit(store, {"s/1": b"one"})
    second = commit(store, {})
    assert (store.head, dict(store.segments())) == (second, {"s/1": b"one"})


def test_what_the_caller_does_to_its_dicts_afterwards_does_not_reach_the_store(store: SqliteStore) -> None:
    offsets = {"flights": {0: 1}}
    store.stage(Checkpoint.after(None, plan="p", offsets=offsets), {}, [])
    offsets["flights"][0] = 99
    store.promote()
    assert store.head is not None
    assert store.head.offsets == {"flights": {0: 1}}


@pytest.mark.parametrize(
    ("put", "delete", "told"),
    [
        ({"s/1": b"again"}, [], r"segments never change, and \['s/1'\] are there already"),
        ({"s/1": b"again"}, ["s/1"], "segments never change"),
        ({}, ["s/l"], r"\['s/l'\] cannot be deleted, .* Did you mean 's/1'\?"),
        ({"": b"x"}, [], "'' is no key"),
        ({"a\0b": b"x"}, [], "is no key"),
        ({"\ud800": b"x"}, [], "is no key"),
        ({b"bytes": b"x"}, [], "is no key"),
        ({"s/2": "text"}, [], "segment 's/2' is a str; bytes"),
        ({"s/2": bytearray(b"x")}, [], "is a bytearray; bytes"),
    ],
)
def test_what_cannot_be_staged_is_refused_and_changes_nothing(
    store: SqliteStore, commit: Commit, put: Any, delete: list[str], told: str
) -> None:
    first = commit(store, {"s/1": b"one"})
    with pytest.raises(StateError, match=told):
        commit.stage(store, put, delete)
    assert (store.head, store.prepared, dict(store.segments())) == (first, None, {"s/1": b"one"})


def test_a_key_may_come_back_once_it_is_gone(store: SqliteStore, commit: Commit) -> None:
    commit(store, {"s/1": b"one"})
    commit(store, {}, ["s/1"])
    commit(store, {"s/1": b"another"})
    assert dict(store.segments()) == {"s/1": b"another"}


def test_two_checkpoints_cannot_be_prepared_at_once(store: SqliteStore, commit: Commit) -> None:
    commit.stage(store, {})
    with pytest.raises(StateError, match="checkpoint #1 is prepared still; promote or discard it first"):
        commit.stage(store, {})


def test_nothing_cannot_be_promoted(store: SqliteStore) -> None:
    with pytest.raises(StateError, match="nothing is prepared; stage a checkpoint first"):
        store.promote()


def test_a_checkpoint_has_to_follow_the_head(store: SqliteStore, commit: Commit) -> None:
    first = commit(store, {})
    commit(store, {})
    for stranger in (Checkpoint.after(first, **FIELDS), Checkpoint.after(None, **FIELDS)):
        with pytest.raises(StateError, match=r"but the head is #2"):
            store.stage(stranger, {}, [])


def test_an_empty_store_takes_a_checkpoint_from_elsewhere_and_a_cleared_one_too(
    path: Path, store: SqliteStore, commit: Commit
) -> None:
    commit(store, {"s/1": b"one"})
    commit.stage(store, {"s/2": b"two"})
    store.clear()
    assert (store.head, store.prepared, list(store.segments()), store.size()) == (None, None, [], Size(0, 0))
    foreign = Checkpoint("f" * 32, "e" * 32, 17, "p", {}, {}, {})
    store.stage(foreign, {"s/1": b"rebuilt"}, [])
    store.promote()
    store.close()
    with SqliteStore(path) as again:
        assert (again.head, dict(again.segments())) == (foreign, {"s/1": b"rebuilt"})


def test_the_file_is_durable_private_and_as_sqlitedict_lays_it_out(path: Path, store: SqliteStore) -> None:
    names = ("journal_mode", "synchronous", "page_size", "auto_vacuum", "secure_delete", "cell_size_check")
    settings = [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    assert settings == [b"wal", 2, 8192, 2, 0, 1]
    store._db.execute("BEGIN IMMEDIATE")
    files = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    store._db.execute("ROLLBACK")
    assert files == dict.fromkeys(["state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "state.sqlite.lock"], 0o600)
    assert [folder.stat().st_mode & 0o777 for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]


def test_another_program_may_keep_a_table_of_its_own_in_the_file(path: Path, commit: Commit) -> None:
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
    with SqliteDict(str(path), "segments", encode=bytes, decode=bytes) as theirs:
        assert dict(theirs) == {"s/1": b"one"}
    with SqliteDict(str(path), "notes", autocommit=True) as theirs:
        theirs["note"] = 1
    with SqliteStore(path) as store:
        assert dict(store.segments()) == {"s/1": b"one"}
        assert store._db.execute("PRAGMA journal_mode").fetchone() == (b"wal",)


@pytest.mark.parametrize("how", ["same path", "another way to it"])
def test_a_second_store_on_the_same_file_is_refused(path: Path, store: SqliteStore, how: str) -> None:
    again = path if how == "same path" else path.parent.parent / "link" / path.name
    if how != "same path":
        again.parent.symlink_to(path.parent)
    with pytest.raises(StateLockedError, match=rf"{path}: another query of this process \(pid {os.getpid()}\)"):
        SqliteStore(again)
    assert store.head is None


def test_a_store_that_is_closed_says_so_and_can_be_closed_again(path: Path) -> None:
    store = SqliteStore(path)
    segments = store.segments()
    store.close()
    store.close()
    for call in (lambda: store.head, store.promote, store.discard, store.size, store.clear, store.segments):
        with pytest.raises(StateError, match="this store is closed"):
            call()
    assert list(segments) == []
    assert "closed" in repr(store)


def test_a_store_that_is_lost_lets_go_of_its_file(path: Path) -> None:
    def lose() -> None:
        store = SqliteStore(path)
        store._close_connection()  # newer Pythons warn of a connection that is lost

    lose()
    gc.collect()
    SqliteStore(path).close()


def test_a_store_is_used_from_another_thread_than_the_one_that_opened_it(store: SqliteStore, commit: Commit) -> None:
    thread = threading.Thread(target=commit, args=(store, {"s/1": b"one"}))
    thread.start()
    thread.join()
    assert dict(store.segments()) == {"s/1": b"one"}


def test_segments_that_are_replaced_while_they_are_read_are_an_error_and_others_go_on(
    store: SqliteStore, commit: Commit
) -> None:
    commit(store, {"s/1": b"one", "s/2": b"two"})
    undisturbed, disturbed = store.segments(), store.segments()
    next(undisturbed)
    next(disturbed)
    commit.stage(store, {"s/3": b"three"}, ["s/2"])
    assert list(undisturbed) == [("s/2", b"two")]
    store.promote()
    with pytest.raises(StateError, match="segment 's/2' was replaced"):
        next(disturbed)


def test_a_temporary_store_goes_when_it_is_closed_or_lost(commit: Commit) -> None:
    with SqliteStore.temporary() as store:
        commit(store, {"s/1": b"one"})
        folder = store.path.parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    store = SqliteStore.temporary()
    folder = store.path.parent
    store._close_connection()
    del store
    gc.collect()
    assert not folder.exists()


def test_a_file_that_was_much_larger_once_shrinks(path: Path, store: SqliteStore, commit: Commit) -> None:
    commit(store, {f"s/{n}": bytes(1_000_000) for n in range(60)})
    commit(store, {"small": b"x"}, [f"s/{n}" for n in range(60)])
    for n in range(40):
        commit(store, {f"t/{n}": b"x"})
    store.close()
    assert path.stat().st_size < 30_000_000
    with SqliteStore(path) as again:
        assert again.size() == Size(41, 41)
        assert again._db.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_under_the_store_is_noticed_at_the_next_commit(
    path: Path, store: SqliteStore, commit: Commit, *, replaced: bool
) -> None:
    commit(store, {"s/1": b"one"})
    moved = path.rename(path.with_name("moved"))
    if replaced:
        path.write_bytes(moved.read_bytes())
    with pytest.raises(StateError, match="the file was moved or deleted before staging checkpoint #2"):
        commit.stage(store, {"s/2": b"two"})


def test_an_interrupt_between_the_commit_and_the_note_of_it_loses_neither(store: SqliteStore, commit: Commit) -> None:
    class Interrupting:
        """A connection whose user presses Ctrl-C right after the commit."""

        def __init__(self, real: sqlite3.Connection) -> None:
            self.real = real

        def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
            cursor = self.real.execute(sql, *more)
            if sql == "COMMIT":
                raise KeyboardInterrupt
            return cursor

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    real = store._connection
    store._connection = Interrupting(store._db)  # type: ignore[assignment]  # acts as one
    with pytest.raises(KeyboardInterrupt):
        commit.stage(store, {"s/1": b"one"})
    store._connection = real
    assert store.prepared is not None
    store.promote()
    assert dict(store.segments()) == {"s/1": b"one"}


class Interrupted(dict[str, bytes]):
    """Segments whose user presses Ctrl-C while the second of them is written."""

    looked_at = False

    def items(self) -> Any:
        yield from list(super().items())[: None if not self.looked_at else 1]
        if self.looked_at:
            raise KeyboardInterrupt
        self.looked_at = True


def test_an_interrupt_in_the_middle_of_a_transaction_leaves_nothing_of_it(
    path: Path, store: SqliteStore, commit: Commit
) -> None:
    first = commit(store, {"s/1": b"one"})
    with pytest.raises(KeyboardInterrupt):
        commit.stage(store, Interrupted({"s/2": b"two", "s/3": b"three"}), ["s/1"])
    assert (store.head, store.prepared, dict(store.segments())) == (first, None, {"s/1": b"one"})
    second = commit(store, {"s/2": b"another"}, ["s/1"])
    store.close()
    with SqliteStore(path) as again:
        assert (again.head, dict(again.segments())) == (second, {"s/2": b"another"})


def test_a_folder_below_a_file_cannot_hold_state(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=rf"{tmp_path}/file/c1: Not a directory\. Set STREAMLAB_STATE_DIR"):
        SqliteStore(tmp_path / "file" / "c1" / "state.sqlite")


def test_a_folder_in_place_of_the_file_cannot_hold_state(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").mkdir(mode=0o700)
    with pytest.raises(StateError, match=r"unable to open database file\. Set STREAMLAB_STATE_DIR"):
        SqliteStore(tmp_path / "state.sqlite")


def test_a_read_only_folder_cannot_hold_state(
    open_folder: Path, powerless: Callable[[], AbstractContextManager[None]]
) -> None:
    open_folder.chmod(0o555)
    with powerless(), pytest.raises(StateError, match=rf"{open_folder}: Permission denied\. Set STREAMLAB_STATE_DIR"):
        SqliteStore(open_folder / "state.sqlite")


def test_a_file_that_may_only_be_read_cannot_hold_state(
    open_folder: Path, powerless: Callable[[], AbstractContextManager[None]], commit: Commit
) -> None:
    path = open_folder / "state.sqlite"
    with SqliteStore(path) as store:
        commit(store, {"s/1": b"one"})
    open_folder.chmod(0o777)  # so that it is the file alone that forbids
    path.with_name("state.sqlite.lock").chmod(0o666)
    path.chmod(0o444)
    with powerless(), pytest.raises(StateError, match=rf"state cannot be kept in {open_folder}") as caught:
        SqliteStore(path)
    assert not isinstance(caught.value, StateDamagedError)
    assert path.exists()


def test_a_database_of_another_program_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE orders (id INTEGER)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StateDamagedError, match="no state file of streamlab"):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TRIGGER t AFTER INSERT ON segments BEGIN DELETE FROM segments; END",
        "CREATE VIEW v AS SELECT * FROM segments",
    ],
)
def test_a_file_with_code_in_it_is_refused(path: Path, planted: str) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute(planted)
    db.close()
    with pytest.raises(StateDamagedError, match="it has triggers or views"):
        SqliteStore(path)
