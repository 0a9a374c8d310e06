"""The store of a task: one SQLite file, one connection, one holder.

It uses `sqlite3` itself and not sqlitedict, whose table layout it keeps. A checkpoint must be durable and whole before
Kafka commits, and with sqlitedict 2.1 it is neither for sure: it turns `synchronous` off, has no rollback, reports a failed
statement at the next call, waits for ever once a commit has failed, and hands each blob through a queue to a thread of its
own. Undoing all that takes more code than the statements below.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from streamlab.errors import StateDamagedError, StateError
from streamlab.state import database, layout
from streamlab.state.folders import STATE_FILE, make_private, make_private_file
from streamlab.state.lock import FileLock
from streamlab.state.store import Size
from streamlab.state.trouble import explained, set_aside

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Mapping

    from streamlab.state.layout import View
    from streamlab.state.store import Checkpoint


class SqliteStore:
    """State in a SQLite file, for one holder at a time; see `Store` for what it promises.

    Its methods may be called from any thread, by one thread at a time.

    Parameters
    ----------
    path
        The file; it and its folder are made when missing, for this user's eyes only (0600 in 0700).
    durable
        Whether each commit waits for the disk. Without it, a kill of the process loses nothing, a power cut may.

    Raises
    ------
    StateLockedError
        Another process, or another store of this one, holds the file.
    StateDamagedError
        The file is not what was written. It was set aside, the message says where: the next store at this path is empty.
    StateError
        The folder cannot be written to, or the disk is full.

    Examples
    --------
    >>> from streamlab.state.store import Checkpoint
    >>> with SqliteStore.temporary() as store:
    ...     first = Checkpoint.after(None, plan="a1b2", offsets={"flights": {0: 17}})
    ...     store.stage(first, put={"delays/0/1": b"a segment"}, delete=[])
    ...     list(store.segments())  # staged is not there yet
    ...     store.promote()
    ...     list(store.segments("delays/")), store.head == first
    []
    ([('delays/0/1', b'a segment')], True)
    """

    def __init__(self, path: str | Path, *, durable: bool = True) -> None:
        self.path = Path(path).resolve()
        make_private(self.path.parent)
        self._lock = FileLock(self.path)
        self._connection: sqlite3.Connection | None = None
        self._known: View | None = None
        self._file: tuple[int, int] | None = None
        self._remove: weakref.finalize[..., SqliteStore] | None = None
        try:
            self._open(durable=durable)
        except BaseException:
            self._let_go(clean=False)
            raise

    @classmethod
    def temporary(cls) -> Self:
        """Return a store in a folder of its own that goes when the store is closed."""
        folder = tempfile.mkdtemp(prefix="streamlab-")
        store = cls(Path(folder) / STATE_FILE, durable=False)
        store._remove = weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return store

    @property
    def head(self) -> Checkpoint | None:
        """The checkpoint that the state stands for; None before the first."""
        return self._view.head

    @property
    def prepared(self) -> Checkpoint | None:
        """The checkpoint that is staged and neither promoted nor discarded."""
        prepared = self._view.prepared
        return None if prepared is None else prepared.checkpoint

    def size(self) -> Size:
        """Return how much the head holds; what is staged does not count."""
        return Size(self._view.tally.bytes, self._view.tally.entries)

    def segments(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield the head's segments whose key begins with `prefix`, by key in the order of its bytes.

        Raises
        ------
        StateDamagedError
            A segment cannot be read.
        StateError
            A segment that is still to come was replaced meanwhile.
        """
        view = self._view
        return self._read(view, view.keys(prefix))

    def stage(self, checkpoint: Checkpoint, put: Mapping[str, bytes], delete: Collection[str]) -> None:
        """Write new segments and the checkpoint that they belong to, in one transaction.

        Parameters
        ----------
        checkpoint
            It follows the head; on an empty store it may be any.
        put
            Segments under keys that the head has not: segments never change.
        delete
            Keys of the head that the checkpoint does without.

        Raises
        ------
        StateError
            One of these does not hold, or the disk is full; then nothing was written, and the store goes on.
        """
        view = self._view.stage(checkpoint, put, delete)
        fresh, record = view.ready.put, view.ready.prep_record()
        with self._change(f"staging checkpoint #{checkpoint.number}", view) as db:
            rows = ((fresh[key].rowid, key, blob) for key, blob in put.items())
            db.executemany("INSERT INTO segments(rowid, key, value) VALUES (?, ?, ?)", rows)
            db.execute("INSERT INTO checkpoints(rowid, key, value) VALUES (2, 'prep', ?)", (record,))

    def promote(self) -> None:
        """Make the prepared checkpoint the head and delete the segments that it replaced, in one transaction.

        Raises
        ------
        StateError
            Nothing is prepared, or the disk is full; then the checkpoint is prepared still.
        """
        before = self._view
        view, record = before.promote(), before.ready.head_record()
        with self._change("promoting a checkpoint", view) as db:
            db.execute("DELETE FROM checkpoints WHERE rowid = 2")
            db.execute("INSERT OR REPLACE INTO checkpoints(rowid, key, value) VALUES (1, 'head', ?)", (record,))
            layout.delete(db, {key: before.rows[key] for key in before.rows.keys() - view.rows.keys()})
            database.shrink(db)

    def discard(self) -> None:
        """Forget the prepared checkpoint, if any, and its segments."""
        before = self._view
        if before.prepared is not None:
            with self._change("discarding a checkpoint", before.discard()) as db:
                db.execute("DELETE FROM checkpoints WHERE rowid = 2")
                layout.delete(db, before.prepared.put)

    def clear(self) -> None:
        """Forget everything: for a reset, and before a rebuild from the changelog."""
        with self._change("clearing the state", layout.View()) as db:
            db.execute("DELETE FROM checkpoints")
            db.execute("DELETE FROM segments")
            database.shrink(db)

    def close(self) -> None:
        """Let go of the file; what is prepared stays so. Closing twice does nothing."""
        self._let_go(clean=True)

    def set_aside(self) -> Path:
        """Close the store and rename its file, for one whose segments turned out damaged; return the new path."""
        self._close_connection()
        moved = set_aside(self.path)
        self._let_go(clean=True)
        return moved

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._connection is None else "open"
        return f"SqliteStore({str(self.path)!r}, {state})"

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StateError(f"{self.path}: this store is closed. Open it again with SqliteStore(path).")
        return self._connection

    @property
    def _view(self) -> View:
        db = self._db
        if self._known is None:
            with explained(self.path, "reading its records"):
                self._known = layout.read_view(db)
        return self._known

    def _read(self, view: View, keys: list[str]) -> Iterator[tuple[str, bytes]]:
        for key in keys:
            if self._view.rows.get(key) != view.rows[key]:
                raise StateError(f"segment {key!r} was replaced by a checkpoint while the segments were read.")
            with explained(self.path, f"reading segment {key!r}"):
                blob = layout.read_blob(self._db, key, view.rows[key])
            yield key, blob

    @contextmanager
    def _change(self, doing: str, after: View) -> Iterator[sqlite3.Connection]:
        """Commit what the block does and make `after` the view, or undo it all."""
        db = self._db
        with explained(self.path, doing):
            if (
                database.identity(self.path) != self._file
            ):  # SQLite would go on writing to a file that nobody finds again
                raise StateError(f"the file was moved or deleted before {doing}. Stop the pipeline, and put it back.")
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
                self._known = after
            except BaseException:
                self._known = None  # the file is asked: an interrupt can come between the commit and the line after it
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _open(self, *, durable: bool) -> None:
        unclean = self._lock.left_open or database.has_log(self.path)
        make_private_file(self.path)
        try:
            with explained(self.path, "opening it"):
                self._connection = database.connect(self.path)
                database.prepare(self._connection, self.path, durable=durable, check=unclean)
                self._known = layout.read_view(self._connection)
                self._file = database.identity(self.path)
        except database.NotOursError:
            raise
        except StateDamagedError as error:
            self._close_connection()
            raise StateDamagedError(
                f"{error} It was set aside as {set_aside(self.path).name!r}, and nothing was deleted. "
                "Start again to rebuild the state from its changelog, or put back a copy of the file."
            ) from error

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _let_go(self, *, clean: bool) -> None:
        self._close_connection()
        self._lock.release(clean=clean)
        if self._remove is not None:
            self._remove()
