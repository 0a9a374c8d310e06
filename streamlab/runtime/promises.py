"""What `key=` promises of a topic, held against a sample of it: rows that are equal in the column share a partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from streamlab.connect.cluster import Cluster
from streamlab.errors import RunError
from streamlab.plan.nodes import Source
from streamlab.plan.stateful import Stateful
from streamlab.runtime.decoding import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Node
    from streamlab.plan.pipeline import Plan

SAMPLE = 1_000
"""Newest records of a topic that are looked at."""


def check(plan: Plan) -> None:
    """Look at samples of the topics whose partitions are tasks of their own.

    Raises
    ------
    RunError
        If a value of a promised column is in two partitions.
    """
    relied = {
        source.topic: source
        for node in plan.nodes()
        if isinstance(node, Stateful) and node.laned
        for source in _sources(node)
    }
    for source in relied.values():
        if source.key is None or not isinstance(source.origin, Cluster):
            continue
        sample = source.origin.peek(source.topic, SAMPLE).filter(pl.col("value").is_not_null())
        decoded = FORMATS[source.format].decode([value.encode() for value in sample["value"]], source.columns)
        places = sample["partition"] if decoded.kept is None else sample["partition"][decoded.kept]
        if (found := broken(source, decoded.rows, places)) is not None:
            raise RunError(found)


def broken(source: Source, rows: pl.DataFrame, partitions: pl.Series) -> str | None:
    """Return what is wrong where a value of the promised column is in two partitions.

    Examples
    --------
    >>> flights = Source("flights", pl.Schema({"carrier": pl.String()}), None, promised_key="carrier")
    >>> print(broken(flights, pl.DataFrame({"carrier": ["AA", "UA", "AA"]}), pl.Series([0, 1, 1])))
    topic 'flights': key='carrier': 'AA' is in partitions [0, 1], so what goes by it would come out in parts; send records keyed by it, \
or leave key= out
    """
    key = source.key or ""
    placed = rows.select(pl.col(key).alias("key")).with_columns(partitions.alias("partition"))
    if source.is_table:  # a null is looked up in the record key
        placed = placed.drop_nulls("key")
    spread = placed.group_by("key").agg(pl.col("partition").unique().sort()).filter(pl.col("partition").list.len() > 1)
    if spread.is_empty():
        return None
    value, places = spread.sort("key").row(0)
    otherwise = "" if source.is_table else ", or leave key= out"
    return (
        f"topic {source.topic!r}: key={key!r}: {value!r} is in partitions {places}, so what goes by it would come out in parts; "
        f"send records keyed by it{otherwise}"
    )


def _sources(node: Node) -> Iterator[Source]:
    if isinstance(node, Source):
        yield node
    for part in node.inputs:
        yield from _sources(part)
