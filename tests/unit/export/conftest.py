"""A notebook in this process: cells are executed one after the other, as IPython does, and what they leave is exported."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from streamlab.export import Exported, export, live, proving, tidy
from streamlab.export.live import Notebook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streamlab.export.cells import Cell

START = "import polars as pl\nimport streamlab as sl\n"
STREAM = """
flights = sl.Kafka("localhost:9092").stream("flights", schema={"carrier": pl.String, "delay": pl.Float64})
"""


class _Shell:
    """What magics call: it runs none, and what `%time` times."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def run_line_magic(self, name: str, line: str) -> None:
        if name == "time":
            exec(line, self._namespace)  # noqa: S102  # the test's own text

    def run_cell_magic(self, name: str, _: str, body: str) -> None:
        if name == "time":
            exec(body, self._namespace)  # noqa: S102  # the test's own text

    def getoutput(self, _: str) -> list[str]:
        return ["a", "b"]

    def system(self, _: str) -> None:
        return None


@dataclass
class Book:
    """A notebook that was executed."""

    folder: Path
    cells: list[Cell] = field(default_factory=list)
    namespace: dict[str, Any] = field(default_factory=dict)

    def run(self, *cells: str | tuple[str, str]) -> Book:
        """Execute cells; one that is a pair has a tag."""
        for given in cells:
            tag, raw = ("", given) if isinstance(given, str) else given
            self._execute(raw, is_parameters=tag == "parameters")
        return self

    def _execute(self, raw: str, *, is_parameters: bool) -> None:
        label = f"In[{len(self.cells) + 1}]"
        tree = ast.parse(TransformerManager().transform_cell(raw))
        failed: tuple[int, ...] = ()
        error = ""
        for node in tree.body:
            try:
                exec(compile(ast.Module([node], []), label, "exec"), self.namespace)  # noqa: S102  # the test's own text
            except Exception as raised:  # noqa: BLE001  # a cell may raise anything
                failed, error = (node.lineno,), f"{type(raised).__name__}: {raised}"
                break
        made = live.cell(label, raw, None, is_parameters=is_parameters)
        self.cells.append(replace(made, failed=failed, error=error))

    def export(self, name: str = "pipeline", path: str = "worker.py") -> Exported:
        """Export the pipeline of a name."""
        notebook = Notebook(self.cells, self.namespace, TransformerManager().transform_cell, "a notebook")
        with contextlib.chdir(self.folder):
            return export(self.namespace[name] if isinstance(name, str) else name, path, notebook)

    @property
    def script(self) -> str:
        """The text of the script."""
        return (self.folder / "worker.py").read_text()

    @property
    def body(self) -> str:
        """The script without its docstring."""
        return self.script.split('"""', 2)[2]


def outline_here(draft: Path, _: Path, secrets: Mapping[str, str | None], __: Sequence[str]) -> dict[str, Any]:
    """Run a script's `plan` in this process, which takes a hundredth of the time of a fresh one."""
    known = {name: value for name, value in secrets.items() if value is not None}
    main, out, hook = ModuleType("__main__"), io.StringIO(), sys.excepthook
    program = mock.patch.object(sys, "argv", [str(draft), "plan", "--json"])
    with (
        mock.patch.dict(os.environ, known),
        program,
        contextlib.redirect_stdout(out),
        pytest.raises(SystemExit) as ended,
    ):
        exec(compile(draft.read_text(), str(draft), "exec"), vars(main))  # noqa: S102  # the script
    sys.excepthook = hook
    assert ended.value.code == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A notebook that has imported polars and streamlab, with a stream `flights`; scripts are neither formatted nor run elsewhere."""
    monkeypatch.setattr(proving, "_outline", outline_here)
    monkeypatch.setattr(tidy, "_ruff", lambda: None)
    main = ModuleType("__main__")
    made = Book(tmp_path, namespace=vars(main))
    made.namespace["get_ipython"] = lambda: _Shell(made.namespace)
    return made.run(START, STREAM)
