"""Runs of changed rows as frames by name, which is how an operator hands them to a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.engine.operator import Changes

if TYPE_CHECKING:
    from streamlab.engine.held.keyed_rows import KeyedRows


def named(rows: KeyedRows, prefix: str = "") -> Changes:
    """Return what changed in keyed rows since the last call, their runs named by number behind a prefix."""
    changes = rows.changes()
    return Changes(
        {run(number, prefix): frame for number, frame in changes.put}, [run(n, prefix) for n in changes.dropped]
    )


def run(number: int, prefix: str = "") -> str:
    """Return the name of a run.

    Examples
    --------
    >>> run(7, "rows-")
    'rows-000000000007'
    """
    return f"{prefix}{number:012d}"
