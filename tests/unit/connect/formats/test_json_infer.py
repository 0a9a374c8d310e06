from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from streamlab.connect.formats.json import Json
from streamlab.errors import PlanError

JSON = Json()
UTC = pl.Datetime("ms", "UTC")


@pytest.mark.parametrize(
    ("payloads", "schema"),
    [
        (['{"a": 1}', '{"a": -2, "b": true}'], {"a": pl.Int64, "b": pl.Boolean}),
        (['{"a": 1}', '{"a": 2.5}', '{"a": null}'], {"a": pl.Float64}),
        (['{"a": null}'], {"a": pl.String}),
        (['{"a": 1}', '{"a": "x"}'], {"a": pl.String}),
        (['{"a": 1}', '{"a": true}'], {"a": pl.String}),
        (['{"a": 18446744073709551615}'], {"a": pl.UInt64}),
        (['{"a": 18446744073709551615}', '{"a": -1}'], {"a": pl.Int128}),
        (['{"a": %s}' % ("9" * 5000)], {"a": pl.Float64}),
        (['{"a": "2013-01-01T05:00:00Z"}', '{"a": "2013-01-01 05:00"}'], {"a": UTC}),
        (['{"a": "2013-01-01T05:00:00-05:00"}'], {"a": UTC}),
        (['{"a": "2013-01-01T05:00:00"}', '{"a": null}'], {"a": pl.Datetime("ms")}),
        (['{"a": "2013-01-01T05:00:00Z"}', '{"a": "soon"}'], {"a": pl.String}),
        (['{"a": "2013-02-30T05:00:00Z"}'], {"a": pl.String}),
        (['{"a": "2013-01-01"}'], {"a": pl.String}),
        (['{"a": {"x": 1}}', '{"a": {"y": [1, 2.5]}}'], {"a": pl.Struct({"x": pl.Int64, "y": pl.List(pl.Float64)})}),
        (['{"a": []}'], {"a": pl.List(pl.String)}),
        (['{"a": [{"x": null}, {"x": 1}]}'], {"a": pl.List(pl.Struct({"x": pl.Int64}))}),
        (['{"a": [1]}', '{"a": {}}'], {"a": pl.String}),
        (['{"b": 1, "a": {}, "c": [{}]}'], {"b": pl.Int64}),
        (["x", "", '{"b": 1, "b": "x"}', "[]"], {"b": pl.Int64}),
    ],
)
def test_a_schema_is_inferred_from_a_sample(payloads: list[str], schema: dict[str, Any]) -> None:
    inferred = JSON.infer([payload.encode() for payload in payloads])
    assert inferred == pl.Schema(schema)
    JSON.check(inferred)


@pytest.mark.parametrize(
    ("payloads", "why"),
    [
        ([], "the sample is empty"),
        ([b"{}"], "no fields with values"),
        ([b'{"a": 1}x', b""], "payload 1: empty payload"),
    ],
)
def test_a_sample_that_says_nothing_is_refused_with_what_to_do(payloads: list[bytes], why: str) -> None:
    with pytest.raises(PlanError, match="there is nothing to infer a schema from") as refused:
        JSON.infer(payloads)
    assert why in str(refused.value)
    assert "pass schema=" in str(refused.value)
