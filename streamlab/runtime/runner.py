"""The loop: arrivals in, results out, a commit every second."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Literal, TypeVar

import polars as pl

from streamlab.connect import dead_letter
from streamlab.connect.kafka_sink import STOP_SECONDS
from streamlab.connect.kafka_source import LONGEST_OUTAGE
from streamlab.connect.sink import Batch, Recent
from streamlab.connect.source import OutageError
from streamlab.errors import BrokerError
from streamlab.runtime import checkpoint, promises, resources
from streamlab.runtime.alignment import Aligned
from streamlab.runtime.decoding import Arrivals, DeadLetter, Decoder
from streamlab.runtime.pump import Pump
from streamlab.runtime.tasks import Task, wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamlab.connect.source import Offsets
    from streamlab.engine.lower import Result
    from streamlab.plan.pipeline import Plan

T = TypeVar("T")

COMMIT_SECONDS = 1.0
_WAIT = 0.1
_ASK_SECONDS = 2.0
_KEPT_LETTERS = 1_000


class Runner:
    """Runs a plan on the thread that calls `run`, with a pump of two threads in front of it.

    Parameters
    ----------
    plan
        What to run. With a name, offsets are committed to the group of that name and state is kept; without, nothing outlives it.
    until
        "latest": stop at what the sources hold at the start; None: go on for ever.
    reset
        Whether steps whose plan changed may lose their state.
    """

    def __init__(self, plan: Plan, *, until: Literal["latest"] | None = None, reset: bool = False) -> None:
        self.plan, self._until, self._reset = plan, until, reset
        self._lock = threading.RLock()
        self._stop, self._paused = threading.Event(), threading.Event()
        self.folder = None if plan.name is None else resources.store_folder(plan)
        self._store = resources.open_store(self.folder)
        try:
            self.task = Task(plan, self._store)
            self._decoder = Decoder(self.task.graph.sources)
            self._decoder.keep_raw = self.task.graph.restamps
            self._pump = Pump(resources.feed_opener(plan, plan.name), self._decoder, plan.name or "unnamed")
            self._outlets = resources.Outlets()
            self._aligned = Aligned(plan, self.task, self._pump)
            self.recent = {name: Recent(sink.schema) for name, sink in self.task.graph.sinks.items()}
            self.late: dict[str, Recent] = {}
            self.dead: deque[DeadLetter] = deque(maxlen=_KEPT_LETTERS)
            self._decides = False
            self._dirty = False
            self.began = self._committed_at = time.monotonic()
            self.kept = ""
            self._open()
        except BaseException:
            self._store.close()
            raise

    # --- start ---

    def _open(self) -> None:
        self._pump.open()
        try:
            self._decides = self._pump.call(lambda feed: feed.decides)
            decision = self._pump.call(lambda feed: feed.committed()) if self._decides else None
            checkpoint.recover(self._store, decision, self.plan.name)
            self.task.load(reset=self._reset)
            promises.check(self.plan)
            self._outlets = resources.open_outlets(self.plan, self._stop)
            self._outlets.recover(self.task.head.number if self.task.head else 0)
            self._assign()
            self.kept = self._held() if self.task.head else ""
        except BaseException:
            self._pump.close()
            self._outlets.close()
            raise

    def _held(self) -> str:
        """Say what state an earlier run left."""
        held = [f"{name} ({h.rows:,} rows)" for name, h in self.task.holding().items() if h.rows]
        return f"goes on from checkpoint {self.task.head.number if self.task.head else 0}" + (
            f", state kept: {', '.join(held)}" if held else ""
        )

    def _assign(self) -> None:
        bounds = self._pump.call(lambda feed: feed.bounds())
        starts: Offsets = {}
        for name, source in self.task.graph.sources.items():
            known = self.task.positions[name]
            fresh = {p: b for p, b in bounds[name].items() if p not in known}
            first = (
                resources.first_offsets(source, fresh, wall_clock())
                if not known
                else {p: b[0] for p, b in fresh.items()}
            )
            starts[name] = {**first, **{p: o for p, o in known.items() if p in bounds[name]}}
            # where "latest" or an hour ago was must be known to the next run, also if this one reads nothing
            self._dirty = self._dirty or (not known and source.start != "earliest")
        self.task.assign(bounds, starts)
        until = {n: {p: high for p, (_, high) in at.items()} for n, at in bounds.items()} if self._until else None
        loading = self.task.to_load()
        self._pump.call(lambda feed: resources.begin(feed, starts, until, loading))

    # --- the loop ---

    def run(self) -> None:
        """Process until stopped, or until the end of a bounded run; what was done is committed."""
        self._pump.flow()
        try:
            while not self._stop.is_set():
                if self._paused.is_set():
                    self._commit_if_due()
                    self._stop.wait(_WAIT)
                    continue
                arrivals = self._pump.get(_WAIT)
                if arrivals is not None:
                    with self._lock:
                        self._process(arrivals)
                    self._aligned.look(arrivals.at)
                    if arrivals.finished:
                        break
                self._commit_if_due()
            self._commit()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of threads, connections and the state; what was not committed is as if it had not been read."""
        self._pump.close()
        self._outlets.close()
        self._store.close()

    def stop(self) -> None:
        """Ask the loop to commit and end."""
        self._stop.set()

    def pause(self) -> None:
        """Ask the loop to rest: nothing is processed, what was is committed."""
        self._paused.set()

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused.clear()

    @property
    def is_paused(self) -> bool:
        """Whether the loop rests."""
        return self._paused.is_set()

    def ends(self) -> Mapping[str, Mapping[int, int]]:
        """Return where the sources end: as of the last fetch; while it rests, as of now, if the brokers answer at once."""
        cluster = resources.cluster_of(self.plan)
        if cluster is None or not self.is_paused:
            return self.task.ends
        try:
            spans = {topic: cluster.watermarks(topic, timeout=_ASK_SECONDS) for topic in self.task.ends}
        except BrokerError:
            return self.task.ends
        return {topic: {partition: high for partition, (_, high) in at.items()} for topic, at in spans.items()}

    @property
    def committed_at(self) -> float | None:
        """When the last commit was made, by the monotonic clock; None: none was yet."""
        return self._committed_at if self.task.counters.checkpoints else None

    def locked(self, read: Callable[[], T]) -> T:
        """Read the state between two batches, from any thread."""
        with self._lock:
            return read()

    # --- a batch ---

    def _process(self, arrivals: Arrivals) -> None:
        read = any(at != self.task.positions[name] for name, at in arrivals.positions.items())
        result = self.task.process(arrivals)
        self._decoder.set_aside(result.bad, arrivals)
        self.task.count(arrivals)
        self._dead(arrivals.dead)
        self._deliver(result)
        self._dirty = self._dirty or read or bool(result.sinks)
        self._measure(arrivals)

    def _deliver(self, result: Result) -> None:
        for name, rows in result.sinks.items():
            self.recent[name].add(rows.data if rows.deleted is None else rows.data.filter(pl.Series(~rows.deleted)))
            if name in self._outlets.by_sink:
                self._outlets.by_sink[name].write(Batch(rows.data, rows.time, rows.deleted))
        for step, rows in result.late.items():
            self.late.setdefault(step, Recent(rows.data.schema)).add(rows.data)
            if self._outlets.late is not None:
                self._outlets.late.write(Batch(rows.data.with_columns(pl.lit(step).alias("step")), rows.time))

    def _dead(self, letters: list[DeadLetter]) -> None:
        if letters:
            self.dead.extend(letters)
            if self._outlets.dead_letters is not None:
                dead_letter.send(*self._outlets.dead_letters, letters, wall_clock())

    def _measure(self, arrivals: Arrivals) -> None:
        if not arrivals.records:
            return
        counters, now, at = self.task.counters, wall_clock(), time.monotonic()
        counters.batch(at, arrivals.records)
        counters.latency.append((at, now - arrivals.at))
        newest = max((int(rows.time.max()) for rows in arrivals.rows.values() if rows.height), default=None)
        if newest is not None:
            counters.delay.append((at, now - newest))

    # --- commits ---

    def _commit_if_due(self) -> None:
        if self._dirty and time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        if not self._dirty:
            return
        checkpoint.commit(self.task, self._flush, self._decide if self._decides else None, self._lock)
        self._dirty, self._committed_at = False, time.monotonic()

    def _flush(self, number: int) -> None:
        self._insist(lambda: self._outlets.flush(number))

    def _decide(self, offsets: Offsets, mark: str) -> None:
        self._insist(lambda: self._pump.call(lambda feed: feed.commit(offsets, mark)))

    def _insist(self, call: Callable[[], None]) -> None:
        """Call again until a broker that is away is back; to stop, and to end a bounded run, it is not waited for for ever."""
        began = time.monotonic()
        stopping: float | None = None
        while True:
            try:
                return call()
            except OutageError:
                now = time.monotonic()
                if self._stop.is_set():
                    stopping = stopping or now
                    if now - stopping > STOP_SECONDS:
                        raise
                if self._until is not None and now - began > LONGEST_OUTAGE:
                    raise
                time.sleep(_WAIT)
