"""Executed cells as statements: magics taken out, comments kept with what they belong to."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from streamlab.export import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streamlab.export.names import Names

_WRAPPERS = frozenset({"time", "capture", "prun", "memit", "mprun", "lprun", "scalene"})
"""Cell magics whose body is run as Python in the notebook."""
_LINE_WRAPPERS = frozenset({"time", "prun"})
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
_MARKERS = re.compile(r"#\s*(%%|(injected[- ])?parameters\s*$|noqa\b|NBVAL_|\+\s*tags)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell that was executed.

    Parameters
    ----------
    label
        What a person knows it by, such as "In[3]".
    raw
        Its text.
    is_parameters
        Whether it holds the notebook's parameters.
    failed
        Lines at which statements failed.
    stopped
        Whether nothing after the failed line was executed.
    """

    label: str
    raw: str
    is_parameters: bool = False
    failed: tuple[int, ...] = ()
    stopped: bool = True
    error: str = ""


@dataclass(frozen=True)
class Source:
    """Python text, and where it stands in a cell."""

    label: str
    text: str
    first_line: int = 1

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for line in self.text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        return starts

    @cached_property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.text.splitlines()

    def offset(self, line: int, column: int) -> int:
        """Return the place in the text of a line (from 1) and a column (in bytes of UTF-8, as in a syntax tree)."""
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        return self._starts[line - 1] + len(text.encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return where a node begins and ends in the text."""
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column)


@dataclass(eq=False)
class Statement:
    """A top-level statement that was executed.

    `obstacle` says why its value has no source that a script could have, `failed` that it raised.
    """

    source: Source
    node: ast.stmt
    is_parameter: bool = False
    obstacle: str = ""
    failed: str = ""
    edits: list[tuple[int, int, str]] = field(default_factory=list)
    secrets: dict[str, str | None] = field(default_factory=dict)

    def replace(self, old: ast.expr, new: ast.expr) -> None:
        """Put an expression in the place of one in the syntax tree, as an edit does in the text."""
        replaced = _Replacing(old, ast.copy_location(new, old)).visit(self.node)
        if isinstance(replaced, ast.stmt):
            self.node = replaced
        self.__dict__.pop("names", None)

    @cached_property
    def names(self) -> Names:
        """What it does to names."""
        return names.of(self.node)

    @property
    def where(self) -> str:
        """Its cell and line, for messages."""
        return self.place(self.node)

    def place(self, node: ast.AST, further: int = 0) -> str:
        """Return the cell and line of a part of it, or of some lines further."""
        line = getattr(node, "lineno", self.node.lineno) + further
        return f"{self.source.label} line {line + self.source.first_line - 1}"

    @cached_property
    def extent(self) -> tuple[int, int]:
        """Where it begins, decorators and the comments above it included, and ends, with a comment behind it."""
        first = min([self.node.lineno, *(each.lineno for each in getattr(self.node, "decorator_list", []))])
        begin = self.source.offset(first, 0 if first != self.node.lineno else self.node.col_offset)
        end = self.source.span(self.node)[1]
        alone = self.source.text[self.source.offset(first, 0) : begin].strip() == ""
        while alone and first > 1 and self.source.lines[first - 2].startswith("#"):
            first -= 1
            begin = self.source.offset(first, 0)
        rest = self.source.text[end:].split("\n", 1)[0]
        return begin, end + (len(rest.rstrip()) if rest.lstrip().startswith("#") else 0)

    @property
    def text(self) -> str:
        """Its text with comments and edits."""
        begin, end = self.extent
        text = self.source.text
        for start, stop, new in sorted(self.edits, reverse=True):
            text = text[:start] + new + text[stop:]
            end += len(new) - (stop - start)
        lines = text[begin:end].split("\n")
        while lines and _MARKERS.match(lines[0]):
            del lines[0]
        return "\n".join(lines)


class _Replacing(ast.NodeTransformer):
    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self._new if node is self._old else self.generic_visit(node)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something of the notebook that the script does without."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class Executed:
    """All that was executed, in order."""

    statements: list[Statement] = field(default_factory=list)
    magics: list[Dropped] = field(default_factory=list)


def read(cells: Sequence[Cell], transform: Callable[[str], str]) -> Executed:
    r"""Return the statements of cells; `transform` is what IPython makes of a cell before it is Python.

    Examples
    --------
    >>> found = read([Cell("In[1]", "x = 1  # one\nprint(x)")], lambda text: text)
    >>> [(each.where, each.text) for each in found.statements]
    [('In[1] line 1', 'x = 1  # one'), ('In[1] line 2', 'print(x)')]
    """
    executed = Executed()
    for cell in cells:
        _read(cell, cell.raw, 1, transform, executed)
    return executed


def _read(cell: Cell, raw: str, first_line: int, transform: Callable[[str], str], executed: Executed) -> None:
    if magic := _CELL_MAGIC.match(raw):
        body = raw.lstrip().partition("\n")[2]
        skipped = raw[: len(raw) - len(raw.lstrip())].count("\n")
        where = f"{cell.label} line {first_line + skipped}"
        if magic[1] not in _WRAPPERS:
            executed.magics.append(Dropped(where, f"%%{magic[1]} and its cell"))
            return
        executed.magics.append(Dropped(where, f"%%{magic[1]} (its cell is kept)"))
        _read(cell, body, first_line + skipped + 1, transform, executed)
        return
    text = transform(raw)
    shift = _lines_lost(raw, text)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        if raw.strip() and not cell.failed:
            executed.magics.append(Dropped(f"{cell.label} line {error.lineno or 1}", "no Python"))
        return
    source = Source(cell.label, text, first_line + shift)
    for node in tree.body:
        executed.statements.extend(_statements(cell, source, node, executed))


def _lines_lost(raw: str, text: str) -> int:
    """Return how many lines at the beginning of a cell IPython has taken away."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    before = next((n for n, line in enumerate(raw.splitlines()) if line.strip()), 0)
    after = next((n for n, line in enumerate(text.splitlines()) if line.strip() == first), 0)
    return max(0, before - after)


def _statements(cell: Cell, source: Source, node: ast.stmt, executed: Executed) -> Iterator[Statement]:
    statement = Statement(source, node, cell.is_parameters)
    if (magic := _magic(node)) is not None:
        name, line = magic
        if name in _LINE_WRAPPERS and isinstance(node, ast.Expr) and line is not None:
            executed.magics.append(Dropped(statement.where, f"%{name} (its statement is kept)"))
            inner = Source(source.label, line, source.first_line + node.lineno - 1)
            for each in ast.parse(line).body:
                yield from _statements(cell, inner, each, executed)
            return
        executed.magics.append(Dropped(statement.where, "a shell command" if name == "!" else f"%{name}"))
        if isinstance(node, ast.Expr):
            return
        statement.obstacle = "the result of a shell command" if name == "!" else f"the result of the magic %{name}"
    place = [line - source.first_line + 1 for line in cell.failed]
    last = node.end_lineno or node.lineno
    if any(node.lineno <= line <= last for line in place):
        statement.failed = cell.error or "it raised"
    elif cell.stopped and any(line < node.lineno for line in place):
        statement.failed = "it was not reached, since a line before it raised"
    yield statement


def _magic(node: ast.stmt) -> tuple[str, str | None] | None:
    """Return the name of the magic that a statement is or holds, and its line."""
    for part in ast.walk(node):
        match part:
            case ast.Call(
                func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=attr), args=[first, *more]
            ) if isinstance(first, ast.Constant):
                if attr in {"system", "getoutput"}:
                    return "!", None
                if attr in {"run_line_magic", "run_cell_magic"}:
                    line = more[0].value if more and isinstance(more[0], ast.Constant) else None
                    return str(first.value).lstrip("%"), line if isinstance(line, str) else None
    return None
