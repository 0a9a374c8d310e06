"""The notebook that a pipeline is exported from: what IPython remembers of it."""

from __future__ import annotations

import json
import linecache
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamlab.errors import PlanError
from streamlab.export.cells import Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"(?:Cell|Input) In ?\[(\d+)\](?:, line |.*?line )(\d+)|[Ll]ine (\d+)")
_PARAMETERS = re.compile(r"\s*#\s*parameters\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Notebook:
    """Executed cells in order, what their names stand for, and how IPython reads a cell."""

    cells: list[Cell]
    namespace: Mapping[str, Any]
    transform: Callable[[str], str]
    title: str


def notebook() -> Notebook:
    """Return the notebook of this process.

    Raises
    ------
    PlanError
        If there is none.
    """
    shell = ipython()
    if shell is None or getattr(shell, "history_manager", None) is None:
        raise PlanError(
            "export: there is no notebook here: the script is made of the cells that IPython remembers. In a script the definition is "
            "written already; to export a notebook that is not open: streamlab export notebook.ipynb -o worker.py."
        )
    history = shell.history_manager
    errors: Mapping[int, Mapping[str, Any]] = getattr(history, "exceptions", {})
    path = _path(shell)
    tagged = _tagged(path)
    ran = history.input_hist_raw if len(history.input_hist_raw) > 1 else ["", *_compiled()]
    cells = [
        cell(f"In[{number}]", raw, errors.get(number), is_parameters=raw.strip() in tagged)
        for number, raw in enumerate(ran)
        if number > 0
    ]
    return Notebook(
        cells, shell.user_ns, shell.input_transformer_manager.transform_cell, path.name if path else "a notebook"
    )


def cell(label: str, raw: str, error: Mapping[str, Any] | None, *, is_parameters: bool) -> Cell:
    """Return a cell as it was executed, with what IPython says of its failure."""
    first = raw.lstrip().split("\n", 1)[0]
    injected = _PARAMETERS.match(first) is not None  # what papermill writes above the values that it was given
    if error is None:
        return Cell(label, raw, is_parameters or injected)
    said = f"{error.get('ename')}: {error.get('evalue')}".splitlines()[0]
    return Cell(label, raw, is_parameters or injected, (_failed_line(error, raw),), error=said)


def _failed_line(error: Mapping[str, Any], raw: str) -> int:
    """Return the line of the cell at which it raised; 0: none of it was executed."""
    if error.get("ename") in {"SyntaxError", "IndentationError", "TabError"}:
        return 0
    text = _COLOUR.sub("", "\n".join(error.get("traceback", ())))
    found = _LINE.search(text)
    line = int(found[2] or found[3] or 1) if found else 1
    return min(line, raw.count("\n") + 1)


def ipython() -> Any:
    """Return IPython's shell, if this is one."""
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def _compiled() -> list[str]:
    """Return the cells that a kernel has compiled: all there is where they run without a history, as under nbval."""
    compiler = sys.modules.get("ipykernel.compiler")
    if compiler is None:
        return []
    folder = compiler.get_tmp_directory()
    return ["".join(linecache.getlines(name)) for name in linecache.cache if name.startswith(folder)]


def _path(shell: Any) -> Path | None:
    """Return the notebook's file, where the front end says which it is."""
    told = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    if not told:
        return None
    path = Path(told)
    for each in (path, Path.cwd() / path.name):
        if each.suffix == ".ipynb" and each.is_file():
            return each
    return None


def _tagged(path: Path | None) -> set[str]:
    """Return the texts of the cells tagged "parameters" in a notebook's file."""
    if path is None:
        return set()
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return set()  # it was not saved yet, or is being written
    texts = {
        "".join(each["source"]).strip()
        for each in cells
        if set(each.get("metadata", {}).get("tags", ())) & {"parameters", "injected-parameters"}
    }
    return texts - {""}
