"""Query: a running plan in the hands of a person."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from streamlab.connect import dead_letter
from streamlab.engine.stream_time import NEVER, OPEN
from streamlab.errors import PlanError, did_you_mean
from streamlab.plan.schema import TIME
from streamlab.runtime import inspection, job, resources
from streamlab.runtime.runner import Runner
from streamlab.state.catalogue import Run, record_run

if TYPE_CHECKING:
    from streamlab.notebook import Panel
    from streamlab.plan.pipeline import Plan
    from streamlab.plan.stateful import Stateful
    from streamlab.runtime.metrics import Metrics, Report

Status = Literal["running", "paused", "stopped", "failed"]

_HEAR = 0.2  # seconds until Ctrl-C is heard

_running: dict[str, Query] = {}
_turns: dict[str, threading.Lock] = {}
_registry = threading.RLock()


class Query:
    """A plan that runs in a background thread; made by `Pipeline.start` and `show`.

    Frames that it gives are snapshots.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
    >>> query = events.filter(pl.col("user") == "a").show()
    >>> query.wait()
    True
    >>> query.status, query.frame()["user"].to_list(), query.report.records
    ('stopped', ['a'], 2)
    >>> query.lag().select("topic", "position", "lag").rows()
    [('events', 2, 0)]
    """

    def __init__(self, plan: Plan, runner: Runner) -> None:
        self._plan, self._runner = plan, runner
        self._error: BaseException | None = None
        self._ended: float | None = None
        self._over, self._calls = False, list[Callable[[], None]]()
        self._gone = threading.Event()
        self.panel: Panel | None = None  # what shows it
        self._started = datetime.now(UTC)
        self._thread = threading.Thread(target=self._run, name=f"{self.name}-process", daemon=True)

    def _run(self) -> None:
        try:
            self._runner.run()
        except BaseException as error:  # noqa: BLE001  # kept in the handle: a thread has nobody to raise it to
            self._error = error
        self._ended = time.monotonic()
        self._record()
        with _registry:
            self._over = True
            if _running.get(self._slot) is self:
                del _running[self._slot]
        for call in self._calls:
            try:
                call()
            except BaseException as error:  # noqa: BLE001  # kept in the handle, behind what failed first
                self._error = self._error or error
        self._gone.set()

    def _joined(self, timeout: float | None) -> bool:
        """Wait for the thread's end, so that Ctrl-C is heard and means no harm.

        Not by its `join`: before Python 3.13, Ctrl-C in there makes a thread that runs look ended. And a little at a time: polars
        takes SIGINT so that a wait without an end does not hear of it.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError(f"query {self.name!r}: its own thread cannot wait for its end.")
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._gone.wait(max(0.0, min(_HEAR, end - time.monotonic()))):
            if time.monotonic() >= end:
                return False
        return True

    def _record(self) -> None:
        source, folder = resources.cluster_of(self._plan), self._runner.folder
        if self._plan.name is None or folder is None or (source is not None and source.embedded is not None):
            return  # nothing of it is kept
        done = self.report
        error = None if self._error is None else f"{type(self._error).__name__}: {self._error}"
        outcome = "failed" if self._error else "done"
        started = self._started.isoformat(timespec="milliseconds")
        run = Run(
            self._plan.name,
            folder.parent.name,
            started,
            done.seconds,
            done.records,
            done.results,
            done.late,
            done.dead_letters,
            outcome,
            error,
        )
        try:
            record_run(run)
        except BaseException as error:  # noqa: BLE001  # kept in the handle, behind what failed first
            self._error = self._error or error

    def show(self, sink: str | None = None) -> Panel:
        """Show the live panel: what it does, whether it keeps up, how fresh it is, what went wrong. In a console, as text.

        Parameters
        ----------
        sink
            Whose results to show, where there are several; the first by default.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b"], "ts": [0, 1]}), event_time="ts", topic="events")
        >>> query = sl.Pipeline([events.sink_frame(len, name="seen")]).start()
        >>> query.wait()
        True
        >>> query.show()  # doctest: +ELLIPSIS
        unnamed  stopped ...
        """
        from streamlab.notebook import show  # noqa: PLC0415  # a worker runs without it

        return show(self, sink)

    def plot(
        self, x: str | None = None, y: str | None = None, *, by: str | None = None, kind: str | None = None
    ) -> Panel:
        """Set the chart of the panel, and show it if it is not shown yet.

        Parameters
        ----------
        x, y, by
            Columns of the results: along the axis, up, and one line for each value. Default: window start or event time, the first
            measure, the first key.
        kind
            "line", "bar" or "scatter".

        Raises
        ------
        PlanError
            If a column is not there, `y` is not a number, or the kind is unknown.
        """
        from streamlab.notebook import plot  # noqa: PLC0415  # a worker runs without it

        return plot(self, x, y, by, kind)

    def _ipython_display_(self) -> None:
        from streamlab.notebook import display  # noqa: PLC0415  # a worker runs without it

        display(self)

    def at_end(self, call: Callable[[], None]) -> None:
        """Have a function called in the query's thread when it has ended, before `wait` returns; at once if it has."""
        with _registry:
            if not self._over:
                self._calls.append(call)
                return
        call()

    @property
    def name(self) -> str:
        """The pipeline's name, or "unnamed"."""
        return self._plan.name or "unnamed"

    @property
    def status(self) -> Status:
        """Whether it is "running", "paused", "stopped" or "failed"; `error` says why it failed."""
        if self._error is not None:
            return "failed"
        if self._ended is not None:
            return "stopped"
        return "paused" if self._runner.is_paused else "running"

    @property
    def plan(self) -> Plan:
        """What it runs."""
        return self._plan

    @property
    def kept(self) -> str:
        """What state an earlier run left it; empty: it began anew."""
        return self._runner.kept

    @property
    def started(self) -> datetime:
        """When it started, in UTC."""
        return self._started

    @property
    def committed_at(self) -> float | None:
        """When the last commit was made, by the monotonic clock; None: none was yet."""
        return self._runner.committed_at

    def explain(self, key: Any = None, *, steps: Sequence[Stateful] | None = None) -> str:
        """Return the plan as a tree, results first; with a key, what all or some steps hold of that key now (see `StreamFrame.explain`)."""
        if key is None:
            return self._plan.explain()
        held = self._runner.locked(lambda: inspection.told(self._runner.task, key, steps))
        return f"query {self.name!r}, {self.status}; all times are event times in UTC\n{held}"

    @property
    def error(self) -> BaseException | None:
        """What failed, if anything."""
        return self._error

    def pause(self) -> None:
        """Rest: nothing is processed, what was is committed."""
        self._runner.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._runner.resume()

    def stop(self, timeout: float | None = None) -> None:
        """Commit what was processed and end.

        Raises
        ------
        TimeoutError
            If it has not ended within `timeout` seconds.
        """
        self._runner.stop()
        if not self._joined(timeout):
            raise TimeoutError(f"query {self.name!r} has not ended within {timeout} s; it will when its batch is done.")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; return whether it has. What failed in it is raised here.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None: for ever.
        """
        ended = self._joined(timeout)
        if self._error is not None:
            raise self._error
        return ended

    @property
    def report(self) -> Report:
        """The counts so far."""
        return self._runner.task.counters.report((self._ended or time.monotonic()) - self._runner.began)

    @property
    def metrics(self) -> Metrics:
        """The counts, rates, latencies and sizes now."""
        held = self._runner.locked(self._runner.task.holding).values()
        end = self._ended or time.monotonic()
        return self._runner.task.counters.snapshot(
            end, self._runner.began, sum(h.bytes for h in held), sum(h.rows for h in held)
        )

    def frame(self, n: int = 1000, sink: str | None = None) -> pl.DataFrame:
        """Return the newest results of a sink.

        Parameters
        ----------
        n
            Rows at most; no more than the newest 10,000 are held.
        sink
            Its target, such as the topic or table name; not needed where there is one sink.
        """
        return self._runner.recent[self._sink(sink)].frame(n)

    def _sink(self, sink: str | None) -> str:
        names = {key.partition(":")[2]: key for key in self._runner.recent}
        if sink is None:
            if len(names) > 1:
                raise PlanError(f"frame: the query has several sinks, say which: {list(names)}.")
            return next(iter(names.values()))
        if sink not in names:
            raise PlanError(f"frame: no sink {sink!r}; there are {list(names)}.{did_you_mean(sink, names)}")
        return names[sink]

    def table(self, name: str) -> pl.DataFrame:
        """Return a table sink's rows as they are now."""
        tables = {table.name.removeprefix("table:"): table for table in self._runner.task.graph.tables.values()}
        if name not in tables:
            raise PlanError(f"table: no table {name!r}; there are {list(tables)}.{did_you_mean(name, tables)}")
        return self._runner.locked(tables[name].frame)

    @property
    def late(self) -> pl.DataFrame:
        """The newest rows that came too late, with the window and the watermark that they missed; several steps: with `step`."""
        return self.newest_late(10_000)

    def newest_late(self, n: int) -> pl.DataFrame:
        """Return the newest late rows, at most `n` of each step."""
        parts = {step: recent.frame(n) for step, recent in dict(self._runner.late).items()}
        if not parts:
            return pl.DataFrame(schema=self._runner.task.graph.late_schema())
        if len(parts) == 1:
            return next(iter(parts.values()))
        return pl.concat(
            [frame.with_columns(pl.lit(step).alias("step")) for step, frame in parts.items()], how="diagonal_relaxed"
        )

    @property
    def dead_letters(self) -> pl.DataFrame:
        """The newest records that could not be used, at most a thousand, with where they came from and why."""
        return dead_letter.frame_of(list(self._runner.dead))

    def lag(self) -> pl.DataFrame:
        """Return how far each partition is behind.

        Columns: topic, partition, position (next offset), end, lag (records), event_time (stream time), idle, holds_watermark.
        """
        task, ends, rows = self._runner.task, self._runner.ends(), []
        clocks = task.graph.clocks
        lowest = min((int(clock.stream_time[~clock.idle].min(initial=OPEN)) for clock in clocks.values()), default=OPEN)
        for topic, clock in clocks.items():
            times = {p: int(t) for p, t in enumerate(clock.stream_time)}
            for partition, position in sorted(task.positions[topic].items()):
                end, reached, idle = (
                    ends[topic].get(partition, position),
                    times[partition],
                    bool(clock.idle[partition]),
                )
                known = None if reached == NEVER else reached
                holds = not idle and reached == lowest
                rows.append((topic, partition, position, end, max(0, end - position), known, idle, holds))
        schema = {
            "topic": pl.String, "partition": pl.Int64, "position": pl.Int64, "end": pl.Int64, "lag": pl.Int64,
            "event_time": pl.Int64, "idle": pl.Boolean, "holds_watermark": pl.Boolean,
        }  # fmt: skip
        return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("event_time").cast(TIME))

    @property
    def state(self) -> pl.DataFrame:
        """What each stateful step holds. Columns: step, rows, bytes, windows (open), oldest_window."""
        rows = [
            (name, h.rows, h.bytes, h.windows, h.oldest)
            for name, h in self._runner.locked(self._runner.task.holding).items()
        ]
        schema = {
            "step": pl.String,
            "rows": pl.Int64,
            "bytes": pl.Int64,
            "windows": pl.Int64,
            "oldest_window": pl.Int64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("oldest_window").cast(TIME))

    @property
    def _slot(self) -> str:
        return self._plan.name or f"unnamed {self._plan.fingerprint}"

    def __repr__(self) -> str:
        """Say what it is and how it does."""
        done = self.report
        why = f"\n{type(self._error).__name__}: {self._error}" if self._error else ""
        kept = f"\n{self.kept}" if self.kept else ""
        return (
            f"Query {self.name!r}: {self.status} after {done.seconds:.1f} s, {done.records:,} records in, {done.results:,} results, "
            f"{done.late:,} late, {done.dead_letters:,} dead letters{kept}{why}"
        )


def start(plan: Plan, *, until: Literal["latest"] | None = None, reset: bool = False) -> Query:
    """Start a plan in the background; a running query of the same name is stopped first, with its state committed."""
    slot = plan.name or f"unnamed {plan.fingerprint}"
    with _registry:
        turn = _turns.setdefault(slot, threading.Lock())
    with turn:  # of each name: a broker that does not answer one query holds up no other
        with _registry:
            replaced = _running.pop(slot, None)
        if replaced is not None:
            replaced.stop()
        query = Query(plan, Runner(plan, until=job.bounded(until), reset=reset))
        with _registry:
            _running[slot] = query
        query._thread.start()  # noqa: SLF001  # the handle's own
    job.watch(query)
    return query


def running() -> list[Query]:
    """Return the queries of this process that run."""
    with _registry:
        return [query for query in _running.values() if query.status in ("running", "paused")]
