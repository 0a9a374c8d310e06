"""`streamlab doctor`: versions, where state lives, whether the broker answers."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streamlab.connect.cluster import Cluster
from streamlab.errors import BrokerError
from streamlab.kafka import BOOTSTRAP
from streamlab.state.folders import make_private, state_dir

PACKAGES = ("streamlab", "polars", "confluent-kafka", "numpy", "pandas", "sqlitedict")
NOTEBOOK = ("ipykernel", "anywidget", "ipywidgets", "bokeh", "papermill", "jupyterlab", "notebook")


def doctor(
    bootstrap_servers: Annotated[
        str | None, typer.Option(envvar=BOOTSTRAP, help="Brokers to try, such as localhost:9092.")
    ] = None,
) -> None:
    """Print versions, the state folder, and whether the broker answers.

    Example: streamlab doctor --bootstrap-servers localhost:9092

    Exits with 1 if something does not work.
    """
    console, sound = Console(), True
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        table.add_row(package, _version(package) or "[red]missing[/]")
    for package in NOTEBOOK:
        table.add_row(package, _version(package) or "[dim]not installed (extra: notebook)[/]")
    table.add_row("front end", _front_end())
    folder = state_dir()
    try:
        make_private(folder)
        table.add_row("state", f"{folder} [green]writable[/]")
    except Exception as error:  # noqa: BLE001  # whatever it is, this is the place that says so
        table.add_row("state", f"[red]{error}[/]")
        sound = False
    if bootstrap_servers is None:
        table.add_row("broker", f"[dim]none given; set {BOOTSTRAP}, or use sl.Kafka.embedded()[/]")
    else:
        try:
            topics = Cluster(bootstrap_servers, dict[str, object]()).topics().height
            table.add_row("broker", f"{bootstrap_servers} [green]answers[/], {topics} topics")
        except BrokerError as error:
            table.add_row("broker", f"[red]{error}[/]")
            sound = False
    console.print(table)
    if not sound:
        sys.exit(1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _front_end() -> str:
    if "ipykernel" in sys.modules:
        return "Jupyter kernel"
    return (
        "VS Code terminal"
        if os.environ.get("TERM_PROGRAM") == "vscode"
        else "terminal"
        if sys.stdout.isatty()
        else "no terminal"
    )
