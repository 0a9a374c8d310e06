"""Values that a function keeps, as bytes and back."""

from __future__ import annotations

import math
from datetime import date

import polars as pl
import pytest

from streamlab.errors import PlanError
from streamlab.plan.kept_value import decode, described, encode

FRAME = pl.DataFrame({"a": [1, None], "b": ["x", "é"]})


@pytest.mark.parametrize(
    "value",
    [None, True, 0, 2**80, -1.5, math.inf, "", "qé\ud800", [], [1, [None, {"a": "b"}]], {}, {"a": {"b": [1.5]}}],
)
def test_json_values_come_back_as_they_were(value) -> None:
    assert decode(encode(value)) == value


def test_what_is_no_number_comes_back_and_a_tuple_as_a_list() -> None:
    assert math.isnan(decode(encode({"x": math.nan}))["x"])
    assert decode(encode((1, (2, 3)))) == [1, [2, 3]]


def test_frames_and_series_come_back_with_their_types_and_names() -> None:
    assert decode(encode(FRAME)).equals(FRAME)
    assert decode(encode(FRAME.clear())).schema == FRAME.schema
    series = FRAME["b"].cast(pl.Categorical)
    back = decode(encode(series))
    assert (back.name, back.dtype, back.to_list()) == ("b", pl.Categorical, ["x", "é"])


def test_a_dict_may_have_frames_and_json_values_side_by_side() -> None:
    back = decode(encode({"rows": FRAME, "n": 3, "last": FRAME["a"], "more": {"a": [1]}}))
    assert back["rows"].equals(FRAME)
    assert (back["n"], back["last"].to_list(), back["more"]) == (3, [1, None], {"a": [1]})


def test_a_slice_is_kept_without_what_it_was_cut_from() -> None:
    whole = pl.DataFrame({"s": [f"a long text that is shared {n}" for n in range(10_000)]})
    assert len(encode(whole[5:6])) < 2_000


REFUSED = {
    "a date": (date(2020, 1, 1), r"datetime.date\(2020, 1, 1\) \(date\); it may be made of None, numbers, text, lists"),
    "a set": ({1}, r"\{1\} \(set\)"),
    "a set inside": ({"a": [{1}]}, r"\{1\} \(set\)"),
    "a number as key": ({1: "a"}, r"the dict key 1 \(int\); JSON has text keys only: write \{'1': ...\}"),
    "a number as key beside a frame": ({1: FRAME}, r"the dict key 1 \(int\)"),
    "a frame deep inside": ([FRAME], "a polars frame deep inside; a frame may be the state, or a value of the dict"),
    "bytes": (b"x", r"b'x' \(bytes\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_json_would_lose_is_refused(what) -> None:
    value, message = REFUSED[what]
    for way in (encode, described):
        with pytest.raises(PlanError, match=message):
            way(value)


def test_a_description_tells_values_apart() -> None:
    values = [None, 0, "0", [], {}, FRAME, FRAME.cast({"a": pl.Int8}), FRAME["a"], FRAME.head(1), {"a": FRAME}]
    assert len({str(described(value)) for value in values}) == len(values)
    assert described(FRAME) == described(FRAME.clone())
