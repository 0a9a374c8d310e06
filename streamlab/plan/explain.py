"""A plan as a tree of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.plan.aggregations import by_arrival, keeps_rows
from streamlab.plan.windows import Aggregate

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
    yield from (f"   {note}" for note in _notes(node))
    for position, part in enumerate(node.inputs, 1):
        last = position == len(node.inputs)
        for number, line in enumerate(_lines(part, seen)):
            branch = ("└─ " if last else "├─ ") if number == 0 else ("   " if last else "│  ")
            yield branch + line


def _notes(node: Node) -> Iterator[str]:
    if not isinstance(node, Aggregate):
        return
    if kept := keeps_rows(node):
        rows = "of an open window" if node.window else "for ever"
        yield f"keeps every row {rows}, because of {', '.join(kept)}: memory and state grow with rows, not keys"
    if not node.key and (ordered := by_arrival(node)):
        yield f"goes by order of arrival: {', '.join(ordered)}; partitions read in another order may give other values (sort_by does not)"
    yield (
        f"one task per partition: rows of one {node.key} share a partition"
        if node.key
        else "one task over all partitions"
    )
