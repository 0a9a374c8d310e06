from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.plan.aggregations import by_arrival, keeps_rows, partial

SCHEMA = pl.Schema(
    {
        "k": pl.String(),
        "x": pl.Int64(),
        "f": pl.Float64(),
        "h": pl.Float32(),
        "s": pl.String(),
        "b": pl.Boolean(),
        "t": pl.Datetime("ms"),
    }
)
x, f, s, b, t = (pl.col(name) for name in "xfsbt")


def kind(expr: Any) -> Any:
    output = pl.LazyFrame(schema=SCHEMA).group_by("k").agg(expr.alias("made")).collect_schema()["made"]
    found = partial(expr, SCHEMA, output, 0)
    return None if found is None else found.kind


KNOWN = {
    "len": [pl.len(), x.len(), s.len(), x.filter(b).len()],
    "count": [x.count(), pl.count("x"), f.filter(f > 0).count()],
    "null_count": [x.null_count()],
    "sum": [
        x.sum(),
        pl.sum("x"),
        (x * 2 + 1).sum(),
        b.sum(),
        x.filter(x > 0).sum(),
        pl.when(b).then(x).otherwise(0).sum(),
    ],
    "min": [x.min(), s.min(), t.min()],
    "max": [f.max(), s.str.len_chars().max(), t.dt.hour().max()],
    "first": [x.first(), s.first(), pl.struct("x", "s").first()],
    "last": [x.last(), (x + 1).last()],
    "any": [b.any(), (x > 1).any()],
    "all": [b.all(), x.is_not_null().all()],
    "mean": [x.mean(), f.mean(), b.mean(), x.drop_nulls().mean()],
    "var": [x.var(), f.var(ddof=0)],
    "std": [x.std(), f.std(ddof=0), f.filter(b).std()],
}


@pytest.mark.parametrize(("name", "expr"), [(name, expr) for name, exprs in KNOWN.items() for expr in exprs])
def test_what_can_be_put_together_from_parts_is_recognised_under_any_name(name: Any, expr: Any) -> None:
    assert kind(expr) == name
    assert kind(expr.alias("other")) == name


@pytest.mark.parametrize(
    "expr",
    [
        x.median(),
        x.quantile(0.9),
        x.n_unique(),
        x.implode(),
        s.str.join(),
        x.max() - x.min(),
        x.sum() / pl.len(),
        x.mean().round(2),
        x.std(ddof=2),
        x.shift(1).sum(),
        x.sort_by("t").first(),
        x.filter(x > 1).first(),
        x.drop_nulls().last(),
        x.filter(x > x.mean()).sum(),
        x.is_in(f.cast(pl.Int64)).any(),
        b.any(ignore_nulls=False),
        b.all(ignore_nulls=False),
        t.mean(),
        pl.corr("x", "f"),
    ],
)  # fmt: skip
def test_what_needs_the_rows_is_left_to_polars(expr: Any) -> None:
    assert kind(expr) is None


def step(*exprs: Any, by: Any = ("k",)) -> Any:
    return sl.Kafka("localhost:9092").stream("events", schema=SCHEMA).group_by(*by).agg(*exprs).node


def test_one_aggregation_that_needs_the_rows_is_named() -> None:
    assert keeps_rows(step(pl.len(), x.sum())) == []
    assert keeps_rows(step(pl.len(), x.median(), s.n_unique().alias("kinds"))) == [
        'col("x").median()',
        'col("s").n_unique().alias("kinds")',
    ]


def test_what_goes_by_arrival_is_named() -> None:
    assert by_arrival(step(pl.len(), x.sum(), f.median())) == []
    assert by_arrival(step(x.last(), s.implode(), f.sort_by("t").last())) == ['col("x").last()', 'col("s").implode()']


def test_a_column_of_parts_is_the_engines_own() -> None:
    found = partial(x.std(), SCHEMA, pl.Float64(), 3)
    assert found is not None
    assert {e.meta.output_name() for e in found.split} == {e.meta.output_name() for e in found.combine}
    assert all(e.meta.output_name().startswith("__sl_3_") for e in found.split)
    assert found.finish.meta.output_name() == "x"


def put_together(expr: Any, output: Any, *parts: Any) -> Any:
    """Return an aggregation of values cut into parts, by way of partial results."""
    found = partial(expr, SCHEMA, output, 0)
    assert found is not None
    name = expr.meta.root_names()[0]
    made = [pl.DataFrame({name: part}, schema={name: SCHEMA[name]}).select(found.split) for part in parts]
    return pl.concat(made).select(found.combine).select(found.finish).to_series()


def test_counts_do_not_wrap_in_32_bits() -> None:
    found = partial(x.count(), SCHEMA, pl.UInt32(), 0)
    assert found is not None
    (name,) = (e.meta.output_name() for e in found.split)
    parts = pl.DataFrame({name: [3_000_000_000, 3_000_000_000]})
    assert parts.select(found.combine).item() == 6_000_000_000


def test_a_spread_of_large_values_close_together_keeps_its_digits() -> None:
    base = 1_700_000_000_000
    made = put_together(x.var(), pl.Float64(), [base, base], [None], [base + 1_000], [base + 1_000, None], [])
    assert made.item() == pytest.approx(1e6 / 3, rel=1e-12)
    made = put_together(f.std(ddof=0), pl.Float64(), [1e15], [1e15 + 1], [1e15 + 2])
    assert made.item() == pytest.approx((2 / 3) ** 0.5, rel=1e-12)


def test_a_sum_of_single_precision_does_not_depend_on_the_cut() -> None:
    values = [0.1, 1e6, -0.3, 7e-3, 12345.678, -1e6, 3.14, 2.71]
    sums = {
        put_together(pl.col("h").sum(), pl.Float32(), values[:n], values[n:]).item() for n in range(len(values) + 1)
    }
    assert len(sums) == 1
    assert put_together(pl.col("h").sum(), pl.Float32(), values).dtype == pl.Float32


NOTHING = [[], [None], [None, None]]


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (x.sum(), 0),
        (x.count(), 0),
        (x.mean(), None),
        (x.var(), None),
        (x.std(ddof=0), None),
        (x.min(), None),
        (x.max(), None),
        (x.first(), None),
    ],
)
def test_parts_without_a_value_make_what_polars_makes_of_nothing(expr: Any, value: Any) -> None:
    output = pl.LazyFrame(schema=SCHEMA).select(expr).collect_schema().dtypes()[0]
    assert put_together(expr, output, *NOTHING[1:]).item() == value
    assert pl.Series("x", [None], pl.Int64).to_frame().select(expr).item() == value


@pytest.mark.parametrize(("ddof", "value"), [(0, 0.0), (1, None)])
def test_the_spread_of_one_value_is_that_of_polars(ddof: Any, value: Any) -> None:
    assert put_together(x.var(ddof=ddof), pl.Float64(), [None], [5], [None]).item() == value
    assert pl.Series([5]).var(ddof=ddof) == value
