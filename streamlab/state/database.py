"""Opening a SQLite file so that its commits are durable, and that nothing else is taken for state."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from streamlab.errors import StateDamagedError, StateError

if TYPE_CHECKING:
    from pathlib import Path

_TABLE = 'CREATE TABLE "{}" (key TEXT PRIMARY KEY, value BLOB)'  # as sqlitedict writes it
_TABLES = ("segments", "checkpoints")
_SCHEMA = {(b"table", name.encode(), _TABLE.format(name).encode()) for name in _TABLES}
_BUSY = 10.0  # seconds to wait for a foreign program that has locked the file
_PAGE = 8192  # bytes; blobs of 100 to 500 KB are a fifth faster than with the default of 4096
_SPARE = 2048  # pages: 16 MB
_GIVEN_BACK = 256  # pages: 2 MB a commit, in some milliseconds
_OFF, _FULL = 0, 2  # of PRAGMA synchronous
_OF_A_NEW_FILE = (f"PRAGMA page_size = {_PAGE}", "PRAGMA auto_vacuum = INCREMENTAL")
_OF_A_CONNECTION = (
    "PRAGMA cell_size_check = ON",
    "PRAGMA secure_delete = OFF",  # some builds write zeros over each blob that goes: half as much again per commit
    "PRAGMA fullfsync = ON",  # macOS alone: its plain fsync does not reach the disk
    f"PRAGMA wal_autocheckpoint = {_SPARE}",
    f"PRAGMA journal_size_limit = {4 * _SPARE * _PAGE}",
)


class NotOursError(StateDamagedError):
    """A file without our tables, or with code in it: maybe somebody else's, so it stays where it is."""


def connect(target: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    """Open a file; text is returned as bytes, since what was damaged need not be text any more."""
    db = sqlite3.connect(target, timeout=_BUSY, isolation_level=None, check_same_thread=False, uri=uri)
    db.text_factory = bytes
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def prepare(db: sqlite3.Connection, path: Path, *, durable: bool, check: bool) -> None:
    """Make a connection and its file ready for commits, and the tables when the file is new.

    Parameters
    ----------
    db, path
        The connection, and its file.
    durable
        Whether each commit waits for the disk.
    check
        Whether to look at every page first.

    Raises
    ------
    StateDamagedError
        The file is damaged, or no state file.
    StateError
        Its file system cannot do what is needed.
    """
    known = has_tables(db, path)  # before anything is written: the file may be somebody else's
    for setting in _OF_A_CONNECTION if known else _OF_A_NEW_FILE + _OF_A_CONNECTION:
        db.execute(setting).fetchall()
    if check and (faults := [fault for (fault,) in db.execute("PRAGMA quick_check(3)")]) != [b"ok"]:
        raise StateDamagedError(f"damaged since an unclean stop: {faults}.")
    level = _FULL if durable else _OFF
    log = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    db.execute(f"PRAGMA synchronous = {level}")
    if log != b"wal" or db.execute("PRAGMA synchronous").fetchone()[0] != level:
        raise StateError(f"SQLite cannot keep a write-ahead log there (it uses {log!r}). Keep state on a local disk.")
    db.execute("BEGIN IMMEDIATE")  # also where nothing is to be made: to learn now whether the file can be written
    for name in () if known else _TABLES:
        db.execute(_TABLE.format(name))
    db.execute("COMMIT")


def has_log(path: Path) -> bool:
    """Return whether commits are in the log beside a file, which a clean close moves into the file."""
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def has_tables(db: sqlite3.Connection, path: Path) -> bool:
    """Return whether the tables of a store are there; a new file is empty.

    Raises
    ------
    NotOursError
        Others are there, or triggers and views.
    StateDamagedError
        The file ends before its last page does, where SQLite would read on in zeros, or has pages and no table.
    """
    pages, page = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    size = path.stat().st_size
    if not has_log(path) and size != pages * page:
        raise StateDamagedError(
            f"the file has {size:,} bytes, but its {pages} pages of {page:,} have {pages * page:,}."
        )
    found = set(db.execute("SELECT type, name, sql FROM sqlite_master"))
    if not found and pages > 1:
        raise StateDamagedError(f"the file has {pages} pages, and no table in them.")
    code = sorted(repr(name) for kind, name, _ in found if kind not in {b"table", b"index"})
    if found and (code or not found >= _SCHEMA):
        what = f"has triggers or views ({', '.join(code)})" if code else f"has not the tables {list(_TABLES)} of one"
        raise NotOursError(f"this is no state file of streamlab: it {what}. Move it away, or keep state elsewhere.")
    return bool(found)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one under the same path; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def shrink(db: sqlite3.Connection) -> None:
    """Give a little of the file back once three quarters of it are free; free pages are used again otherwise."""
    free, pages = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    if free > max(_SPARE, pages * 3 // 4):
        for _ in range(_GIVEN_BACK):  # one at a time: Python's sqlite3 takes one step of a statement without columns
            db.execute("PRAGMA incremental_vacuum(1)")
