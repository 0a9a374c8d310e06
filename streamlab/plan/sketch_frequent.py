"""The most frequent values in bounded space: the summary of Misra and Gries, all groups at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.plan.sketches import listed, opened

if TYPE_CHECKING:
    from streamlab.plan.sketches import Ints


@dataclass(frozen=True)
class Frequent:
    """The most frequent values and their counts: the mergeable summary of Misra and Gries.

    Counts are exact while a group has at most `capacity` distinct values. With more, the count of the first one too many is taken off all,
    and those that have none left are forgotten: a count is then too low by at most ``rows / (capacity + 1)`` (Agarwal, Cormode, Huang,
    Phillips, Wei and Yi, "Mergeable summaries", 2012), by how much depends on how the rows are cut into parts.

    Held as structs of value and count.
    """

    k: int
    capacity: int

    def held(self, values: pl.DataType) -> pl.DataType:
        return pl.List(pl.Struct({"value": values, "count": pl.Int64}))

    def found(self, held: pl.DataType) -> pl.DataType:
        return held

    def start(self, lists: pl.Series) -> pl.Series:
        values, groups = opened(lists)
        if values.dtype.is_float():
            values = values.set(values.eq_missing(0.0), 0.0)  # -0.0 too, which is equal
        frame = pl.DataFrame([pl.Series("g", groups), values.alias("value")])
        return self._merged(frame.group_by("g", "value").agg(pl.len().cast(pl.Int64).alias("count")), len(lists))

    def join(self, parts: pl.Series, owners: Ints, count: int) -> pl.Series:
        items, of = opened(parts)
        frame = items.struct.unnest().with_columns(pl.Series("g", owners[of]))
        return self._merged(frame.group_by("g", "value").agg(pl.col("count").sum()), count)

    def _merged(self, frame: pl.DataFrame, count: int) -> pl.Series:
        frame = frame.sort("g")
        lengths = np.bincount(frame["g"].to_numpy(), minlength=count)
        if (lengths > self.capacity).any():
            frame = frame.sort("g", "count", descending=[False, True])
            counts, full = frame["count"].to_numpy(), lengths > self.capacity
            less = np.zeros(count, np.int64)
            less[full] = counts[(np.cumsum(lengths) - lengths)[full] + self.capacity]
            frame = frame.with_columns(pl.Series("count", counts - np.repeat(less, lengths))).filter(
                pl.col("count") > 0
            )
            lengths = np.bincount(frame["g"].to_numpy(), minlength=count)
        return listed(frame.select(pl.struct("value", "count")).to_series(), lengths)

    def finish(self, held: pl.Series) -> pl.Series:
        items, of = opened(held)
        frame = items.struct.unnest().with_columns(pl.Series("g", of))
        frame = frame.sort("g", "count", "value", descending=[False, True, False])
        lengths = np.bincount(of, minlength=len(held))
        return listed(frame.select(pl.struct("value", "count")).to_series(), lengths).list.head(self.k)
