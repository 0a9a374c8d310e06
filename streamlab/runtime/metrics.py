"""What a running query counts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

_SAMPLES = 1_000
_RATE_SECONDS = 10
_LATELY_SECONDS = 30

Timed = tuple[float, float]
"""When, in seconds of the monotonic clock, and a length of time in milliseconds."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a bounded run did: records = processed + late + dead_letters + skipped.

    `late` counts records that were late for every window of every step, `late_rows` pairs of a record and a window that it missed.

    Examples
    --------
    >>> Report(records=10, results=4, late=1, late_rows=1, dead_letters=2, skipped=0, seconds=0.5).processed
    7
    """

    records: int
    results: int
    late: int
    late_rows: int
    dead_letters: int
    skipped: int
    seconds: float

    @property
    def processed(self) -> int:
        """Records that were neither late, nor dead letters, nor skipped."""
        return self.records - self.late - self.dead_letters - self.skipped


@dataclass(frozen=True, slots=True)
class Metrics:
    """A snapshot of a query's counters. Times are in milliseconds, rates in records per second, sizes in bytes.

    Rates are of the last ten seconds, latencies and delays of the batches of the last thirty.
    """

    records: int
    processed: int
    results: int
    late: int
    late_rows: int
    dead_letters: int
    skipped: int
    rate: float
    latency_p50: float | None
    latency_p95: float | None
    latency_p99: float | None
    delay_p50: float | None
    delay_p95: float | None
    delay_p99: float | None
    state_bytes: int
    state_rows: int
    checkpoints: int
    seconds: float


@dataclass(slots=True)
class Counters:
    """The counters themselves; one thread writes them, any may read."""

    records: int = 0
    results: int = 0
    late: int = 0
    late_rows: int = 0
    dead_letters: int = 0
    skipped: int = 0
    checkpoints: int = 0
    latency: deque[Timed] = field(default_factory=lambda: deque(maxlen=_SAMPLES))  # ms from fetch to done, per batch
    delay: deque[Timed] = field(default_factory=lambda: deque(maxlen=_SAMPLES))  # ms from event time to done, per batch
    recent: deque[tuple[float, int]] = field(default_factory=deque)  # (seconds, records)

    def batch(self, now: float, records: int) -> None:
        """Remember a batch for the rate of the last ten seconds."""
        self.recent.append((now, records))
        while self.recent and self.recent[0][0] < now - _RATE_SECONDS:
            self.recent.popleft()

    def rate(self, now: float, began: float) -> float:
        """Return records a second over the last ten seconds, or since the start where that is less."""
        recent = [n for at, n in list(self.recent) if at >= now - _RATE_SECONDS]
        return sum(recent) / max(min(now - began, _RATE_SECONDS), 1e-9)

    def report(self, seconds: float) -> Report:
        """Return the counts as a report."""
        return Report(
            self.records, self.results, self.late, self.late_rows, self.dead_letters, self.skipped, round(seconds, 3)
        )

    def snapshot(self, now: float, began: float, state_bytes: int, state_rows: int) -> Metrics:
        """Return all that is known now."""
        done = self.report(now - began)
        return Metrics(
            done.records,
            done.processed,
            done.results,
            done.late,
            done.late_rows,
            done.dead_letters,
            done.skipped,
            self.rate(now, began),
            *_percentiles(self.latency, now),
            *_percentiles(self.delay, now),
            state_bytes,
            state_rows,
            self.checkpoints,
            done.seconds,
        )


def _percentiles(samples: deque[Timed], now: float) -> tuple[float | None, float | None, float | None]:
    """Return p50, p95 and p99 of the last half minute; on a quiet topic, of the last batches there were."""
    known = list(samples)
    values = [length for at, length in known if at >= now - _LATELY_SECONDS] or [length for _, length in known[-10:]]
    if not values:
        return None, None, None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return float(p50), float(p95), float(p99)
