from __future__ import annotations

import pickle
import struct
import zlib
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from streamlab.errors import StateDamagedError, StateError
from streamlab.state.segments import LIMIT, cut, decode, encode

FRAME = pl.DataFrame(
    {
        "carrier": ["AA", None, "ÜA" * 50],
        "window": pl.Series([datetime(2013, 1, 1), None, datetime(2013, 1, 2)], dtype=pl.Datetime("ms", "UTC")),  # noqa: DTZ001 - polars gives it the zone
        "flights": pl.Series([1, None, 2**40], dtype=pl.Int64),
        "sum": [1.5, float("nan"), None],
        "big": pl.Series([-(2**100), None, 1], dtype=pl.Int128),
        "small": pl.Series([1, None, 255], dtype=pl.UInt8),
        "bytes": [b"\0", None, b"x" * 50],
        "price": pl.Series([Decimal("1.23"), None, Decimal("9.99")], dtype=pl.Decimal(20, 2)),
        "day": [date(2013, 1, 1), None, date(1, 1, 1)],
        "gap": pl.Series([timedelta(1), None, timedelta(2)], dtype=pl.Duration("us")),
        "clock": [time(1), None, time(2)],
        "category": pl.Series(["a", None, "b"], dtype=pl.Categorical),
        "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])),
        "list": [[1], None, []],
        "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int64, 2)),
        "struct": [{"a": 1, "b": "x"}, None, {"a": None, "b": None}],
        "nested": [[{"a": ["x"]}], None, []],
        "nothing": [None, None, None],
        "deleted": [True, None, False],
    }
)
BLOB = encode(FRAME)
patient = settings(deadline=None)


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def noise(rows: int, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({"hash": rng.integers(-(2**63), 2**63 - 1, rows), "sum": rng.normal(size=rows)})


@pytest.mark.parametrize("column", FRAME.columns)
def test_a_column_of_every_type_comes_back_as_it_was(column: str) -> None:
    assert_frame_equal(decode(encode(FRAME.select(column))), FRAME.select(column))


@pytest.mark.parametrize("frame", [FRAME.clear(), FRAME.slice(1, 1), pl.DataFrame()])
def test_frames_of_no_row_one_row_and_no_column_come_back_as_they_were(frame: pl.DataFrame) -> None:
    assert_frame_equal(decode(encode(frame)), frame)


def test_a_frame_of_many_chunks_comes_back_as_one() -> None:
    parts = pl.concat([noise(10, seed) for seed in range(50)], rechunk=False)
    back = decode(encode(parts))
    assert_frame_equal(back, parts)
    assert (parts.n_chunks(), back.n_chunks()) == (50, 1)


def test_a_slice_takes_no_more_bytes_than_its_own_rows() -> None:
    texts = pl.DataFrame({"text": [f"{n:0500}" for n in range(10_000)]})
    assert len(encode(texts.slice(5_000, 10))) < 10_000


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}), r"columns \['o'\] hold Python objects"),
        (pl.DataFrame(height=3), "3 rows without a column"),
    ],
)
def test_what_polars_would_read_back_as_something_else_is_refused(frame: pl.DataFrame, told: str) -> None:
    with pytest.raises(StateError, match=told):
        encode(frame)


@patient
@given(st.lists(st.integers(0, len(BLOB) * 8 - 1), min_size=1, max_size=8, unique=True))
def test_flipped_bits_are_always_found(bits: list[int]) -> None:
    damaged = bytearray(BLOB)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StateDamagedError, match="segment 'delays/0'"):
        decode(bytes(damaged), "delays/0")


@patient
@given(st.integers(0, len(BLOB) - 1))
def test_a_blob_that_was_cut_is_always_found(length: int) -> None:
    with pytest.raises(StateDamagedError):
        decode(BLOB[:length])


@patient
@given(st.binary(min_size=1, max_size=100))
def test_a_blob_with_something_after_it_is_always_found(tail: bytes) -> None:
    with pytest.raises(StateDamagedError):
        decode(BLOB + tail)


@patient
@given(st.binary(max_size=200))
def test_bytes_from_elsewhere_are_no_segment(blob: bytes) -> None:
    with pytest.raises(StateDamagedError):
        decode(blob)


@patient
@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_right_checksum_over_wrong_arrow_is_damage_and_no_crash(tail: bytes, kept: int) -> None:
    payload = BLOB[12 : 12 + kept] + tail
    sealed = struct.pack("<4sII", b"SLG1", len(payload), zlib.crc32(payload)) + payload
    told = ""
    try:
        found = decode(sealed)
    except StateDamagedError as error:
        told = str(error)
    assert "no Arrow data" in told or found.height in {0, FRAME.height}  # a whole schema, or a whole batch, is a stream


def test_a_planted_pickle_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "pickled"
    with pytest.raises(StateDamagedError):
        decode(pickle.dumps(Canary(path)))
    assert not path.exists()
    pickle.loads(pickle.dumps(Canary(path)))  # noqa: S301 - shows that the canary sings
    assert path.exists()


@patient
@given(
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=300),
    limit=st.integers(4_500, 40_000),
    random=st.randoms(use_true_random=False),
)
def test_blobs_keep_the_rows_in_order_and_the_limit(sizes: list[int], limit: int, random: np.random.Generator) -> None:
    frame = pl.DataFrame({"n": range(len(sizes)), "bytes": [random.randbytes(size) for size in sizes]})  # type: ignore[attr-defined]  # random.Random, which hypothesis gives
    blobs = cut(frame, limit)
    assert max(map(len, blobs)) <= limit
    assert_frame_equal(pl.concat(map(decode, blobs)), frame)


def test_a_frame_is_cut_into_blobs_that_are_nearly_full() -> None:
    blobs = cut(noise(500_000))
    assert all(LIMIT * 0.7 < len(blob) <= LIMIT for blob in blobs[1:-1])
    assert len(blobs) > 10


def test_rows_of_very_different_sizes_do_not_end_in_a_blob_each() -> None:
    texts = ["x"] * 5_000 + [np.random.default_rng(1).bytes(50_000).hex()] + ["x"] * 5_000
    blobs = cut(pl.DataFrame({"text": texts}), 128 * 1024)
    assert len(blobs) < 12
    assert pl.concat(map(decode, blobs))["text"].to_list() == texts


def test_an_empty_frame_is_one_blob_that_keeps_the_schema() -> None:
    (blob,) = cut(FRAME.clear())
    assert decode(blob).schema == FRAME.schema


def test_one_row_above_the_limit_is_a_segment_of_its_own() -> None:
    frame = pl.DataFrame({"n": [1, 2, 3], "kept": [[0.5], np.random.default_rng(1).random(200_000).tolist(), [0.5]]})
    blobs = cut(frame)
    assert [decode(blob)["n"].to_list() for blob in blobs] == [[1], [2], [3]]
    assert len(blobs[1]) > LIMIT
    assert pl.concat(map(decode, blobs)).equals(frame)
