from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from streamlab.engine.held.row_store import RowStore

TYPES: dict[str, tuple[Any, list[Any]]] = {
    "Int8": (pl.Int8(), [-128, 127]),
    "UInt64": (pl.UInt64(), [2**64 - 1, 0]),
    "Int64": (pl.Int64(), [-(2**63), 5]),
    "Float32": (pl.Float32(), [0.5, -1.0]),
    "Float64": (pl.Float64(), [float("inf"), -0.0]),
    "Boolean": (pl.Boolean(), [True, False]),
    "Date": (pl.Date(), [date(1969, 5, 5), date(2020, 1, 1)]),
    "Datetime": (pl.Datetime("us", "UTC"), [datetime(2020, 1, 1, tzinfo=UTC), datetime(1950, 1, 1, tzinfo=UTC)]),
    "Duration": (pl.Duration("ms"), [timedelta(hours=-1), timedelta(1)]),
    "Time": (pl.Time(), [time(1), time(23, 59)]),
    "String": (pl.String(), ["", "é"]),
    "Binary": (pl.Binary(), [b"", b"\xff"]),
    "Decimal": (pl.Decimal(18, 2), [Decimal("1.50"), Decimal("-2.25")]),
    "Enum": (pl.Enum(["z", "a"]), ["a", "z"]),
    "List": (pl.List(pl.Int64), [[1, None], []]),
    "Struct": (pl.Struct({"a": pl.Int64()}), [{"a": 1}, {"a": None}]),
}


@pytest.mark.parametrize(("dtype", "values"), TYPES.values(), ids=TYPES)
def test_values_of_any_type_come_back_as_they_were_put_nulls_among_them(dtype: Any, values: Any) -> None:
    store = RowStore(pl.Schema({"x": dtype}))
    store.put(np.array([4, 0]), pl.DataFrame({"x": values}, schema={"x": dtype}))
    store.put(np.array([2_000, 7]), pl.DataFrame({"x": [None, values[0]]}, schema={"x": dtype}))
    found = store.take(np.array([7, 0, 4, 2_000]))
    assert found.schema == pl.Schema({"x": dtype})
    assert found["x"].to_list() == [values[0], values[1], values[0], None]


def test_a_row_is_changed_in_place_and_known_again_after_a_null() -> None:
    store = RowStore(pl.Schema({"n": pl.Int64(), "s": pl.String()}))
    store.put(np.array([0, 1]), pl.DataFrame({"n": [1, None], "s": ["a", None]}))
    store.put(np.array([1]), pl.DataFrame({"n": [5], "s": ["b"]}))
    store.put(np.array([0]), pl.DataFrame({"n": [None], "s": ["c"]}, schema={"n": pl.Int64, "s": pl.String}))
    assert store.take(np.array([0, 1])).rows() == [(None, "c"), (5, "b")]


def test_rows_that_were_dropped_may_come_again() -> None:
    store = RowStore(pl.Schema({"n": pl.Int64(), "s": pl.String()}))
    store.put(np.array([0, 1]), pl.DataFrame({"n": [1, None], "s": ["a", "b"]}))
    store.drop(np.array([1]))
    store.put(np.array([1]), pl.DataFrame({"n": [7], "s": ["c"]}))
    assert store.take(np.array([1, 0])).rows() == [(7, "c"), (1, "a")]
    assert store.estimated_size() > 0
