"""A plan as a tree of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Node


def tree(*nodes: Node) -> str:
    """Return nodes and all that feeds them, results first, sources last; what several share is drawn once.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> flights = sl.from_frame(pl.DataFrame({"carrier": ["AA"], "ts": [0]}), event_time="ts", topic="flights")
    >>> print(tree(flights.filter(pl.col("carrier") == "AA").node))
    filter [(col("carrier")) == ("AA")]
    └─ frame 'flights' (frame), event time ts, never idle, errors: raise
    """
    seen: set[int] = set()
    return "\n".join(line for node in nodes for line in _lines(node, seen))


def _lines(node: Node, seen: set[int]) -> Iterator[str]:
    yield node.describe()
    if id(node) in seen and node.inputs:
        yield "└─ (as above)"
        return
    seen.add(id(node))
    if isinstance(node, Stateful):
        yield from (f"   {note}" for note in node.notes())
    for position, part in enumerate(node.inputs, 1):
        last = position == len(node.inputs)
        for number, line in enumerate(_lines(part, seen)):
            branch = ("└─ " if last else "├─ ") if number == 0 else ("   " if last else "│  ")
            yield branch + line
