"""Run the notebooks and keep what they show: python -m tests.notebooks [NAME ...], such as 01-tour or operators/tumbling.

A site that shows notebooks takes their style away, and there is no kernel: in place of the panel they are kept with a picture of it.
"""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import papermill
from playwright.sync_api import sync_playwright

from streamlab.demo import notebook
from tests.notebooks import pages

if TYPE_CHECKING:
    from nbformat import NotebookNode

NAMES = ("01-tour", "02-schedule-and-export")
WIDTH = 960
PANEL = 'class="sl'


def main() -> None:
    """Run those that are named, or all."""
    named = sys.argv[1:] or [*NAMES, *(f"operators/{name}" for name in pages.NAMES)]
    operators = tuple(name.removeprefix("operators/") for name in named if name.startswith("operators/"))
    if operators:
        with tempfile.TemporaryDirectory() as folder:
            pages.renew(operators, Path(folder))
    for name in (name for name in named if not name.startswith("operators/")):
        path = notebook(name)
        with tempfile.TemporaryDirectory() as folder:
            executed = Path(folder) / "executed.ipynb"
            papermill.execute_notebook(str(path), str(executed), cwd=folder, progress_bar=False)
            ran = nbformat.read(executed, as_version=4)
        nbformat.write(cleaned(nbformat.read(path, as_version=4), ran), path)


def cleaned(kept: NotebookNode, ran: NotebookNode) -> NotebookNode:
    """Return a notebook with the outputs of the one that ran."""
    for cell, done in zip(kept.cells, ran.cells, strict=True):
        if cell.cell_type == "code":
            cell.execution_count = done.execution_count
            cell.outputs = [shown(output) for output in done.outputs if any(output.get("data", {"": "x"}).values())]
    return kept


def shown(output: NotebookNode) -> NotebookNode:
    """Return an output as it is kept: a panel as its picture."""
    output.pop("transient", None)
    if "data" in output:
        output.metadata = {}
        html = output.data.get("text/html", "")
        if PANEL in html:
            output.data = {"image/png": picture(html), "text/plain": output.data["text/plain"]}
    return output


def picture(html: str) -> str:
    """Return a picture of a page as base64."""
    with sync_playwright() as play:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH + 16, "height": 100})
        page.set_content(f"<body style='margin: 8px; background: white'>{html}</body>")
        taken = page.screenshot(full_page=True)
        browser.close()
    return base64.b64encode(taken).decode()


if __name__ == "__main__":
    main()
