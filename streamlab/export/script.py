"""The text of a worker script."""

from __future__ import annotations

import ast
import io
import textwrap
import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlab
from streamlab.export.hiding import variable
from streamlab.export.layout import Layout, arrange
from streamlab.export.tidy import sorted_imports
from streamlab.kafka import BOOTSTRAP
from streamlab.pipeline import Pipeline

if TYPE_CHECKING:
    from pathlib import Path

    from streamlab.export.adapting import Adapted
    from streamlab.export.cells import Statement
    from streamlab.export.definition import Definition
    from streamlab.export.values import Values
    from streamlab.plan.pipeline import Plan

_MODULE = "streamlab.export.worker"


@dataclass(frozen=True, slots=True)
class Names:
    """What the script calls its own things, out of the way of the notebook's names."""

    worker: str
    maker: str
    function: str


def free_names(definition: Definition) -> Names:
    """Return names for the script's own things that the definition does not use."""
    taken = {n for s in definition.statements for n in s.names.binds | s.names.reads | s.names.late}
    result = definition.result.partition("[")[0]
    return Names(
        _free("worker", taken), _free("Worker", taken), _free("pipeline", taken - {result} | _late(definition))
    )


def _late(definition: Definition) -> set[str]:
    return {name for statement in definition.statements for name in statement.names.late}


def _free(name: str, taken: set[str]) -> str:
    return name if name not in taken else _free(f"{name}_" if name.islower() else f"Streamlab{name}", taken)


def write(
    definition: Definition, adapted: Adapted, values: Values, own: Names, path: Path, origin: str, *, flat: bool = False
) -> str:
    """Return the script of a definition whose statements are adapted."""
    layout = arrange(definition, values, flat=flat)
    secrets = sorted({name for statement in definition.statements for name in statement.secrets})
    function = own.function if own.function not in _module_names(layout) else f"build_{own.function}"
    kind = _annotation(layout, values)
    imports = [*layout.imports, *_own_imports(definition, adapted, own)]
    parts = [_docstring(definition.pipeline.plan, path, adapted, secrets, origin)]
    if layout.future:
        parts.append(f"from __future__ import {', '.join(sorted(layout.future))}")
    parts.append(sorted_imports(imports))
    listed = "" if not secrets else f", secrets=[{', '.join(map(_quoted, secrets))}]"
    parts.append(f"{own.worker} = {own.maker}(__name__, __doc__{listed})")
    text = "\n\n".join(parts) + "\n"
    before: Statement | None = None
    for statement in (*layout.parameters, *layout.constants, *layout.module):
        text += _gap(statement, before) + statement.text + "\n"
        before = statement
    text += f"\n\ndef {function}(){kind and f' -> {kind}'}:\n" + _body(layout, definition)
    return text + f'\n\nif __name__ == "__main__":\n    {own.worker}.main({function})\n'


def _module_names(layout: Layout) -> set[str]:
    return {
        name for statement in (*layout.parameters, *layout.constants, *layout.module) for name in statement.names.binds
    }


def _annotation(layout: Layout, values: Values) -> str:
    """Return how the script can name the type `Pipeline`."""
    bound = {
        a.asname or a.name.partition(".")[0]
        for node in layout.imports
        if isinstance(node, ast.Import | ast.ImportFrom)
        for a in node.names
    }
    modules = [name for name in sorted(bound) if values.get(name) is streamlab]
    classes = [name for name in sorted(bound) if values.get(name) is Pipeline]
    return f"{modules[0]}.Pipeline" if modules else classes[0] if classes else ""


def _own_imports(definition: Definition, adapted: Adapted, own: Names) -> list[ast.stmt]:
    alias = None if own.maker == "Worker" else own.maker
    found: list[ast.stmt] = [ast.ImportFrom(_MODULE, [ast.alias("Worker", alias)], 0)]
    if any(statement.secrets and "os" in statement.names.reads for statement in definition.statements):
        found.append(ast.Import([ast.alias("os")]))
    if adapted.needs_polars:
        found.append(ast.Import([ast.alias("polars", "pl")]))
    return found


def _gap(statement: Statement, before: Statement | None) -> str:
    """Return the empty lines between statements: two around functions and classes, one where something else begins."""
    if _is_block(statement) or (before is not None and _is_block(before)):
        return "\n\n"
    begins = before is None or before.is_parameter != statement.is_parameter
    return "\n" if begins or statement.text.startswith("#") else ""


def _is_block(statement: Statement) -> bool:
    return isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _body(layout: Layout, definition: Definition) -> str:
    lines = ['    """Define the pipeline; touches no broker."""\n']
    for position, statement in enumerate(layout.build):
        node, text = statement.node, statement.text
        is_last = position == len(layout.build) - 1
        if (
            is_last
            and isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and _is_name(node.targets[0], definition.result)
        ):
            return "".join([*lines, indented(_returned(statement, text)) + "\n"])
        lines.append(indented(text) + "\n")
    return "".join([*lines, f"    return {definition.result}\n"])


def _returned(statement: Statement, text: str) -> str:
    """Return `return value` in place of `name = value`."""
    name = ast.unparse(statement.node.targets[0]) if isinstance(statement.node, ast.Assign) else ""
    lines = text.split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith(name) and line[len(name) :].lstrip().startswith("="))
    lines[at] = "return " + lines[at][len(name) :].lstrip()[1:].lstrip()
    return "\n".join(lines)


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def indented(text: str) -> str:
    r"""Return statements four spaces deeper; lines that lie inside a string stay as they are.

    Examples
    --------
    >>> print(indented("x = 1\ny = '''a\nb'''"))
        x = 1
        y = '''a
    b'''
    """
    inside, opened = set[int](), list[int]()
    for token in tokenize.generate_tokens(io.StringIO(text + "\n").readline):
        name = tokenize.tok_name[token.type]
        if name == "STRING":
            inside |= set(range(token.start[0] + 1, token.end[0] + 1))
        elif name in {"FSTRING_START", "TSTRING_START"}:
            opened.append(token.start[0])
        elif name in {"FSTRING_END", "TSTRING_END"}:
            inside |= set(range(opened.pop() + 1, token.end[0] + 1))
    return "\n".join(
        line if number in inside or not line.strip() else f"    {line}"
        for number, line in enumerate(text.split("\n"), 1)
    )


# --- the docstring ---


def _docstring(plan: Plan, path: Path, adapted: Adapted, secrets: list[str], origin: str) -> str:
    read = ", ".join(f"{source.kind} {source.topic!r}" for source in plan.sources)
    sinks = ", ".join(f"{sink.kind} {sink.target!r}" for sink in plan.sinks)
    run = f"python {path.name}"
    about = [f"It reads {read} and writes {sinks}. Exported by streamlab {streamlab.__version__} from {origin}."]
    if adapted.has_address or adapted.needs_address:
        about.append(
            f"The broker is --bootstrap-servers, or ${BOOTSTRAP}{', or the one below' if adapted.has_address else ''}."
        )
    if adapted.parameters:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in adapted.parameters)
        about.append(
            f"Parameters: {flags}; each may be an environment variable too, such as ${variable(adapted.parameters[0])}."
        )
    if secrets:
        about.append(f"Secrets are read from the environment: {', '.join(f'${name}' for name in secrets)}.")
    paragraphs = [_plain(textwrap.fill(each, 88, break_on_hyphens=False)) for each in about]
    usage = (
        f"    {run}                     process what arrives until stopped",
        f"    {run} run --until latest  process what has arrived, then stop",
        f"    {run} plan                show the plan; touches no broker",
        f"    {run} check               look at broker, topics and state",
    )
    parts = [f"The pipeline {plan.name!r} as a worker.", paragraphs[0], "\n".join(usage), *paragraphs[1:]]
    return '"""' + "\n\n".join(parts) + '\n"""'


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace('"""', "'''")


def _quoted(text: str) -> str:
    return f'"{text}"'
