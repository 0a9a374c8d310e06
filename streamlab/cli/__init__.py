"""The command line: `streamlab demo | run | export | lag | state | reset | doctor`."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from streamlab.cli import demo, doctor, export, pipelines, run
from streamlab.errors import StreamlabError

app = typer.Typer(
    name="streamlab",
    help="Notebook-first stream analytics: Kafka topics, polars expressions, live windowed results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("run", cls=run.Command)(run.run)
app.command("export")(export.export)
app.command("lag")(pipelines.lag)
app.command("state")(pipelines.state)
app.command("reset")(pipelines.reset)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; what streamlab refuses is said in one message, not in a traceback."""
    try:
        app()
    except StreamlabError as error:
        Console(stderr=True).print(
            f"[bold red]error:[/] {type(error).__name__}:", escape(str(error)), highlight=False, soft_wrap=True
        )
        sys.exit(1)
