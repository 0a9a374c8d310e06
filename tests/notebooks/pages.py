"""The pages about operators: run one after the other in one kernel, kept with what they show, each with its drawing as a file."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from streamlab.demo import notebook
from tests.notebooks.png import png, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
FOLDER = notebook("01-tour").parent / "operators"
INDEX = FOLDER / "index.ipynb"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb") if path != INDEX))
SECONDS = 60

_DRAW = """
from base64 import b64encode as _encode
from tests.notebooks.drawings import drawing as _drawing
print(_encode(_drawing({name!r}, globals()).encode()).decode())
"""
_FORGET = "get_ipython().reset(new_session=True)\nimport polars as pl\npl.Config.restore_defaults()\ndel pl"


@dataclass(frozen=True, slots=True)
class Run:
    """A page as it is after a run, and its drawing as SVG."""

    page: NotebookNode
    drawing: str


@contextmanager
def kernel(folder: Path) -> Iterator[KernelManager]:
    """Start a kernel in a folder; it takes drawings from this checkout."""
    manager = KernelManager(kernel_name="python3")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {"PYTHONPATH": paths, "STREAMLAB_STATE_DIR": str(folder / "state"), "PYTHONWARNINGS": "error"}
    manager.start_kernel(cwd=str(folder), extra_arguments=["--log-level=ERROR"], env={**os.environ, **environment})
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def path_of(name: str) -> Path:
    """Return the file of a page."""
    return FOLDER / f"{name}.ipynb"


def picture_of(name: str) -> Path:
    """Return the file of a page's drawing."""
    return FOLDER / "drawings" / f"{name}.png"


def read(name: str) -> NotebookNode:
    """Return a page as it is kept."""
    return nbformat.read(path_of(name), as_version=4)


def run(name: str, manager: KernelManager) -> Run:
    """Run a page in a kernel that knows nothing of the pages before."""
    page = read(name)
    for cell in page.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    code = nbformat.v4.new_code_cell
    framed = nbformat.v4.new_notebook(cells=[code(_FORGET), *page.cells, code(_DRAW.format(name=name))])
    NotebookClient(framed, km=manager, timeout=SECONDS, record_timing=False, coalesce_streams=True).execute()
    done = framed.cells[1:-1]
    for count, cell in enumerate((cell for cell in done if cell.cell_type == "code"), 1):
        cell.execution_count = count
        for output in cell.outputs:
            output.pop("transient", None)
            if "execution_count" in output:
                output.execution_count = count
    page.cells = done
    return Run(page, b64decode(framed.cells[-1].outputs[0].text).decode())


def renew(names: tuple[str, ...], folder: Path) -> None:
    """Run pages and keep what they show; a drawing that stays as it is keeps its file."""
    with kernel(folder) as manager:
        for name in names:
            done = run(name, manager)
            nbformat.write(done.page, path_of(name))
            file = picture_of(name)
            if not file.exists() or source_of(file.read_bytes()) != done.drawing:
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(png(done.drawing))


def headings(page: NotebookNode) -> list[str]:
    """Return a page's headings below its title."""
    texts = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    return re.findall(r"^## (.+)$", texts, re.MULTILINE)
