"""A bounded look at a stream, in memory: no group, no commits, no threads left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from streamlab.connect.cluster import Cluster
from streamlab.errors import PlanError
from streamlab.plan.pipeline import Plan
from streamlab.plan.schema import RESERVED
from streamlab.plan.sinks import Sink
from streamlab.runtime import resources
from streamlab.runtime.alignment import Aligned
from streamlab.runtime.decoding import Decoder
from streamlab.runtime.pump import Pump
from streamlab.runtime.tasks import Task, wall_clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamlab.engine.lower import Result
    from streamlab.plan.nodes import Node

_DELETED = f"{RESERVED}deleted"
_NEWEST = 10_000
"""Records that a preview looks at when not told how far back to go."""


def collect(node: Node, until: str = "latest") -> pl.DataFrame:
    """Return all results over the records there are now; every window closes at the end."""
    if until != "latest":
        raise PlanError(f'collect: until={until!r}; valid is "latest": what the topics hold now.')
    return _table(node, _together(node, list(_results(node, None))))


def preview(node: Node, n: int, back: int | None) -> pl.DataFrame:
    """Return the first results over the newest records: `back` milliseconds of them, or the newest ten thousand."""
    parts, rows = [], 0
    for part in _results(node, back if back is not None else -_NEWEST):
        parts.append(part)
        rows += part.height
        if rows >= n and not node.is_table:
            break
    return _table(node, _together(node, parts)).head(n)


def _together(node: Node, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Put results together; only some parts of a table have a column that marks deletions."""
    whole = pl.concat(parts, how="diagonal") if parts else pl.DataFrame(schema=node.schema)
    return whole.with_columns(pl.col(_DELETED).fill_null(value=False)) if _DELETED in whole.columns else whole


def _table(node: Node, rows: pl.DataFrame) -> pl.DataFrame:
    """Leave the last row of every key of a table, but for keys that are deleted."""
    keys = node.keys if node.is_table else ()
    last = rows.unique(keys, keep="last", maintain_order=True) if keys else rows
    return last.filter(~pl.col(_DELETED)).drop(_DELETED) if _DELETED in last.columns else last


def _results(node: Node, back: int | None) -> Iterator[pl.DataFrame]:
    """Yield results; `back`: milliseconds before the newest record, or, negative, a number of records; None: all."""
    plan = Plan((Sink(node, "memory", "results"),))
    task = Task(plan, None)
    decoder = Decoder(task.graph.sources)
    decoder.keep_raw = task.graph.restamps
    pump = Pump(resources.feed_opener(plan, None), decoder, "look")
    pump.open()
    try:
        bounds = pump.call(lambda feed: feed.bounds())
        starts = {name: _starts(plan, name, bounds[name], back) for name in bounds}
        until = {name: {p: high for p, (_, high) in at.items()} for name, at in bounds.items()}
        task.assign(bounds, starts)
        loading = task.to_load()
        pump.call(lambda feed: resources.begin(feed, starts, until, loading))
        pump.flow()
        finished, aligned = False, Aligned(plan, task, pump)
        while not finished:
            arrivals = pump.get(1.0)
            if arrivals is not None:
                yield from _rows(task.process(arrivals))
                aligned.look(arrivals.at)
                finished = arrivals.finished
        yield from _rows(task.close())
    finally:
        pump.close()


def _rows(result: Result) -> Iterator[pl.DataFrame]:
    for rows in result.sinks.values():
        if rows.deleted is not None:
            yield rows.data.with_columns(pl.Series(_DELETED, rows.deleted))
        else:
            yield rows.data


def _starts(plan: Plan, name: str, bounds: Mapping[int, tuple[int, int]], back: int | None) -> dict[int, int]:
    source = next(s for s in plan.sources if s.topic == name)
    if back is None or source.is_table:  # a look at a stream needs all of the tables beside it
        return resources.first_offsets(source, bounds, wall_clock())
    if back < 0:
        each = -back // max(1, len(bounds))
        return {p: max(low, high - each) for p, (low, high) in bounds.items()}
    if not isinstance(source.origin, Cluster):
        raise PlanError("preview: last= goes by record timestamps, which a replay has none of; leave it out.")
    newest = source.origin.newest(name)
    if newest is None:
        return {p: high for p, (_, high) in bounds.items()}
    found = source.origin.offsets_for_time(name, newest - back)
    return {p: found.get(p, high) for p, (_, high) in bounds.items()}
