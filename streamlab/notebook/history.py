"""What a panel remembers: the last minute of a few figures, in rings."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamlab.notebook.snapshot import Snapshot

SECONDS, EVERY = 60.0, 0.5
_SAMPLES = int(SECONDS / EVERY)


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures at one moment: seconds since the start, records a second, records behind, milliseconds."""

    at: float
    records: int
    rate: float
    lag: float
    p50: float | None
    p95: float | None
    p99: float | None
    delay: float | None


@dataclass
class History:
    """The newest samples, at most one every half second, for a minute."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def add(self, now: Snapshot) -> None:
        """Take a sample, unless the last one is fresh."""
        last, metrics = self.samples[-1] if self.samples else None, now.metrics
        if last is not None and now.seconds - last.at < EVERY:
            return
        since = (now.seconds - last.at) if last is not None else now.seconds
        rate = (metrics.records - (last.records if last is not None else 0)) / max(since, 1e-3)
        self.samples.append(
            Sample(
                now.seconds, metrics.records, rate, now.lag, metrics.latency_p50, metrics.latency_p95,
                metrics.latency_p99, metrics.delay_p50,
            )
        )  # fmt: skip

    def of(self, figure: str) -> list[float]:
        """Return one figure over time, oldest first; what was not known yet is left out."""
        return [value for sample in self.samples if (value := getattr(sample, figure)) is not None]

    def over_time(self, figure: str) -> tuple[list[float], list[float]]:
        """Return seconds before the newest sample, and one figure."""
        known = [(s.at, value) for s in self.samples if (value := getattr(s, figure)) is not None]
        newest = self.samples[-1].at if self.samples else 0.0
        return [at - newest for at, _ in known], [value for _, value in known]
