"""The pages about operators: run one after the other in one kernel, kept with what they show, each with its drawing as a file."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from streamlab.demo import notebook
from tests.notebooks.png import png, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
FOLDER = notebook("01-tour").parent / "operators"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb") if path.stem != "index"))
SECONDS = 60

_FORGET = """
import polars as pl
pl.Config.restore_defaults()
get_ipython().reset(new_session=True)
"""
_DRAW = """
from base64 import b64encode as _encode
from tests.notebooks.drawings import drawing as _drawing
print(_encode(_drawing({name!r}, globals()).encode()).decode())
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A page as it is after a run, and its drawing as SVG: empty if that failed."""

    page: NotebookNode
    drawing: str

    @property
    def errors(self) -> list[str]:
        """What went wrong, by cell."""
        outputs = [(cell.id, output) for cell in self.page.cells for output in cell.get("outputs", ())]
        return [f"{cell}: {o.ename}: {o.evalue}" for cell, o in outputs if o.output_type == "error"]


def path_of(name: str) -> Path:
    """Return the file of a page."""
    return FOLDER / f"{name}.ipynb"


def picture_of(name: str) -> Path:
    """Return the file of a page's drawing."""
    return FOLDER / "drawings" / f"{name}.png"


def read(name: str) -> NotebookNode:
    """Return a page as it is kept."""
    return nbformat.read(path_of(name), as_version=4)


def runs(names: Iterable[str], folder: Path) -> dict[str, Run]:
    """Run pages in a folder, in one kernel, which knows nothing of a page when it comes to the next."""
    books = {name: read(name) for name in names}
    parts = {name: list(_framed(name, book)) for name, book in books.items()}
    together = new_notebook(cells=[cell for part in parts.values() for cell in part])
    client = NotebookClient(
        together, timeout=SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True, allow_errors=True,
        extra_arguments=["--log-level=ERROR"], resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    env = {"PYTHONPATH": paths, "STREAMLAB_STATE_DIR": str(folder / "state")}
    client.execute(env={**os.environ, **env})
    return {name: _taken(name, book, parts[name][-1]) for name, book in books.items()}


def _framed(name: str, book: NotebookNode) -> Iterator[NotebookNode]:
    yield new_code_cell(_FORGET)
    for cell in book.cells:
        cell.id = f"{name}-{cell.id}"  # every page has a title
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        yield cell
    yield new_code_cell(_DRAW.format(name=name))


def _taken(name: str, book: NotebookNode, drawn: NotebookNode) -> Run:
    """Return a page whose cells count from one, and the drawing that the cell behind it printed."""
    for cell in book.cells:
        cell.id = cell.id.removeprefix(f"{name}-")
    for count, cell in enumerate((cell for cell in book.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        for output in cell.outputs:
            output.pop("transient", None)
            if "execution_count" in output:
                output.execution_count = count
    texts = "".join(output.get("text", "") for output in drawn.outputs)
    if not texts:
        book.cells.append(drawn)  # its error is the page's
    return Run(book, b64decode(texts).decode())


def renew(names: Iterable[str], folder: Path) -> None:
    """Run pages and keep what they show; a drawing that stays as it is keeps its file."""
    for name, done in runs(names, folder).items():
        if done.errors:
            raise SystemExit(f"{name}: {done.errors}")
        nbformat.write(done.page, path_of(name))
        file = picture_of(name)
        if not file.exists() or source_of(file.read_bytes()) != done.drawing:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(png(done.drawing))


def headings(page: NotebookNode) -> list[str]:
    """Return a page's headings below its title."""
    texts = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    return re.findall(r"^## (.+)$", texts, re.MULTILINE)
