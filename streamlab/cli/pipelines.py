"""`streamlab lag`, `state` and `reset`: what pipelines left on disk and in Kafka."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from streamlab.connect.cluster import Cluster
from streamlab.connect.groups import delete_group
from streamlab.engine.stream_time import NEVER
from streamlab.errors import StateError
from streamlab.kafka import BOOTSTRAP
from streamlab.state import catalogue
from streamlab.state.folders import STATE_FILE, find_pipeline, pipelines_in, state_dir
from streamlab.state.lock import FileLock
from streamlab.state.snapshot import read_head

if TYPE_CHECKING:
    from pathlib import Path

Name = Annotated[str, typer.Argument(help="The pipeline's name.")]
Servers = Annotated[str | None, typer.Option(envvar=BOOTSTRAP, help="Brokers, such as localhost:9092.")]


def state(name: Annotated[str | None, typer.Argument(help="A pipeline's name; none: list them.")] = None) -> None:
    """Show the pipelines that have state on this machine, or the steps of one.

    Example: streamlab state carrier-delays
    """
    if name is None:
        _list()
        return
    for folder in find_pipeline(name):
        with read_head(folder / STATE_FILE) as snapshot:
            head = snapshot.checkpoint
            if head is None:
                Console().print(f"{name}: no checkpoint yet")
                continue
            table = Table("step", "segments", "bytes", box=None, header_style="bold")
            for step in head.steps:
                sizes = [len(blob) for _, blob in snapshot.segments(f"{step}/")]
                table.add_row(step, f"{len(sizes):,}", f"{sum(sizes):,}")
            Console().print(f"[bold]{name}[/] on {folder.parent.name}: checkpoint {head.number}, plan {head.plan}")
            Console().print(table)
            for topic, offsets in head.offsets.items():
                Console().print(
                    f"  {topic}: next offsets {', '.join(f'p{p} {o:,}' for p, o in sorted(offsets.items()))}",
                    highlight=False,
                )


def _list() -> None:
    root = state_dir()
    table = Table("pipeline", "cluster", "bytes", "last written (UTC)", "last run", box=None, header_style="bold")
    last = {(entry.pipeline, entry.cluster): entry.last for entry in catalogue.pipelines()}
    for cluster in sorted(path for path in root.glob("*") if path.is_dir()):
        for pipeline in pipelines_in(cluster):
            file = cluster / pipeline / STATE_FILE
            written = datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M:%S")
            run = last.get((pipeline, cluster.name))
            did = "" if run is None else f"{run.outcome}, {run.records:,} records in {run.seconds:.1f} s"
            table.add_row(pipeline, cluster.name, f"{file.stat().st_size:,}", written, did)
    console = Console()
    console.print(table if table.row_count else f"no pipeline has state below {root}", highlight=False)


def lag(name: Name, bootstrap_servers: Servers = None) -> None:
    """Show how far a pipeline is behind, partition by partition.

    Example: streamlab lag carrier-delays --bootstrap-servers localhost:9092
    """
    (folder,) = find_pipeline(name)[:1]
    with read_head(folder / STATE_FILE) as snapshot:
        head = snapshot.checkpoint
    if head is None:
        raise StateError(f"pipeline {name!r} has no checkpoint yet.")
    cluster = None if bootstrap_servers is None else Cluster(bootstrap_servers, {})
    clocks = head.progress["graph"]["clocks"]
    table = Table("topic", "partition", "position", "end", "lag", "event time (UTC)", box=None, header_style="bold")
    for topic, offsets in head.offsets.items():
        ends = {} if cluster is None else cluster.watermarks(topic)
        times = clocks.get(topic, {}).get("stream_time", [])
        for partition, position in sorted(offsets.items()):
            end = ends[partition][1] if partition in ends else None
            reached = times[partition] if partition < len(times) and times[partition] != NEVER else None
            table.add_row(
                topic,
                str(partition),
                f"{position:,}",
                "?" if end is None else f"{end:,}",
                "?" if end is None else f"{max(0, end - position):,}",
                ""
                if reached is None
                else pl.Series([reached]).cast(pl.Datetime("ms")).dt.to_string("%Y-%m-%d %H:%M:%S").item(),
            )
    console = Console()
    console.print(table)
    if cluster is None:
        console.print(f"[dim]ends are not known without a broker: --bootstrap-servers, or {BOOTSTRAP}[/]")


def reset(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it only says what it would do.")] = False,
    bootstrap_servers: Servers = None,
) -> None:
    """Remove a pipeline's state and its group's offsets: it begins anew, from its `start`. The topics stay.

    Example: streamlab reset carrier-delays --yes --bootstrap-servers localhost:9092
    """
    console = Console()
    folders: list[Path] = find_pipeline(name)
    for folder in folders:
        console.print(f"{'removing' if yes else 'would remove'} {folder}", highlight=False)
    if bootstrap_servers is not None:
        console.print(
            f"{'deleting' if yes else 'would delete'} the offsets of group {name!r} at {bootstrap_servers}",
            highlight=False,
        )
    if not yes:
        console.print("[dim]nothing was changed; do it with --yes[/]")
        return
    for folder in folders:
        lock = FileLock((folder / STATE_FILE).resolve())
        try:
            shutil.rmtree(folder)
        finally:
            lock.release()
    if bootstrap_servers is not None:
        delete_group(Cluster(bootstrap_servers, {}), name)
