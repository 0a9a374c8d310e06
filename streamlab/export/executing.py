"""Notebooks that are files: read, and executed for what they define. It needs the extra "notebook"."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from streamlab.errors import PlanError, did_you_mean
from streamlab.runtime.define import DEFINE

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

CELL_SECONDS = 600


def read(path: Path, step: str = "") -> NotebookNode:
    """Return a notebook.

    Parameters
    ----------
    path
        Its file.
    step
        What an error begins with, such as "export: ".

    Raises
    ------
    PlanError
        If there is no such file, or it is no notebook.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "daily.ipynb")
    >>> nbformat.write(nbformat.v4.new_notebook(), path)
    >>> read(path).cells
    []
    >>> read(path.with_name("dialy.ipynb"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    streamlab.errors.PlanError: no notebook '...dialy.ipynb'. Did you mean 'daily.ipynb'?
    """
    if not path.is_file():
        near = did_you_mean(path.name, [each.name for each in path.parent.glob("*.ipynb")])
        raise PlanError(f"{step}no notebook {str(path)!r}.{near}")
    try:
        book: NotebookNode = nbformat.read(path, as_version=4)
    except Exception as error:  # it raises whatever a text that is no notebook leads it to
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise PlanError(f"{step}{str(path)!r} is no Jupyter notebook: {reason}") from error
    return book


def execute(book: NotebookNode, path: Path) -> None:
    """Execute a notebook in the folder of its file, with nothing run.

    Raises
    ------
    PlanError
        If its kernel is not here or dies, or a cell takes too long.
    """
    client = NotebookClient(
        book,
        timeout=CELL_SECONDS,
        kernel_name=book.metadata.get("kernelspec", {}).get("name", "python3"),
        allow_errors=True,
        resources={"metadata": {"path": str(path.absolute().parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        client.execute(env={**os.environ, DEFINE: "1"})
    except CellTimeoutError as error:
        raise PlanError(
            f"export: a cell of {path.name} took longer than {CELL_SECONDS} s, though nothing is run."
        ) from error
    except DeadKernelError as error:
        raise PlanError(f"export: the kernel died while it executed {path.name}.") from error
    except NoSuchKernel as error:
        raise PlanError(f"export: {path.name} wants the kernel {error.name!r}, which is not here.") from error


def new_cell(text: str) -> NotebookNode:
    """Return a cell of code."""
    cell: NotebookNode = nbformat.v4.new_code_cell(text)
    return cell
