"""A notebook that is not open: its cells executed in a fresh kernel in define mode, then its pipeline exported from there.

Each statement of a cell is executed by itself, so that one that fails takes no other along: what failed is remembered, and matters only
to a pipeline that needs it.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamlab.errors import PlanError, StreamlabError, did_you_mean
from streamlab.export import Exported, export, live
from streamlab.export.cells import Cell
from streamlab.export.live import Notebook
from streamlab.runtime import define

_FAILED = "__streamlab_failed__"
_PARAMETERS = {"parameters", "injected-parameters"}
_IMPORT = "from streamlab.export import kernel as __streamlab_kernel; __streamlab_kernel"


# --- outside: the process that reads the notebook's file ---


def export_file(notebook: Path, path: Path, name: str | None = None) -> Exported:
    """Execute a notebook for what it defines, and write the script of its pipeline.

    Parameters
    ----------
    notebook
        The file.
    path
        The script.
    name
        Which pipeline, if it defines several.

    Raises
    ------
    PlanError
        If the notebook cannot be read or executed, defines no such pipeline, or what it defines cannot be exported.
    """
    try:
        from streamlab.export import executing  # noqa: PLC0415  # of the extra "notebook", and of no use inside the kernel
    except ImportError as error:
        raise PlanError(f'export: {error.name} is not installed; pip install "streamlab[notebook]".') from error
    read = executing.read(notebook, "export: ")
    code = [(n, each) for n, each in enumerate(read.cells, 1) if each.cell_type == "code" and _is_executed(each)]
    told = [
        {"label": f"cell {n}", "raw": each.source, "parameters": bool(_tags(each) & _PARAMETERS)} for n, each in code
    ]
    with tempfile.TemporaryDirectory(prefix="streamlab-export-") as folder:
        order, answer = Path(folder, "order.json"), Path(folder, "answer.json")
        wish = {"path": str(path.absolute()), "pipeline": name, "title": notebook.name, "answer": str(answer)}
        order.write_text(json.dumps({**wish, "cells": told}))
        read.cells = [
            executing.new_cell(f"{_IMPORT}.begin()"),
            *(executing.new_cell(each.source) for _, each in code),
            executing.new_cell(f"{_IMPORT}.finish({str(order)!r})"),
        ]
        executing.execute(read, notebook)
        if not answer.exists():
            raise PlanError(f"export: the kernel of {notebook.name} could not export: {_said(read.cells[0])}")
        return _answer(json.loads(answer.read_text()), path)


def _tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def _is_executed(cell: Any) -> bool:
    """Whether nbclient executes a cell."""
    return bool(cell.source.strip()) and "skip-execution" not in _tags(cell)


def _answer(found: dict[str, Any], path: Path) -> Exported:
    if "error" in found:
        raise PlanError(found["error"])
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in found["exported"].items()
    }
    return Exported(**{**fields, "path": str(path)})


def _said(cell: Any) -> str:
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    return "it is no Python with streamlab installed"


# --- inside: the kernel ---

_failures: dict[int, list[tuple[int, str]]] = {}
_first = 0


class _Guard(ast.NodeTransformer):
    """Puts each statement of a cell in a `try` of its own."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Guard the statements of a cell."""
        node.body = [self._guarded(statement) for statement in node.body]
        return node

    def _guarded(self, statement: ast.stmt) -> ast.stmt:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            return statement
        handler = ast.parse(
            f"try:\n  pass\nexcept BaseException as __error__:\n  {_FAILED}({statement.lineno}, __error__)"
        ).body[0]
        guarded = ast.Try([statement], handler.handlers, [], [])  # type: ignore[attr-defined]  # it is a try
        return ast.fix_missing_locations(ast.copy_location(guarded, statement))


def begin() -> None:
    """Turn on what the execution of a notebook for its definitions needs."""
    global _first  # noqa: PLW0603  # a kernel executes one notebook
    shell = live.ipython()
    shell.ast_transformers.append(_Guard())
    shell.user_ns[_FAILED] = _remember
    _first = shell.execution_count + 1


def _remember(line: int, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        raise error
    said = (str(error).splitlines() or [""])[0]
    _failures.setdefault(live.ipython().execution_count, []).append((line, f"{type(error).__name__}: {said}"))


def finish(order: str) -> None:
    """Export what was defined, and write the answer."""
    told = json.loads(Path(order).read_text())
    shell = live.ipython()
    os.environ.pop(define.DEFINE, None)
    cells = [_cell(each, _first + n, shell) for n, each in enumerate(told["cells"])]
    try:
        namespace = {name: value for name, value in shell.user_ns.items() if not name.startswith("__streamlab")}
        notebook = Notebook(cells, namespace, shell.input_transformer_manager.transform_cell, told["title"])
        exported = export(_pipeline(told["pipeline"], cells), told["path"], notebook)
        answer: dict[str, Any] = {"exported": asdict(exported)}
    except StreamlabError as error:
        answer = {"error": str(error)}
    except Exception:  # noqa: BLE001  # the answer is a file: what is raised here would only be seen by the kernel
        answer = {"error": f"export: a mistake of streamlab, please report it.\n{traceback.format_exc()}"}
    Path(told["answer"]).write_text(json.dumps(answer))


def _cell(told: dict[str, Any], count: int, shell: Any) -> Cell:
    """Return a cell as it was executed; empty cells are not, so the count is not that of cells."""
    failed = _failures.get(count, [])
    errors = getattr(shell.history_manager, "exceptions", {})
    if count in errors and not failed:  # it was no Python at all
        return live.cell(told["label"], told["raw"], errors[count], is_parameters=told["parameters"])
    found = live.cell(told["label"], told["raw"], None, is_parameters=told["parameters"])
    return Cell(
        found.label,
        found.raw,
        found.is_parameters,
        tuple(line for line, _ in failed),
        stopped=False,
        error="; ".join(s for _, s in failed),
    )


def _pipeline(name: str | None, cells: list[Cell]) -> Any:
    """Return the pipeline of a name, or the only one: the last of each name that was defined."""
    found = {pipeline.name: pipeline for pipeline in define.pipelines()}
    listed = ", ".join(repr(each) for each in found)
    failed = "".join(f"\n  {cell.label} line {cell.failed[0]}: {cell.error}" for cell in cells if cell.failed)
    if not found:
        raise PlanError(f"export: the notebook defines no pipeline: sl.Pipeline([...], name=...).{failed}")
    if name is not None and name not in found:
        raise PlanError(
            f"export: the notebook defines no pipeline {name!r}; there are {listed}.{did_you_mean(name, filter(None, found))}{failed}"
        )
    if name is None and len(found) > 1:
        raise PlanError(f"export: the notebook defines several pipelines: {listed}; say which: --pipeline NAME.")
    return found[name] if name is not None else next(iter(found.values()))


if __name__ == "__main__":
    sys.exit("this module is a part of streamlab export")
