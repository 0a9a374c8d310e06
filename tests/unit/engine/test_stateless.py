from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import streamlab as sl
from streamlab.engine.batch import Rows
from streamlab.engine.stateless import compile_step
from streamlab.errors import StepError
from streamlab.plan.nodes import Node
from streamlab.testing import StreamTester

SCHEMA: dict[str, Any] = {
    "k": pl.String,
    "x": pl.Int64,
    "f": pl.Float64,
    "l": pl.List(pl.Int64),
    "m": pl.List(pl.String),
}
DATA = {
    "k": ["a", "b", None, "a"],
    "x": [1, 2, None, -4],
    "f": [0.5, float("nan"), None, 2.0],
    "l": [[1, 2], [], None, [3]],
    "m": [["p", "q"], [], None, ["r"]],
}
x = pl.col("x")


def events(schema: Any = SCHEMA) -> Any:
    return sl.Kafka("localhost:9092").stream("events", schema=schema)


def columns(record: Any) -> Any:
    return record.value


def rows() -> Any:
    time, partition, offset, index = (
        np.array(values, np.int64) for values in ([10, 20, 30, 40], [0, 1, 0, 1], [5, 6, 7, 8], [0, 1, 2, 3])
    )
    return Rows(pl.DataFrame(DATA, schema=SCHEMA), time, partition, offset, index)


def run(stream: Any, given: Any = None) -> Any:
    return compile_step(stream.node)(rows() if given is None else given)


def beside(made: Any) -> Any:
    return [values.tolist() for values in (made.time, made.partition, made.offset, made.index)]


def test_a_filter_keeps_rows_with_their_event_time_partition_and_offset() -> None:
    made = run(events().filter(x > 0))
    assert made.data["x"].to_list() == [1, 2]
    assert beside(made) == [[10, 20], [0, 1], [5, 6], [0, 1]]


@pytest.mark.parametrize(
    ("predicates", "equals", "kept"),
    [
        ([x > 0], {}, [0, 1]),
        ([x > 0, pl.col("k") == "a"], {}, [0]),
        ([x < 2], {"k": "a"}, [0, 3]),
        ([], {"k": "b", "x": 2}, [1]),
        ([x.is_null()], {}, [2]),
        ([pl.lit(None)], {}, []),
        ([True], {}, [0, 1, 2, 3]),
        ([pl.lit(False)], {}, []),  # noqa: FBT003  # a value
        ([pl.col("f") < float("inf")], {}, [0, 3]),
        ([pl.col("f").is_nan()], {}, [1]),
        ([[x > 0, x < 2]], {}, [0]),
    ],
)
def test_rows_pass_a_filter_only_where_every_predicate_is_true(predicates: Any, equals: Any, kept: Any) -> None:
    assert run(events().filter(*predicates, **equals)).index.tolist() == kept


def test_select_makes_the_columns_anew_and_leaves_the_rest_alone() -> None:
    made = run(events().select("k", double=x * 2))
    assert made.data.to_dict(as_series=False) == {"k": ["a", "b", None, "a"], "double": [2, 4, None, -8]}
    assert beside(made) == beside(rows())


def test_a_literal_is_given_to_every_row() -> None:
    made = run(events().select(one=pl.lit(1), text=pl.lit("é"), nothing=None))
    assert made.data.rows() == [(1, "é", None)] * 4


def test_expressions_of_one_step_see_the_columns_before_it() -> None:
    made = run(events().with_columns(x=pl.lit(0), y=x + 1))
    assert made.data["x"].to_list() == [0] * 4
    assert made.data["y"].to_list() == [2, 3, None, -3]


def test_select_can_exchange_two_columns() -> None:
    assert run(events().select(l="m", m="l")).data.columns == ["l", "m"]
    assert run(events().select(l="m", m="l")).data["l"].to_list() == DATA["m"]


def test_with_columns_adds_and_replaces() -> None:
    made = run(events().with_columns(pl.selectors.numeric().fill_null(0), big=x > 1))
    assert made.data.columns == [*SCHEMA, "big"]
    assert made.data["x"].to_list() == [1, 2, 0, -4]


def test_rename_and_drop_and_cast_change_columns_only() -> None:
    assert run(events().rename({"k": "x", "x": "k"})).data.columns == ["x", "k", "f", "l", "m"]
    assert run(events().drop("l", "m", "f")).data.columns == ["k", "x"]
    made = run(events().cast({"x": pl.String, "f": pl.Float32}))
    assert made.data["x"].to_list() == ["1", "2", None, "-4"]
    assert beside(made) == beside(rows())


def test_explode_makes_a_row_for_each_item_as_polars_does() -> None:
    made = run(events().explode("l"))
    assert made.data["l"].to_list() == [1, 2, None, 3]
    assert made.data.equals(rows().data.explode("l"))
    assert beside(made) == [[10, 10, 30, 40], [0, 0, 0, 1], [5, 5, 7, 8], [0, 0, 2, 3]]


def test_columns_exploded_together_stay_side_by_side() -> None:
    made = run(events().explode("l", "m"))
    assert made.data.select("l", "m").rows() == [(1, "p"), (2, "q"), (None, None), (3, "r")]


def test_lists_of_unequal_length_fail_the_step_by_name() -> None:
    uneven = rows().with_data(rows().data.with_columns(m=pl.Series([["p"], [], None, ["r"]])))
    with pytest.raises(StepError, match="explode l, m: "):
        run(events().explode("l", "m"), uneven)


def test_a_value_that_does_not_fit_fails_the_cast_by_name() -> None:
    with pytest.raises(StepError, match=r"cast k to Int64: .*conversion from `str` to `i64` failed"):
        run(events().cast({"k": pl.Int64}))


def test_a_failing_step_stops_the_tester_with_its_name() -> None:
    with StreamTester(events().cast({"k": pl.Int64})) as t:
        t.send("events", {"k": "7"})
        assert columns(t.read()[0])["k"] == 7
        with pytest.raises(StepError, match="cast k to Int64"):
            t.send("events", {"k": "seven"})


STEPS = [
    events().filter(x > 0),
    events().select("k"),
    events().with_columns(y=1),
    events().rename({"k": "kk"}),
    events().drop("k"),
    events().cast({"x": pl.Int8}),
    events().explode("l"),
    events().map_batches(lambda frame: 1 / 0, schema={"z": pl.Int64}),
]


@pytest.mark.parametrize("stream", STEPS, ids=lambda stream: stream.node.label)
def test_no_rows_give_no_rows_of_the_right_columns(stream: Any) -> None:
    made = run(stream, rows().filter(np.zeros(4, np.bool_)))
    assert made.height == 0
    assert made.data.schema == stream.schema


def mapped(function: Any, schema: Any = None) -> Any:
    return events().map_batches(function, schema=schema or {"y": pl.Int64})


def test_a_function_gets_a_micro_batch_and_returns_one_row_for_each() -> None:
    made = run(mapped(lambda frame: frame.select(y=pl.col("x") * 10)))
    assert made.data.to_dict(as_series=False) == {"y": [10, 20, None, -40]}
    assert beside(made) == beside(rows())


def test_a_function_may_return_more_columns_than_promised_in_any_order() -> None:
    made = run(mapped(lambda frame: frame.select("k", "f", y="x"), {"y": pl.Int64, "k": pl.String}))
    assert made.data.columns == ["y", "k"]


@pytest.mark.parametrize(
    ("column", "promised"),
    [
        (pl.Series("y", [1, 2, 3, 4], pl.Int8), pl.Int64),
        (pl.Series("y", [1, 2, 3, 4], pl.Int64), pl.Int8),
        (pl.Series("y", [1, 2, 3, 4], pl.Int64), pl.Float64),
        (pl.Series("y", [None] * 4), pl.String),
        (pl.Series("y", [datetime(2020, 1, 1, tzinfo=UTC)] * 4, pl.Datetime("us", "UTC")), pl.Datetime("ms", "UTC")),
        (pl.Series("y", ["a"] * 4), pl.Categorical()),
    ],
)
def test_what_loses_nothing_is_made_the_promised_type(column: Any, promised: Any) -> None:
    made = run(mapped(lambda frame: frame.with_columns(column), {"y": promised}))
    assert made.data.schema == pl.Schema({"y": promised})


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda frame: frame["nope"], r"map_batches .*: ColumnNotFoundError"),
        (lambda frame: 1 / 0, r"map_batches .*<lambda>: ZeroDivisionError: division by zero"),
        (lambda frame: frame.select(z="x"), r"the result lacks \['y'\]; schema= promised \['y'\], found \['z'\]"),
        (lambda frame: frame.head(2).select(y="x"), r"got 4 rows and returned 2; it must return one row for each"),
        (lambda frame: frame.select(y="k"), r"column 'y' is String; schema= promised Int64"),
        (lambda frame: frame.select(y="f"), r"column 'y' is Float64; schema= promised Int64"),
        (lambda frame: frame["x"].to_list(), r"returned list; it must return a polars DataFrame"),
        (lambda frame: None, r"returned NoneType; it must return a polars DataFrame"),
        (lambda frame: frame.select(y=pl.lit(300)).to_pandas().head(1), r"got 4 rows and returned 1"),
    ],
)
def test_what_a_function_does_wrong_is_told_with_the_step(function: Any, told: Any) -> None:
    with pytest.raises(StepError, match=told):
        run(mapped(function))


def test_a_number_too_large_for_the_promised_type_fails_the_step() -> None:
    with pytest.raises(StepError, match=r"map_batches .*conversion from `i64` to `i8` failed"):
        run(mapped(lambda frame: frame.select(y=pl.col("x").fill_null(300)), {"y": pl.Int8}))


def test_a_pandas_function_gets_and_returns_pandas() -> None:
    seen = []

    def doubled(frame: Any) -> Any:
        seen.append(type(frame))
        return frame[["k"]].assign(y=frame["x"].fillna(0).astype("int64") * 2)

    made = run(events().map_pandas(doubled, schema={"y": pl.Int64, "k": pl.String}))
    assert seen == [pd.DataFrame]
    assert made.data.rows() == [(2, "a"), (4, "b"), (0, None), (-8, "a")]
    assert beside(made) == beside(rows())


def test_a_node_that_is_no_row_by_row_step_is_no_such_step() -> None:
    with pytest.raises(TypeError, match="Node is no row-by-row step"):
        compile_step(Node.__new__(Node))
