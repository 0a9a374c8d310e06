"""The client of a job's kernel: papermill's, with an end that waits for queries, and stops that commit.

papermill runs the cells one by one and lets the kernel go after the last one. A job asks the kernel for one thing more, in silence: to
wait for the queries that still run. And it can be stopped: the first request interrupts the kernel, as a person would, so that a
running pipeline stops with a commit; the second, or a kernel that does not end in time, ends it by force.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from jupyter_core.utils import ensure_async
from nbclient.exceptions import CellExecutionComplete, CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines
from papermill.translators import translate_parameters

from streamlab.cli.job_result import Error
from streamlab.runtime.job import FINISH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamlab.cli.job_course import Course
    from streamlab.cli.job_stop import Reason

ENGINE = "streamlab"
PATIENCE = 25.0
"""Seconds that a kernel has to end after it was asked to; schedulers wait for 30 before they kill."""

_AGAIN = 10.0  # seconds after which a cell that still runs is interrupted again
_INSIDE = 1.0  # seconds that a cell has to say that it began: before that an interrupt would be lost
_TELL_SECONDS = 5.0
_KILLED = 9
_STOPPED: Mapping[Reason, tuple[str, str]] = {
    "interrupted": ("KeyboardInterrupt", "interrupted by SIGINT"),
    "terminated": ("KeyboardInterrupt", "terminated by SIGTERM"),
    "timeout": ("TimeoutError", "the time limit of {limit:g} s is over"),
}


class JobEngine(Engine):  # type: ignore[misc]  # papermill has no types
    """Runs a notebook as a job."""

    @classmethod
    def execute_notebook(cls, nb: NotebookNode, kernel_name: str, *, course: Course, **options: Any) -> NotebookNode:
        """Run it; what is saved never holds a secret parameter."""
        about = nb.metadata.papermill
        about.update(input_path=course.input_path, output_path=course.output_path, parameters=dict(course.parameters))
        for cell in nb.cells if course.parameters else ():
            if _is_injected(cell):
                course.injected = cell.source
                language = cls.nb_language(nb)
                cell.source = translate_parameters(kernel_name, language, dict(course.parameters), "Parameters")
        return super().execute_notebook(nb, kernel_name, course=course, **options)  # type: ignore[no-any-return]  # as above

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, course: Course, **options: Any
    ) -> None:
        """Run the cells."""
        quiet = logging.getLogger(f"{__name__}.kernel")
        quiet.disabled = True  # what goes wrong is raised, and told by the job
        JobClient(
            nb_man, course, kernel_name=kernel_name, startup_timeout=options["start_timeout"], timeout=None, log=quiet
        ).execute()


papermill_engines.register(ENGINE, JobEngine)


class JobClient(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """Runs the cells of one notebook, waits for its queries, and lets no kernel survive."""

    def __init__(self, nb_man: NotebookExecutionManager, course: Course, **options: Any) -> None:
        super().__init__(nb_man, **options)
        self._course = course
        numbered = [index for index, cell in enumerate(self.nb.cells) if self._runs(cell)]
        course.cells = len(numbered)
        self._at = next(iter(numbered), 0)  # index of the cell that runs, or is next
        self._told, self._inside = asyncio.Event(), asyncio.Event()
        self._ready = self._may_interrupt = self._over = False

    def execute(self, **_: Any) -> NotebookNode:
        """Run everything, and end the kernel whatever happens."""
        self.reset_execution_trackers()
        asyncio.run(self._execute())
        return self.nb  # type: ignore[no-any-return]  # as above

    async def _execute(self) -> None:
        stop, loop = self._course.stop, asyncio.get_running_loop()
        stop.tell = lambda: loop.call_soon_threadsafe(self._told.set)
        if stop.reason is not None:
            self._told.set()  # it came before anybody listened
        if self._course.deadline is not None:
            loop.call_later(max(0.0, self._course.deadline - time.monotonic()), stop.ask, "timeout")
        work, guard, teller = (asyncio.create_task(task) for task in (self._work(), self._guard(), self._tell()))
        try:
            await asyncio.wait({work, guard}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over, self._course.stopped = True, stop.reason is not None
            stop.tell = None
            self.shutdown_kernel: str = "immediate" if self._course.stopped else "graceful"
            for task in (work, guard, teller):
                task.cancel()
            ended = await asyncio.gather(work, guard, teller, return_exceptions=True)
            if self.km is not None:
                await self._async_cleanup_kernel()
        self._mark()
        if isinstance(ended[0], Exception) and self._course.error is None:
            raise ended[0]

    # --- the kernel's work ---

    async def _work(self) -> None:
        with tempfile.TemporaryFile() as log:
            self.km = self.create_kernel_manager()
            try:
                await self.async_start_new_kernel(env=dict(self._course.environment), stdout=log, stderr=log)
                await self.async_start_new_kernel_client()
            except RuntimeError as error:
                raise RuntimeError(f"the kernel did not start: {_last_line(log) or error}") from error
            self._ready = True
            info = await self.async_wait_for_reply(await ensure_async(self.kc.kernel_info()))
            if info is not None:
                self.nb.metadata["language_info"] = info["content"]["language_info"]
            try:
                await self._cells()
                if not self._over and self.km.kernel_spec.language.lower() == "python":
                    await self._finish()
            except DeadKernelError:
                self._course.error = Error("DeadKernelError", await self._death(), self._course.cell)
            self.set_widgets_metadata()

    async def _cells(self) -> None:
        for index, cell in enumerate(self.nb.cells):
            if self._runs(cell):
                self._at = index
                self._course.cell += 1
                if self._course.stop.reason is not None:
                    return
            try:
                self.nb_man.cell_start(cell, index)
                await self._run_cell(cell, index)
            except CellExecutionError as error:
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                if not (error.ename == "SystemExit" and error.evalue in {"", "0"}):
                    self._course.error = Error(error.ename, error.evalue, self._course.cell)
                return
            finally:
                self.nb_man.cell_complete(cell, cell_index=index)

    async def _run_cell(self, cell: NotebookNode, index: int) -> None:
        masked = cell.source
        if self._course.injected and _is_injected(cell):
            cell.source = self._course.injected
        self._inside.clear()
        self._may_interrupt = self._runs(cell)
        try:
            await self.async_execute_cell(cell, index)
        finally:
            self._may_interrupt = False
            cell.source = masked

    async def _finish(self) -> None:
        """Have the kernel wait for its queries; after a failure or a request to stop, stop them. Both commit."""
        course = self._course
        if course.stop.reason is None and course.error is None:
            course.finishing = self._may_interrupt = True
            try:
                await self._ask(FINISH.format(now=False))
            except CellExecutionError as error:
                if course.stop.reason is None:
                    raise RuntimeError(f"the queries did not end: {error.ename}: {error.evalue}") from error
            else:
                return
            finally:
                self._may_interrupt = False
        await self._ask(FINISH.format(now=True))

    async def _ask(self, code: str) -> None:
        """Run code that is no cell of the notebook."""
        if not self.nb.cells:
            return
        last = self.nb.cells[-1]
        try:
            await self.async_execute_cell(
                _node(cell_type="code", source=code, metadata=_node(), outputs=[]),
                -1,
                store_history=False,
            )
        finally:
            self.nb.cells[-1] = last  # what was run is put in its place

    async def _death(self) -> str:
        code = await self.km.provisioner.poll() if self.km is not None and self.km.provisioner else None
        if code is None:
            return "the kernel died"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"the kernel {how}{'; was there enough memory?' if code == -_KILLED else ''}"

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: NotebookNode, cell_index: int) -> None:
        """Take what the kernel sends, also from threads of earlier cells: their panels go on."""
        while True:
            message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=None))
            if message["parent_header"].get("msg_id") != parent_msg_id:
                self._from_elsewhere(message)
                continue
            if message["msg_type"] == "execute_input":
                self._inside.set()
            try:
                self.process_message(message, cell, cell_index)
            except CellExecutionComplete:
                return

    def _from_elsewhere(self, message: dict[str, Any]) -> None:
        kind = message["msg_type"]
        display = (message["content"].get("transient") or {}).get("display_id")
        if kind == "update_display_data" and display:
            self._update_display_id(display, message)
        elif kind.startswith("comm"):
            self.handle_comm_msg([], message, -1)

    # --- its end ---

    async def _guard(self) -> None:
        """Once the job is to stop, interrupt the cell; return when there is no more time."""
        await self._told.wait()
        loop, stop = asyncio.get_running_loop(), self._course.stop
        if stop.reason is not None:
            self._course.say(f"{self._why(stop.reason)}: stopping with a commit; another signal ends it at once")
        deadline = loop.time() + PATIENCE
        while self._ready and not stop.forced and (left := deadline - loop.time()) > 0:
            self._told.clear()
            if self._may_interrupt:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._inside.wait(), _INSIDE)
                await ensure_async(self.km.interrupt_kernel())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), min(left, _AGAIN))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            self._course.say(self._course.line())

    def _mark(self) -> None:
        """Judge how it went, and say in the notebook where it ended if no cell does: papermill then marks the place."""
        course, failed = self._course, self._course.runs.failed()
        lost = f"pipeline {failed['name'] or 'unnamed'!r} failed: {failed['error']['message']}" if failed else ""
        if course.stopped and course.stop.reason is not None:
            why = self._why(course.stop.reason) + (f"; {lost}" if lost else "")
            where = None if course.finishing or not course.cell else course.cell
            course.error = Error(_STOPPED[course.stop.reason][0], why, where)
        elif failed and course.error is None:
            course.error = Error(failed["error"]["type"], lost, None)
        told = any(output.output_type == "error" for cell in self.nb.cells for output in cell.get("outputs", ()))
        if course.error is not None and course.cells and not told:
            cell, error = self.nb.cells[self._at], course.error
            told_here = {"ename": error.type, "evalue": error.message, "traceback": [error.message]}
            cell.outputs.append(_node(output_type="error", **told_here))
            self.nb_man.cell_exception(cell, cell_index=self._at)

    def _why(self, reason: Reason) -> str:
        return _STOPPED[reason][1].format(limit=self._course.limit)

    def _runs(self, cell: NotebookNode) -> bool:
        """Whether a cell is executed, and so has a number."""
        tags = cell.metadata.get("tags", [])
        return bool(cell.cell_type == "code" and cell.source.strip() and self.skip_cells_with_tag not in tags)


def _node(**values: Any) -> NotebookNode:
    return NotebookNode(**values)


def _is_injected(cell: NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
