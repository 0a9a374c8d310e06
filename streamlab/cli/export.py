"""`streamlab export`: a notebook's pipeline as a worker script."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamlab.export.kernel import export_file


def export(
    notebook: Annotated[Path, typer.Argument(help="The notebook.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The script to write.")] = Path("worker.py"),
    pipeline: Annotated[str | None, typer.Option(help="Which pipeline, if the notebook defines several.")] = None,
) -> None:
    """Write the pipeline that a notebook defines as a script that runs without a notebook.

    Example: streamlab export notebook.ipynb -o worker.py

    The cells are executed in a fresh kernel for what they define; start, run, show, preview and collect do nothing there.
    Exits with 1 if something that the pipeline needs cannot be exported: it says what, in which cell and line.
    """
    typer.echo(repr(export_file(notebook, output, pipeline)))
