"""The browser, the Jupyter servers and the pages of the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.page import PATIENCE, NotebookPage
from tests.browser.server import JupyterServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


HERE = Path(__file__).parent
SCREENSHOTS = Path(os.environ.get("STREAMLAB_SCREENSHOTS") or HERE / ".screenshots").absolute()
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    # no name resolves: a page that needs the world outside fails here, not at a user's
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
WINDOW = {"width": 1280, "height": 900}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what its page looks like and what its console says."""
    report = yield
    if report.failed and call.when == "call":
        for page in {value for value in item.funcargs.values() if isinstance(value, NotebookPage)}:
            report.sections.append(("console of the page", "\n".join(page.console_errors)))
            page.screenshot(f"failed-{item.originalname}")
    return report


# "package", not "session": Playwright holds an event loop in this thread, and other tests run loops of their own
@pytest.fixture(scope="package")
def chromium(pytestconfig: pytest.Config) -> Iterator[Browser]:
    """Return a headless Chromium: $STREAMLAB_CHROMIUM, else the one of this system."""
    wanted = os.environ.get("STREAMLAB_CHROMIUM")
    path = wanted or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        reason = f"none of {', '.join(CHROMIUM)} is on the PATH, and STREAMLAB_CHROMIUM is not set"
        if pytestconfig.getoption("require_browser"):
            pytest.fail(f"--require-browser, but no browser here: {reason}", pytrace=False)
        pytest.skip(f"no browser here: {reason}")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab_server(chromium: Browser) -> Iterator[JupyterServer]:
    """Serve JupyterLab to one test file."""
    with JupyterServer("lab") as server:
        yield server


@pytest.fixture(scope="module")
def notebook_server(chromium: Browser) -> Iterator[JupyterServer]:
    """Serve Notebook 7 to one test file."""
    with JupyterServer("notebook") as server:
        yield server


@pytest.fixture
def lab(chromium: Browser, lab_server: JupyterServer) -> Iterator[NotebookPage]:
    """Return a new window on JupyterLab; its kernels end with the test."""
    yield from _window(chromium, lab_server)


@pytest.fixture
def notebook7(chromium: Browser, notebook_server: JupyterServer) -> Iterator[NotebookPage]:
    """Return a new window on Notebook 7; its kernels end with the test."""
    yield from _window(chromium, notebook_server)


@pytest.fixture(params=["lab", "notebook7"])
def jupyter(request: pytest.FixtureRequest) -> NotebookPage:
    """Return a new window on JupyterLab, then one on Notebook 7: the test runs in both."""
    return request.getfixturevalue(request.param)


def _window(browser: Browser, server: JupyterServer) -> Iterator[NotebookPage]:
    server.quieten()
    with browser.new_context(viewport=WINDOW) as context:
        yield NotebookPage(context, server, SCREENSHOTS)
    server.end_kernels()
