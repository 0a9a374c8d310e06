"""A notebook as a job: its queries are bounded, say what they do, and none is left running at the end.

`streamlab run` starts a kernel with $STREAMLAB_JOB naming a file. In that kernel `start` without `until` stops at what the sources
hold, and every query writes lines of JSON to the file: what it is, how far it is, how it ended. The last line of a run counts. After
the last cell the kernel is asked to `finish`.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamlab.errors import StateError
from streamlab.state import catalogue

if TYPE_CHECKING:
    from streamlab.runtime.query import Query

JOB = "STREAMLAB_JOB"
"""The environment variable that names the file which a job's queries write to."""

FINISH = 'getattr(__import__("sys").modules.get("streamlab.runtime.job"), "finish", lambda **_: None)(now={now})'
"""What a kernel is asked after its last cell; nothing where the notebook has not imported streamlab."""

COUNTS = ("records", "processed", "results", "late", "late_rows", "dead_letters", "skipped")
"""What a line counts, as in the report of a run."""

_PROGRESS_SECONDS = 2.0
_ERROR = 2000  # characters of an error that are kept


class Job:
    """The queries of this process, and the file that they write to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queries: list[Query] = []
        self._since: list[str | None] = []
        self._written: dict[int, int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    def watch(self, query: Query) -> None:
        """Write down a query that is about to run, and what becomes of it."""
        since = _last_run(query.plan.name)
        with self._lock:
            run, first = len(self._queries), not self._queries
            self._queries.append(query)
            self._since.append(since)
        self._write(run, "running")
        query.at_end(lambda: self._write(run, query.status))
        if first:
            threading.Thread(target=self._progress, name="streamlab-job", daemon=True).start()

    def finish(self, *, now: bool) -> None:
        """Wait for queries that still run, or stop them now; a paused one is stopped, for nobody will resume it."""
        for query in list(self._queries):
            if now or query.status == "paused":
                query.stop()
        for query in list(self._queries):
            try:
                query.wait()
            except BaseException as error:
                if error is not query.error:  # Ctrl-C; what failed in the query stands in its line
                    raise
        self._over.set()

    def _progress(self) -> None:
        while not self._over.wait(_PROGRESS_SECONDS):
            for run, query in enumerate(list(self._queries)):
                if query.status in ("running", "paused") and query.report.records != self._written[run]:
                    self._write(run, query.status)

    def _write(self, run: int, status: str) -> None:
        query = self._queries[run]
        done = query.report
        line = {
            "run": run,
            "name": query.plan.name,
            "fingerprint": query.plan.fingerprint,
            "since": self._since[run],
            **{count: getattr(done, count) for count in COUNTS},
            "seconds": round(done.seconds, 3),
            "status": status,
            "error": _said(query.error),
        }
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            self._written[run] = done.records


_current: Job | None = None
_lock = threading.Lock()


def current() -> Job | None:
    """Return the job that this process runs; the variable is taken away, so that programs it starts are none of it.

    Examples
    --------
    >>> current() is None
    True
    """
    global _current  # noqa: PLW0603  # a process runs one job, and its environment says which
    with _lock:
        if _current is None and (path := os.environ.pop(JOB, None)):
            _current = Job(Path(path))
        return _current


def bounded(until: Literal["latest"] | None) -> Literal["latest"] | None:
    """Return where a query stops: in a job at what its sources hold, also one that would go on for ever.

    Examples
    --------
    >>> bounded(None) is None, bounded("latest")
    (True, 'latest')
    """
    return until if current() is None else "latest"


def watch(query: Query) -> None:
    """In a job, write down what becomes of a query that is about to run."""
    if (job := current()) is not None:
        job.watch(query)


def finish(*, now: bool) -> None:
    """In a job, wait for the queries that still run, or stop them now; both with a commit."""
    if (job := current()) is not None:
        job.finish(now=now)


def _last_run(name: str | None) -> str | None:
    """Return when a pipeline last ran, if that is known."""
    if name is None:
        return None
    try:
        known = catalogue.runs(name)
    except StateError:  # the run itself will say so, when it writes itself down
        return None
    return known[-1].started if known else None


def _said(error: BaseException | None) -> dict[str, Any] | None:
    return None if error is None else {"type": type(error).__name__, "message": str(error)[:_ERROR]}
