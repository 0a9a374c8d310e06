"""A Jupyter server of its own: loopback, free port, token, and every folder in one temporary folder."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from nbformat.sign import NotebookNotary

from tests.kafka.broker import guard

if TYPE_CHECKING:
    from types import TracebackType

    from nbformat import NotebookNode

FrontEnd = Literal["lab", "notebook"]

HOST = "127.0.0.1"
START_TIMEOUT, STOP_TIMEOUT, ANSWER_TIMEOUT = 60.0, 20.0, 5.0
POLL = 0.05
LOG_LINES = 40
# nothing asks, and nothing is fetched from the world; everything else is as a new user has it
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
    "@jupyterlab/extensionmanager-extension/plugin": {"enabled": False},
}


class ServerDiedError(RuntimeError):
    """The server ended, or did not come up in time; the message ends with its log."""


class JupyterServer:
    """JupyterLab or Notebook 7, whose kernels are this environment's Python.

    Parameters
    ----------
    front_end
        `"lab"` or `"notebook"`.

    Notes
    -----
    Use it as a context manager. `folder` is what it serves. It ends with this process, also when that is killed.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end: FrontEnd = front_end
        self.token = secrets.token_hex(16)
        self.port = 0
        self._home = Path(tempfile.mkdtemp(prefix="streamlab-jupyter-"))
        self.folder = self._home / "notebooks"
        self.folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.quieten()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, path: str) -> str:
        """Return the address of a notebook, as a page of its own."""
        page = f"lab/tree/{path}?reset&" if self.front_end == "lab" else f"notebooks/{path}?"
        return f"http://{HOST}:{self.port}/{page}token={self.token}"

    def quieten(self) -> None:
        """Put the settings back: what a page sets, its theme, is kept by the server."""
        folder = self._home / "settings"
        shutil.rmtree(folder, ignore_errors=True)
        for name, values in SETTINGS.items():
            path = folder / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))

    def trust(self, notebook: NotebookNode, *, trusted: bool) -> None:
        """Sign a notebook as one that was run here, or take the signature back."""
        notary = NotebookNotary(data_dir=str(self._home / "data"))
        (notary.sign if trusted else notary.unsign)(notebook)
        notary.store.close()

    def end_kernels(self) -> None:
        """End every kernel."""
        for session in json.loads(self._ask("GET", "/api/sessions")):
            self._ask("DELETE", f"/api/sessions/{session['id']}")

    def log(self) -> str:
        """Return the end of the server's log."""
        path = self._home / "server.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:]) if path.exists() else "(no log)"

    def close(self) -> None:
        """End it with its kernels, and delete its folders."""
        if self._process is not None and self._process.stdin is not None:
            if self._process.poll() is None:
                self._process.stdin.write(guard.STOP)
                self._process.stdin.flush()
                with contextlib.suppress(subprocess.TimeoutExpired):  # then the end of its life line kills it
                    self._process.wait(STOP_TIMEOUT)
            self._process.stdin.close()
            self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def _start(self) -> None:
        options = [
            "--no-browser",
            "--allow-root",
            f"--ServerApp.ip={HOST}",
            "--ServerApp.port=0",
            f"--ServerApp.root_dir={self.folder}",
            f"--IdentityProvider.token={self.token}",
            # the page object speaks to the application, as its own commands do
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, sys.executable, "-m", "jupyter", self.front_end, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the starter, which then ends the server in order
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if time.monotonic() > deadline:
                raise ServerDiedError(f"Jupyter did not answer within {START_TIMEOUT:g} s; its log:\n{self.log()}")
            try:
                self._process.wait(POLL)
            except subprocess.TimeoutExpired:
                continue
            raise ServerDiedError(f"Jupyter ended while starting; its log:\n{self.log()}")

    def _environment(self) -> dict[str, str]:
        """Return the caller's environment without its Jupyter and streamlab: all of that is in our folder."""
        mine = ("JUPYTER", "IPYTHON", "STREAMLAB_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        return kept | {
            "JUPYTER_CONFIG_DIR": str(self._home / "config"),
            "JUPYTER_DATA_DIR": str(self._home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(self._home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self._home / "workspaces"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": str(self._home / "ipython"),
            "STREAMLAB_STATE_DIR": str(self._home / "state"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }

    def _answers(self) -> bool:
        """Whether the server has told its port and answers there."""
        try:
            told = next((self._home / "runtime").glob("jpserver-*.json"))
            self.port = json.loads(told.read_text())["port"]
            self._ask("GET", "/api/status")
        except (StopIteration, ValueError, OSError):
            return False
        return True

    def _ask(self, method: str, path: str) -> bytes:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request(method, path, headers={"Authorization": f"token {self.token}"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise OSError(f"{method} {path} at the Jupyter server: {answer.status} {body.decode(errors='replace')}")
        return body
