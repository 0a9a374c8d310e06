"""A pipeline as a service: started, logged, stopped by a signal with its state committed."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Literal, Self

from streamlab.runtime.query import running
from streamlab.runtime.resources import cluster_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from streamlab.pipeline import Pipeline
    from streamlab.plan.pipeline import Plan
    from streamlab.runtime.query import Query

LOGGER = logging.getLogger("streamlab.worker")
INTERRUPTED, TERMINATED = 130, 143
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_TICK, _REACH_SECONDS = 0.1, 7.0


class StoppedError(BaseException):
    """A signal came before the pipeline had started."""


class Signals:
    """SIGTERM and SIGINT as a wish to stop: the first is remembered, those that follow change nothing."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.starting = True

    def __enter__(self) -> Self:
        for number in _CODES:
            signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        """Signals are ignored from here on: the process is about to end."""
        for number in _CODES:
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            LOGGER.warning("%s: already stopping, the state is being committed", signal.Signals(number).name)
            return
        self.received = signal.Signals(number)
        if self.starting:
            raise StoppedError


def serve(define: Callable[[], Pipeline], *, until: Literal["latest"] | None, reset: bool, every: float) -> int:
    """Run a pipeline until it ends or a signal comes; return the exit code.

    Parameters
    ----------
    define
        Makes the pipeline.
    until, reset
        As in `Pipeline.start`.
    every
        Seconds between two lines in the log.
    """
    _log_to_stderr()
    with Signals() as signals:
        try:
            pipeline = define()
            LOGGER.info(
                "starting pipeline %r, plan %s%s",
                pipeline.name,
                pipeline.fingerprint,
                ", until latest" if until else "",
            )
            reach(pipeline.plan)
            query = pipeline.start(until=until, reset=reset)
        except StoppedError:
            for begun in running():  # the signal came just as it had started
                begun.stop()
            LOGGER.info("stopped by %s at the start", _name(signals))
            return _code(signals)
        signals.starting = False
        LOGGER.info("started%s", f": {query.kept}" if query.kept else ": no state yet, begins anew")
        _watch(query, signals, every)
        if signals.received is not None:
            LOGGER.info("%s: stopping, the state is being committed", _name(signals))
        query.stop()
        if query.error is not None:
            LOGGER.error("failed, the state is that of the last commit: %s", _counts(query))
            raise query.error
        LOGGER.info(
            "%s, state committed: %s", f"stopped by {_name(signals)}" if signals.received else "done", _counts(query)
        )
        return _code(signals) if signals.received is not None else 0


def reach(plan: Plan) -> None:
    """Fail soon, with the address, if the brokers that a plan reads from do not answer."""
    cluster = cluster_of(plan)
    if cluster is not None:
        cluster.metadata(_REACH_SECONDS)


def _watch(query: Query, signals: Signals, every: float) -> None:
    """Return when the query has ended or a signal has come; log in between."""
    due, over = time.monotonic() + every, threading.Event()
    query.at_end(over.set)  # `wait` would raise what failed, and the end is logged first
    while signals.received is None and not over.wait(_TICK):
        if time.monotonic() >= due:
            due += every
            LOGGER.info("%s", _counts(query))


def _counts(query: Query) -> str:
    metrics, lag = query.metrics, int(query.lag()["lag"].sum())
    return (
        f"records={metrics.records:,} rate={metrics.rate:,.0f}/s results={metrics.results:,} lag={lag:,} late={metrics.late:,} "
        f"dead_letters={metrics.dead_letters:,} skipped={metrics.skipped:,}"
    )


def _name(signals: Signals) -> str:
    return signals.received.name if signals.received else "nothing"


def _code(signals: Signals) -> int:
    return _CODES[signals.received] if signals.received else 0


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
