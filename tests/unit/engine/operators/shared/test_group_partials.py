from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from streamlab.engine.operators.shared.group_partials import GROUP, GroupPartials
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.expressions import PlanExpr
from streamlab.plan.nodes import Source

SCHEMA = pl.Schema({"k": pl.String, "x": pl.Int64})
X = pl.col("x")


def partials(*aggs: Any) -> Any:
    return GroupPartials(Aggregate(Source("events", SCHEMA, None), ("k",), None, tuple(map(PlanExpr, aggs)), "updates"))


def rows(*values: Any) -> Any:
    return pl.DataFrame({"k": ["k"] * len(values), "x": values}, schema=SCHEMA)


def of(made: Any, groups: Any, sequence: Any, *values: Any) -> Any:
    return made.of(rows(*values), np.array(groups, np.int64), np.array(sequence, np.int64))


def test_a_partial_result_stands_at_the_place_of_its_group() -> None:
    made = partials(X.sum(), pl.len().alias("n"))
    parts = of(made, [2, 0, 1, 0], range(4), 5, 1, 7, 2)
    assert made.values(parts).rows() == [(3, 2), (7, 1), (5, 1)]


@pytest.mark.parametrize("keeps", [(), (X.median().alias("m"),)], ids=["partial results", "kept rows"])
def test_parts_are_put_together_by_order_of_arrival_whatever_order_they_stand_in(keeps: Any) -> None:
    made = partials(X.first().alias("first"), X.last().alias("last"), *keeps)
    later, earlier = of(made, [0, 1], [7, 8], 3, 9), of(made, [0, 1], [1, 2], 5, 6)
    joined = made.join(later, earlier.drop(GROUP).select(made.schema.names())[::-1], np.array([1, 0]))
    assert made.values(joined).select("first", "last").rows() == [(5, 3), (6, 9)]


def test_several_parts_may_belong_to_one_group_and_a_group_to_none() -> None:
    made = partials(X.sum())
    held = of(made, [0, 1], [0, 1], 10, 20).select(made.schema.names())
    assert made.values(made.join(of(made, [0, 1], [2, 3], 1, 2), held, np.array([1, 1]))).rows() == [(1,), (32,)]
    assert made.values(made.join(of(made, [0], [2], 1), held[:0], np.empty(0, np.int64))).rows() == [(1,)]


def test_lists_and_nulls_of_kept_rows_stay_what_they_are() -> None:
    made = partials(X.implode().alias("xs"), X.sum().alias("sum"))
    assert made.values(of(made, [0, 1, 0], [2, 1, 0], None, None, 4)).rows() == [([4, None], 4), ([None], 0)]


def test_an_aggregation_may_read_a_grouping_column() -> None:
    made = partials(pl.col("k").last().alias("name"), pl.col("k").n_unique().alias("n"))
    assert made.by == ("k",)
    parts = of(made, [0, 0], [0, 1], 1, 2).select(*made.schema.names()).with_columns(k=pl.lit("k"))
    assert made.values(parts).rows() == [("k", 1)]


def test_no_rows_make_no_groups() -> None:
    made = partials(X.sum())
    assert made.values(of(made, [], [])).rows() == []
