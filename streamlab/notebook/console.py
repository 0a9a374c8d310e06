"""The panel as plain text: where there is no notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from streamlab.notebook import reading

if TYPE_CHECKING:
    from streamlab.notebook.snapshot import Snapshot

_ROWS = 8


def text(now: Snapshot) -> str:
    """Return what a query does, in a few lines and its newest results."""
    metrics = now.metrics
    rate = metrics.rate if now.is_live else metrics.records / max(metrics.seconds, 1e-3)
    head = f"{now.name}  {now.status} {'for' if now.is_live else 'after'} {reading.length(now.seconds * 1000)}"
    counts = f"records {metrics.records:,} ({reading.rate(rate)}/s)   results {metrics.results:,}   lag {now.lag:,}"
    delays = f"event-time delay p50 {reading.length(metrics.delay_p50)}   watermark {reading.day(now.watermark)}"
    latency = f"latency p50 {reading.length(metrics.latency_p50)}, p99 {reading.length(metrics.latency_p99)}"
    lines = [
        f"{head}  {', '.join(now.sources)} -> {', '.join(now.sinks)}",
        f"  {counts}   late {metrics.late_rows:,}   dead letters {metrics.dead_letters:,}",
        f"  {latency}   {delays}   state {reading.size(metrics.state_bytes)}",
    ]
    if now.error is not None:
        lines.append(f"  {now.error}")
    if now.rows.height:
        with pl.Config(tbl_rows=_ROWS, tbl_hide_dataframe_shape=True):
            lines.append(str(now.rows.tail(_ROWS).reverse()))
    return "\n".join(lines)
