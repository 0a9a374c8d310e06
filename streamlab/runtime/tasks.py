"""A task: a plan's graph with its state, its counters and its place in the sources. No thread, no broker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streamlab.engine.lower import Graph
from streamlab.errors import StateError
from streamlab.plan.copartition import check_partitions
from streamlab.plan.pipeline import difference
from streamlab.runtime.idleness import Idleness
from streamlab.runtime.metrics import Counters
from streamlab.state import segments
from streamlab.state.store import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import polars as pl

    from streamlab.connect.source import Offsets
    from streamlab.engine.batch import Rows
    from streamlab.engine.lower import Result
    from streamlab.engine.operator import Holding, Operator
    from streamlab.engine.operators.table_sink import Table
    from streamlab.plan.pipeline import Plan
    from streamlab.runtime.decoding import Arrivals
    from streamlab.state.store import Store


def wall_clock() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Task:
    """The graph of a plan, and what it takes to stop and go on.

    Parameters
    ----------
    plan
        What to run.
    store
        Where checkpoints go; None: nowhere, nothing is kept.
    now
        The wall clock in milliseconds, for idleness only.
    """

    def __init__(self, plan: Plan, store: Store | None, now: Callable[[], int] = wall_clock) -> None:
        self.plan, self.store, self.now = plan, store, now
        self.graph = Graph(plan.sinks)
        self.counters = Counters()
        self.positions: Offsets = {name: {} for name in self.graph.sources}
        self.ends: dict[str, dict[int, int]] = {name: {} for name in self.graph.sources}
        self.loading: Offsets = {}  # tables and where they ended when they were first read: no stream goes on before
        self.idleness = {name: Idleness(source.idle_timeout) for name, source in self.graph.sources.items()}
        self._fetched = now()  # the last time
        self._blobs: dict[str, list[str]] = {}  # frame of a step -> keys of its segments
        self._orphans: list[str] = []  # segments that no step of this plan can use
        self._head: Checkpoint | None = None

    # --- what holds state, by the name that it is found by ---

    def holders(self) -> Iterator[tuple[str, Operator | Table]]:
        """Yield everything that keeps state."""
        yield from ((name, place.operator) for name, place in self.graph.stateful.items())
        yield from ((table.name, table) for table in self.graph.tables.values())

    def holding(self) -> dict[str, Holding]:
        """Return how much each step holds."""
        return {name: holder.holding() for name, holder in self.holders()}

    # --- records ---

    def assign(self, bounds: Mapping[str, Mapping[int, tuple[int, int]]], positions: Offsets) -> None:
        """Take note of the partitions of every source and of where reading begins."""
        check_partitions(self.plan, {name: len(partitions) for name, partitions in bounds.items()})
        for name, partitions in bounds.items():
            if self.graph.sources[name].is_table:
                fresh = {p: high for p, (_, high) in partitions.items() if p not in self.positions[name]}
                self.loading.setdefault(name, {}).update(fresh)
            self.graph.clocks[name].ensure(max(partitions, default=-1) + 1)
            self.positions[name] = dict(positions[name])
            self.ends[name] = {partition: high for partition, (_, high) in partitions.items()}
            self.idleness[name].assigned(self.now(), partitions, positions[name])

    def to_load(self) -> Offsets:
        """Return up to where tables are to be read before anything else: all partitions of those that are not read so far."""
        short = {
            n: any(self.positions[n].get(p, 0) < end for p, end in ends.items()) for n, ends in self.loading.items()
        }
        return {
            name: {p: max(at, ends.get(p, 0)) for p, at in self.positions[name].items()}
            for name, ends in self.loading.items()
            if short[name]
        }

    def process(self, arrivals: Arrivals) -> Result:
        """Run a fetch through the graph.

        Who was silent goes by when records were fetched: they may have waited for a commit, a slow step or the end of a pause.
        """
        if arrivals.away:
            for idleness in self.idleness.values():
                idleness.unheard(arrivals.at - self._fetched)
        self._fetched = arrivals.at
        self.arrived(arrivals.at, arrivals.rows, arrivals.positions, arrivals.ends)
        return self._counted(self.graph.step(arrivals.rows))

    def count(self, arrivals: Arrivals) -> None:
        """Count a fetch, once it is known which of its records are bad."""
        self.counters.records += arrivals.records
        self.counters.skipped += arrivals.skipped
        self.counters.dead_letters += len(arrivals.dead)

    def arrived(
        self, now: int, rows: Mapping[str, Rows], positions: Offsets, ends: Mapping[str, Mapping[int, int]]
    ) -> None:
        """Take note of where reading stands, and of idleness."""
        for name, at in positions.items():
            self.positions[name].update(at)
        for name, high in ends.items():
            self.ends[name].update(high)
        for name, idleness in self.idleness.items():
            if name in rows and rows[name].height:
                idleness.heard(now, rows[name])
            self.graph.clocks[name].set_idle(idleness.idle(now, self.positions[name], self.ends[name]))

    def tick(self) -> Result:
        """Let the wall clock have its say: idle partitions stop holding windows open."""
        self.arrived(self.now(), {}, {}, {})
        return self._counted(self.graph.step({}))

    def close(self) -> Result:
        """End the input: every window closes."""
        return self._counted(self.graph.close())

    def _counted(self, result: Result) -> Result:
        # a stream with two sinks has its results once
        streams = {id(rows): rows.height for rows in result.sinks.values()}
        self.counters.results += sum(streams.values())
        self.counters.late += result.late_records
        self.counters.late_rows += sum(rows.height for rows in result.late.values())
        return result

    # --- state ---

    @property
    def head(self) -> Checkpoint | None:
        """The last checkpoint that counts."""
        return self._head

    def stage(self) -> Checkpoint:
        """Write what changed and a checkpoint that holds it, out of sight until `promote`."""
        if self.store is None:
            raise StateError("a task without a store cannot be checkpointed")
        put: dict[str, bytes] = {}
        dropped, self._orphans = self._orphans, []
        for name, holder in self.holders():
            changes = holder.changes()
            for frame_name, frame in changes.put.items():
                put |= self._blobs_of(f"{name}/{frame_name}", frame)
            for frame_name in changes.drop:
                dropped += self._blobs.pop(f"{name}/{frame_name}", [])
        # a frame made and replaced between two checkpoints was never written
        delete = [key for key in dropped if key not in put]
        checkpoint = Checkpoint.after(
            self._head,
            plan=self.plan.fingerprint,
            offsets=self.positions,
            progress=self._progress(),
            steps=self.plan.steps,
        )
        self.store.stage(checkpoint, {key: put[key] for key in put if key not in dropped}, delete)
        return checkpoint

    def promote(self, checkpoint: Checkpoint) -> None:
        """Let a staged checkpoint count."""
        if self.store is None:
            raise StateError("a task without a store cannot be checkpointed")
        self.store.promote()
        self._head = checkpoint
        self.counters.checkpoints += 1

    def _blobs_of(self, name: str, frame: pl.DataFrame) -> dict[str, bytes]:
        blobs = {f"{name}/{part:04d}": blob for part, blob in enumerate(segments.cut(frame))}
        self._blobs[name] = list(blobs)
        return blobs

    def _progress(self) -> dict[str, Any]:
        holders = {name: holder.progress() for name, holder in self.holders()}
        idle = {name: idleness.to_json() for name, idleness in self.idleness.items()}
        loading = {name: {str(p): end for p, end in ends.items()} for name, ends in self.to_load().items()}
        return {"graph": self.graph.progress(), "holders": holders, "idleness": idle, "loading": loading}

    def load(self, *, reset: bool = False) -> None:
        """Go on from the store's head.

        Parameters
        ----------
        reset
            Whether steps whose plan changed may lose their state.

        Raises
        ------
        PlanChangedError
            If the state is of another plan, and `reset` was not given; the message is the difference.
        """
        if self.store is None or self.store.head is None:
            return
        head = self.store.head
        if head.plan != self.plan.fingerprint and not reset:
            raise difference(self.plan, head.steps)
        self._head = head
        self.positions |= {name: dict(at) for name, at in head.offsets.items() if name in self.positions}
        self.loading = {
            name: {int(p): end for p, end in ends.items()}
            for name, ends in head.progress.get("loading", {}).items()
            if name in self.positions
        }
        self.graph.load(head.progress["graph"])
        for name, idleness in self.idleness.items():
            if name in head.progress["idleness"]:
                idleness.load(head.progress["idleness"][name])
        for name, holder in self.holders():
            if head.steps.get(name) == self.plan.steps[name]:
                holder.load(self._frames(name), head.progress["holders"][name])
        self._forget(name for name, mark in head.steps.items() if self.plan.steps.get(name) != mark)

    def _frames(self, name: str) -> Iterator[tuple[str, pl.DataFrame]]:
        for key, blob in self.store.segments(f"{name}/"):  # type: ignore[union-attr]  # load() asked
            frame_name = key.removeprefix(f"{name}/").rpartition("/")[0]
            self._blobs.setdefault(f"{name}/{frame_name}", []).append(key)
            yield frame_name, segments.decode(blob)

    def _forget(self, names: Iterator[str]) -> None:
        """Drop the segments of steps that are gone or changed, in the next checkpoint."""
        for name in names:
            for key, _ in self.store.segments(f"{name}/"):  # type: ignore[union-attr]  # load() asked
                self._orphans.append(key)
