"""What makes two plans the same: a digest of what their steps do, equal in every process with the same polars."""

from __future__ import annotations

import dis
import hashlib
import inspect
import json
from bisect import bisect_left
from datetime import date, time, timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

    from streamlab.plan.nodes import Node

_LENGTH = 16


def of_node(node: Node, seen: dict[int, str] | None = None) -> str:
    """Return the fingerprint of a node and all that feeds it."""
    seen = {} if seen is None else seen
    if id(node) not in seen:
        seen[id(node)] = _digest([type(node).__name__, node.identity(), [of_node(part, seen) for part in node.inputs]])
    return seen[id(node)]


def of_step(node: Node) -> str:
    """Return the fingerprint of one step alone: its state fits another step with the same one."""
    inputs = [[[name, str(dtype)] for name, dtype in part.schema.items()] for part in node.inputs]
    return _digest([type(node).__name__, node.identity(), inputs])


def of_nodes(nodes: tuple[Node, ...]) -> str:
    """Return the fingerprint of several nodes, in any order."""
    seen: dict[int, str] = {}
    return _digest(sorted(of_node(node, seen) for node in nodes))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_value).encode()).hexdigest()[:_LENGTH]


def _value(value: Any) -> Any:
    return of_function(value) if callable(value) else str(value)


def of_function(function: Callable[..., Any]) -> list[Any]:
    """Return what a Python function is: its code, what it closes over, the globals that it reads; not its place or its docstring.

    Of defaults, closures and globals count values that are plain, and the functions and classes of the same module, each by what it is
    in turn. A global that the function itself changes is no constant, and does not count.
    """
    return _function(function, frozenset())


def _function(function: Callable[..., Any], above: frozenset[int]) -> list[Any]:
    bare = inspect.unwrap(function)
    code = getattr(bare, "__code__", None)
    if code is None:  # a class or a callable object
        return [getattr(bare, "__qualname__", type(bare).__qualname__)]
    held = [*_cells(bare), *(bare.__defaults__ or ()), *(bare.__kwdefaults__ or {}).values()]
    found = [_code(code), [_constant(value) for value in held if _is_plain(value)]]
    home, inside = bare.__globals__, above | {id(code)}
    read = {
        name: home[name]
        for name, changes in _globals(code).items()
        if name in home and not (changes and _is_container(home[name]))
    }
    used = [[name, mark] for name, value in read.items() if (mark := _mark(value, home, inside)) is not None]
    return [*found, used] if used else found


def _cells(function: Any) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            yield None


def _mark(value: Any, home: dict[str, Any], above: frozenset[int]) -> Any:
    """Return what a global is, or None where it does not count."""
    if isinstance(value, pl.Expr):
        return _tree(value)
    if isinstance(value, FunctionType) and value.__globals__ is home:
        return "recursion" if id(value.__code__) in above else _function(value, above)
    if isinstance(value, type) and value.__module__ == home.get("__name__"):
        methods = [each for _, each in sorted(vars(value).items()) if isinstance(each, FunctionType)]
        return [_function(each, above) for each in methods if id(each.__code__) not in above]
    return _literal(value)


def _is_container(value: Any) -> bool:
    return isinstance(value, list | dict | set)


def _literal(value: Any) -> Any:
    """Return the text of a value made of plain values, in an order of its own; None: it is not such."""
    if isinstance(value, tuple | list):
        parts = [_literal(part) for part in value]
        return None if None in parts else [type(value).__name__, parts]
    if isinstance(value, set | frozenset):
        parts = [_literal(part) for part in value]
        return None if None in parts else [type(value).__name__, sorted(map(repr, parts))]
    if isinstance(value, dict):
        pairs = [[_literal(key), _literal(part)] for key, part in value.items()]
        return None if any(None in pair for pair in pairs) else ["dict", pairs]
    return repr(value) if _is_plain(value) or isinstance(value, date | time | timedelta) else None


def _tree(expr: pl.Expr) -> str | None:
    try:
        return json.dumps(json.loads(expr.meta.serialize(format="json")), sort_keys=True)
    except PolarsError:  # it holds a Python function
        return None


_CHANGE = frozenset(
    {
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "update",
        "setdefault",
        "add",
        "discard",
        "sort",
        "popitem",
    }
)
_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_ITEMS = frozenset({"STORE_SUBSCR", "DELETE_SUBSCR"})


def _globals(code: CodeType) -> dict[str, bool]:
    """Return the globals that code reads, and whether it may change their values in place; those that it binds itself are left out."""
    read, changed, bound = set[str](), set[str](), set[str]()
    instructions = list(dis.get_instructions(code))
    for one, following in zip(instructions, [*instructions[1:], None], strict=True):
        if one.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            read.add(one.argval)
            if following is not None and following.argval in _CHANGE:
                changed.add(one.argval)
        elif one.opname in _STORES:
            bound.add(one.argval)
    if any(one.opname in _ITEMS for one in instructions):  # which of them gets an item is not known
        changed |= read
    found = {name: name in changed for name in read}
    for part in code.co_consts:
        for name, changes in _globals(part).items() if inspect.iscode(part) else ():
            found[name] = found.get(name, False) or changes
    return {name: found[name] for name in sorted(found) if name not in bound}


_SILENT = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN", "PRECALL", "PUSH_NULL", "RESUME"})
_SAME = {"LOAD_METHOD": "LOAD_ATTR"}


def _code(code: CodeType) -> list[Any]:
    """Return what code does: its instructions by name, its arguments and its local names; a docstring is not loaded, so it does not count.

    The compiler calls a method of a module in another way where it sees the module's import (`is_import_originated` in CPython's
    compile.c): a function in a cell of its own would differ from the same in a script. So what only prepares a call is left out.
    """
    instructions = [one for one in dis.get_instructions(code) if one.opname not in _SILENT]
    offsets = [one.offset for one in instructions]
    jumps = {*dis.hasjrel, *dis.hasjabs}

    def operand(one: dis.Instruction) -> Any:
        return bisect_left(offsets, one.argval) if one.opcode in jumps else _constant(one.argval)

    listed = [[_SAME.get(one.opname, one.opname), operand(one)] for one in instructions]
    counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _KINDS]
    return [listed, counts, list(code.co_varnames)]


_KINDS = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


def _constant(value: Any) -> Any:
    if inspect.iscode(value):
        return _code(value)
    if isinstance(value, frozenset):  # its order goes by hashes, which differ from process to process
        return sorted(repr(item) for item in value)
    return repr(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | bytes)
