"""Flights on their way to a topic: a background thread that sends them at a pace."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab import data
from streamlab.connect.formats.json import encode
from streamlab.connect.kafka_sink import KafkaWriter
from streamlab.connect.settings import producer_settings
from streamlab.demo.tape import MONTH, Month, broken
from streamlab.errors import PlanError, did_you_mean

if TYPE_CHECKING:
    from streamlab.demo.tape import Ints, Tape
    from streamlab.kafka import Kafka
    from streamlab.runtime.query import Query

_PARTITIONS, _BATCH, _TICK = 4, 1_000, 0.1
_registry = threading.RLock()
_replays: dict[tuple[str, str], Replay] = {}


class Replay:
    """Flights on their way to a topic, sent by a background thread; made by `replay_flights`.

    Parameters
    ----------
    kafka, topic, key
        Where to, and the column of the record key.
    tape
        What is sent.
    span
        Numbers of the next record and of the one after the last; None: it never ends.
    rate
        Records a second; None: as fast as they go.
    """

    def __init__(
        self, kafka: Kafka, topic: str, key: str, tape: Tape, span: tuple[int, int | None], rate: float | None
    ) -> None:
        self.topic, self._key, self._tape, self._rate = topic, key, tape, rate
        self._next, self._end = span
        self._error: BaseException | None = None
        self._stopped, self._gone = threading.Event(), threading.Event()
        self._writer = KafkaWriter(producer_settings(kafka.cluster.settings), self._stopped)
        self._thread = threading.Thread(target=self._run, name=f"{topic}-replay", daemon=True)

    @property
    def sent(self) -> int:
        """How many records were sent, those of earlier replays to the topic included."""
        return self._next

    @property
    def running(self) -> bool:
        """Whether it is sending."""
        return self._thread.ident is not None and not self._gone.is_set()

    def start(self) -> None:
        """Send in the background, and return at once; started again, it does nothing."""
        with _registry:
            if self._thread.ident is None and not self._stopped.is_set():
                self._thread.start()

    def stop(self) -> None:
        """Send no more. What was sent has reached the broker."""
        with _registry:
            begun = self._thread.ident is not None
            self._stopped.set()
        if not begun:
            self._writer.close()
        # not by `join`, in which Ctrl-C does harm before Python 3.13; and a little at a time, or polars keeps Ctrl-C from it
        while begun and not self._gone.wait(_TICK):
            continue

    def wait(self, query: Query | None = None, timeout: float | None = None) -> bool:
        """Wait until a month has been sent; return whether it has. What failed is raised here.

        Parameters
        ----------
        query
            Wait until this query, which reads the topic alone, has read it, too.
        timeout
            Seconds to wait at most; None: for ever.
        """
        self.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._arrived(query):
            if query is None:
                self._gone.wait(_TICK)
            elif query.wait(_TICK):
                return False
            if deadline is not None and time.monotonic() >= deadline:
                return False
        return self._next >= MONTH

    def _arrived(self, query: Query | None) -> bool:
        running = self.running  # asked first: when it no longer does, it has said what failed
        if self._error is not None:
            raise self._error
        goal = MONTH if running else min(MONTH, self._next)
        if self._next < goal or (query is not None and int(query.lag()["position"].sum()) < goal):
            return False
        if query is not None:
            _ = query.metrics  # they are taken between two batches: the one that was read last is counted, too
        return True

    def send(self, count: int, since: int, until: int) -> None:
        """Send the next records, spread evenly between two moments (ms since 1970)."""
        numbers = np.arange(self._next, self._next + count)
        sent = np.linspace(since, until, count + 1).astype(np.int64)[1:]
        for first in range(0, count, _BATCH):
            self._send(numbers[first : first + _BATCH], sent[first : first + _BATCH])

    def _send(self, numbers: Ints, sent: Ints) -> None:
        rows = self._tape.frame(numbers, sent)
        values: list[bytes | None] = list(encode(rows))
        for i, payload in broken(numbers).items():
            values[i] = payload
        keys = rows[self._key].cast(pl.Binary).to_list()
        self._writer.send(self.topic, values, keys, rows["scheduled"].dt.epoch("ms").to_list())
        self._next = int(numbers[-1]) + 1

    def flush(self) -> None:
        """Wait until the broker has what was sent."""
        self._writer.flush()

    def _run(self) -> None:
        try:
            self._pace()
            self._writer.flush()
        except BaseException as error:  # noqa: BLE001  # kept for `wait`: a thread has nobody to raise it to
            self._error = error
        finally:
            try:
                self._writer.close()
            finally:
                self._gone.set()

    def _pace(self) -> None:
        clock, before = time.monotonic(), now()
        while not self._stopped.is_set() and (self._end is None or self._next < self._end):
            count = _BATCH
            if self._rate is not None:
                self._stopped.wait(_TICK)
                behind = time.monotonic() - clock
                count = int(min(behind, 1.0) * self._rate)  # a machine that slept does not catch up with the night
                clock += behind if behind > 1.0 else count / self._rate
            if self._end is not None:
                count = min(count, self._end - self._next)
            if count:
                after = now()
                self.send(count, before, after)
                before = after

    def __repr__(self) -> str:
        """Say what it is and how far; touches no broker."""
        if self._error is not None:
            return f"Replay to {self.topic!r}: failed after {self._next:,} records: {self._error}"
        state = "sending" if self.running else "done" if self._end and self._next >= self._end else "not sending"
        total = "" if self._end is None else f" of {self._end:,}"
        return f"Replay to {self.topic!r}: {state}, {self._next:,}{total} records sent"


def replay_flights(
    kafka: Kafka, topic: str = "flights", *, key: str = "origin", rate: float | None = None, endless: bool = False
) -> Replay:
    """Send a month of real flights to a topic, in the order in which they left: the first thousand now, the others after `start()`.

    Three records among them cannot be decoded. A topic that has some of the flights gets those that follow, so a cell that is run again
    sends nothing twice.

    Parameters
    ----------
    kafka
        Where to.
    topic
        Made with four partitions if it is not there; nobody else may write to it.
    key
        The column of the record key.
    rate
        Flights a second; None: as fast as they go.
    endless
        Whether to go on with the month, 31 days later, and again.

    Raises
    ------
    PlanError
        If the rate is not above 0, or an endless replay has none, or there is no such key.

    Examples
    --------
    >>> from streamlab import Kafka
    >>> kafka = Kafka.embedded()
    >>> replay = replay_flights(kafka, "doc.replay")
    >>> replay
    Replay to 'doc.replay': not sending, 1,000 of 27,007 records sent
    >>> replay.wait()
    True
    >>> replay_flights(kafka, "doc.replay")
    Replay to 'doc.replay': done, 27,007 of 27,007 records sent
    """
    check_rate("replay_flights", rate)
    if endless and rate is None:
        raise PlanError("replay_flights: endless=True needs a rate= in flights a second, such as 2000.")
    if key not in data.SCHEMA:
        raise PlanError(
            f"replay_flights: key={key!r}; the flights have {data.SCHEMA.names()}.{did_you_mean(key, data.SCHEMA)}"
        )
    slot = kafka.cluster.bootstrap, topic
    with _registry:
        if (earlier := _replays.pop(slot, None)) is not None:
            earlier.stop()
        # a broker deletes by record timestamp, and these are long past
        kafka.cluster.create_topic(topic, _PARTITIONS, {"retention.ms": "-1"})
        there = sum(high for _, high in kafka.cluster.watermarks(topic).values())
        replay = _replays[slot] = Replay(
            kafka, topic, key, Month(), (there, None if endless else max(MONTH, there)), rate
        )
    if there < _BATCH:
        replay.send(_BATCH - there, now(), now())
        replay.flush()
    return replay


def check_rate(step: str, rate: float | None) -> None:
    """Refuse a rate that is none."""
    if rate is not None and not rate > 0:
        raise PlanError(f"{step}: rate={rate!r}; a rate is a number above 0, in flights a second.")


def now() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
