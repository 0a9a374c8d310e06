"""A notebook run as a job through papermill: what it is given, how it goes, what it leaves."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpecManager
from papermill import PapermillExecutionError, execute_notebook, inspect_notebook
from papermill.exceptions import PapermillMissingParameterException
from papermill.parameterize import add_builtin_parameters, parameterize_path

from streamlab.cli.job_client import ENGINE
from streamlab.cli.job_course import Course
from streamlab.cli.job_result import EXIT_CODES, NOTHING_NEW, Error, Outcome, Result, Runs, hide, shown
from streamlab.cli.quiet import quiet
from streamlab.errors import PlanError, did_you_mean
from streamlab.export.executing import read
from streamlab.kafka import BOOTSTRAP
from streamlab.runtime.job import JOB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nbformat import NotebookNode

    from streamlab.cli.job_stop import Stop

RESULT = "result.json"
_DEFAULT_KERNEL = "python3"
_START_SECONDS = 60
_YEAR = 366 * 24 * 3600
_ERROR = 2000  # characters of an error that are kept


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and where to.

    Parameters
    ----------
    notebook
        The notebook's file.
    parameters
        Values for its `parameters` cell.
    output, result
        Where the executed notebook and `result.json` go; None: ``<notebook>.out.ipynb`` beside it, and ``result.json`` beside that.
    timeout
        Seconds that the whole run may take.
    fail_if_nothing
        Whether it is a failure if there is nothing new.
    bootstrap_servers
        What the kernel's $STREAMLAB_BOOTSTRAP_SERVERS is.
    kernel
        The Jupyter kernel, by its name; None: what the notebook names.
    """

    notebook: Path
    parameters: Mapping[str, Any]
    output: str | None = None
    result: Path | None = None
    timeout: float | None = None
    fail_if_nothing: bool = False
    bootstrap_servers: str | None = None
    kernel: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that was checked: its notebook as read, the kernel, and where things go."""

    job: Job
    book: NotebookNode
    kernel: str
    output: Path
    result: Path


def check(job: Job) -> Ready:
    """Return a job that can run.

    Raises
    ------
    PlanError
        If the notebook cannot be read, a parameter or the kernel is unknown, or nothing can be written where the output is to go.
    """
    if job.timeout is not None and not 0 < job.timeout < _YEAR:
        raise PlanError(f"--timeout {job.timeout:g}: the time limit is a number of seconds above 0, such as 600.")
    with quiet():
        book = read(job.notebook)
        kernel = _kernel(book, job.kernel)
        _check_parameters(job, book)
        output = _output(job)
    result = job.result or output.parent / RESULT
    for path in (output, result):
        if path.is_dir() or path.resolve() == job.notebook.resolve():
            what = "is a folder" if path.is_dir() else "is the notebook itself"
            raise PlanError(f"{str(path)!r} {what}; give another file to write to.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlanError(f"no file can be made in {str(path.parent)!r}: {error.strerror}.") from error
        if not os.access(path.parent, os.W_OK):
            raise PlanError(f"no file can be made in {str(path.parent)!r}: it is not writable.")
    return Ready(job, book, kernel, output, result)


def _kernel(book: NotebookNode, chosen: str | None) -> str:
    """Return the kernel's name, and write down in the notebook what papermill needs to know of it."""
    name = chosen or book.metadata.get("kernelspec", {}).get("name") or _DEFAULT_KERNEL
    specs = KernelSpecManager()
    known = sorted(specs.find_kernel_specs())
    if name not in known:
        raise PlanError(
            f"no Jupyter kernel {name!r}; there are {known}.{did_you_mean(name, known)} Choose with --kernel."
        )
    spec = specs.get_kernel_spec(name)
    book.metadata["kernelspec"] = {"name": name, "display_name": spec.display_name, "language": spec.language}
    return str(name)


def _check_parameters(job: Job, book: NotebookNode) -> None:
    if not job.parameters:
        return
    if not any("parameters" in cell.metadata.get("tags", []) for cell in book.cells):
        raise PlanError(
            f"{str(job.notebook)!r} takes no parameters: none of its cells is tagged 'parameters'. Tag the cell that sets "
            "their defaults, or leave out -p, -r and -f."
        )
    known = list(inspect_notebook(book))
    for name in job.parameters:
        if name not in known:
            raise PlanError(
                f"{str(job.notebook)!r} has no parameter {name!r}; it has {known}.{did_you_mean(name, known)}"
            )


def _output(job: Job) -> Path:
    if job.output is None:
        return job.notebook.with_name(f"{job.notebook.stem}.out.ipynb")
    try:
        return Path(parameterize_path(job.output, add_builtin_parameters(dict(job.parameters))))
    except (PapermillMissingParameterException, ValueError, IndexError, AttributeError) as error:
        raise PlanError(f"-o {job.output!r}: {error}; braces name a parameter, such as out-{{date}}.ipynb.") from error


def run(ready: Ready, stop: Stop, say: Callable[[str], None]) -> tuple[Result, Runs]:
    """Run a job, write its `result.json`, and return what became of it.

    Parameters
    ----------
    ready
        What `check` returned.
    stop
        Where requests to stop come in.
    say
        Is told how far it is.
    """
    job = ready.job
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    ready.result.unlink(missing_ok=True)  # of an earlier run: it says nothing of this one
    with tempfile.TemporaryDirectory(prefix="streamlab-job-") as folder, quiet():
        runs = Runs(Path(folder) / "runs.ndjson", job.parameters)
        environment = {**os.environ, JOB: str(Path(folder) / "runs.ndjson")}
        if job.bootstrap_servers is not None:
            environment[BOOTSTRAP] = job.bootstrap_servers
        course = Course(
            str(job.notebook), str(ready.output), shown(job.parameters), environment, runs, stop,
            None if job.timeout is None else began + job.timeout, say, job.timeout,
        )  # fmt: skip
        error = _execute(ready, course)
        outcome = _outcome(course, error)
        code = EXIT_CODES[outcome]
        result = Result(
            outcome,
            NOTHING_NEW if outcome == "nothing" and job.fail_if_nothing else code,
            str(job.notebook),
            str(ready.output),
            course.parameters,
            started,
            round(time.monotonic() - began, 3),
            runs.told(),
            error,
        )
        result.write(ready.result)
    return result, runs


def _execute(ready: Ready, course: Course) -> Error | None:
    """Run the notebook; return what ended it early."""
    try:
        execute_notebook(
            ready.book,
            str(ready.output).replace("{", "{{").replace("}", "}}"),  # its braces are filled in already
            parameters=dict(ready.job.parameters) or None,
            engine_name=ENGINE,
            kernel_name=ready.kernel,
            progress_bar=False,
            start_timeout=_START_SECONDS,
            course=course,
        )
    except PapermillExecutionError as error:
        course.error = course.error or Error(error.ename, error.evalue, error.exec_count)
    except Exception as error:  # noqa: BLE001  # whatever it is, the result says so, and not a traceback
        course.error = course.error or Error(type(error).__name__, str(error), course.cell or None)
    if (found := course.error) is None:
        return None
    return Error(found.type, hide(found.message, ready.job.parameters)[:_ERROR], found.cell)


def _outcome(course: Course, error: Error | None) -> Outcome:
    if course.stopped and course.stop.reason is not None:
        return course.stop.reason
    if error is not None:
        return "failed"
    return "done" if any(run["records"] for run in course.runs.counted()) else "nothing"
