"""Record keys as the columns that they were made of."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from streamlab.connect.kafka_sink import keys_of
from streamlab.connect.record_keys import read_keys

MOMENT = datetime(2013, 1, 1, 5, 30, tzinfo=UTC)
VALUES = {
    "text": pl.Series(["AA", "", '{"x":1}', "naïve", "7", "null"]),
    "whole": pl.Series([0, -7, 1 << 62], dtype=pl.Int64),
    "small": pl.Series([0, 255], dtype=pl.UInt8),
    "float": pl.Series([0.5, -1e300]),
    "truth": pl.Series([True, False]),
    "moment": pl.Series([MOMENT], dtype=pl.Datetime("us", "UTC")),
    "day": pl.Series([MOMENT.date()]),
    "bytes": pl.Series([b"\x00\xff", b"{"]),
    "kind": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])),
}


@pytest.mark.parametrize(
    ("kind", "composite"),
    [(kind, composite) for kind in VALUES for composite in (False, True) if kind != "bytes" or not composite],
)
def test_what_a_sink_writes_as_key_is_read_as_the_same_value(kind: str, composite: bool) -> None:
    frame = pl.DataFrame({"key": VALUES[kind]})
    found = read_keys([key for key in keys_of(frame, ["key"], composite=composite) if key is not None], frame.schema)
    assert found.bad == ()
    assert found.rows.equals(frame)


def test_a_key_of_several_columns_is_a_json_object_of_them() -> None:
    frame = pl.DataFrame({"a": ["x", "y"], "n": [1, 2]})
    found = read_keys(keys_of(frame, ["a", "n"], composite=True), frame.schema)
    assert found.rows.equals(frame)


@pytest.mark.parametrize(
    ("key", "dtype", "said"),
    [
        (b"seven", pl.Int64, "found 'seven', expected a whole number"),
        (b"1.5", pl.Int64, "found 1.5"),
        (b"300", pl.UInt8, "300"),
        (b"\xff", pl.String, "b'\\xff'"),
        (b"soon", pl.Datetime("ms", "UTC"), "soon"),
    ],
)
def test_a_key_that_is_none_is_told_with_what_was_expected(key: bytes, dtype: pl.DataType, said: str) -> None:
    found = read_keys([b"", key] if dtype == pl.String else [key], pl.Schema({"id": dtype}))
    assert len(found.bad) == 1
    assert said in found.bad[0].error
    assert found.bad[0].error.startswith("the record key ")
