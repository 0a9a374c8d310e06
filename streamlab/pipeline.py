"""Pipelines: sinks under one name, with one state, as one job."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamlab.errors import PlanError
from streamlab.plan.pipeline import Plan
from streamlab.runtime import define
from streamlab.runtime import query as queries
from streamlab.state.folders import valid_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamlab.export import Exported
    from streamlab.plan.sinks import Sink as SinkNode
    from streamlab.runtime.metrics import Report
    from streamlab.runtime.query import Query


@dataclass(frozen=True)
class Sink:
    """The end of a stream: give it to a `Pipeline`."""

    node: SinkNode

    def __repr__(self) -> str:
        """Say what it is; touches no broker."""
        return self.node.describe()


class Pipeline:
    """One job: sinks, a name, one state.

    Parameters
    ----------
    sinks
        Where results go; each is the end of a stream.
    name
        Its identity: consumer group, state and internal topics go by it. None: for exploring, with temporary state, no group, no commits.

    Raises
    ------
    PlanError
        If there is no sink, two sinks are one, two steps share a name, or the name is not safe in paths and topics.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "b", "a"], "ts": [0, 1, 60_000]}), event_time="ts", topic="events")
    >>> counts = events.group_by("user").window(sl.tumbling("1m"), emit="updates").agg(pl.len().alias("n"))
    >>> query = sl.Pipeline([counts.sink_table("counts")]).start(until="latest")
    >>> query.wait(), query.table("counts")["n"].to_list()
    (True, [1, 1, 1])
    """

    def __init__(self, sinks: Sink | Sequence[Sink], *, name: str | None = None) -> None:
        given = [sinks] if isinstance(sinks, Sink) else list(sinks)
        for sink in given:
            if not isinstance(sink, Sink):
                raise PlanError(
                    f"Pipeline: {type(sink).__name__} is no sink; end the stream in one, such as .sink_table(...)."
                )
        self.plan = Plan(tuple(sink.node for sink in given), None if name is None else valid_name(name))
        _ = self.plan.steps
        define.made(self)

    @property
    def name(self) -> str | None:
        """The pipeline's name."""
        return self.plan.name

    @property
    def fingerprint(self) -> str:
        """A digest of what the plan does: equal wherever the same pipeline is defined."""
        return self.plan.fingerprint

    def start(self, *, until: Literal["latest"] | None = None, reset: bool = False) -> Query:
        """Run in the background and return at once; a running query of the same name is replaced, its state kept.

        Parameters
        ----------
        until
            "latest": stop at what the sources hold now. None: go on for ever; in a job of `streamlab run` it is "latest" too.
        reset
            Go on although the plan has changed: steps that are unchanged keep their state, the others lose it.

        Raises
        ------
        PlanChangedError
            If there is state of another plan; the message shows the difference.
        BrokerError
            If the broker cannot be reached, or a topic is not there.
        StateError
            If the state cannot be used: locked by another process, not writable, damaged.
        """
        if define.active():
            return define.not_run("start()")  # type: ignore[no-any-return]  # stands in for a query
        return queries.start(self.plan, until=_until(until), reset=reset)

    def run(self, *, until: Literal["latest"] | None = "latest", reset: bool = False) -> Report:
        """Process what has arrived since last time, commit, and return the counts.

        Windows that are still open stay in the state. What fails is raised. Ctrl-C stops with a commit.
        """
        if define.active():
            return define.not_run("run()")  # type: ignore[no-any-return]  # stands in for a report
        _hear_ctrl_c()
        query = self.start(until=until, reset=reset)
        try:
            query.wait()
        except KeyboardInterrupt:
            query.stop()
            raise
        query.stop()
        return query.report

    def export(self, path: str | Path) -> Exported:
        """Write the pipeline as a worker: a script that defines it as the notebook does, and runs it without a notebook.

        The script has what the definition needs of the executed cells: imports, constants, helper functions. Cells that show or run
        things stay behind, and are listed. Its plan is built in a fresh process and must be the notebook's, or nothing is written.

        Parameters
        ----------
        path
            The script, such as ``"worker.py"``; one that is there is replaced.

        Returns
        -------
        Exported
            What was written, its flags, and what was left out.

        Raises
        ------
        PlanError
            If there is no notebook, or something that the pipeline needs cannot be exported: by name, cell and line.
        """
        from streamlab.export import export  # noqa: PLC0415  # only a notebook needs it

        if define.active():
            return define.not_run("export()")  # type: ignore[no-any-return]  # stands in for a result
        return export(self, path)

    def explain(self) -> str:
        """Return the plan as a tree, results first."""
        return self.plan.explain()

    def __repr__(self) -> str:
        """Say what it is; touches no broker."""
        return f"Pipeline {self.plan.name or 'unnamed'!r} (plan {self.fingerprint})\n{self.explain()}"


def _hear_ctrl_c() -> None:
    """Let Ctrl-C end a run with its commit: polars takes it for the frames that it works on, in whatever thread that is."""
    in_main = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _until(until: str | None) -> Literal["latest"] | None:
    if until is None or until == "latest":
        return until  # type: ignore[return-value]  # compared with the literal
    raise PlanError(f'until={until!r}; valid are "latest" (what the sources hold now) and None (for ever).')
