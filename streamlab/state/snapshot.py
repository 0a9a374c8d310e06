"""Reading the state of a pipeline from outside, while it runs and after."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from streamlab.errors import StateError, did_you_mean
from streamlab.state import database, layout
from streamlab.state.folders import pipelines_in
from streamlab.state.store import Size
from streamlab.state.trouble import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.state.store import Checkpoint


class ReadOnlySnapshot:
    """The head of a state file at one moment, from `read_head`; use it with `with`, and briefly.

    It stays as it was whatever the engine commits meanwhile. Until it is closed, the engine's log cannot start over and
    grows.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        with explained(path, "reading it"):
            connection.execute("BEGIN")  # all reads until close see the same moment
            if not database.has_tables(connection, path):
                raise StateError("no state is in it yet: its pipeline has not started.")
            self._view = layout.read_view(connection)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint that the state stands for; None before the first."""
        return self._view.head

    def segments(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield the segments whose key begins with `prefix`, by key in the order of its bytes."""
        for key in self._view.keys(prefix):
            with explained(self.path, f"reading segment {key!r}"):
                blob = layout.read_blob(self._connection, key, self._view.rows[key])
            yield key, blob

    def size(self) -> Size:
        """Return how much the snapshot holds."""
        return Size(self._view.tally.bytes, self._view.tally.entries)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_head(path: str | Path) -> ReadOnlySnapshot:
    """Return what a state file holds now, without a lock and without writing to it.

    Raises
    ------
    StateError
        No such file; the message lists the pipelines that are there. Or the file cannot be read by this user.
    StateDamagedError
        The file is not what was written. It stays where it is.

    Examples
    --------
    >>> from streamlab.state.sqlite import SqliteStore
    >>> with SqliteStore.temporary() as store, read_head(store.path) as snapshot:
    ...     snapshot.checkpoint, list(snapshot.segments())
    (None, [])
    """
    path = Path(path).resolve()
    try:
        _check_there(path)
        log = database.has_log(path)
    except OSError as error:
        raise _not_readable(path, str(error)) from error
    try:
        return _open(path, "mode=ro")
    except StateError as error:
        if not _is_refused(error):
            raise
        # SQLite keeps notes beside a file that has a log, even to read it. In a folder that this user cannot write to it
        # cannot, and need not when no log is there.
        if log:
            raise _not_readable(path, "an engine's log is beside it, which only who may write can read") from error
    try:
        return _open(path, "mode=ro&immutable=1")
    except StateError as error:
        raise (_not_readable(path, str(error.__cause__)) if _is_refused(error) else error) from error


def _open(path: Path, how: str) -> ReadOnlySnapshot:
    with explained(path, "opening it to read"):
        connection = database.connect(f"file:{quote(str(path))}?{how}", uri=True)
    try:
        return ReadOnlySnapshot(path, connection)
    except BaseException:
        connection.close()
        raise


def _check_there(path: Path) -> None:
    if not path.is_file():
        known = pipelines_in(path.parent.parent)
        listed = f"the pipelines there are {known}" if known else "no pipeline is there"
        raise StateError(f"no state at {path}; {listed}.{did_you_mean(path.parent.name, known)}")


def _is_refused(error: StateError) -> bool:
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


def _not_readable(path: Path, reason: str) -> StateError:
    return StateError(f"{path} cannot be read: {reason}. Read it as the user that runs the pipeline.")
