from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import polars as pl
import pytest

from streamlab.connect.formats.json import Json, encode
from streamlab.errors import StepError

JSON = Json()
UTC = pl.Datetime("ms", "UTC")
FIVE = dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC)
NAIVE = dt.datetime(2013, 1, 1, 5)  # noqa: DTZ001 - naive on purpose


def test_rows_are_written_as_compact_json() -> None:
    rows = pl.DataFrame(
        {
            "text": ['q"\\\n\u2028é😀', None],
            "at": [FIVE, None],
            "local": [NAIVE, None],
            "day": [dt.date(2013, 1, 1), None],
            "lasts": [dt.timedelta(hours=-1), None],
            "price": [Decimal("1.50"), None],
            "raw": [b"\xff", None],
            "items": [[1.5, float("nan")], []],
            "more": [{"x": float("inf"), "y": [NAIVE]}, None],
        },
        schema_overrides={"at": UTC, "local": pl.Datetime("ns"), "price": pl.Decimal(10, 2)},
    )
    first, second = encode(rows)
    assert json.loads(first) == {
        "text": 'q"\\\n\u2028é😀',
        "at": "2013-01-01T05:00:00.000Z",
        "local": "2013-01-01T05:00:00.000000000",
        "day": "2013-01-01",
        "lasts": "-PT1H",
        "price": "1.50",
        "raw": "/w==",
        "items": [1.5, None],
        "more": {"x": None, "y": ["2013-01-01T05:00:00.000000"]},
    }
    assert json.loads(second) == {**dict.fromkeys(rows.columns), "items": []}
    assert b" " not in first


def test_moments_with_a_time_zone_are_written_in_utc() -> None:
    rows = pl.DataFrame({"at": [FIVE]}).select(pl.col("at").dt.convert_time_zone("America/New_York"))
    assert encode(rows) == [b'{"at":"2013-01-01T05:00:00.000000Z"}']
    assert JSON.decode(encode(rows), rows.schema).rows.equals(rows)


def test_arrays_are_written_as_lists() -> None:
    rows = pl.DataFrame({"a": [[dt.date(2013, 1, 1), None], None]}, schema={"a": pl.Array(pl.Date, 2)})
    assert encode(rows) == [b'{"a":["2013-01-01",null]}', b'{"a":null}']


def test_frames_without_rows_or_columns_are_written_too() -> None:
    assert encode(pl.DataFrame(schema={"a": pl.Int64})) == []
    assert encode(pl.DataFrame(height=2)) == [b"{}", b"{}"]


@pytest.mark.parametrize("dtype", [pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.Duration("ms"), pl.Date()])
def test_what_iso_8601_has_no_text_for_is_refused_rather_than_written_wrong(dtype: pl.DataType) -> None:
    number = 2**31 - 1 if dtype == pl.Date() else 2**63 - 1
    rows = pl.DataFrame({"a": pl.Series([number]).cast(dtype)})
    with pytest.raises(StepError, match=f"column 'a' .* holds {number}"):
        encode(rows)


def test_python_objects_are_refused() -> None:
    with pytest.raises(StepError, match="column 'a' holds Python objects"):
        encode(pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}))
