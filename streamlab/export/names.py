"""What a statement reads, binds and may change in place: by Python's own symbol table, and by the look of its calls.

Names that stand in the body of a function are `late`: they are looked up when it is called. Those of class bodies, comprehensions, default
values and decorators are read at once.
"""

from __future__ import annotations

import ast
import copy
import symtable
from dataclasses import dataclass, field

HOLDERS = frozenset({"map_batches", "map_pandas", "sink_frame"})
"""Methods that keep a function for later: giving it to them does not call it."""

MUTATORS = frozenset(
    {
        *("append", "extend", "insert", "remove", "pop", "clear", "update", "setdefault", "add", "discard", "sort", "reverse"),
        *("popitem", "appendleft", "extendleft", "popleft", "rotate", "move_to_end", "subtract", "difference_update"),
        *("intersection_update", "symmetric_difference_update", "insert_column", "replace_column", "drop_in_place"),
        *("write", "writelines", "seek", "__setitem__", "__delitem__", "__setattr__"),
    }
)  # fmt: skip
"""Methods that change what they are called on."""

_CHANGING_FUNCTIONS = frozenset({"setattr", "delattr", "next", "shuffle", "heappush", "heappop", "heapify", "insort"})
_COPYING = frozenset(
    {"list", "dict", "set", "tuple", "frozenset", "sorted", "len", "sum", "min", "max", "str", "repr", "int", "float", "bool", "copy"}
    | {"deepcopy", "range", "isinstance", "type", "print", "any", "all", "abs", "round"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Called:
    """A call: the name that its function begins with, the method, and the names that are given to it by position and keyword."""

    root: str
    method: str | None
    given: tuple[tuple[int | str, str], ...]
    alone: bool  # whether the call is the whole statement: then it is there for what it does


@dataclass(slots=True)
class Names:
    """What one top-level statement does to names."""

    reads: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    binds: set[str] = field(default_factory=set)
    late_binds: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    sets: set[str] = field(default_factory=set)  # an item or attribute is set
    late_sets: set[str] = field(default_factory=set)
    calls: list[Called] = field(default_factory=list)
    late_calls: list[Called] = field(default_factory=list)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    stars: list[str] = field(default_factory=list)


def of(node: ast.stmt) -> Names:
    """Return what a statement does to names.

    Examples
    --------
    >>> found = of(ast.parse("total = scale(x) + [y for y in rows][0]").body[0])
    >>> sorted(found.reads), sorted(found.binds), sorted(found.late)
    (['rows', 'scale', 'x'], ['total'], [])
    >>> sorted(of(ast.parse("x = [{k: (w := v) for k, v in RATES} for _ in rows]").body[0]).binds)
    ['w', 'x']
    >>> sorted(of(ast.parse("def f(a, b=n): return a * RATE").body[0]).late)
    ['RATE']
    """
    names = Names()
    text = ast.unparse(_Generators().visit(copy.deepcopy(node)))
    _symbols(symtable.symtable(text, "cell", "exec"), names, late=False)
    walk = _Walk(names)
    walk.visit(node)
    names.binds -= names.deletes
    names.held = {name for name, places in walk.loads.items() if places == {"held"}}
    return names


def parameters_changed(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[int | str]:
    """Return the parameters, by place and by name, whose values a function changes in place.

    Examples
    --------
    >>> changed = parameters_changed(ast.parse("def add(schema, n): schema['n'] = n").body[0])
    >>> sorted(map(str, changed))
    ['0', 'schema']
    """
    names = Names()
    walk = _Walk(names)
    for statement in node.body:
        walk.visit(statement)
    changed = names.sets | {call.root for call in names.calls if call.method in MUTATORS}
    parameters = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    places = {n for n, name in enumerate(parameters) if name in changed}
    every = {*parameters, *(argument.arg for argument in node.args.kwonlyargs)}
    return {*places, *(every & changed)}


def roots(node: ast.AST) -> set[str]:
    """Return the names whose objects a value may be, or be a part of, or hold."""
    match node:
        case ast.Name():
            return {node.id}
        case ast.Attribute() | ast.Subscript() | ast.Starred() | ast.NamedExpr():
            return roots(node.value)
        case ast.Call():
            return _roots_of_call(node)
    parts: list[ast.expr] = []
    match node:
        case ast.List() | ast.Tuple() | ast.Set():
            parts = node.elts
        case ast.Dict() | ast.BoolOp():
            parts = node.values
        case ast.IfExp():
            parts = [node.body, node.orelse]
    return set().union(*map(roots, parts))


def _roots_of_call(node: ast.Call) -> set[str]:
    if isinstance(node.func, ast.Name) and node.func.id in _COPYING:
        return set()
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    receiver = roots(node.func.value) if isinstance(node.func, ast.Attribute) else set[str]()
    return set().union(receiver, *map(roots, given))


def root(node: ast.AST) -> str | None:
    """Return the name that a chain of attributes, items and calls begins with.

    Examples
    --------
    >>> root(ast.parse("flights.filter(x).columns[0]", mode="eval").body)
    'flights'
    """
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred | ast.Await):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


class _Generators(ast.NodeTransformer):
    """Comprehensions as generator expressions: from Python 3.12 on, the symbol table takes the names inside for the module's."""

    def _generator(self, node: ast.ListComp | ast.SetComp) -> ast.AST:
        return self.generic_visit(ast.copy_location(ast.GeneratorExp(node.elt, node.generators), node))

    visit_ListComp = visit_SetComp = _generator  # noqa: N815  # as ast names them

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        """Take keys and values as pairs."""
        pair = ast.copy_location(ast.Tuple([node.key, node.value], ast.Load()), node)
        return self.generic_visit(ast.copy_location(ast.GeneratorExp(pair, node.generators), node))


def _symbols(table: symtable.SymbolTable, names: Names, *, late: bool) -> None:
    is_module = table.get_type() == "module"
    reads = names.late if late else names.reads
    for symbol in table.get_symbols():
        if is_module:
            if symbol.is_referenced():
                names.reads.add(symbol.get_name())
            if symbol.is_assigned() or symbol.is_imported():
                names.binds.add(symbol.get_name())
        elif symbol.is_global():
            if symbol.is_referenced():
                reads.add(symbol.get_name())
            if symbol.is_assigned():
                (names.late_binds if late else names.binds).add(symbol.get_name())
    for child in table.get_children():
        is_function = child.get_type() == "function" and child.get_name() != "genexpr"
        _symbols(child, names, late=late or is_function)


class _Walk(ast.NodeVisitor):
    """Finds changes, calls, other names for the same object, deletions and star imports."""

    def __init__(self, names: Names) -> None:
        self.names, self.late = names, False
        self.loads: dict[str, set[str]] = {}

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        for decorator in getattr(node, "decorator_list", []):
            self.visit(decorator)
            if (first := root(decorator)) is not None:
                self._calls().append(Called(first, None, (), alone=False))
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        before, self.late = self.late, True
        for part in node.body if isinstance(node.body, list) else [node.body]:
            self.visit(part)
        self.late = before

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function  # noqa: N815  # as ast names them

    def _calls(self) -> list[Called]:
        return self.names.late_calls if self.late else self.names.calls

    def _set(self, target: ast.AST) -> None:
        if isinstance(target, ast.Attribute | ast.Subscript) and (name := root(target)) is not None:
            (self.names.late_sets if self.late else self.names.sets).add(name)
        for part in getattr(target, "elts", []):
            self._set(part)

    def _alias(self, target: ast.AST, value: ast.AST) -> None:
        if not self.late:
            bound = {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
            self.names.aliases |= {(name, other) for name in bound for other in roots(value) if name != other}

    def visit_Name(self, node: ast.Name) -> None:
        """Note how a name is used."""
        if isinstance(node.ctx, ast.Load):
            self.loads.setdefault(node.id, set()).add("read")

    def visit_Assign(self, node: ast.Assign) -> None:
        """See what is set, and what goes by another name from here on."""
        for target in node.targets:
            self._set(target)
            self._alias(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """As an assignment."""
        self._set(node.target)
        if node.value is not None:
            self._alias(node.target, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Note that it reads, and changes lists and the like in place."""
        self._set(node.target)
        if isinstance(node.target, ast.Name) and not self.late:
            self.names.reads.add(node.target.id)
            self._calls().append(Called(node.target.id, "extend", (), alone=False))
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        """As an assignment."""
        self._alias(node.target, node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        """Its variable is a part of what it goes over."""
        self._alias(node.target, node.iter)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        """Take what is entered for what is bound."""
        for item in node.items:
            if item.optional_vars is not None:
                self._alias(item.optional_vars, item.context_expr)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        """See what is gone: a name, or an item of something."""
        for target in node.targets:
            self._set(target)
            if isinstance(target, ast.Name) and not self.late:
                self.names.deletes.add(target.id)
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Star imports bind nobody knows what."""
        if any(alias.name == "*" for alias in node.names):
            self.names.stars.append("." * node.level + (node.module or ""))

    def visit_Expr(self, node: ast.Expr) -> None:
        """Take a call that is a whole statement for one that is there for what it does."""
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Call):
            self._call(value, alone=True)
            self._inside(value)
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Note a call: it may change what it is made on, and what it is given."""
        self._call(node, alone=False)
        self._inside(node)

    def _inside(self, node: ast.Call) -> None:
        holds = isinstance(node.func, ast.Attribute) and node.func.attr in HOLDERS
        self.visit(node.func)
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            if holds and isinstance(value, ast.Name):
                self.loads.setdefault(value.id, set()).add("held")
            else:
                self.visit(value)

    def _call(self, node: ast.Call, *, alone: bool) -> None:
        first = root(node.func)
        given: list[tuple[int | str, str]] = [
            (place, name) for place, value in enumerate(node.args) for name in sorted(roots(value))
        ]
        given += [(word.arg or "**", name) for word in node.keywords for name in sorted(roots(word.value))]
        method = node.func.attr if isinstance(node.func, ast.Attribute) else None
        if method in HOLDERS:
            given = []
        if first is not None:
            self._calls().append(Called(first, method, tuple(given), alone))
        if (method or first) in _CHANGING_FUNCTIONS and node.args:
            changed = self.names.late_sets if self.late else self.names.sets
            changed |= roots(node.args[0])
