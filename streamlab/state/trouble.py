"""What SQLite's errors mean for somebody who keeps state, and what becomes of a damaged file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from streamlab.errors import StateDamagedError, StateError, StateLockedError
from streamlab.state.folders import STATE_DIR, not_writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_ERROR,  # the statements are right, so the file is not: "unsupported file format"
}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NOT_OPENED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn errors of SQLite into errors of state that say what to do, and name the file in others."""
    try:
        yield
    except StateError as error:
        raise type(error)(f"{path}: {error}") from error
    except UnicodeDecodeError as error:  # Python's, over SQLite's own message: it quotes the damaged file
        raise StateDamagedError(f"{path}: damaged, found while {doing}: {error}.") from error
    except sqlite3.Error as error:
        raise explain(error, path, doing) from error


def explain(error: sqlite3.Error, path: Path, doing: str) -> StateError:
    """Return the error of state that an error of SQLite stands for."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits are details
    refused = code == sqlite3.SQLITE_READONLY and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    if code in _DAMAGED or (code == sqlite3.SQLITE_READONLY and not refused):
        return StateDamagedError(f"{path}: damaged, found while {doing}: {error}.")
    if code == sqlite3.SQLITE_FULL:
        return StateError(
            f"{path}: no room left while {doing}; nothing of it was written. "
            f"Free some space, or set {STATE_DIR} to a folder on another disk."
        )
    if code in _BUSY:
        return StateLockedError(f"{path}: another program has locked the file while {doing}. Close that program.")
    if refused or code in _NOT_OPENED:
        return not_writable(path.parent, error)
    return StateError(f"{path}: {doing} failed: {error}.")


def set_aside(path: Path) -> Path:
    """Rename a database and the files that belong to it, and return its new path; nothing is deleted."""
    moved = next(new for n in count(1) if not (new := path.with_name(f"{path.name}.damaged-{n}")).exists())
    for suffix in ("-wal", "-shm", ""):  # the database last: while it is there, the rest belongs to it
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(moved.with_name(moved.name + suffix))
    return moved
