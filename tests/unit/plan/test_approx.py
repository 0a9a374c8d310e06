"""Approximate aggregations as they are written: what they stand for, and where they are refused."""

from __future__ import annotations

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError, UnknownColumnError, UnsafeExpressionError
from streamlab.plan.aggregations import partial
from streamlab.plan.approx import stands_for

ROWS = pl.DataFrame(
    {
        "k": ["a", "b", None] * 100,
        "x": range(300),
        "f": [n / 7 for n in range(300)],
        "s": [f"u{n % 5}" if n % 11 else None for n in range(300)],
        "d": [n * 1000 for n in range(300)],
        "ts": [n * 1000 for n in range(300)],
    },
    schema_overrides={"d": pl.Duration("ms")},
)


def events():
    return sl.from_frame(ROWS, event_time="ts", topic="events")


AGGS = [
    sl.approx_n_unique("s").alias("n"),
    sl.approx_quantile("x", 0.5).alias("q"),
    sl.approx_quantile("d", 0.5).alias("d"),
    sl.top_k("s", 2).alias("top"),
]


@pytest.mark.parametrize(
    "window", [None, sl.tumbling("1m"), sl.hopping("2m", every="1m"), sl.session("40s"), sl.sliding("30s")]
)
@pytest.mark.parametrize("emit", ["final", "updates"])
def test_they_can_be_used_in_every_kind_of_group(window, emit) -> None:
    groups = events().group_by("k")
    made = groups.agg(*AGGS) if window is None else groups.window(window, emit=emit).agg(*AGGS)
    assert "keeps every row" not in made.explain()
    found = made.collect()
    assert found.schema == made.schema
    exact = events().group_by("k") if window is None else events().group_by("k").window(window, emit=emit)
    wanted = exact.agg(
        n=pl.col("s").n_unique(),
        q=pl.col("x").quantile(0.5, "lower"),
        d=pl.col("d").dt.total_milliseconds().quantile(0.5, "lower"),
        top=pl.col("s").implode(),
    ).collect()
    by = [name for name in ("window_start", "k") if name in found.columns]
    found, wanted = found.sort(by), wanted.sort(by)
    assert found["n"].to_list() == wanted["n"].to_list()
    assert ((found["q"] - wanted["q"]).abs() <= 0.01 * wanted["q"] + 1e-9).all()
    assert ((found["d"].dt.total_milliseconds() - wanted["d"]).abs() <= 0.01 * wanted["d"] + 1).all()
    for top, values in zip(found["top"].to_list(), wanted["top"].to_list(), strict=True):
        counts = sorted(
            ((value, values.count(value)) for value in set(values)), key=lambda v: (-v[1], v[0] is not None, v[0])
        )
        assert [(item["value"], item["count"]) for item in top] == counts[:2]


def test_beside_an_aggregation_that_keeps_rows_they_give_the_same() -> None:
    alone = events().group_by("k").agg(*AGGS).collect().sort("k")
    beside = events().group_by("k").agg(*AGGS, pl.col("x").median().alias("m"))
    assert 'because of col("x").median()' in beside.explain()
    assert beside.collect().sort("k").drop("m").equals(alone)


def test_they_take_what_a_filter_leaves_and_groups_of_which_it_leaves_nothing() -> None:
    few = pl.col("s").filter(pl.col("x") < 2)
    found = (
        events()
        .group_by("k")
        .agg(
            n=sl.approx_n_unique(few),
            q=sl.approx_quantile(pl.col("x").filter(pl.col("x") < 2), 1.0),
            top=sl.top_k(few, 3),
        )
    )
    assert found.collect().sort("k").rows() == [
        (None, 0, None, []),
        ("a", 1, 0.0, [{"value": None, "count": 1}]),
        ("b", 1, pytest.approx(1, rel=0.011), [{"value": "u1", "count": 1}]),
    ]


def test_selectors_stand_for_a_column_each() -> None:
    found = events().group_by("k").agg(sl.approx_n_unique(pl.col("x", "s"))).collect().sort("k")
    assert found.columns == ["k", "x", "s"]
    assert found.rows()[1] == ("a", 100, 6)


def test_values_of_any_type_can_be_counted() -> None:
    whole = pl.struct("s", pl.col("x") % 2)
    found = events().group_by().agg(n=sl.approx_n_unique(whole), exact=whole.n_unique()).collect()
    assert found["n"][0] == found["exact"][0]


def test_explain_says_what_is_meant_and_how_exact_it_is() -> None:
    shown = events().group_by("k").agg(*AGGS, sl.approx_n_unique(pl.col("s") + "!")).explain()
    for text in (
        'approx_n_unique(col("s"), error=0.02).alias("n")',
        'approx_quantile(col("x"), q=0.5, error=0.01).alias("q")',
        'top_k(col("s"), k=2, error=0.001): exact up to 1,000 distinct values in a group',
        'approx_n_unique([(col("s")) + ("!")], error=0.02)',
    ):
        assert text in shown
    assert "order of arrival" not in shown


def test_every_argument_is_part_of_the_fingerprint() -> None:
    made = [
        sl.approx_n_unique("x"),
        sl.approx_n_unique("x", 0.01),
        sl.approx_n_unique("f"),
        sl.approx_quantile("x", 0.5),
        sl.approx_quantile("x", 0.25),
        sl.approx_quantile("x", 0.5, 0.02),
        sl.top_k("x", 2),
        sl.top_k("x", 3),
        sl.top_k("x", 2, 0.01),
        pl.col("x").n_unique(),
    ]
    marks = {sl.Pipeline([events().group_by("k").agg(e.alias("v")).sink_table("t")]).fingerprint for e in made}
    assert len(marks) == len(made)


def test_an_expression_that_only_looks_like_one_is_none() -> None:
    mark = 'streamlab: ["approx_n_unique", {"error": 0.02}]'
    assert stands_for(pl.when(pl.lit(mark).is_not_null()).then(pl.col("x").sum())) is None
    assert stands_for(pl.when(pl.col("x") > 1).then(pl.lit(mark)).otherwise(None)) is None
    assert stands_for(pl.lit(mark)) is None


def test_partial_results_need_values_that_stand_alone() -> None:
    schema = pl.Schema({"x": pl.Int64})
    assert partial(sl.approx_n_unique(pl.col("x") * 2), schema, pl.UInt32(), 0).kind == "approx_n_unique"
    assert partial(sl.approx_n_unique(pl.col("x") - pl.col("x").mean()), schema, pl.UInt32(), 0) is None


REFUSED = {
    "part of another expression": (lambda: sl.approx_n_unique("x") * 2, "cannot be a part of another expression"),
    "one in another": (lambda: sl.approx_n_unique(sl.top_k("x", 2)), "cannot be a part of another expression"),
    "a quantile of text": (lambda: sl.approx_quantile("s", 0.5), r"the values are String; they must be numbers or dur"),
    "a quantile of times": (
        lambda: sl.approx_quantile(pl.col("x").cast(pl.Datetime("ms")), 0.5),
        r"the values are Datetime\(.*\); they must be numbers or durations",
    ),
    "frequent structs": (lambda: sl.top_k(pl.struct("x"), 2), r"the values are Struct\(.*must be text, numbers"),
    "an error too small": (lambda: sl.approx_n_unique("x", 0.0001), "error=0.0001; it must be a number from 0.002 to"),
    "an error that is text": (lambda: sl.approx_quantile("x", 0.5, "1%"), "error='1%'; it must be a number"),
    "a share in percent": (lambda: sl.approx_quantile("x", 99), "q=99; it must be a number from 0 to 1"),
    "no values wanted": (lambda: sl.top_k("x", 0), "k=0; it must be a whole number, 1 or more"),
    "half a value wanted": (lambda: sl.top_k("x", 2.5), "k=2.5; it must be a whole number"),
    "no column": (lambda: sl.top_k(3, 2), "3 is no column; write its name, or an expression"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_when_it_is_written(what) -> None:
    write, message = REFUSED[what]
    with pytest.raises(PlanError, match=message):
        events().group_by("k").agg(write())


def test_an_unknown_column_is_named_with_its_near_miss() -> None:
    with pytest.raises(UnknownColumnError, match=r"no column 'xs'.*Did you mean"):
        events().group_by("k").agg(sl.approx_n_unique("xs"))


def test_over_a_table_they_are_worked_out_from_its_rows() -> None:
    newest = events().group_by("x").agg(s=pl.col("s").last(), d=pl.col("d").last(), name="newest")
    found = newest.group_by(k=pl.col("x") % 3).agg(
        n=sl.approx_n_unique("s"), top=sl.top_k("s", 1), q=sl.approx_quantile("x", 1.0)
    )
    rows = found.collect().sort("k")
    assert rows["n"].to_list() == [6, 6, 6]
    assert [abs(q - most) < 0.0101 * most for q, most in zip(rows["q"], (297, 298, 299), strict=True)] == [True] * 3
    assert [len(top) for top in rows["top"].to_list()] == [1, 1, 1]
    with pytest.raises(PlanError, match="cannot be a part of another expression"):
        newest.group_by("s").agg(sl.approx_n_unique("x") * 2)


def test_they_aggregate_and_so_are_refused_row_by_row() -> None:
    with pytest.raises(UnsafeExpressionError, match="needs more than one row"):
        events().with_columns(n=sl.approx_n_unique("x"))
