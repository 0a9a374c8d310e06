from __future__ import annotations

import itertools
import math
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.engine.aggregates import compile_aggregates
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.aggregations import EARLIER, SEQUENCE, keeps_rows
from streamlab.plan.expressions import PlanExpr
from streamlab.plan.nodes import Source
from tests.properties.aggregations import FUNCTIONS

NAN, INF = float("nan"), float("inf")
COLUMNS: dict[str, Any] = {
    "i8": (pl.Int8(), [-128, 127, 0, 5]),
    "u8": (pl.UInt8(), [255, 0, 7]),
    "i32": (pl.Int32(), [2**31 - 1, -(2**31), 3]),
    "u32": (pl.UInt32(), [2**31, 1, 0]),
    "i64": (pl.Int64(), [2**40, -7, 0, 12]),
    "u64": (pl.UInt64(), [2**40, 3]),
    "f64": (pl.Float64(), [0.25, -1.5, 1e6, 3.0]),
    "nan": (pl.Float64(), [0.5, NAN, 2.0]),
    "inf": (pl.Float64(), [0.5, INF, 2.0]),
    "bool": (pl.Boolean(), [True, False]),
    "text": (pl.String(), ["", "a", "é", "b"]),
    "bytes": (pl.Binary(), [b"", b"\xff", b"a"]),
    "date": (pl.Date(), [date(2020, 1, 1), date(1969, 5, 5)]),
    "moment": (pl.Datetime("us", "UTC"), [datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)]),
    "length": (pl.Duration("ms"), [timedelta(0), timedelta(hours=-1), timedelta(1)]),
    "clock": (pl.Time(), [time(1), time(2)]),
    "decimal": (pl.Decimal(18, 2), [Decimal("1.50"), Decimal("-2.25")]),
    "enum": (pl.Enum(["z", "a"]), ["z", "a"]),
    "list": (pl.List(pl.Int64), [[], [1], [2, None]]),
    "struct": (pl.Struct({"a": pl.Int64()}), [{"a": 1}, {"a": None}]),
}
KINDS = [
    *("count", "len", "null_count", "sum", "min", "max", "first", "last", "any", "all", "mean", "var", "std"),
    *("n_unique", "median", "implode"),
]
SCHEMA = pl.Schema({"k": pl.String(), **{name: dtype for name, (dtype, _) in COLUMNS.items()}})


def random_rows(seed: Any, height: Any = 40) -> Any:
    chance = random.Random(seed)  # noqa: S311  # no secret

    def some(values: Any) -> Any:
        return None if chance.random() < 0.25 else chance.choice(values)

    rows = [{"k": some(["a", "b"]), **{n: some(values) for n, (_, values) in COLUMNS.items()}} for _ in range(height)]
    cuts = [chance.randrange(1, height) for _ in range(chance.randrange(8))]
    return pl.DataFrame(rows, schema=SCHEMA), cuts


def possible(column: Any, kind: Any) -> Any:
    """Whether polars has an aggregation for a type at all."""
    try:
        random_rows(0)[0].group_by("k").agg(getattr(pl.col(column), kind)())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False
    return True


PAIRS = [(column, kind) for column in COLUMNS for kind in KINDS if possible(column, kind)]


def step(*exprs: Any) -> Any:
    return Aggregate(Source("events", SCHEMA, None), ("k",), None, tuple(map(PlanExpr, exprs)), "updates")


def shuffled(node: Any, frame: Any, cuts: Any, seed: Any) -> Any:
    """Return what numbered rows make that are cut apart and combined in any order, two by two or several at once."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    aggregates = compile_aggregates(node, ["k"], sequenced=True)
    rows = frame.select("k", *aggregates.columns).with_columns(
        pl.Series(SEQUENCE, range(7, 7 + frame.height), pl.Int64)
    )
    rows = rows.sample(fraction=1.0, shuffle=True, seed=seed)
    bounds = sorted({0, frame.height, *(cut for cut in cuts if cut < frame.height)})
    parts = [aggregates.split(rows[first:last]) for first, last in itertools.pairwise(bounds)]
    while len(parts) > 1:
        chance.shuffle(parts)
        taken = chance.randint(2, len(parts))
        parts = [aggregates.combine(parts[:taken]), *parts[taken:]]
    return aggregates.finish(parts[0])


def in_parts(node: Any, frame: Any, cuts: Any) -> Any:
    """Return what partial results of slices of a frame make when they are combined two by two."""
    aggregates = compile_aggregates(node, ["k"])
    bounds = sorted({0, frame.height, *(cut for cut in cuts if cut < frame.height)})
    parts = [
        aggregates.split(frame.select("k", *aggregates.columns)[first:last])
        for first, last in itertools.pairwise(bounds)
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = aggregates.combine([whole, part])
    return aggregates.finish(whole)


def same(one: Any, other: Any) -> Any:
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or one == other or math.isclose(one, other, rel_tol=1e-9)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def check_like_polars(exprs: Any, frame: Any, cuts: Any) -> None:
    node = step(*exprs)
    wanted = frame.group_by("k").agg(exprs).sort("k")
    check_alike(in_parts(node, frame, cuts).sort("k"), wanted, node)
    check_alike(shuffled(node, frame, cuts, len(cuts)).sort("k"), wanted, node)


def check_alike(found: Any, wanted: Any, node: Any) -> None:
    assert found.schema == wanted.schema == node.schema
    for name in wanted.columns:
        for one, other in zip(found[name].to_list(), wanted[name].to_list(), strict=True):
            assert same(one, other), (name, one, other)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kept", [False, True], ids=["split", "kept"])
def test_parts_put_together_are_what_polars_makes_of_the_whole(seed: Any, kept: Any) -> None:
    frame, cuts = random_rows(seed)
    exprs = [getattr(pl.col(column), kind)().alias(f"{kind}_{column}") for column, kind in PAIRS]
    exprs = exprs if kept else [expr for expr in exprs if not keeps_rows(step(expr))]
    assert bool(keeps_rows(step(*exprs))) == kept
    assert len(exprs) > 100
    check_like_polars(exprs, frame, cuts)


x, y, b, s = (pl.col(name) for name in ("i64", "f64", "bool", "text"))
EXPRESSIONS = {
    "filtered": x.filter(b).sum(),
    "first that passes": x.filter(b).first(),
    "last that is not null": x.drop_nulls().last(),
    "none passes": y.filter(y > 1e9).std(),
    "made first": (x * 2 + y).mean(),
    "worked out after": x.sum() / pl.len(),
    "of two": x.max() - x.min(),
    "when": pl.when(b).then(x).otherwise(0).sum(),
    "of text": s.str.len_chars().max(),
    "joined": s.str.join("+"),
    "in an order of its own": x.sort_by("f64", "u8", "i8", "text").implode(),
    "of several columns": pl.struct("i64", "text").last(),
    "against another column": x.is_in(pl.col("u8").implode()).any(),
    "filled": pl.col("nan").fill_nan(None).mean(),
    "the first two": x.head(2).sum(),
    "shifted": x.shift(1).last(),
    "without nulls": (~b.any(ignore_nulls=False)),
    "share": (x > 0).mean(),
    "length of the list": pl.col("list").list.len().sum(),
    "not a number": pl.lit(NAN) + y.max(),
}


@pytest.mark.parametrize("expr", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_any_aggregating_expression_gives_what_polars_gives(expr: Any) -> None:
    for seed in range(4):
        frame, cuts = random_rows(seed)
        check_like_polars([expr.alias("made")], frame, cuts)


def test_aggregations_of_one_step_that_need_the_rows_do_not_change_the_others() -> None:
    frame, cuts = random_rows(9)
    check_like_polars([expr.alias(name) for name, expr in EXPRESSIONS.items()], frame, cuts)


@pytest.mark.parametrize("seed", range(4))
def test_partial_results_side_by_side_are_put_together_as_those_below_each_other(seed: Any) -> None:
    frame, cuts = random_rows(seed)
    exprs = [getattr(pl.col(column), kind)().alias(f"{kind}_{column}") for column, kind in PAIRS]
    exprs = [expr for expr in exprs if compile_aggregates(step(expr), ["k"]).merge]
    assert len(exprs) > 100
    aggregates = compile_aggregates(step(*exprs), ["k"])
    bounds = sorted({0, frame.height, *(cut for cut in cuts if cut < frame.height)})
    whole = aggregates.split(frame[: bounds[1]])
    for first, last in itertools.pairwise(bounds[1:]):
        part = aggregates.split(frame[first:last])
        below = aggregates.combine([whole, part]).sort("k")
        earlier = whole.rename(lambda name: name if name == "k" else name + EARLIER)
        both = earlier.join(part, on="k", nulls_equal=True)
        beside = both.select("k", *aggregates.merge).sort("k")
        assert beside.height
        wanted = aggregates.finish(below).join(beside.select("k"), on="k", nulls_equal=True, maintain_order="right")
        found = aggregates.finish(beside)
        for name in wanted.columns:
            for one, other in zip(found[name].to_list(), wanted[name].to_list(), strict=True):
                assert same(one, other), (name, one, other)
        whole = below


def test_rows_need_a_number_only_where_an_aggregation_goes_by_arrival() -> None:
    needs = {
        "sum": compile_aggregates(step(x.sum(), y.mean()), ["k"], sequenced=True).sequenced,
        "first": compile_aggregates(step(x.sum(), y.first()), ["k"], sequenced=True).sequenced,
        "last": compile_aggregates(step((x + 1).last()), ["k"], sequenced=True).sequenced,
        "kept": compile_aggregates(step(x.filter(b).last()), ["k"], sequenced=True).sequenced,
        "by place of parts": compile_aggregates(step(x.last()), ["k"]).sequenced,
    }
    assert needs == {"sum": False, "first": True, "last": True, "kept": True, "by place of parts": False}


def test_the_first_row_counts_as_first_also_where_it_is_null() -> None:
    frame = pl.DataFrame({"k": ["a", "a", "a"], "i64": [None, 5, None]}, schema={"k": pl.String, "i64": pl.Int64})
    node = step(x.first().alias("first"), x.last().alias("last"), x.drop_nulls().last().alias("known"))
    assert shuffled(node, frame, [1, 2], 3).rows() == [("a", None, None, 5)]


def test_where_no_column_is_read_rows_are_counted_all_the_same() -> None:
    frame = pl.DataFrame({"k": ["a", "b", "a"]}, schema={"k": pl.String})
    node = Aggregate(Source("events", frame.schema, None), ("k",), None, (PlanExpr(pl.len()),), "updates")
    assert in_parts(node, frame, [1]).sort("k").rows() == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("column", ["i64", "f64", "nan", "text", "i8"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_models_own_aggregations_are_those_of_polars(column: Any, data: Any) -> None:
    dtype, values = COLUMNS[column]
    given_values = data.draw(st.lists(st.none() | st.sampled_from(values), min_size=1, max_size=8))
    series = pl.Series("x", given_values, dtype)
    for kind, function in FUNCTIONS.items():
        if column == "text" and kind in {"sum", "mean", "var", "std", "median"}:
            continue
        made = pl.len() if kind == "len" else getattr(pl.col("x"), kind)()
        assert same(function(series.to_list()), series.to_frame().select(made).item()), (kind, given_values)
