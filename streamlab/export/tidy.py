"""A script as a formatter leaves it: by ruff where there is one, else with sorted imports and as it was written."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SECONDS = 30


def tidy(text: str, path: Path) -> str:
    """Return a script formatted and its imports sorted; what a linter minds in the notebook's own statements is marked as meant.

    Parameters
    ----------
    text
        The script.
    path
        Where it will stand: which modules are its neighbours depends on that.
    """
    command = _ruff()
    if command is None:
        return text
    name = ["--isolated", "--stdin-filename", str(path), "-"]
    text = _run([*command, "check", "--select", "I", "--fix", "--quiet", "--exit-zero", *name], text)
    text = _run([*command, "format", "--quiet", *name], text)
    found = _run([*command, "check", "--output-format", "json", "--quiet", "--exit-zero", *name], text)
    marked = _marked(text, json.loads(found or "[]"))
    return text if marked == text else _run([*command, "format", "--quiet", *name], marked)


def _ruff() -> list[str] | None:
    if importlib.util.find_spec("ruff") is not None:
        return [sys.executable, "-m", "ruff"]
    found = shutil.which("ruff")
    return None if found is None else [found]


def _run(command: list[str], text: str) -> str:
    """Return what a formatter makes of a text, or the text if it fails: a script that is not pretty works as well."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603  # ruff
    except (OSError, subprocess.SubprocessError):
        return "" if "json" in command else text
    return done.stdout


def _marked(text: str, found: list[dict[str, object]]) -> str:
    lines = text.split("\n")
    codes: dict[int, set[str]] = {}
    for one in found:
        if isinstance(row := one.get("noqa_row"), int) and one.get("code"):
            codes.setdefault(row, set()).add(str(one["code"]))
    for row, own in codes.items():
        lines[row - 1] += f"  # noqa: {', '.join(sorted(own))}"
    return "\n".join(lines)


def sorted_imports(nodes: list[ast.stmt]) -> str:
    """Return import statements as isort orders them: the standard library, others, neighbours; modules before names from modules.

    Examples
    --------
    >>> print(sorted_imports(ast.parse("from json import loads, dumps; import polars as pl; import ast; import polars as pl").body))
    import ast
    from json import dumps, loads
    <BLANKLINE>
    import polars as pl
    """
    plain = {(alias.name, alias.asname) for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    members: dict[str, set[tuple[str, str | None]]] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            members.setdefault(module, set()).update((alias.name, alias.asname) for alias in node.names)
    sections: dict[int, list[str]] = {}
    for name, alias in sorted(plain, key=lambda one: _natural(one[0])):
        sections.setdefault(_section(name), []).append(f"import {_as(name, alias)}")
    for module in sorted(members, key=_natural):
        names = sorted(members[module], key=lambda one: (_kind(one[0]), _natural(one[0])))
        sections.setdefault(_section(module), []).append(_from(module, [_as(*name) for name in names]))
    return "\n\n".join("\n".join(sections[key]) for key in sorted(sections))


def _from(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    return line if len(line) <= 88 else f"from {module} import (\n    {f',{chr(10)}    '.join(names)},\n)"  # noqa: PLR2004  # ruff's width


def _as(name: str, alias: str | None) -> str:
    return name if alias is None or alias == name else f"{name} as {alias}"


def _section(module: str) -> int:
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return 0
    return 2 if module.startswith(".") or Path(f"{top}.py").exists() or Path(top, "__init__.py").exists() else 1


def _kind(name: str) -> int:
    """Constants, then classes, then the rest."""
    return 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2


def _natural(name: str) -> tuple[object, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower()))
