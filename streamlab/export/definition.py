"""The definition of a pipeline in a notebook: which statements make it, or why it cannot be exported."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.errors import PlanError
from streamlab.export import slicing
from streamlab.export.cells import Dropped, Executed, Statement
from streamlab.export.names import root
from streamlab.export.slicing import Need, Slicer
from streamlab.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.export.values import Values

RESULT = "pipeline"
"""What a pipeline is called that the notebook gives no name."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What makes a pipeline: statements in order, and the expression that is it in the end."""

    pipeline: Pipeline
    statements: list[Statement]
    result: str
    dropped: list[Dropped]
    unused: int


def define(pipeline: Pipeline, executed: Executed, values: Values) -> Definition:
    """Return the definition of a pipeline.

    Raises
    ------
    PlanError
        If a part of it has no source that a script could have: by name, cell and line.
    """
    statements, name, result = _target(pipeline, executed.statements, values)
    slicer = Slicer(statements, values)
    found = slicer.of([name])
    missing = [need for need in found.missing if not need.by.obstacle and not (need.name == "os" and need.by.secrets)]
    problems = list(
        dict.fromkeys([*_obstacles(found.kept, values), *(_missing(need, executed, values) for need in missing)])
    )
    if not found.kept:
        problems.append(f"{name!r} is bound by nothing that was executed here; define the pipeline in a cell")
    if problems:
        raise PlanError(
            "\n".join([f"export: pipeline {pipeline.name!r} cannot be exported.", *(f"  {each}." for each in problems)])
        )
    kept = set(map(id, found.kept))
    left = [statement for statement in executed.statements if id(statement) not in kept]
    shown = [Dropped(each.where, what) for each in left if not each.failed and (what := _shown(each, values))]
    return Definition(pipeline, found.kept, result, [*executed.magics, *shown], len(left) - len(shown))


# --- which statements make the pipeline ---


def _target(pipeline: Pipeline, statements: list[Statement], values: Values) -> tuple[list[Statement], str, str]:
    """Return statements, the name that a slice is wanted for, and the expression that is the pipeline."""
    slicer = Slicer(statements, values)
    for name, result in _bound(pipeline, values):
        makers = slicer.makers(name)
        if makers and not any(values.run_in(maker.node) for maker in makers):
            return statements, name, result
    calls = list(_calls(statements, values))
    named = [at for at in calls if _name_of(at[2]) == pipeline.name]
    fitting = named or [at for at in calls if len(calls) == 1 and _name_of(at[2]) is None]
    if not fitting:
        raise PlanError(
            f"export: pipeline {pipeline.name!r} is not the value of a name; bind it in a cell: "
            f'pipeline = sl.Pipeline([...], name="{pipeline.name}").'
        )
    position, statement, call = fitting[-1]
    name = RESULT if RESULT not in values.namespace else f"{RESULT}_"
    assign = ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], call), call)
    start, _ = statement.source.span(call)
    synthetic = Statement(
        statement.source, assign, edits=[(start, start, f"{name} = ")], secrets=dict(statement.secrets)
    )
    inside = [edit for edit in statement.edits if start <= edit[0] < statement.source.span(call)[1]]
    synthetic.edits += inside
    return [*statements[:position], synthetic, *statements[position:]], name, name


def _bound(pipeline: Pipeline, values: Values) -> Iterator[tuple[str, str]]:
    for name, value in values.namespace.items():
        if name.startswith("_") or name in {"In", "Out"}:
            continue
        if value is pipeline:
            yield name, name
        elif isinstance(value, list | tuple):
            yield from ((name, f"{name}[{n}]") for n, each in enumerate(value) if each is pipeline)
        elif isinstance(value, dict):
            yield from (
                (name, f"{name}[{key!r}]")
                for key, each in value.items()
                if each is pipeline and isinstance(key, str | int)
            )


def _calls(statements: list[Statement], values: Values) -> Iterator[tuple[int, Statement, ast.Call]]:
    """Find calls that make pipelines, outside functions."""
    for position, statement in enumerate(statements):
        if statement.failed or isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for part in ast.walk(statement.node):
            if isinstance(part, ast.Call) and values.known(part.func) is Pipeline:
                yield position, statement, part


def _name_of(call: ast.Call) -> str | None:
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "name"), None)
    return given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else None


# --- what cannot be exported ---


def _obstacles(kept: list[Statement], values: Values) -> Iterator[str]:
    for statement in kept:
        bound = sorted(statement.names.binds) or sorted(statement.names.sets) or ["it"]
        subject = f"{statement.where}: {bound[0]!r}"
        if statement.obstacle:
            yield f"{subject} is {statement.obstacle}, which a script does not have; write its value in a cell"
        elif statement.failed:
            yield f"{subject} may have been changed by a statement that failed half-way ({statement.failed}); mend it and run it again"
        elif call := values.run_in(statement.node):
            yield f"{subject} is the result of {call}, {_advice(call)}"
        elif any(isinstance(part, ast.Await) for part in _outside_functions(statement.node)):
            yield f"{subject} is awaited, which a script cannot do at its top level; write a function that is not async"
        else:
            given = [(name, values.result_of_run(name)) for name in bound]
            yield from (f"{statement.where}: {name!r} is {what}, {_advice('.run()')}" for name, what in given if what)


def _advice(call: str) -> str:
    if call in {"input()", "getpass()"}:
        return "and a worker has nobody to ask; make it a parameter: a value in the cell tagged 'parameters'"
    if call == "demo()":
        return "which exists in the notebook's process only; define the stream from sl.Kafka(...)"
    return "which an export leaves out; write the value in a cell, or in the one tagged 'parameters'"


def _missing(need: Need, executed: Executed, values: Values) -> str:
    """Return why a name has no statement that binds it, and what to do."""
    name = need.name
    read = [part for part in ast.walk(need.by.node) if isinstance(part, ast.Name) and part.id == name]
    subject = f"{need.by.place(min(read, key=lambda part: part.lineno, default=need.by.node))}: {name!r}"
    for statement in reversed(executed.statements):
        if said := _undone(name, subject, statement, values):
            return said
    if slicing.unknown(name):
        return f"{subject} exists in a notebook only; a worker does without it"
    if name not in values.namespace:
        return f"{subject} is not defined"
    suspect = next((f" (perhaps {each.what} at {each.where})" for each in executed.magics if each.what in _BINDING), "")
    return (
        f"{subject} has no source: no executed cell binds it{suspect}; what exec(), a magic or an extension makes must be "
        "written in a cell"
    )


_BINDING = frozenset({"%run", "%pylab", "%store"})


def _undone(name: str, subject: str, statement: Statement, values: Values) -> str:
    """Return what to say of a statement that would have bound a name, or took it away."""
    if statement.failed and name in statement.names.binds:
        if (call := values.run_in(statement.node)) in {"input()", "getpass()"}:
            return f"{statement.where}: {name!r} is the result of {call}, {_advice(call)}"
        return f"{subject} would come from {statement.where}, which failed ({statement.failed}); mend that and run it again"
    if name in statement.names.deletes:
        return f"{subject} is needed, and was deleted at {statement.where}; leave out the del"
    module = next((each for each in statement.names.stars if _gives(each, name)), None)
    if module is None:
        return ""
    return f'{subject} comes from "from {module} import *" at {statement.where}; write "from {module} import {name}"'


def _gives(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except (ImportError, ValueError):
        return False


def _outside_functions(node: ast.stmt) -> Iterator[ast.AST]:
    todo: list[ast.AST] = [node]
    while todo:
        part = todo.pop()
        yield part
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(part)


def _shown(statement: Statement, values: Values) -> str:
    """Return what to call a statement that shows or runs something; it may hold secrets, so not its text."""
    if call := values.run_in(statement.node):
        bound = sorted(statement.names.binds)
        return f"{bound[0]} = {call}" if bound else _function(statement.node) or call
    if not isinstance(statement.node, ast.Expr):
        return ""
    value = statement.node.value
    if isinstance(value, ast.Constant):
        return "" if isinstance(value.value, str) else "a value that is shown"
    return _function(statement.node) or f"{root(value) or 'a value'}, which is shown"


def _function(node: ast.stmt) -> str:
    """Return what a statement calls, without what it is given."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return ""
    function = node.value.func
    if all(isinstance(part, ast.Name | ast.Attribute | ast.expr_context) for part in ast.walk(function)):
        return f"{ast.unparse(function)}()"
    return (
        f"{root(function)}...{function.attr}()" if isinstance(function, ast.Attribute) and root(function) else "a call"
    )
