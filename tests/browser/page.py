"""A notebook in a browser: what a person does there, and what they would see."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nbformat
from nbformat import v4
from playwright.sync_api import expect

from tests.browser.noise import is_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbformat import NotebookNode
    from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request

    from tests.browser.server import JupyterServer

PATIENCE = 60_000  # milliseconds for anything to happen, on a machine that is busy with other things
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

_NOTEBOOK = "window.jupyterapp.shell.currentWidget"
_PANEL = "window.jupyterapp?.shell?.currentWidget"  # while the page may still be loading
_KERNEL = f"{_PANEL}?.sessionContext?.session?.kernel"
_READY = f"() => Boolean({_PANEL}?.context?.isReady && document.querySelector('.jp-Notebook .jp-Cell'))"
_STARTED = f"() => {_KERNEL}?.status === 'idle'"
_IDLE = f"() => !window.streamlabRuns && {_KERNEL}?.status === 'idle'"
# the promise ends with the last cell: it is counted, not awaited, so that a test can look while cells run
_RUN = """command => {
    window.streamlabRuns = (window.streamlabRuns ?? 0) + 1;
    window.jupyterapp.commands.execute(command).finally(() => { window.streamlabRuns -= 1; });
}"""
_ERRORS_SHOWN = f"""() => [...{_NOTEBOOK}.content.model.cells]
    .flatMap(cell => cell.type === 'code' ? cell.toJSON().outputs : [])
    .filter(output => output.output_type === 'error')
    .map(output => `${{output.ename}}: ${{output.evalue}}`)"""
_BROKEN = re.compile(r"Error (displaying|creating) widget|Could not create a view|Failed to load (model|view) class")
_LOADING = "Loading widget..."
_JUMPED = """within => window.streamlabJumps
    .filter(({ node }) => node && within.contains(node))
    .map(({ node, from, to }) => `${(node.className || node.nodeName)} from ${from} to ${to}`)"""
_WATCH_JUMPS = (Path(__file__).parent / "jumps.js").read_text()


class NotebookPage:
    """One notebook, open in JupyterLab or Notebook 7.

    Parameters
    ----------
    context
        The browser's window, new for each test.
    server
        Who serves it.
    screenshots
        Where pictures are kept.

    Attributes
    ----------
    page
        Playwright's page, for everything that is not here.
    path
        The notebook's file.
    outside
        Addresses beyond this machine that a page asked for.
    """

    def __init__(self, context: BrowserContext, server: JupyterServer, screenshots: Path) -> None:
        self._context, self._server, self._screenshots = context, server, screenshots
        self._console: list[str] = []
        self.outside: list[str] = []
        self.path = server.folder
        self.page = self._new_page()

    def open(self, notebook: Sequence[str] | NotebookNode | Path, name: str = "test.ipynb") -> None:
        """Open a copy of a notebook, with its kernel started: its file, all of it, or its code cells' sources."""
        if isinstance(notebook, Path):
            notebook, name = nbformat.read(notebook, as_version=4), notebook.name
        elif not isinstance(notebook, nbformat.NotebookNode):
            notebook = notebook_of(notebook)
        self._write(notebook, name)
        self._go()

    def run_all(self) -> None:
        """Start all cells and return at once."""
        self.page.evaluate(_RUN, "notebook:run-all-cells")

    def run_cell(self, index: int) -> None:
        """Start one cell, by its place among all cells, and return at once."""
        self.page.evaluate(f"index => {{ {_NOTEBOOK}.content.activeCellIndex = index; }}", index)
        self.page.evaluate(_RUN, "notebook:run-cell")

    def wait_idle(self) -> None:
        """Wait until every cell that was started has ended and the kernel has nothing to do."""
        self.page.wait_for_function(_IDLE)

    def save(self) -> NotebookNode:
        """Save it and return what is in the file."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        return nbformat.read(self.path, as_version=4)

    def shutdown_kernel(self) -> None:
        """End the kernel, with all that runs in it."""
        self.page.evaluate(f"() => {_NOTEBOOK}.sessionContext.shutdown()")
        self.page.wait_for_function(f"() => !{_KERNEL}")

    def reopen(self) -> None:
        """Save it and open it in a new tab with a new kernel, as its owner would the next day."""
        self.save()
        self.shutdown_kernel()
        self._go()

    def reopen_without_kernel(self, *, trusted: bool) -> None:
        """Save it and open it in a new tab with no kernel.

        Trusted is how its owner finds it, untrusted is how somebody finds it whom it was sent: Jupyter then cleans what
        outputs hold, and leaves widgets out. What is opened is a copy that names no kernel, so Jupyter asks for one
        and is told "No Kernel".
        """
        notebook = self.save()
        self.shutdown_kernel()
        for entry in ("kernelspec", "language_info"):
            notebook.metadata.pop(entry, None)
        self._write(notebook, f"{self.path.stem.removesuffix('-no-kernel')}-no-kernel.ipynb")
        self._server.trust(notebook, trusted=trusted)
        self._go(kernel=False)

    def set_theme(self, theme: Literal["light", "dark"]) -> None:
        """Set the colours of the page."""
        name = THEMES[theme]
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)
        self._wait_for_splash()

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window, in pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def cell(self, index: int) -> Locator:
        """Return a cell by its place."""
        return self.page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{index}']")

    def output(self, index: int) -> Locator:
        """Return what a cell shows."""
        return self.cell(index).locator(".jp-OutputArea-output")

    def screenshot(self, name: str, locator: Locator | None = None) -> bytes:
        """Take a picture of the window, or of one thing in it, keep it and return it."""
        path = self._screenshots / f"{name}-{self._server.front_end}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        return (locator.first if locator else self.page).screenshot(path=path)

    def assert_moves(self, name: str, locator: Locator) -> None:
        """Take a picture, and then others until one differs; the first and the last are kept."""
        first, deadline = self.screenshot(f"{name}-1", locator), time.monotonic() + PATIENCE / 1000
        while self.screenshot(f"{name}-2", locator) == first:
            assert time.monotonic() < deadline, f"{name}: the picture was the same for {PATIENCE / 1000:g} s"

    def forget_jumps(self) -> None:
        """Forget what has changed its place so far."""
        self.page.evaluate("() => { window.streamlabJumps = []; }")

    def jumps(self, locator: Locator) -> list[str]:
        """Return what changed its place inside something, visibly and by 3 pixels or more, since it was forgotten."""
        return locator.first.evaluate(_JUMPED)

    @property
    def console_errors(self) -> list[str]:
        """Errors in the browser's console since the test began, without Jupyter's own."""
        return [message for message in self._console if not is_noise(message)]

    @property
    def widget_errors(self) -> list[str]:
        """What stands where a widget should."""
        told = self.page.locator(".jp-OutputArea-output").filter(has_text=_BROKEN)
        return [*self.page.locator(".jupyter-widgets-error-widget").all_inner_texts(), *told.all_inner_texts()]

    @property
    def cell_errors(self) -> list[str]:
        """Exceptions that cells show, as `Name: text`."""
        return self.page.evaluate(_ERRORS_SHOWN)

    def assert_healthy(self) -> None:
        """Fail when a cell, a widget or the console shows an error, or a page asked for the world outside."""
        expect(self.page.get_by_text(_LOADING)).to_have_count(0)
        seen = {
            "errors of cells": self.cell_errors,
            "errors of widgets": self.widget_errors,
            "errors in the console": self.console_errors,
            "asked of the world outside": self.outside,
        }
        assert not any(seen.values()), "\n".join(f"{what}: {found}" for what, found in seen.items() if found)

    def _write(self, notebook: NotebookNode, name: str) -> None:
        self.path = self._server.folder / name
        nbformat.write(notebook, self.path)

    def _go(self, *, kernel: bool = True) -> None:
        self.page.close()
        self.page = self._new_page()
        self.page.goto(self._server.url(self.path.name))
        if kernel:
            self.page.wait_for_function(_STARTED)
        else:
            self.page.get_by_role("dialog").get_by_role("button", name="No Kernel", exact=True).click()
        self.page.wait_for_function(_READY)
        self._wait_for_splash()

    def _wait_for_splash(self) -> None:
        """Wait until the moons that cover a page which loads, or changes its theme, are gone."""
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)

    def _new_page(self) -> Page:
        page = self._context.new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script(_WATCH_JUMPS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._console.append(f"uncaught: {error.stack or error}"))
        page.on("request", self._see)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._console.append(f"{message.text} ({message.location.get('url', '')})")

    def _see(self, request: Request) -> None:
        if not request.url.startswith((f"http://127.0.0.1:{self._server.port}/", "data:", "blob:")):
            self.outside.append(request.url)


def notebook_of(cells: Sequence[str], **metadata: Any) -> NotebookNode:
    """Return a notebook of Python whose code cells have these sources."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    made = v4.new_notebook(
        cells=[v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": kernel, "language_info": {"name": "python"}, **metadata},
    )
    nbformat.validate(made)
    return made
