"""The tour, run from its first cell to its last through papermill."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from papermill import PapermillExecutionError, execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines

from streamlab.cli.quiet import quiet
from streamlab.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_ENGINE = "streamlab-demo"
_START_SECONDS = 60


class _ThisPython(KernelSpecManager):
    """Knows one kernel: this Python. A person's "python3" may be another, without streamlab."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return it, whatever the name."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


class _Told(Engine):  # type: ignore[misc]  # papermill has no types
    """Says which cell runs, and keeps what the kernel says to developers."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, told: Callable[[int, int], None], **_: Any
    ) -> None:
        """Run the cells."""
        start, code = nb_man.cell_start, [i for i, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"]

        def cell_start(cell: Any, cell_index: int | None = None, **more: Any) -> None:
            if cell_index in code:
                told(code.index(cell_index) + 1, len(code))
            start(cell, cell_index, **more)

        nb_man.cell_start = cell_start
        silent = logging.getLogger(f"{__name__}.kernel")
        silent.disabled = True  # what goes wrong is raised
        client = PapermillNotebookClient(
            nb_man, kernel_name=kernel_name, startup_timeout=_START_SECONDS, timeout=None, log=silent
        )
        client.km = client.create_kernel_manager()
        client.km.kernel_spec_manager = _ThisPython(parent=client.km)
        with tempfile.TemporaryFile() as log:
            client.execute(env=dict(os.environ), stdout=log, stderr=log)


papermill_engines.register(_ENGINE, _Told)


def run(
    tour: Path, executed: Path, folder: Path, parameters: Mapping[str, Any], told: Callable[[int, int], None]
) -> None:
    """Run a notebook.

    Parameters
    ----------
    tour, executed
        The notebook, and where the executed one goes.
    folder
        Where its cells write their files.
    parameters
        Its parameters.
    told
        Is called with the number of each code cell, before it runs, and how many there are.

    Raises
    ------
    RunError
        If a cell fails.
    """
    try:
        with quiet():
            execute_notebook(
                str(tour),
                str(executed),
                dict(parameters),
                engine_name=_ENGINE,
                cwd=str(folder),
                progress_bar=False,
                told=told,
            )
    except PapermillExecutionError as error:
        raise RunError(
            f"cell {error.exec_count} of the tour failed: {error.ename}: {error.evalue}. See {executed}."
        ) from error
