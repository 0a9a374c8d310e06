from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from streamlab.errors import PlanError, UnsafeExpressionError
from streamlab.plan.expressions import (
    PlanExpr,
    check_row_safe,
    expand,
    goes_by_place,
    is_aggregating,
    parse,
    rows_stand_alone,
)

SCHEMA = pl.Schema(
    {
        "x": pl.Int64(),
        "y": pl.Int64(),
        "f": pl.Float64(),
        "s": pl.String(),
        "t": pl.Datetime("ms"),
        "b": pl.Boolean(),
        "l": pl.List(pl.Int64),
        "st": pl.Struct({"a": pl.Int64(), "c": pl.Float64()}),
    }
)
ROWS = pl.DataFrame(
    {
        "x": [3, 1, None, 2],
        "y": [1, 2, 3, None],
        "f": [0.5, float("nan"), None, -1.0],
        "s": ["1a", None, "", "b,c"],
        "t": [datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)],
        "b": [True, False, None, True],
        "l": [[1, 3], [], None, [2]],
        "st": [{"a": 1, "c": 0.5}, None, {"a": None, "c": None}, {"a": 2, "c": 1.5}],
    },
    schema={**SCHEMA, "t": pl.Datetime("ms", "UTC")},
).with_columns(pl.col("t").dt.replace_time_zone(None))
x, y, f, s, t = (pl.col(name) for name in "xyfst")
NAN, INF = float("nan"), float("inf")

SAFE = {
    "a column": x,
    "arithmetic": (x + y) * 2 / 3 - 1,
    "a literal": pl.lit(5),
    "null": pl.lit(None),
    "not a number": pl.when(x == 1).then(NAN).otherwise(f),
    "infinity": f < INF,
    "both infinities": f.is_between(-INF, INF),
    "filled with not a number": f.fill_null(NAN),
    "a large integer": pl.lit(2**64) > x,
    "a date": t.dt.date() == date(2020, 1, 1),
    "a time": t < datetime(2020, 1, 2),  # noqa: DTZ001  # as the column: without a zone
    "a length of time": t + timedelta(hours=1),
    "bytes": s.cast(pl.Binary) == b"\xff\x00",
    "one of a list": x.is_in([1, 2]),
    "one of the row's own list": x.is_in(pl.col("l")),
    "replaced by a mapping": x.replace({1: 10}),
    "replaced, else another column": x.replace_strict({1: 10}, default=y),
    "when": pl.when(x > 1).then(s).otherwise(pl.lit("no")),
    "coalesced": pl.coalesce("x", "y", pl.lit(0)),
    "filled by another column": x.fill_null(y),
    "filled with zero": x.fill_null(strategy="zero"),
    "text": s.str.to_uppercase() + pl.lit("!"),
    "split": s.str.split(","),
    "extracted": s.str.extract(r"(\d)"),
    "concatenated across": pl.concat_str("s", pl.lit("-"), "s", ignore_nulls=True),
    "formatted": pl.format("{}:{}", x, s),
    "cut to the hour": t.dt.truncate("1h"),
    "rounded": f.round(1),
    "cast": x.cast(pl.String),
    "clipped by another column": x.clip(0, y),
    "hashed": s.hash(),
    "sum of a row's list": pl.col("l").list.sum(),
    "each item of a row's list": pl.col("l").list.eval(pl.element() * 2),
    "items ranked within a row's list": pl.col("l").list.eval(pl.element().rank()),
    "a row's list aggregated": pl.col("l").list.agg(pl.element().sum()),
    "items of a row's list that pass": pl.col("l").list.filter(pl.element() > 1),
    "a struct": pl.struct("x", "s"),
    "a field": pl.col("st").struct.field("a"),
    "all fields": pl.col("st").struct.unnest(),
    "fields by pattern": pl.col("st").struct.field("^a$"),
    "across columns": pl.max_horizontal("x", "y", pl.lit(2)),
    "all true": pl.all_horizontal(x > 0, y > 0),
    "a selector": pl.selectors.numeric() * 2,
    "columns by pattern": pl.col("^[xy]$") + 1,
    "columns by type": pl.col(pl.Int64) - 1,
}
UNSAFE = {
    "mean": x - x.mean(),
    "count": pl.len(),
    "sum inside when": pl.when(x > 0).then(y.sum()).otherwise(0),
    "shift": x.shift(1),
    "running sum": x.cum_sum(),
    "running evaluation": x.cumulative_eval(pl.element().sum()),
    "difference": x.diff(),
    "rolling": f.rolling_mean(2),
    "rank": x.rank(),
    "over": x.sum().over("s"),
    "filled from the row before": x.forward_fill(),
    "filled with the mean": x.fill_null(strategy="mean"),
    "interpolated": f.interpolate(),
    "first of its kind": x.is_first_distinct(),
    "duplicated": x.is_duplicated(),
    "shuffled": x.shuffle(),
    "sampled": x.sample(2),
    "row numbers": pl.int_range(pl.len()),
    "one of another column": x.is_in(y),
    "one of all of another column": x.is_in(y.implode()),
    "replaced by columns": x.replace(y, x),
    "replaced strictly by columns": x.replace_strict(y, x, default=None),
    "a series": x + pl.Series([1, 2, 3, 4]),
    "sorted": x.sort(),
    "reversed": x.reverse(),
    "by row number": x.gather([0]),
}
OTHER_LENGTH = {
    "exploded": pl.col("l").explode(),
    "without nulls": x.drop_nulls(),
    "filtered": x.filter(x > 1),
    "distinct": x.unique(),
    "first two": x.head(2),
}


@pytest.mark.parametrize("expr", SAFE.values(), ids=SAFE)
def test_what_is_accepted_gives_each_row_the_same_value_alone_and_among_others(expr: Any) -> None:
    check_row_safe("select", expr, SCHEMA)
    together = ROWS.with_columns(expr)
    alone = pl.concat([ROWS[row : row + 1].with_columns(expr) for row in range(ROWS.height)])
    assert together.equals(alone)


@pytest.mark.parametrize("expr", UNSAFE.values(), ids=UNSAFE)
def test_what_looks_at_other_rows_is_refused_with_the_valid_form(expr: Any) -> None:
    with pytest.raises(UnsafeExpressionError, match=r"select: .* needs more than one row.*(Use|Aggregate|Give|Polars)"):
        check_row_safe("select", expr, SCHEMA)


@pytest.mark.parametrize("expr", OTHER_LENGTH.values(), ids=OTHER_LENGTH)
def test_what_changes_the_number_of_rows_is_refused(expr: Any) -> None:
    with pytest.raises(UnsafeExpressionError, match=r"^select: "):
        check_row_safe("select", expr, SCHEMA)


@pytest.mark.parametrize(
    "expr",
    [
        x.map_elements(lambda value: value, return_dtype=pl.Int64),
        x.map_batches(lambda values: values),
        pl.col("x").sum() + x.map_batches(len),
    ],
)
def test_a_python_function_is_refused_and_map_batches_named(expr: Any) -> None:
    with pytest.raises(UnsafeExpressionError, match=r"a Python function inside .* Write \.map_batches\(fn, schema="):
        check_row_safe("filter", expr, SCHEMA)
    with pytest.raises(UnsafeExpressionError, match="Python function"):
        hash(PlanExpr(expr))


def test_an_expression_that_polars_cannot_judge_without_data_is_refused_in_plain_words() -> None:
    with pytest.raises(UnsafeExpressionError, match="Polars cannot tell without data"):
        check_row_safe("select", x.reinterpret(signed=False), SCHEMA)


def test_the_part_that_is_not_safe_is_named_not_the_whole() -> None:
    with pytest.raises(UnsafeExpressionError, match=r'filter: col\("x"\)\.mean\(\) needs'):
        check_row_safe("filter", (x > x.mean()) & (s == "a"), SCHEMA)


DIFFERENT = [
    f.round(2),
    f.round(0),
    f < INF,
    f < -INF,
    f < NAN,
    f < 1.0,
    f < 1,
    f > 1,
    x > 1,
    x.alias("y"),
    x.is_in([1, 2]),
    x.is_in([1, 3]),
    pl.lit("a"),
    pl.lit(b"a"),
    pl.lit(None),
    pl.lit(1),
    pl.lit(1, dtype=pl.Int8),
    x.std(),
    x.std(ddof=0),
    pl.lit(date(2020, 1, 1)),
    pl.lit(date(2020, 1, 2)),
]


def test_expressions_are_equal_only_when_they_do_the_same() -> None:
    made = [PlanExpr(expr) for expr in DIFFERENT]
    assert len(set(made)) == len(DIFFERENT)
    assert len({expr.canonical for expr in made}) == len(DIFFERENT)
    assert PlanExpr(f.round(2)) == PlanExpr(pl.col("f").round(2))
    assert PlanExpr(f < NAN) == PlanExpr(f < NAN)
    assert hash(PlanExpr(f < INF)) == hash(PlanExpr(f < INF))
    assert PlanExpr(x) != "x"


def test_expressions_print_on_one_line() -> None:
    shown = str(PlanExpr(pl.when(x > 1).then(s).otherwise(pl.lit("no"))))
    assert "\n" not in shown
    assert "  " not in shown


def test_names_are_columns_values_are_literals_and_lists_are_taken_apart() -> None:
    made = parse(["x", [y, "s"], 3, None, True, date(2020, 1, 1)], {"z": "x", "one": 1}, step="select")
    wanted = [pl.col("x"), y, s, pl.lit(3), pl.lit(None), pl.lit(True), pl.lit(date(2020, 1, 1))]  # noqa: FBT003  # a value
    wanted += [pl.col("x").alias("z"), pl.lit(1).alias("one")]
    assert [PlanExpr(expr) for expr in made] == [PlanExpr(expr) for expr in wanted]


def test_a_when_left_open_gives_null_otherwise() -> None:
    (made,) = parse([], {"z": pl.when(x > 1).then(1)}, step="select")
    assert ROWS.select(made)["z"].to_list() == [1, None, None, 1]


def test_nothing_and_what_is_no_expression_are_refused() -> None:
    with pytest.raises(PlanError, match="select: no expression given"):
        parse([], {}, step="select")
    with pytest.raises(PlanError, match=r"filter: <object object .* is no expression"):
        parse([object()], {}, step="filter")


@pytest.mark.parametrize(
    ("expr", "made"),
    [
        (pl.col("x", "y").sum(), [x.sum(), y.sum()]),
        (pl.col("^[xy]$").max(), [x.max(), y.max()]),
        (pl.selectors.float().mean().name.suffix("_mean"), [f.mean().name.suffix("_mean")]),
        (pl.col(pl.String).first(), [s.first()]),
        (x.sum(), [x.sum()]),
        (
            pl.col("st").struct.unnest().sum(),
            [pl.col("st").struct.field("a").sum(), pl.col("st").struct.field("c").sum()],
        ),
    ],
)
def test_an_expression_of_several_columns_is_expanded_to_one_each(expr: Any, made: Any) -> None:
    found = expand([expr], SCHEMA)
    assert [e.meta.output_name() for e in found] == [e.meta.output_name() for e in made]
    assert ROWS.select(found).equals(ROWS.select(made))
    assert ROWS.select(found).equals(ROWS.select(expr))


def test_expanding_keeps_values_that_json_has_not() -> None:
    (made,) = expand([pl.selectors.float().fill_null(NAN).last()], SCHEMA)
    assert ROWS.head(3).select(made.is_nan()).item()


@pytest.mark.parametrize(
    "expr",
    [
        x.sum(),
        pl.len(),
        x.max() - x.min(),
        x.sum() / pl.len(),
        x.implode(),
        x.sort_by("y").first(),
        (x > 1).any(),
        x.get(0),
    ],
)
def test_an_aggregation_makes_one_value_of_a_group(expr: Any) -> None:
    assert is_aggregating(expr, SCHEMA)


@pytest.mark.parametrize(
    "expr", [x, x * 2, x - x.mean(), x.unique(), x.head(2), pl.lit(1), pl.lit(None), x.filter(x > 1), x.upper_bound()]
)
def test_what_makes_a_value_a_row_or_none_at_all_is_no_aggregation(expr: Any) -> None:
    assert not is_aggregating(expr, SCHEMA)


@pytest.mark.parametrize(
    ("expr", "alone"),
    [
        (x * 2, True),
        (x.filter(x > 1), True),
        (x.drop_nulls(), True),
        (x.filter(x > x.mean()), False),
        (x.sort(), False),
        (x.shift(1), False),
        (x.unique(), False),
        (x.is_in(y), False),
        (x.is_in([1, 2]), True),
        (x + pl.Series([1, 2]), False),
    ],
)
def test_rows_stand_alone_where_parts_can_be_worked_out_one_by_one(expr: Any, alone: Any) -> None:
    assert rows_stand_alone(expr, SCHEMA, same_length=False) == alone


def test_a_filter_does_not_keep_the_number_of_rows() -> None:
    assert not rows_stand_alone(x.filter(x > 1), SCHEMA, same_length=True)
    assert rows_stand_alone(x * 2, SCHEMA, same_length=True)


@pytest.mark.parametrize(
    ("expr", "placed"),
    [
        (x.first(), True),
        (x.last(), True),
        (x.implode(), True),
        (s.str.join("+"), True),
        (x.shift(1).sum(), True),
        (x.head(2).sum(), True),
        (x.sort_by("t").last(), False),
        (x.sort().implode(), False),
        (x.sum(), False),
        (x.median(), False),
        (x.n_unique(), False),
        (x.quantile(0.5), False),
        (pl.col("First").sum(), False),
        (pl.lit("Last") + pl.len().cast(pl.String), False),
    ],
)
def test_what_goes_by_the_place_of_rows_is_known(expr: Any, placed: Any) -> None:
    assert goes_by_place(expr) == placed
