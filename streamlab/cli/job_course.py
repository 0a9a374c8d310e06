"""How far a job is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamlab.cli.job_result import Error, Runs
    from streamlab.cli.job_stop import Stop


@dataclass
class Course:
    """What a job is to do, and how far it is.

    Parameters
    ----------
    input_path, output_path
        As papermill's metadata are to name them.
    parameters
        The notebook's, as they may be shown.
    environment
        Of the kernel.
    runs
        What the queries wrote.
    stop
        Why it is to stop.
    deadline
        When the time limit ends, by the monotonic clock.
    say
        Tells the person something.
    limit
        The time limit in seconds, for the message.
    """

    input_path: str
    output_path: str
    parameters: Mapping[str, Any]
    environment: Mapping[str, str]
    runs: Runs
    stop: Stop
    deadline: float | None
    say: Callable[[str], None]
    limit: float | None = None
    injected: str = ""  # source of the injected cell, secrets and all
    cell: int = 0  # number of the code cell that runs
    cells: int = 0  # how many there are
    finishing: bool = False  # the cells are done, queries still run
    stopped: bool = False
    error: Error | None = None

    def line(self) -> str:
        """Say how far it is, for a log."""
        records = f", {self.runs.records:,} records so far" if self.runs.all() else ""
        if self.finishing:
            return f"the cells are done, waiting for queries that still run{records}"
        return f"cell {self.cell} of {self.cells}{records}" if self.cell else "the kernel is starting"
