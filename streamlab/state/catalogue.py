"""The catalogue: which pipelines there are, and how their last runs went.

It is kept with sqlitedict in `<state dir>/catalogue.sqlite`, one JSON value with a checksum per pipeline, opened for each
call and closed after it, by one process at a time. What sqlitedict 2.1 does otherwise is put right here: `synchronous` is
full, values are never pickled, and a commit that fails raises an error where it waited for ever.
"""

from __future__ import annotations

import logging
import queue
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlitedict import SqliteDict, SqliteMultithread

from streamlab.errors import StateDamagedError, StateError
from streamlab.state import database, layout
from streamlab.state.folders import make_private, make_private_file, state_dir, valid_name
from streamlab.state.lock import FileLock
from streamlab.state.trouble import explained, set_aside

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

FILE = "catalogue.sqlite"
KEPT = 100
"""Runs that are remembered of each pipeline."""

_ERROR = 2000  # characters of an error that are kept
_PATIENCE = 10.0  # seconds to wait for another process that uses the catalogue
_POLL = 0.05  # seconds between two looks at whether sqlitedict's thread still lives
_FULL = 2  # of PRAGMA synchronous
_TABLE = "runs"
_QUIET = logging.getLogger(f"{__name__}.sqlitedict")
_QUIET.disabled = True  # it logs stacks of errors that are raised anyway
_NO_MORE = "--no more--"  # sqlitedict's word for the end of the rows


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of a pipeline went.

    Parameters
    ----------
    pipeline, cluster
        What ran, and the id of the cluster that it read from.
    started
        When, in UTC as ISO 8601: "2013-01-05T08:00:00+00:00".
    seconds
        How long it took.
    records, results, late, dead_letters
        Numbers as in the report of a run.
    outcome
        A word: "done", "failed", "stopped", "interrupted".
    error
        The text of what made it fail.
    """

    pipeline: str
    cluster: str
    started: str
    seconds: float
    records: int
    results: int
    late: int
    dead_letters: int
    outcome: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PipelineEntry:
    """A pipeline on a cluster, the number of runs that are remembered, and the last of them."""

    pipeline: str
    cluster: str
    runs: int
    last: Run


def record_run(run: Run) -> None:
    """Write down a run; of each pipeline the last 100 are kept.

    Raises
    ------
    PlanError
        The pipeline or the cluster has a name that no folder can have.
    StateError
        The time is not one in UTC, or the catalogue cannot be written.
    """
    key = f"{valid_name(run.cluster, 'cluster id')}/{valid_name(run.pipeline)}"
    _check_time(run.started)
    run = replace(run, error=run.error[:_ERROR] if run.error else run.error)
    with _opened(state_dir() / FILE) as table:
        table[key] = [*table.get(key, []), asdict(run)][-KEPT:]
        table.commit()


def runs(pipeline: str | None = None) -> list[Run]:
    """Return the runs that are remembered, of one pipeline or of all, oldest first."""
    found = [run for entry in _read() for run in entry if pipeline in {None, run.pipeline}]
    return sorted(found, key=lambda run: datetime.fromisoformat(run.started))


def pipelines() -> list[PipelineEntry]:
    """Return the pipelines that have run, by name and cluster."""
    entries = [PipelineEntry(kept[-1].pipeline, kept[-1].cluster, len(kept), kept[-1]) for kept in _read()]
    return sorted(entries, key=lambda entry: (entry.pipeline, entry.cluster))


class _Thread(SqliteMultithread):  # type: ignore[misc]  # sqlitedict has no types
    """sqlitedict's thread, whose end is noticed by those who wait for it."""

    _opened: sqlite3.Connection | None = None

    def run(self) -> None:
        """Keep what ends the thread for the caller, and give back the file's locks at once."""
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread that waits raises it
            self.exception = (type(error), error.with_traceback(None), None)  # its frames would keep the file open
        finally:
            if self._opened is not None:
                self._opened.close()

    def _connect(self) -> tuple[sqlite3.Connection, sqlite3.Cursor]:
        self.log = _QUIET
        self._opened, cursor = super()._connect()
        return self._opened, cursor

    def select(self, req: str, arg: tuple[Any, ...] | None = None) -> Iterator[Any]:
        """Yield the rows of a query, or raise what it or the thread failed with."""
        rows: queue.Queue[Any] = queue.Queue()
        self.execute(req, arg, rows)
        while True:
            try:
                row = rows.get(timeout=_POLL)
            except queue.Empty:
                if self.is_alive():
                    continue
                self.check_raise_error()
                raise StateError("the catalogue's thread has ended; open the catalogue again.") from None
            self.check_raise_error()
            if row == _NO_MORE:
                return
            yield row


class _Table(SqliteDict):  # type: ignore[misc]  # sqlitedict has no types
    """A sqlitedict of checked JSON values, whose commits wait for the disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), tablename=_TABLE, encode=_encode, decode=_decode, outer_stack=False)
        self.conn.execute(f"PRAGMA synchronous = {_FULL}")
        if (found := self.conn.select_one("PRAGMA synchronous")) != (_FULL,):
            raise StateError(f"SQLite keeps synchronous at {found}; it has to be {_FULL} (full).")

    def _new_conn(self) -> _Thread:
        return _Thread(self.filename, self.autocommit, self.journal_mode, self._outer_stack)


def _encode(kept: list[dict[str, Any]]) -> str:
    return layout.seal(kept, "the catalogue")


def _decode(text: object) -> list[dict[str, Any]]:
    sealed = text if isinstance(text, bytes) else str(text).encode(errors="replace")
    kept: list[dict[str, Any]] = layout.unseal(sealed, "the catalogue")
    return kept


@contextmanager
def _opened(path: Path) -> Iterator[_Table]:
    """Open the catalogue, alone, and close it whatever happens."""
    make_private(path.parent)
    lock = FileLock(path, patience=_PATIENCE)
    try:
        with explained(path, "using the catalogue of runs"):
            make_private_file(path)
            _check_file(path)
            table = _Table(path)
            thread = table.conn
            try:
                yield table
            finally:
                table.close(force=True)  # the other way waits for the thread's answer, and it may have ended
                thread.join(_PATIENCE)
    except StateDamagedError as error:
        raise StateDamagedError(
            f"{error} It was set aside as {set_aside(path).name!r}, and nothing was deleted. "
            "The next run begins a new catalogue; the state of pipelines is elsewhere."
        ) from error
    finally:
        lock.release()


def _check_file(path: Path) -> None:
    with closing(database.connect(path)) as db:
        faults = [fault for (fault,) in db.execute("PRAGMA quick_check(3)")]
        strange = [
            name for kind, name in db.execute("SELECT type, name FROM sqlite_schema") if kind in {b"trigger", b"view"}
        ]
    if faults != [b"ok"] or strange:
        raise StateDamagedError(f"the catalogue is damaged: {faults if faults != [b'ok'] else strange}.")


def _read() -> list[list[Run]]:
    path = state_dir() / FILE
    if not path.exists():
        return []
    with _opened(path) as table:
        try:
            return [[Run(**run) for run in kept] for kept in table.values()]
        except TypeError as error:
            raise StateDamagedError(f"the catalogue holds what is no run: {error}.") from error


def _check_time(started: str) -> None:
    try:
        offset = datetime.fromisoformat(started).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise StateError(f"record_run: started={started!r} is no time in UTC; '2013-01-05T08:00:00+00:00' is.")
