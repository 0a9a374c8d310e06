"""What can be asked of a table's groups, and what is refused where it is written."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError
from streamlab.plan.measures import measures

SCHEMA = {"k": pl.String, "g": pl.String, "x": pl.Int64}


def rows() -> Any:
    return sl.Kafka("x:1").table("rows", key="k", schema=SCHEMA)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda t: t.group_by("h").agg(pl.len()), "no column 'h'"),
        (lambda t: t.group_by("g").agg(pl.col("y").sum()), "no column 'y'"),
        (lambda t: t.group_by("g").agg(pl.col("x") * 2), "gives a value per row"),
        (lambda t: t.group_by(pl.col("x") - pl.col("x").mean()).agg(pl.len()), "group_by: .* needs more than one row"),
        (lambda t: t.group_by("g").window(sl.tumbling("1h")), "window: a table holds rows as they are now"),
        (lambda t: t.group_by("g").agg(pl.len(), name="a/b"), "cannot be a name"),
    ],
)
def test_what_cannot_be_is_refused(write: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        write(rows())


def test_groups_are_the_key_of_the_result() -> None:
    made = rows().group_by("g", half=pl.col("x") // 2).agg(n=pl.len())
    assert made.node.keys == made.node.record_key == ("g", "half")
    assert made.schema == {"g": pl.String, "half": pl.Int64, "n": pl.get_index_type()}
    assert (made.node.is_table, made.node.retracts) == (True, False)


def test_its_name_says_what_groups_and_its_identity_what_it_does() -> None:
    one, other = (rows().group_by("g").agg(n).node for n in (pl.len(), pl.col("x").sum()))
    assert one.name == other.name == "table-group-by-g"
    assert one.identity() != other.identity()
    assert one.identity() == rows().group_by("g").agg(pl.len()).node.identity()


@pytest.mark.parametrize(
    ("expr", "known"),
    [
        (pl.len(), True),
        (pl.col("x").len(), True),
        (pl.col("g").count(), True),
        (pl.col("x").null_count(), True),
        ((pl.col("x") * 2).sum(), True),
        ((pl.col("x") > 1).sum(), True),
        (pl.col("x").cast(pl.UInt8).mean(), True),
        (pl.col("x").std(0), True),
        (pl.col("x").var(2), True),
        (pl.col("x").cast(pl.UInt64).sum(), False),
        (pl.col("x").cast(pl.Decimal(20, 2)).sum(), False),
        (pl.col("x").max(), False),
        (pl.col("x").filter(pl.col("x") > 1).sum(), False),
        (pl.col("x").sum() + 1, False),
        (pl.col("x").n_unique(), False),
        (pl.col("x").first(), False),
    ],
)
def test_only_what_rows_can_be_taken_out_of_is_kept_as_sums(expr: pl.Expr, known: bool) -> None:
    outputs = pl.LazyFrame(schema=SCHEMA).select(expr.alias("y")).collect_schema()
    assert (measures([expr.alias("y")], pl.Schema(SCHEMA), outputs) is not None) is known


def test_aggregations_share_what_they_are_made_of() -> None:
    exprs = [e.alias(n) for n, e in {"a": pl.col("x").mean(), "b": pl.col("x").std(), "c": pl.col("x").count()}.items()]
    outputs = pl.Schema({"a": pl.Float64(), "b": pl.Float64(), "c": pl.UInt32()})
    found = measures(exprs, pl.Schema(SCHEMA), outputs)
    assert found is not None
    assert (len(found.exprs), found.squared) == (2, {0})
