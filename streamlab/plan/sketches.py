"""Summaries of bounded size that can be merged: distinct values, quantiles, the most frequent values.

A summary of each group is a list, so that a column of them is a frame's like any other. Each kind makes lists from lists of values, merges
lists of them, and reads a result off them; all groups at once, with no Python call per group.

The first two are functions of the values alone: what order these come in, and how they are cut into parts, changes nothing. The third is
as long as its capacity suffices.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]


class Sketch(Protocol):
    """A kind of summary."""

    def held(self, values: pl.DataType) -> pl.DataType:
        """Return the type of a summary of such values."""
        ...

    def found(self, held: pl.DataType) -> pl.DataType:
        """Return the type of a result, given that of summaries."""
        ...

    def start(self, lists: pl.Series) -> pl.Series:
        """Return a summary of each list of values."""
        ...

    def join(self, parts: pl.Series, owners: Ints, count: int) -> pl.Series:
        """Return the summaries of so many groups, given parts and the group of each; a part may be null, which is nothing."""
        ...

    def finish(self, held: pl.Series) -> pl.Series:
        """Return the result of each summary."""
        ...


def merge(sketch: Sketch, lists: pl.Series) -> pl.Series:
    """Return the summary of each list of summaries.

    Examples
    --------
    >>> from streamlab.plan.sketch_frequent import Frequent
    >>> sketch = Frequent(1, 1000)
    >>> held = sketch.start(pl.Series([["a", "b"], ["b"]]))
    >>> sketch.finish(merge(sketch, pl.Series([held.to_list()], dtype=pl.List(held.dtype)))).to_list()
    [[{'value': 'b', 'count': 2}]]
    """
    return sketch.join(*opened(lists), len(lists))


def merge_pairs(sketch: Sketch, pairs: pl.Series) -> pl.Series:
    """Return the summary of each two, given as the fields of a struct."""
    parts, groups = [pairs.struct.field(name) for name in pairs.struct.fields], np.arange(len(pairs))
    return sketch.join(pl.concat(part.alias("") for part in parts), np.tile(groups, len(parts)), len(pairs))


# --- lists ---


def opened(lists: pl.Series) -> tuple[pl.Series, Ints]:
    """Return the items of lists end to end, and which list each is from."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    items = lists.explode(empty_as_null=False, keep_nulls=False)
    return items, np.repeat(np.arange(len(lists)), lengths)


def listed(items: pl.Series, lengths: Ints) -> pl.Series:
    """Return items that lie end to end as lists of these lengths."""
    groups = pl.Series("g", np.repeat(np.arange(len(lengths)), lengths)).set_sorted()
    lists = pl.DataFrame([groups, items.alias("v")]).group_by("g", maintain_order=True).agg("v")
    if lists.height == len(lengths):
        return lists["v"]
    if not lists.height:
        return pl.Series([[]] * len(lengths), dtype=lists["v"].dtype)
    found = lists["v"].gather(np.maximum(np.cumsum(lengths > 0) - 1, 0))  # an empty one is another's, cut to nothing
    return pl.DataFrame([found, pl.Series("n", lengths)]).select(pl.col("v").list.head("n"))["v"]
