"""`streamlab demo`: a month of real flights through a broker in this process, and the answer checked against polars."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streamlab.connect.formats.json import encode
from streamlab.connect.kafka_sink import KafkaWriter
from streamlab.connect.settings import producer_settings
from streamlab.data import SCHEMA, flights
from streamlab.kafka import Kafka
from streamlab.pipeline import Pipeline
from streamlab.plan.schema import WINDOW_START
from streamlab.plan.windows import tumbling
from streamlab.state.folders import STATE_DIR

if TYPE_CHECKING:
    from streamlab.frame import StreamFrame
    from streamlab.runtime.query import Query

TOPIC, PARTITIONS, SIZE, GRACE = "flights", 4, "1h", "2h"
AGGREGATIONS = (
    pl.len().alias("flights"),
    pl.col("dep_delay").mean().alias("mean_delay"),
    pl.col("dep_delay").max().alias("worst"),
)
SHOWN = (WINDOW_START, "carrier", "flights", "mean_delay", "worst")
MEAN_TOLERANCE = 1e-9
_BATCH = 1_000


def demo(folder: Annotated[Path, typer.Option(help="Where the results go.")] = Path("streamlab-demo")) -> None:
    """Replay a month of real flights, window them live, and check the answer against polars, row by row.

    Example: streamlab demo --folder /tmp/streamlab-demo

    Exits with 1 if anything differs.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="streamlab-demo-") as state:
        os.environ[STATE_DIR] = state
        _demo(console, folder)


def _demo(console: Console, folder: Path) -> None:
    sent = flights()
    console.print(
        f"[bold]{sent.height:,} flights[/] that left New York in January 2013, replayed in order of actual departure. "
        "Event time is the scheduled departure, so they come out of order, as in life.\n"
    )
    results = folder / "delays"
    shutil.rmtree(results, ignore_errors=True)
    kafka = Kafka.embedded({TOPIC: PARTITIONS})
    delays = _delays(kafka)
    pipeline = Pipeline([delays.sink_parquet(results), delays.sink_table("delays")], name="carrier-delays")
    console.print(pipeline.explain() + "\n", highlight=False)
    _send(kafka, sent.head(_BATCH))  # a partition that is empty at the start is idle, and holds no window open
    query = pipeline.start()
    producer = threading.Thread(target=_send, args=(kafka, sent.tail(-_BATCH)), daemon=True)
    producer.start()
    _watch(console, query, sent.height)
    producer.join()
    query.stop()
    if query.error is not None:
        raise query.error
    streamed = pl.read_parquet(results / "*.parquet")
    late = query.late
    outcome = _outcome(sent, streamed, late)
    _show(console, query, outcome)
    equal = "[bold green]equal[/]: every window, every count and every mean"
    console.print(equal if outcome.equal else "[bold red]DIFFERENT[/] from polars' answer", highlight=False)
    console.print(
        f"\nThe results are in {results}/*.parquet; the code of this demo is the module {__name__}.", highlight=False
    )
    if not outcome.equal:
        sys.exit(1)


def _delays(kafka: Kafka) -> StreamFrame:
    stream = kafka.stream(TOPIC, schema=SCHEMA, event_time="scheduled")
    flown = stream.filter(pl.col("dep_delay").is_not_null())
    windows = flown.group_by("carrier").window(tumbling(SIZE, grace=GRACE), name="delays")
    return windows.agg(*AGGREGATIONS)  # type: ignore[return-value]  # final results are a StreamFrame


def _send(kafka: Kafka, sent: pl.DataFrame) -> None:
    writer = KafkaWriter(producer_settings(kafka.cluster.settings))
    for part in sent.iter_slices(_BATCH):
        times = part["scheduled"].dt.epoch("ms").to_list()
        writer.send(TOPIC, encode(part), [carrier.encode() for carrier in part["carrier"]], times)
    writer.flush()
    writer.close()


def _watch(console: Console, query: Query, total: int) -> None:
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("flights", total=total)
        while query.report.records < total and query.status == "running":
            query.wait(0.1)
            progress.update(task, completed=query.report.records)
        progress.update(task, completed=query.report.records)


@dataclass(frozen=True)
class Outcome:
    """What was sent, what came out, and what polars says that should have."""

    sent: pl.DataFrame
    streamed: pl.DataFrame
    late: pl.DataFrame
    closed: pl.DataFrame  # polars' answer for the windows that closed
    still_open: pl.DataFrame  # and for those that did not yet

    @property
    def flown(self) -> int:
        """Flights that were not cancelled."""
        return self.sent.height - self.sent["dep_delay"].null_count()

    @property
    def equal(self) -> bool:
        """Whether every window is as polars says, and no flight is missing or there twice."""
        found = self.streamed.select(self.closed.columns).sort(WINDOW_START, "carrier")
        counted = _flights(self.streamed) + self.late.height + _flights(self.still_open)
        return counted == self.flown and found.height == self.closed.height and _same(found, self.closed)


def _outcome(sent: pl.DataFrame, streamed: pl.DataFrame, late: pl.DataFrame) -> Outcome:
    """Work out polars' answer over the flights that were in time for their window."""
    flown = sent.filter(pl.col("dep_delay").is_not_null())
    in_time = flown.join(late, on=["carrier", "flight", "scheduled", "dest", "tailnum"], how="anti", nulls_equal=True)
    hour = pl.col("scheduled").dt.truncate(SIZE).alias(WINDOW_START)
    answer = in_time.group_by("carrier", hour).agg(AGGREGATIONS).sort(WINDOW_START, "carrier")
    has_closed = pl.col(WINDOW_START) <= pl.lit(streamed[WINDOW_START].max())
    return Outcome(sent, streamed, late, answer.filter(has_closed), answer.filter(~has_closed))


def _flights(windows: pl.DataFrame) -> int:
    return int(windows["flights"].sum())


def _same(found: pl.DataFrame, answer: pl.DataFrame) -> bool:
    exact = ["carrier", WINDOW_START, "flights", "worst"]
    gap = (found["mean_delay"] - answer["mean_delay"]).abs() / answer["mean_delay"].abs().clip(1)
    return found.select(exact).equals(answer.select(exact)) and bool((gap <= MEAN_TOLERANCE).all())


def _show(console: Console, query: Query, outcome: Outcome) -> None:
    _show_worst(console, outcome.streamed)
    tally = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = (
        (
            "flights sent",
            outcome.sent.height,
            f"{outcome.sent.height - outcome.flown:,} of them cancelled, filtered out",
        ),
        ("records read", query.report.records, f"in {query.report.seconds:.1f} s"),
        ("windows streamed", outcome.streamed.height, f"{_flights(outcome.streamed):,} flights"),
        ("windows by polars", outcome.closed.height, f"{_flights(outcome.closed):,} flights"),
        (
            "still open",
            outcome.still_open.height,
            f"{_flights(outcome.still_open):,} flights; they close with later ones",
        ),
        ("late rows", outcome.late.height, f"over {GRACE} behind the watermark; kept, with the window they missed"),
    )
    for what, count, note in rows:
        tally.add_row(what, f"[bold]{count:,}[/]", f"[dim]{note}[/]")
    console.print()
    console.print(tally)
    _show_late(console, outcome.late)


def _show_worst(console: Console, streamed: pl.DataFrame) -> None:
    columns = ("hour (UTC)", "carrier", "flights", "mean delay (min)", "worst (min)")
    table = Table(*columns, title="the five worst hours", box=None, title_justify="left")
    for hour, carrier, count, mean, worst in streamed.sort("mean_delay", descending=True).select(SHOWN).head(5).rows():
        table.add_row(f"{hour:%Y-%m-%d %H:%M}", carrier, f"{count:,}", f"{mean:,.1f}", f"{worst:,.0f}")
    console.print(table)


def _show_late(console: Console, late: pl.DataFrame) -> None:
    columns = ("carrier", "flight", "scheduled", "dep_delay", "window_end", "watermark")
    table = Table(*columns, title="late rows, the first three", box=None, title_justify="left")
    for row in late.select(columns).head(3).rows():
        table.add_row(*(f"{value:%m-%d %H:%M}" if isinstance(value, datetime) else f"{value}" for value in row))
    console.print()
    console.print(table)
    console.print()
