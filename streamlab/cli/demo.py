"""`streamlab demo`: the tour, run from its first cell to a worker, and every result checked."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from streamlab.cli import demo_check
from streamlab.connect.embedded import EmbeddedBroker
from streamlab.demo import copy_tour, notebook, replay_flights
from streamlab.demo.tape import FLIGHTS
from streamlab.errors import RunError
from streamlab.kafka import Kafka
from streamlab.state.folders import STATE_DIR
from streamlab.state.tables import open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamlab.cli.demo_check import Answer

PIPELINE, TABLE = "airport-delays", "delays"
WINDOW, GRACE, RATE = "3h", "2h", 5_000
_NEEDED = ("papermill", "ipykernel", "anywidget", "bokeh", "nbconvert")
_PATIENCE = 120
# an embedded broker makes no topics for another process, so those that the worker writes to are there beforehand
_TOPICS = {"flights": 4, "delays": 4, f"{PIPELINE}.late": 1, f"{PIPELINE}.dead-letters": 1}


def demo(
    folder: Annotated[Path, typer.Option(help="Where the results go.")] = Path("streamlab-demo"),
    open_: Annotated[
        bool, typer.Option("--open", help="Open the tour in JupyterLab instead, on a stream that goes on for ever.")
    ] = False,
) -> None:
    """Run the tour: a month of real flights, windowed live in a notebook and headless in the worker it exports.

    Both results are compared with each other and with polars' batch answer, row by row. No Kafka is needed.

    Example: streamlab demo --folder /tmp/streamlab-demo

    Exits with 1 if anything differs.
    """
    console = Console(highlight=False)
    _require(console, (*_NEEDED, "jupyterlab") if open_ else _NEEDED)
    folder.mkdir(parents=True, exist_ok=True)
    sys.exit(_open(console, folder) if open_ else _demo(console, folder))


def _require(console: Console, names: tuple[str, ...]) -> None:
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        what = ("'streamlab[notebook]'", *(name for name in missing if name not in _NEEDED))
        console.print(
            f"The demo runs a notebook and needs {', '.join(missing)}: pip install {' '.join(what)}", markup=False
        )
        sys.exit(1)


def _open(console: Console, folder: Path) -> int:
    tour = folder / "tour.ipynb"
    if tour.exists():
        console.print(f"{tour} is there already: it is opened as it is.")
    else:
        copy_tour(tour, endless=True)
    console.print("JupyterLab opens in the browser; Ctrl-C here ends it.")
    command = [sys.executable, "-m", "jupyterlab", str(tour)]  # that of this very Python
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else, and it listens on loopback
    return subprocess.run(command, check=False).returncode  # noqa: S603  # JupyterLab


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the results."""

    name: str
    note: str
    rows: pl.DataFrame
    seconds: float


def _demo(console: Console, folder: Path) -> int:
    console.print(
        f"[bold]{FLIGHTS:,} flights[/] left New York in January 2013. Here they leave once more,\n"
        f"late ones and broken records among them. Their delays, by airport and in\nwindows of {WINDOW}, are found in three ways:\n"
    )
    began = time.monotonic()
    with _step(console, "the notebook, while they arrive") as say:
        live = _notebook(folder.resolve(), say)
    with _step(console, "worker.py, exported from it, with no notebook") as say:
        headless = _worker(folder.resolve(), say)
    with _step(console, "polars, over the whole month at once"):
        start, expected = time.monotonic(), demo_check.answer(WINDOW, GRACE)
        batch = Way("polars", "all at once", expected.closed, time.monotonic() - start)
    console.print()
    _show(console, (live, headless, batch), expected)
    differ = {way.name: demo_check.differences(way.rows, expected.closed) for way in (live, headless)}
    differ["notebook and worker"] = demo_check.differences(live.rows, headless.rows)
    _judge(console, differ)
    _show_files(console, folder)
    console.print(f"[dim]{time.monotonic() - began:.0f} s in all[/]")
    return 1 if any(rows.height for rows in differ.values()) else 0


@contextmanager
def _step(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Show that something is done, how far it is, and how long it took."""
    start = time.monotonic()
    with console.status(f"  {what}") as status:
        yield lambda where: status.update(f"  {what} [dim]{where}[/]")
    console.print(f"  [green]✓[/] {what} [dim]{time.monotonic() - start:.1f} s[/]")


def _notebook(folder: Path, say: Callable[[str], None]) -> Way:
    """Run the tour; it leaves its results and its worker beside it."""
    from streamlab.cli import demo_page, demo_tour  # noqa: PLC0415  # papermill takes two seconds to import

    start, executed, results = time.monotonic(), folder / "01-tour.ipynb", folder / "delays.parquet"
    for stale in (executed, results, folder / "worker.py", folder / "01-tour.html"):
        stale.unlink(missing_ok=True)
    demo_tour.run(
        notebook("01-tour"), executed, folder, {"rate": RATE}, lambda cell, cells: say(f"cell {cell} of {cells}")
    )
    demo_page.write(executed, folder / "01-tour.html")
    return Way("notebook", "live, as they arrived", pl.read_parquet(results), time.monotonic() - start)


def _worker(folder: Path, say: Callable[[str], None]) -> Way:
    """Run the worker over the same records: a broker in this process holds them, and the worker connects to its port of loopback."""
    start = time.monotonic()
    with EmbeddedBroker(_TOPICS) as broker, tempfile.TemporaryDirectory(prefix="streamlab-demo-") as state:
        say("sending the same records again")
        replay_flights(Kafka(broker.bootstrap), "flights").wait()
        say("running")
        command = [sys.executable, str(folder / "worker.py"), "run"]
        command += ["--bootstrap-servers", broker.bootstrap, "--until", "latest"]
        done = subprocess.run(  # noqa: S603  # the script that the tour has just written
            command,
            env={**os.environ, STATE_DIR: state},
            cwd=state,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RunError(
                f"worker.py ended with exit code {done.returncode}:\n{done.stderr.strip() or done.stdout.strip()}"
            )
        os.environ[STATE_DIR] = state
        rows = open_table(PIPELINE, TABLE).frame()
    return Way("worker.py", "headless, as a script", rows, time.monotonic() - start)


def _show(console: Console, ways: tuple[Way, ...], expected: Answer) -> None:
    table = Table(
        "", "windows", "flights", "mean delay", "worst", "", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    for column in table.columns[1:5]:
        column.justify = "right"
    for way in ways:
        flown, minutes, worst = way.rows.select(
            pl.col("flights").sum(), pl.col("mean_delay").dot("flights"), pl.col("worst").max()
        ).row(0)
        cells = f"{way.rows.height:,}", f"{flown:,}", f"{minutes / max(1, flown):.2f} min", f"{worst or 0:,.0f} min"
        table.add_row(f"  [bold]{way.name}[/]", *cells, f"[dim]{way.note}[/]")
    console.print(table)
    _show_worst(console, ways[0].rows)
    console.print(
        f"\n  [dim]{expected.flown:,} flights were not cancelled. {expected.late:,} are late, and kept: their window had\n"
        f"  been over for {GRACE} by the clock of their airport. {expected.still_open} windows are still open.[/]\n"
    )


def _show_worst(console: Console, rows: pl.DataFrame) -> None:
    columns = ("  worst three hours (UTC)", "airport", "flights", "mean delay", "worst")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in table.columns[2:]:
        column.justify = "right"
    worst = rows.sort("mean_delay", descending=True).head(5)
    start = pl.col("window_end").dt.offset_by(f"-{WINDOW}")
    for at, airport, flown, mean, longest in worst.select(start, "origin", "flights", "mean_delay", "worst").rows():
        table.add_row(f"  {at:%Y-%m-%d %H:%M}", airport, f"{flown:,}", f"{mean:,.1f} min", f"{longest:,.0f} min")
    console.print()
    console.print(table)


def _judge(console: Console, differ: dict[str, pl.DataFrame]) -> None:
    if not any(rows.height for rows in differ.values()):
        console.print("  [bold green]equal[/]: every window, every count and every mean, in all three\n")
        return
    for name, rows in differ.items():
        if rows.height:
            console.print(f"  [bold red]DIFFERENT[/]: {name}, {rows.height:,} windows; the first of them:")
            console.print(str(rows.head(5)), markup=False)


def _show_files(console: Console, folder: Path) -> None:
    files = (
        ("01-tour.html", "the tour with its results, for a browser"),
        ("01-tour.ipynb", "the same as a notebook"),
        ("worker.py", "the pipeline as a script: try --help"),
        ("delays.parquet", "its results"),
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, what in files:
        table.add_row(f"  {folder / name}", f"[dim]{what}[/]")
    console.print(table)
    console.print("\n  next: [bold]streamlab demo --open[/], the tour in JupyterLab on an endless stream\n")
