"""Where statements stand in a script: imports, then constants and functions, then the function that builds the pipeline.

What comes from a broker, and all that follows from it, goes into that function. The rest is the module's, in the order of execution. A name
that functions look up when they are called must be the module's, since that is where they look; and where moving a statement behind
others would change what it reads, it is not moved. If that cannot be had, all stays in the module, in the order of execution.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamlab.export.cells import Statement
from streamlab.export.slicing import changes_path, is_local
from streamlab.kafka import Kafka

if TYPE_CHECKING:
    from streamlab.export.definition import Definition
    from streamlab.export.values import Values

_SOURCES = frozenset(
    {"streamlab.kafka.Kafka", *(f"streamlab.replay.{name}" for name in ("from_frame", "from_ndjson", "from_parquet"))}
)


@dataclass(slots=True)
class Layout:
    """Statements by where they stand."""

    future: set[str] = field(default_factory=set)
    imports: list[ast.stmt] = field(default_factory=list)
    parameters: list[Statement] = field(default_factory=list)
    constants: list[Statement] = field(default_factory=list)
    module: list[Statement] = field(default_factory=list)
    build: list[Statement] = field(default_factory=list)


def arrange(definition: Definition, values: Values, *, flat: bool = False) -> Layout:
    """Return the layout of a definition's script; a flat one leaves all but imports in the order of execution."""
    layout, rest = Layout(), list[Statement]()
    bound = _times_bound(definition.statements)
    moved = any(changes_path(statement) for statement in definition.statements)
    used = _used(definition.statements) | {definition.result.partition("[")[0]}
    for statement in definition.statements:
        node = statement.node
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            layout.future |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import | ast.ImportFrom) and _can_be_first(node, bound, moved=moved):
            layout.imports += _needed(node, used)
        else:
            rest.append(statement)
    build = _build(rest, values, definition.result.partition("[")[0], flat=flat)
    layout.build = [statement for statement in rest if statement in build]
    module = [statement for statement in rest if statement not in build]
    layout.parameters = [
        statement for statement in module if statement.is_parameter and _is_written_out(statement, bound)
    ]
    layout.constants = [s for s in module if s not in layout.parameters and not s.edits and _is_written_out(s, bound)]
    layout.module = [s for s in module if s not in (*layout.parameters, *layout.constants)]
    return layout


def _times_bound(statements: list[Statement]) -> dict[str, set[str]]:
    """Return for each name the different texts of the statements that bind or change it."""
    bound: dict[str, set[str]] = {}
    for statement in statements:
        for name in statement.names.binds | statement.names.deletes | statement.names.late_binds:
            bound.setdefault(name, set()).add(ast.unparse(statement.node))
    return bound


def _used(statements: list[Statement]) -> set[str]:
    return {name for statement in statements for name in statement.names.reads | statement.names.late}


def _can_be_first(node: ast.Import | ast.ImportFrom, bound: dict[str, set[str]], *, moved: bool) -> bool:
    """Whether an import can stand at the top: nothing else is bound to its names, and its modules are found without help."""
    # several may bind the first name of a dotted one, all to the same package
    names = {alias.asname or alias.name for alias in node.names if alias.asname or "." not in alias.name}
    return all(len(bound.get(name, ())) <= 1 for name in names) and not (moved and is_local(node))


def _needed(node: ast.Import | ast.ImportFrom, used: set[str]) -> list[ast.stmt]:
    """Return an import's names that are used, one statement each."""
    kept = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in used]
    if isinstance(node, ast.Import):
        return [ast.Import([alias]) for alias in kept]
    return [ast.ImportFrom(node.module, [alias], node.level) for alias in kept]


# --- the function that builds the pipeline ---


def _build(statements: list[Statement], values: Values, result: str, *, flat: bool) -> set[Statement]:
    """Return the statements of the function that builds the pipeline."""
    last = next(statement for statement in reversed(statements) if result in statement.names.binds)
    late = {name for statement in statements for name in statement.names.late}
    alone = {last} if _in_order(statements, {last}) and result not in late else set[Statement]()
    if flat:
        return alone
    grown = _grow(statements, {statement for statement in statements if _is_source(statement, values)} | {last})
    # what functions look up is the module's, and so is all that it needs
    pinned = _behind(statements, {statement for statement in grown if statement.names.binds & late})
    if last in pinned:
        return alone
    build = _grow(statements, {statement for statement in grown if statement not in pinned} | {last}, pinned)
    return build if _in_order(statements, build) else alone


def _grow(
    statements: list[Statement], build: set[Statement], pinned: frozenset[Statement] | set[Statement] = frozenset()
) -> set[Statement]:
    """Add what follows from the statements that build, and what could not stand before them."""
    build = set(build)
    while True:
        before = len(build)
        made: set[str] = set()
        for position, statement in enumerate(statements):
            names = statement.names
            if statement in build:
                made |= names.binds | _touched(statement)
            elif statement not in pinned and (
                (names.reads | _touched(statement)) & made or _disturbs(statement, statements[:position], build)
            ):
                build.add(statement)
                made |= names.binds
        bound = {name for statement in build for name in statement.names.binds}
        build |= {s for s in statements if s.names.binds & bound and s not in pinned}
        if len(build) == before:
            return build


def _disturbs(statement: Statement, earlier: list[Statement], build: set[Statement]) -> bool:
    """Whether a statement, moved before those that build, would change what one of them reads."""
    writes = statement.names.binds | _touched(statement) | statement.names.deletes
    return any(other in build and writes & (other.names.reads | other.names.late) for other in earlier)


def _touched(statement: Statement) -> set[str]:
    """Return the names whose objects a statement may change: those it makes calls on and sets items of."""
    names = statement.names
    alone = isinstance(statement.node, ast.Expr | ast.AugAssign)
    calls = {call.root for call in names.calls if call.alone} | {
        name for call in names.calls if call.alone for _, name in call.given
    }
    return names.sets | (calls if alone else set())


def _behind(statements: list[Statement], wanted: set[Statement]) -> set[Statement]:
    """Return statements and all before them that they need."""
    found, names = set(wanted), set[str]()
    for statement in reversed(statements):
        if statement in found or statement.names.binds & names or _touched(statement) & names:
            found.add(statement)
            names |= statement.names.reads | statement.names.late
    return found


def _in_order(statements: list[Statement], build: set[Statement]) -> bool:
    """Whether all statements of the module may stand before those that build."""
    for position, statement in enumerate(statements):
        if statement in build:
            continue
        if _disturbs(statement, statements[:position], build):
            return False
        made = {name for other in statements[:position] if other in build for name in other.names.binds}
        if made & (statement.names.reads | statement.names.binds):
            return False
    return True


def _is_source(statement: Statement, values: Values) -> bool:
    """Whether a statement makes a cluster or a stream."""
    if isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return False
    for part in ast.walk(statement.node):
        if isinstance(part, ast.Call):
            owner = values.known(part.func.value) if isinstance(part.func, ast.Attribute) else None
            if owner is Kafka or values.origin(part.func) in _SOURCES:
                return True
    return False


def _is_written_out(statement: Statement, bound: dict[str, set[str]]) -> bool:
    """Whether a statement gives a value that is written out, and cannot change, to a name that has no other."""
    node = statement.node
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if value is None or not all(isinstance(each, ast.Name) and len(bound[each.id]) <= 1 for each in targets):
        return False
    plain = ast.Constant | ast.Tuple | ast.UnaryOp | ast.USub | ast.expr_context
    if statement.is_parameter and statement.edits:
        plain |= ast.List | ast.Dict
    if isinstance(node, ast.AnnAssign) and not (
        isinstance(node.annotation, ast.Name) and node.annotation.id in dir(builtins)
    ):
        return False
    return all(isinstance(part, plain) for part in ast.walk(value))
