"""Hashes that are kept in state."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from streamlab.errors import PlanError
from streamlab.plan.stable_hash import stable_hash

SAMPLES = {
    "int": pl.Series([1, -1, None, 2**62]),
    "small int": pl.Series([1, -1, None, 100], dtype=pl.Int8),
    "large int": pl.Series([1, 2**63, None, 2**64 - 1], dtype=pl.UInt64),
    "huge int": pl.Series([1, -(2**100), None, 2**100], dtype=pl.Int128),
    "bool": pl.Series([True, False, None]),
    "float": pl.Series([0.5, -1e300, None, float("inf"), float("nan")]),
    "text": pl.Series(["", "a", None, "aa", "a" * 8, "a" * 9, "qé", "\0", "\0\0"]),
    "bytes": pl.Series([b"", b"\0", None, b"\xff" * 17]),
    "date": pl.Series([date(2020, 1, 1), None, date(2020, 1, 2)]),
    "time": pl.Series([datetime(2020, 1, 1, tzinfo=UTC), None, datetime(2021, 1, 1, tzinfo=UTC)]),
    "duration": pl.Series([timedelta(seconds=1), None, timedelta(seconds=2)]),
    "decimal": pl.Series([Decimal("1.5"), None, Decimal("2.5")]),
    "category": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])),
    "list": pl.Series([[1], [], None, [1, 2], [2, 1], [None], [None, None]], dtype=pl.List(pl.Int64)),
    "texts": pl.Series([["a", "b"], ["ab"], None, ["", "ab"]]),
    "array": pl.Series([[1, 2], [2, 1], None], dtype=pl.Array(pl.Int64, 2)),
    "struct": pl.Series([{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": None, "b": "x"}, {"a": 1, "b": None}]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_different_values_have_different_hashes_and_null_has_one_too(name) -> None:
    hashes = stable_hash(SAMPLES[name])
    assert len(set(hashes.tolist())) == len(hashes)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_hash_depends_on_its_value_alone(name) -> None:
    values = SAMPLES[name]
    together = stable_hash(values).tolist()
    assert [int(stable_hash(values[n : n + 1])[0]) for n in range(len(values))] == together
    assert stable_hash(values.reverse()).tolist() == together[::-1]
    assert stable_hash(pl.concat([values, values])[1:-1]).tolist() == (together * 2)[1:-1]


def test_hashes_are_the_ones_that_older_states_have() -> None:
    found = {name: hex(stable_hash(values)[0]) for name, values in SAMPLES.items()}
    assert found == {
        "int": "0x910a2dec89025cc1",
        "small int": "0x910a2dec89025cc1",
        "large int": "0x910a2dec89025cc1",
        "huge int": "0x4c98cb7c078dedea",
        "bool": "0x910a2dec89025cc1",
        "float": "0xf456984dd1d8ce6d",
        "text": "0xa706dd2f4d197e6f",
        "bytes": "0xa706dd2f4d197e6f",
        "date": "0x843e7f2e7a55b8a7",
        "time": "0x5b407cfae5e813e",
        "duration": "0x680d1cce9cff45e7",
        "decimal": "0x337593e534f0ae34",
        "category": "0x2ffc7a78f2438eb0",
        "enum": "0x2ffc7a78f2438eb0",
        "list": "0x2efeb4f055a6abe3",
        "texts": "0x840d6837ccbc4acf",
        "array": "0x745247c3fb774e40",
        "struct": "0xcbbee93056294ae2",
    }


def test_numbers_that_are_one_group_have_one_hash() -> None:
    one, other = stable_hash(pl.Series([0.0, -0.0])).tolist()
    assert one == other
    strange = np.array([np.nan, -np.nan, np.uint64(0x7FF8000000000001).view(np.float64)])
    assert len(set(stable_hash(pl.Series(strange)).tolist())) == 1


def test_names_that_look_alike_do_not_collide_and_spread_evenly() -> None:
    names = pl.Series([f"user-{n}" for n in range(200_000)])
    hashes = stable_hash(names)
    assert len(np.unique(hashes)) == 200_000
    for shift in (0, 26, 58):
        counts = np.bincount(((hashes >> np.uint64(shift)) & np.uint64(63)).astype(np.int64), minlength=64)
        assert abs(counts - 200_000 / 64).max() < 6 * (200_000 / 64) ** 0.5


def test_long_texts_that_differ_in_one_place_differ() -> None:
    texts = ["x" * n + "y" + "x" * (999 - n) for n in range(1000)]
    assert len(set(stable_hash(pl.Series(texts)).tolist())) == 1000


def test_nothing_has_no_hashes() -> None:
    assert stable_hash(pl.Series([], dtype=pl.String)).tolist() == []
    assert stable_hash(pl.Series([], dtype=pl.List(pl.Struct({"a": pl.Int64})))).tolist() == []
    assert len(set(stable_hash(pl.Series([None, None])).tolist())) == 1


def test_python_objects_are_refused() -> None:
    with pytest.raises(PlanError, match="values of type Object are Python objects, which have no hash that lasts"):
        stable_hash(pl.Series([object()], dtype=pl.Object))
