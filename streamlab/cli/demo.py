"""`streamlab demo`: a month of real flights through a broker in this process, and the answer checked against polars."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
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
from streamlab.plan.windows import tumbling
from streamlab.state.folders import STATE_DIR

if TYPE_CHECKING:
    from streamlab.frame import StreamFrame
    from streamlab.runtime.query import Query

TOPIC, PARTITIONS, GRACE = "flights", 4, "2h"
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
    sound = _compare(console, query, sent, streamed, late)
    console.print(f"\nThe results are in {results}/*.parquet; the code of this demo is the module {__name__}.", highlight=False)
    if not sound:
        sys.exit(1)


def _delays(kafka: Kafka) -> StreamFrame:
    stream = kafka.stream(TOPIC, schema=SCHEMA, event_time="scheduled")
    windows = stream.filter(pl.col("dep_delay").is_not_null()).group_by("carrier").window(tumbling("1h", grace=GRACE), name="delays")
    return windows.agg(  # type: ignore[return-value]  # final results are a StreamFrame
        pl.len().alias("flights"), pl.col("dep_delay").mean().alias("mean_delay"), pl.col("dep_delay").max().alias("worst")
    )


def _send(kafka: Kafka, sent: pl.DataFrame) -> None:
    writer = KafkaWriter(producer_settings(kafka.cluster.settings))
    for part in sent.iter_slices(_BATCH):
        times = part["scheduled"].dt.epoch("ms").to_list()
        writer.send(TOPIC, encode(part), [carrier.encode() for carrier in part["carrier"]], times)
    writer.flush()
    writer.close()


def _watch(console: Console, query: Query, total: int) -> None:
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("flights", total=total)
        while query.report.records < total and query.status == "running":
            query.wait(0.1)
            progress.update(task, completed=query.report.records)
        progress.update(task, completed=query.report.records)


def _compare(console: Console, query: Query, sent: pl.DataFrame, streamed: pl.DataFrame, late: pl.DataFrame) -> bool:
    """Compare the windows that closed with polars' answer over the flights that were in time for them."""
    keys = ["carrier", "flight", "scheduled", "dest", "tailnum"]
    flown = sent.filter(pl.col("dep_delay").is_not_null())
    in_time = flown.join(late, on=keys, how="anti", nulls_equal=True)
    start = pl.col("scheduled").dt.truncate("1h")
    answer = (
        in_time.group_by("carrier", start.alias("window_start"))
        .agg(pl.len().alias("flights"), pl.col("dep_delay").mean().alias("mean_delay"), pl.col("dep_delay").max().alias("worst"))
        .sort("window_start", "carrier")
    )
    last = streamed["window_start"].max()
    closed = answer.filter(pl.col("window_start") <= last)
    found = streamed.select(closed.columns).sort("window_start", "carrier")
    same = found.height == closed.height and _equal(found, closed)
    still_open = answer.height - closed.height
    in_open = int(answer["flights"].sum()) - int(closed["flights"].sum())
    counted = int(streamed["flights"].sum()) + late.height + in_open
    _summary(console, query, sent, flown, streamed, closed, late, still_open, in_open)
    verdict = same and counted == flown.height
    console.print(
        "[bold green]equal[/]: every window, every count and every mean" if verdict else "[bold red]DIFFERENT[/]", highlight=False
    )
    return verdict


def _equal(found: pl.DataFrame, answer: pl.DataFrame) -> bool:
    exact = ["carrier", "window_start", "flights", "worst"]
    gap = (found["mean_delay"] - answer["mean_delay"]).abs().max()
    return found.select(exact).equals(answer.select(exact)) and isinstance(gap, float) and gap <= 1e-9  # noqa: PLR2004  # semantics.md


def _summary(
    console: Console,
    query: Query,
    sent: pl.DataFrame,
    flown: pl.DataFrame,
    streamed: pl.DataFrame,
    closed: pl.DataFrame,
    late: pl.DataFrame,
    still_open: int,
    in_open: int,
) -> None:
    worst = Table("hour (UTC)", "carrier", "flights", "mean delay (min)", "worst (min)", title="the five worst hours", box=None, title_justify="left")
    for hour, carrier, count, mean, top in (
        streamed.sort("mean_delay", descending=True).select("window_start", "carrier", "flights", "mean_delay", "worst").head(5).rows()
    ):
        worst.add_row(f"{hour:%Y-%m-%d %H:%M}", carrier, f"{count:,}", f"{mean:,.1f}", f"{top:,.0f}")
    console.print(worst)
    tally = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for what, count, note in (
        ("flights sent", sent.height, f"{sent.height - flown.height:,} of them cancelled, filtered out"),
        ("records read", query.report.records, f"in {query.report.seconds:.1f} s"),
        ("windows streamed", streamed.height, f"{int(streamed['flights'].sum()):,} flights"),
        ("windows by polars", closed.height, f"{int(closed['flights'].sum()):,} flights"),
        ("still open", still_open, f"{in_open:,} flights; they close with later flights"),
        ("late rows", late.height, f"more than {GRACE} behind the watermark; kept with the window they missed"),
    ):
        tally.add_row(what, f"[bold]{count:,}[/]", f"[dim]{note}[/]")
    console.print()
    console.print(tally)
    if late.height:
        columns = ("carrier", "flight", "scheduled", "dep_delay", "window_end", "watermark")
        table = Table(*columns, title="\nlate rows, the first three", box=None, title_justify="left")
        for row in late.select(columns).head(3).rows():
            table.add_row(*(f"{value:%m-%d %H:%M}" if hasattr(value, "hour") else f"{value}" for value in row))
        console.print(table)
        console.print()
