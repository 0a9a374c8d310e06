"""What makes two plans the same: a digest of what their steps do, equal in every process with the same polars."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
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
    """Return what a Python function is: its code, defaults and the plain values it closes over, not its place in a file."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:  # a class or a callable object
        return [getattr(function, "__qualname__", type(function).__qualname__)]
    values = [cell.cell_contents for cell in (function.__closure__ or ())]
    values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [_code(code), [_constant(value) for value in values if _is_plain(value)]]


def _code(code: CodeType) -> list[Any]:
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), [_constant(c) for c in code.co_consts]]


def _constant(value: Any) -> Any:
    if inspect.iscode(value):
        return _code(value)
    if isinstance(value, frozenset):  # its order goes by hashes, which differ from process to process
        return sorted(repr(item) for item in value)
    return repr(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | bytes)
