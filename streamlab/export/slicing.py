"""The statements that a pipeline needs, of all that were executed: a backward slice over definitions and changes.

Statements are taken in the order of execution, so a cell that ran twice counts twice. For each it is known which earlier ones made
what it reads. A name inside a function is looked up when the function is called: where the statement calls it, and once more at the end,
since a pipeline goes on calling the functions it was given. Too much may be kept, in the order in which it ran, which does no harm.
"""

from __future__ import annotations

import ast
import builtins
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamlab.export import names as naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.export.cells import Statement
    from streamlab.export.values import Values

_OF_A_MODULE = frozenset({*dir(builtins), "__name__", "__doc__", "__builtins__"})
_OF_A_NOTEBOOK = frozenset({"display", "get_ipython", "In", "Out", "exit", "quit", "_", "__", "___"})


@dataclass(frozen=True, slots=True)
class Need:
    """A name that is read by a statement and bound by none."""

    name: str
    by: Statement


@dataclass(slots=True)
class Slice:
    """What is kept, in order of execution, and what is missing."""

    kept: list[Statement]
    missing: list[Need]


@dataclass(slots=True)
class _Facts:
    """What is known of a statement after the pass over all of them."""

    needs: set[int] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    carried: set[str] = field(
        default_factory=set
    )  # names that functions reachable through it look up when they are called
    carried_sets: set[str] = field(default_factory=set)
    carried_binds: set[str] = field(default_factory=set)


class Slicer:
    """Works out slices of what was executed."""

    def __init__(self, statements: Sequence[Statement], values: Values) -> None:
        self._statements, self._values = statements, values
        self._made: dict[str, list[int]] = {}
        self._same: dict[str, set[str]] = {}
        self._parameters: dict[str, set[int | str]] = {}
        self._facts = [_Facts() for _ in statements]
        for i, statement in enumerate(statements):
            if not statement.failed or _is_compound(statement.node):
                self._pass(i, statement)

    def of(self, wanted: Iterable[str]) -> Slice:
        """Return the slice for names as they are at the end."""
        kept: set[int] = set()
        missing: dict[tuple[str, int], Need] = {}
        todo = self._resolve(wanted)
        while todo:
            i = todo.pop()
            if i in kept:
                continue
            kept.add(i)
            statement, facts = self._statements[i], self._facts[i]
            todo |= facts.needs
            for name in statement.names.late:
                todo |= set(self._made.get(name, ()))
            absent = facts.missing | {n for n in statement.names.late if n not in self._made and n not in _OF_A_MODULE}
            for name in sorted(absent):
                missing[name, i] = Need(name, statement)
        return Slice(
            [self._statements[i] for i in sorted(kept)], [missing[at] for at in sorted(missing, key=lambda at: at[1])]
        )

    def makers(self, name: str) -> list[Statement]:
        """Return the statements that a name's object comes from at the end."""
        return [self._statements[i] for i in self._made.get(name, ())]

    # --- the pass ---

    def _pass(self, i: int, statement: Statement) -> None:
        names, facts = statement.names, self._facts[i]
        called = {call.root for call in names.calls} | {name for call in names.calls for _, name in call.given}
        changed = self._changed(names, called)
        read = names.reads | changed
        if "sys" in self._made and is_local(statement.node):
            read |= {"sys"}  # where it is found, `sys.path` says
        unbound = {name for name in names.reads if name not in self._made and name not in _OF_A_MODULE}
        facts.missing = unbound if _reads_first(statement.node) else unbound - names.binds
        direct = {at for name in read for at in self._made.get(name, ())}
        facts.carried = set(names.late).union(*(self._facts[at].carried for at in direct))
        facts.carried_sets = self._late_changes(names).union(*(self._facts[at].carried_sets for at in direct))
        facts.carried_binds = set(names.late_binds).union(*(self._facts[at].carried_binds for at in direct))
        facts.needs = direct | self._resolve(read - names.held) | self._resolve_carried(names, read)
        self._bind(i, statement, changed, called)

    def _resolve_carried(self, names: naming.Names, read: set[str]) -> set[int]:
        """Return what functions look up that this statement may call."""
        given = self._through(read - names.held)
        return self._resolve({late for at in given for late in self._facts[at].carried})

    def _through(self, read: Iterable[str]) -> set[int]:
        """Return what names come from whose functions may be called by whoever has them; streamlab calls none while it defines."""
        return {at for name in read if not self._values.is_streamlab(name) for at in self._made.get(name, ())}

    def _resolve(self, wanted: Iterable[str]) -> set[int]:
        """Return the statements that names' objects come from now, and what functions among them look up."""
        found, seen, todo = set[int](), set[str](), list(wanted)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for i in self._made.get(name, ()):
                if i not in found:
                    found.add(i)
                    todo += () if self._values.is_streamlab(name) else self._facts[i].carried
        return found

    def _late_changes(self, names: naming.Names) -> set[str]:
        """Return the globals that functions made here change when they are called."""
        by_method = {call.root for call in names.late_calls if call.method in naming.MUTATORS}
        return {name for name in names.late_sets | by_method if name in names.late}

    def _changed(self, names: naming.Names, called: set[str]) -> set[str]:
        """Return the names whose objects a statement may change in place."""
        values = self._values
        changed = {name for name in names.sets if not values.is_streamlab(name)}
        for call in names.calls:
            strong = call.method in naming.MUTATORS
            if (strong or call.alone) and values.changed_by_method(call.root, call.method, alone=call.alone):
                changed.add(call.root)
            changed |= self._changed_arguments(call)
        through = self._through(called)
        late = set[str]().union(*(self._facts[at].carried_sets for at in through))
        return changed | {name for name in late if values.may_change(name)}

    def _changed_arguments(self, call: naming.Called) -> set[str]:
        values = self._values
        if call.root in self._parameters and call.method is None:
            own = self._parameters[call.root]
            return {name for place, name in call.given if place in own and values.may_change(name)}
        if not call.alone or values.is_pure(call.root) or values.is_streamlab(call.root):
            return set()
        return {name for _, name in call.given if values.may_change(name)}

    def _bind(self, i: int, statement: Statement, changed: set[str], called: set[str]) -> None:
        names, node = statement.names, statement.node
        for name in names.deletes:
            self._made.pop(name, None)
            self._forget(name)
        for name in changed:
            for each in {name, *self._same.get(name, ())}:
                self._add(each, i)
        for name in names.binds:
            if _is_compound(node):
                self._add(name, i)
            else:
                self._made[name] = [i]
                self._forget(name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._parameters[node.name] = naming.parameters_changed(node)
        for name in set[str]().union(*(self._facts[at].carried_binds for at in self._through(called))):
            self._add(name, i)
        for name, other in names.aliases:
            if self._values.may_change(other):
                self._join(name, other)

    def _add(self, name: str, i: int) -> None:
        made = self._made.setdefault(name, [])
        if i not in made:
            made.append(i)

    def _join(self, name: str, other: str) -> None:
        """Remember that two names may stand for one object, or one for a part of the other's."""
        together = {name, other, *self._same.get(name, ()), *self._same.get(other, ())}
        for each in together:
            self._same[each] = together - {each}

    def _forget(self, name: str) -> None:
        for other in self._same.pop(name, ()):
            self._same[other] = self._same[other] - {name}


def unknown(name: str) -> bool:
    """Whether a name is one that only a notebook has.

    Examples
    --------
    >>> unknown("display"), unknown("_12"), unknown("_rate")
    (True, True, False)
    """
    return name in _OF_A_NOTEBOOK or (name.startswith("_") and name.lstrip("_io").isdigit())


def changes_path(statement: Statement) -> bool:
    """Whether a statement changes where modules are looked for."""
    return any(isinstance(part, ast.Attribute) and ast.unparse(part) == "sys.path" for part in ast.walk(statement.node))


def is_local(node: ast.stmt) -> bool:
    """Whether a statement imports a module that is not an installed one."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    tops = {name.partition(".")[0] for name in names} - {"streamlab"}  # which a checkout may be, too
    files = [getattr(sys.modules.get(top), "__file__", None) for top in tops]
    return any(
        file and not file.startswith((sys.prefix, sys.base_prefix)) and "site-packages" not in file for file in files
    )


def _is_compound(node: ast.stmt) -> bool:
    """Whether a statement may do only a part of what it says, or do it several times."""
    kinds = ast.If | ast.For | ast.AsyncFor | ast.While | ast.Try | ast.With | ast.AsyncWith | ast.Match
    return isinstance(node, kinds) or type(node).__name__ == "TryStar"


def _reads_first(node: ast.stmt) -> bool:
    """Whether a simple statement that reads and binds a name reads it first."""
    inner = {
        part.target.id
        for part in ast.walk(node)
        if isinstance(part, ast.NamedExpr) and isinstance(part.target, ast.Name)
    }
    return (
        not _is_compound(node)
        and not inner
        and not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    )
