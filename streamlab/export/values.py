"""What the objects of a notebook say about its statements: what cannot change, what belongs to streamlab, what only a run gives."""

from __future__ import annotations

import ast
import datetime as dt
import re
import types
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.export.names import root
from streamlab.runtime.define import NotRun
from streamlab.runtime.metrics import Metrics, Report
from streamlab.runtime.query import Query

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIXED = (
    *(bool, int, float, complex, str, bytes, tuple, frozenset, range, type(None), dt.date, dt.time, dt.timedelta, dt.tzinfo),
    *(re.Pattern, type, types.FunctionType, types.BuiltinFunctionType),
    *(pl.Expr, pl.DataType, pl.DataFrame, pl.Series, pl.LazyFrame, pl.Schema),
)  # fmt: skip
RUNS = frozenset({"start", "run", "show", "preview", "collect", "peek", "topics"})
"""Methods of streamlab's objects whose results only a run gives, or a look at a broker."""
_RUNNING = frozenset({"open_table", "demo"})
_EFFECTS = frozenset(
    {"append", "insert", "extend", "seed", "chdir", "setdefault", "update", "basicConfig", "setlocale"}
)
_PREFIXES = ("enable_", "register", "set_")
_PURE = frozenset(
    {
        "print",
        "display",
        "help",
        "pprint",
        "len",
        "repr",
        "str",
        "dir",
        "vars",
        "type",
        "list",
        "dict",
        "sorted",
        "input",
    }
)
_MISSING = object()


class Values:
    """The objects that a notebook's names stand for, as far as they are known."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self.namespace = namespace

    def get(self, name: str) -> Any:
        """Return the object of a name, or None."""
        return self.namespace.get(name)

    def known(self, node: ast.AST) -> Any:
        """Return the module, class or function that a dotted name stands for, or None.

        Examples
        --------
        >>> import polars
        >>> Values({"pl": polars}).known(ast.parse("pl.col", mode="eval").body) is polars.col
        True
        """
        if isinstance(node, ast.Name):
            return self.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.known(node.value)
            if isinstance(owner, types.ModuleType | type):
                return getattr(owner, node.attr, None)
        return None

    def origin(self, node: ast.AST) -> str:
        """Return the module and name of the function or class that a dotted name stands for, or nothing.

        Examples
        --------
        >>> import json
        >>> Values({"json": json}).origin(ast.parse("json.loads", mode="eval").body)
        'json.loads'
        """
        found = self.known(node)
        return f"{found.__module__}.{found.__name__}" if isinstance(found, type | types.FunctionType) else ""

    def is_streamlab(self, name: str) -> bool:
        """Whether a name stands for streamlab, or something of it; none of that ever changes."""
        value = self.get(name)
        if isinstance(value, types.ModuleType):
            return value.__name__.partition(".")[0] == "streamlab"
        if isinstance(value, NotRun):
            return True
        home = value.__module__ if isinstance(value, type | types.FunctionType) else type(value).__module__
        return str(home).partition(".")[0] == "streamlab"

    def may_change(self, name: str) -> bool:
        """Whether the object of a name can be changed in place; an unknown one can."""
        value = self.namespace.get(name, _MISSING)
        return value is _MISSING or not (isinstance(value, _FIXED) or self.is_streamlab(name))

    def changed_by_method(self, name: str, method: str | None, *, alone: bool) -> bool:
        """Whether calling a method may change the object of a name in a way that matters to others."""
        if method is None:
            return False
        if isinstance(value := self.get(name), types.ModuleType):
            if value.__name__.partition(".")[0] in {"polars", "streamlab"}:
                return method.startswith("enable_")
            return alone and (method in _EFFECTS or method.startswith(_PREFIXES))
        return self.may_change(name)

    def is_pure(self, name: str) -> bool:
        """Whether a function is known to change nothing that it is given."""
        return name in _PURE and (name not in self.namespace or name == "display")

    def run_in(self, node: ast.AST) -> str:
        """Return the call in a statement whose result only a run gives, such as ".preview()", or nothing.

        What stands in functions is not executed with the statement, and does not count.
        """
        todo = [node]
        while todo:
            part = todo.pop()
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                todo += [*part.args.defaults, *getattr(part, "decorator_list", [])]
                continue
            if isinstance(part, ast.Call) and (said := self._runs(part)):
                return said
            todo += ast.iter_child_nodes(part)
        return ""

    def _runs(self, call: ast.Call) -> str:
        first, origin = root(call.func), self.origin(call.func)
        if isinstance(call.func, ast.Name) and call.func.id == "input" and "input" not in self.namespace:
            return "input()"
        if origin.startswith("getpass."):
            return "getpass()"
        name = origin.rpartition(".")[2]
        if origin.startswith("streamlab.") and name in _RUNNING:
            return f"{name}()"
        if isinstance(call.func, ast.Attribute) and call.func.attr in RUNS and first and self.is_streamlab(first):
            return f".{call.func.attr}()"
        return ""

    def result_of_run(self, name: str) -> str:
        """Return what a name stands for, if it is something that only a run gives."""
        value = self.get(name)
        if isinstance(value, NotRun):
            return "what a run gives"
        return f"a {type(value).__name__}" if isinstance(value, Query | Report | Metrics) else ""
