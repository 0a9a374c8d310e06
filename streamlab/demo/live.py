"""The demo: a live stream of flights, windowed while one looks on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab import data
from streamlab.connect.embedded import EmbeddedBroker
from streamlab.demo.replay import Replay, check_rate, now
from streamlab.demo.tape import MONTH, Live
from streamlab.errors import PlanError
from streamlab.kafka import Kafka
from streamlab.pipeline import Pipeline, Sink
from streamlab.plan.sinks import Sink as SinkNode
from streamlab.plan.windows import tumbling

if TYPE_CHECKING:
    from streamlab.frame import StreamFrame
    from streamlab.runtime.query import Query

_NAME, _TOPIC, _PARTITIONS, _SIZE, _GRACE = "demo", "flights", 4, "5s", "10s"
_SIZE_MS, _HISTORY_MS, _HISTORY, _FASTEST = 5_000, 180_000, 20_000, 20_000
_registry = threading.RLock()
_demos: list[Demo] = []


class Demo:
    """A running demo; made by `demo`.

    Attributes
    ----------
    kafka : Kafka
        A broker of the demo's own, inside this process, with the topic "flights".
    flights : StreamFrame
        The flights as they leave.
    delays : StreamFrame
        Flights and their delay by airport, in windows of five seconds.
    query : Query
        What works them out, and shows it.
    """

    def __init__(self, rate: float, seed: int) -> None:
        self._rate, self._seed = rate, seed
        self._broker = EmbeddedBroker({_TOPIC: _PARTITIONS})
        self.kafka = Kafka(self._broker.bootstrap)
        began = now()
        past = (began - _HISTORY_MS) // _SIZE_MS * _SIZE_MS  # the first window is a whole one
        # everything but the clock follows from the seed
        self._first = int(np.random.default_rng(seed).integers(MONTH))
        self._replay = Replay(self.kafka, _TOPIC, "carrier", Live(past), (self._first, None), rate)
        self._replay.send(min(int(rate * _HISTORY_MS / 1000), _HISTORY), past, began)
        self._replay.flush()
        schema = {name: data.SCHEMA[name] for name in ("carrier", "flight", "origin", "dest", "scheduled", "dep_delay")}
        self.flights: StreamFrame = self.kafka.stream(_TOPIC, schema=schema, event_time="scheduled")
        flown = self.flights.filter(pl.col("dep_delay").is_not_null())
        delay = pl.col("dep_delay")
        windows = flown.group_by("origin").window(tumbling(_SIZE, grace=_GRACE), name="delays")
        self.delays = windows.agg(
            pl.len().alias("flights"), delay.mean().alias("mean_delay"), delay.max().alias("worst")
        )
        # the newest results are held, not all: it may run for days
        self.query: Query = Pipeline(Sink(SinkNode(self.delays.node, "memory", "delays")), name=_NAME).start()
        self._replay.start()

    @property
    def sent(self) -> int:
        """How many flights have left."""
        return self._replay.sent - self._first

    def stop(self) -> None:
        """End the stream and the query; what the broker holds can still be read."""
        self._replay.stop()
        self.query.stop()

    def close(self) -> None:
        """Stop, and end the broker too."""
        self.stop()
        self._broker.close()

    def __repr__(self) -> str:
        """Say what there is to try; touches no broker."""
        state = "running" if self._replay.running else "stopped"
        return "\n".join(
            (
                f"Demo: {state}, {self.sent:,} flights have left, {self._rate:g} a second (seed {self._seed})",
                f"  .kafka    a broker in this process: demo.kafka.topics(), demo.kafka.peek({_TOPIC!r})",
                "  .flights  the flights as they leave: demo.flights.preview()",
                f"  .delays   their delay by airport, in windows of {_SIZE}: demo.delays.explain()",
                f"  .query    {self.query!r}",
                "  .stop()   ends it; demo = sl.demo() begins anew",
            )
        )


def demo(*, rate: float = 100, seed: int = 0, show: bool = True) -> Demo:
    """Start a live stream of flights on a broker inside this process, and show what becomes of it; a running demo is replaced.

    Real flights of January 2013 leave New York now, a hundred a second, after three minutes of history that are there at once. A minute of
    delay has become 50 ms, so they are out of order by a few seconds, and some are late. A few records cannot be decoded.
    Memory is bounded: the broker keeps 5 MiB of each of four partitions, the query its newest results.

    Parameters
    ----------
    rate
        Flights a second, at most 20,000.
    seed
        The flight that it begins with; everything but the clock follows from it.
    show
        Whether to show the query's panel.

    Raises
    ------
    PlanError
        If the rate is not above 0, or above 20,000.

    Examples
    --------
    >>> trial = demo(show=False)
    >>> trial.kafka.peek("flights", n=1).select("partition", "key").width
    2
    >>> trial.delays.columns
    ['origin', 'window_start', 'window_end', 'flights', 'mean_delay', 'worst']
    >>> trial.close()
    """
    check_rate("demo", rate)
    if rate > _FASTEST:
        raise PlanError(f"demo: rate={rate!r}; at most {_FASTEST:,} flights a second.")
    with _registry:
        while _demos:
            _demos.pop().close()
        begun = Demo(rate, seed)
        _demos.append(begun)
    if show:
        begun.query.plot("window_start", "mean_delay", by="origin")
    return begun
