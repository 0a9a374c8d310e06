"""Secrets of a definition: what flows into a setting that is hidden becomes `os.environ["..."]`, so that no text of it is written."""

from __future__ import annotations

import ast
import os
import re
from typing import TYPE_CHECKING

from streamlab.connect.setting_names import CONSUMER_ONLY, PRODUCER_ONLY, SHARED
from streamlab.connect.settings import scrub
from streamlab.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from streamlab.export.cells import Statement
    from streamlab.export.values import Values

PREFIX = "STREAMLAB_"
_KNOWN = CONSUMER_ONLY | PRODUCER_ONLY | SHARED
_ADDRESS = re.compile(r"://[^/@\s]+@")
_SHORTEST = 3
# who one is and where files are: hidden, but words that may well stand elsewhere, such as in the name of a topic
_NO_SECRET_BY_ITSELF = re.compile(r"user.?name|principal|location|keytab|client.id|scope|url|cipher", re.IGNORECASE)


def is_secret(setting: str) -> bool:
    """Whether the value of a setting is hidden wherever settings are shown.

    Examples
    --------
    >>> is_secret("sasl.password"), is_secret("sasl.mechanism"), is_secret("linger.ms")
    (True, False, False)
    """
    return not setting.endswith("_cb") and scrub("probe", {setting: "probe"}) != "probe"


def variable(name: str) -> str:
    """Return the environment variable for a setting or a name.

    Examples
    --------
    >>> variable("sasl.password"), variable("min_delay")
    ('STREAMLAB_SASL_PASSWORD', 'STREAMLAB_MIN_DELAY')
    """
    return PREFIX + re.sub(r"\W+", "_", name).upper()


def hide(statements: Sequence[Statement], values: Values) -> list[Statement]:
    """Edit statements so that no secret stands in them; return those that are left.

    Each is told the environment variables that it reads secrets from, with their values now, as far as they are known. Statements that put
    such a secret into the environment are left out.
    """
    todo: list[tuple[Statement, ast.expr, str]] = []
    for statement in statements:
        for part in ast.walk(statement.node):
            todo += [(statement, value, setting) for setting, value in _settings(part, values)]
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and _ADDRESS.search(part.value):
                todo.append((statement, part, _target(statement.node) or "address"))
    done, given = set[ast.expr](), set[str]()
    while todo:
        statement, value, setting = todo.pop()
        if value in done:
            continue
        done.add(value)
        if (read := _from_environment(value)) is not None:
            given.add(read)
            statement.secrets[read] = os.environ.get(read)
        elif isinstance(value, ast.Name) and (makers := _makers(value.id, statements)):
            todo += [(maker, made, value.id) for maker, made in makers]
        else:
            _replace(statement, value, setting, values)
    return [statement for statement in statements if _environment_set(statement.node) not in given]


def texts(settings: Iterable[Mapping[str, Any]], statements: Iterable[Statement]) -> list[str]:
    """Return the texts of secrets, which must stand in nothing that is written or said."""
    pairs = [pair for each in settings for pair in each.items() if is_secret(pair[0])]
    pairs += [pair for statement in statements for pair in statement.secrets.items()]
    found = {value for name, value in pairs if isinstance(value, str) and not _NO_SECRET_BY_ITSELF.search(name)}
    return sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True)


def _replace(statement: Statement, value: ast.expr, setting: str, values: Values) -> None:
    name = variable(setting)
    now = value.value if isinstance(value, ast.Constant) else values.get(_target(statement.node) or "")
    statement.secrets[name] = now if isinstance(now, str) else None
    start, stop = statement.source.span(value)
    statement.edits = [edit for edit in statement.edits if not start <= edit[0] < stop]
    statement.edits.append((start, stop, f'os.environ["{name}"]'))
    new = ast.parse(f'os.environ["{name}"]', mode="eval").body
    statement.replace(value, new)


def _settings(node: ast.AST, values: Values) -> list[tuple[str, ast.expr]]:
    """Return the secret settings that a part of a statement gives values to."""
    match node:
        case ast.Dict():
            return [(name, value) for name, value in _pairs(node) if name in _KNOWN and is_secret(name)]
        case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=str(name)))]) if name in _KNOWN and is_secret(
            name
        ):
            return [(name, node.value)]
        case ast.Call() if values.known(node.func) is Kafka:
            given = [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
            every = [*node.args, *(keyword.value for keyword in node.keywords)]
            given += [pair for each in every if isinstance(each, ast.Dict) for pair in _pairs(each)]
            return [(name, value) for name, value in given if is_secret(name)]
    return []


def _pairs(node: ast.Dict) -> list[tuple[str, ast.expr]]:
    pairs = zip(node.keys, node.values, strict=True)
    return [(key.value, value) for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def _makers(name: str, statements: Sequence[Statement]) -> list[tuple[Statement, ast.expr]]:
    """Return the assignments that give a name its value."""
    found = []
    for statement in statements:
        for part in ast.walk(statement.node):
            targets = (
                part.targets
                if isinstance(part, ast.Assign)
                else [part.target]
                if isinstance(part, ast.AnnAssign)
                else []
            )
            value = part.value if isinstance(part, ast.Assign | ast.AnnAssign) else None
            for target in targets:
                if value is not None and isinstance(target, ast.Name) and target.id == name:
                    found.append((statement, value))
                found += [(statement, each) for each in _unpacked(target, value, name)]
    return found


def _unpacked(target: ast.expr, value: ast.expr | None, name: str) -> list[ast.expr]:
    if not isinstance(target, ast.Tuple | ast.List) or not isinstance(value, ast.Tuple | ast.List):
        return []
    pairs = zip(target.elts, value.elts, strict=False)
    return [each for part, each in pairs if isinstance(part, ast.Name) and part.id == name]


def _target(node: ast.stmt) -> str | None:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return next((target.id for target in targets if isinstance(target, ast.Name)), None)


def _from_environment(value: ast.expr) -> str | None:
    """Return the variable that an expression reads from the environment, with no text of its own to fall back on."""
    match value:
        case ast.Subscript(value=owner, slice=ast.Constant(value=str(name))) if ast.unparse(owner) in {
            "os.environ",
            "environ",
        }:
            return name
        case ast.Call(func=function, args=[ast.Constant(value=str(name))], keywords=[]):
            reads = {"os.environ.get", "os.getenv", "environ.get", "getenv"}
            return name if ast.unparse(function) in reads else None
    return None


def _environment_set(node: ast.stmt) -> str | None:
    """Return the variable of the environment that a statement sets."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return _from_environment(node.targets[0])
    return None
