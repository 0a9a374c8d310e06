"""The six figures at the top of the panel: a number, a line of context, and the last minute of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.notebook import reading

if TYPE_CHECKING:
    from streamlab.notebook.history import History
    from streamlab.notebook.snapshot import Snapshot

BLUE, ORANGE, GREEN, RED, VIOLET = "#3b7dd8", "#e07b39", "#3a9d6e", "#d1495b", "#7d5fb2"


LABELS = {
    "rate": "records / s",
    "lag": "lag, records",
    "latency": "processing latency p99",
    "delay": "event-time delay p50",
    "late": "late rows",
    "dead": "dead letters",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One of them; without a colour it has no line."""

    name: str
    number: str
    note: str = ""
    colour: str = ""
    values: tuple[float, ...] = ()
    bad: bool = False

    @property
    def label(self) -> str:
        """What stands over the number."""
        return LABELS[self.name]


def tiles(now: Snapshot, history: History) -> tuple[Tile, ...]:
    """Return what the tiles say."""
    metrics = now.metrics
    mean = "" if now.is_live else ", on average"
    rate = metrics.rate if now.is_live else metrics.records / max(metrics.seconds, 1e-3)
    p50, watermark = f"p50 {reading.length(metrics.latency_p50)}", f"watermark {reading.clock(now.watermark)}"

    def over(figure: str) -> tuple[float, ...]:
        return tuple(history.of(figure))

    return (
        Tile("rate", reading.rate(rate), f"{metrics.records:,} in all{mean}", BLUE, over("rate")),
        Tile("lag", reading.count(now.lag), _behind(now), ORANGE, over("lag")),
        Tile("latency", reading.length(metrics.latency_p99), p50, RED, over("p99")),
        Tile("delay", reading.length(metrics.delay_p50), watermark, VIOLET, over("delay")),
        Tile("late", reading.count(metrics.late_rows)),
        Tile("dead", reading.count(metrics.dead_letters), bad=metrics.dead_letters > 0),
    )


def _behind(now: Snapshot) -> str:
    worst = max(now.partitions, key=lambda p: p.lag, default=None)
    if worst is None or not worst.lag:
        return "nothing left to read"
    topic = f"{worst.topic} " if len(now.sources) > 1 else ""
    note = f"{topic}p{worst.number}: {reading.count(worst.lag)}"
    return f"{note}, gone in {reading.length(now.lag / now.metrics.rate * 1000)}" if now.metrics.rate >= 1 else note
