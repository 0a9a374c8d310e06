from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from streamlab.engine.held import key_index, slot_frame
from streamlab.engine.held.key_index import KeyIndex
from streamlab.engine.held.slot_frame import SlotFrame
from streamlab.errors import PlanError, StepError, UnknownColumnError

if TYPE_CHECKING:
    from streamlab.engine.held.key_index import Hashes

NAN = math.nan
OTHER_NAN = float(np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0])
TEXT = pl.Schema({"key": pl.String})

KEYS: dict[str, tuple[Any, list[Any]]] = {
    "text": (pl.String, ["a", None, "", "a", "b" * 40, "b" * 40]),
    "integers": (pl.Int64, [1, None, 0, 1, -1]),
    "128 bit integers": (pl.Int128, [2**100, None, 2**100, 0]),
    "floats": (pl.Float64, [0.0, -0.0, NAN, OTHER_NAN, None, 1.5]),
    "small floats": (pl.Float32, [0.0, -0.0, NAN, OTHER_NAN, None, 1.5]),
    "booleans": (pl.Boolean, [True, None, False, True]),
    "dates": (pl.Date, [dt.date(2024, 1, 1), None, dt.date(1970, 1, 1), dt.date(2024, 1, 1)]),
    "times": (pl.Datetime("ms", "UTC"), [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None] * 2),
    "durations": (pl.Duration("us"), [dt.timedelta(0), None, dt.timedelta(days=1), dt.timedelta(0)]),
    "decimals": (pl.Decimal(10, 2), ["1.00", None, "1.0", "2"]),
    "bytes": (pl.Binary, [b"", b"\0", None, b"", b"x" * 40]),
    "categories": (pl.Categorical, ["a", "b", None, "a"]),
    "an enumeration": (pl.Enum(["b", "a"]), ["a", "b", None, "a"]),
    "lists": (pl.List(pl.Float64), [[0.0], [-0.0], [NAN], [OTHER_NAN], [], None, [None], [1.0, 2.0], [1.0]]),
    "lists of texts": (pl.List(pl.String), [["a", "b"], ["ab"], ["a", "b"], [None], None, []]),
    "arrays": (pl.Array(pl.Float64, 2), [[0.0, 1.0], [-0.0, 1.0], [NAN, None], [NAN, None], None]),
    "structs": (
        pl.Struct({"a": pl.Float64, "b": pl.String}),
        [{"a": 0.0, "b": "x"}, {"a": -0.0, "b": "x"}, {"a": NAN, "b": None}, {"a": NAN, "b": None}, None]
        + [{"a": None, "b": None}] * 2,
    ),
    "nothing but null": (pl.Null, [None, None]),
}


def texts(*keys: str | None) -> pl.DataFrame:
    return pl.DataFrame({"key": keys}, schema=TEXT)


def column(dtype: Any, values: list[Any]) -> pl.DataFrame:
    written = pl.Series("key", values, dtype=pl.String if isinstance(dtype, pl.Decimal) else dtype)
    return written.cast(dtype).to_frame()


def groups(keys: pl.DataFrame) -> list[int]:
    """Number the rows' groups, as polars' group_by makes them, in order of first appearance."""
    number = [0] * keys.height
    rows = keys.with_row_index("row").group_by(keys.columns, maintain_order=True).agg("row")["row"]
    for group, members in enumerate(rows.to_list()):
        for row in members:
            number[row] = group
    return number


def modulo(n: int) -> key_index.HashRows:
    def hash_rows(keys: pl.DataFrame) -> Hashes:
        return keys.hash_rows(1).to_numpy() % np.uint64(n)

    return hash_rows


@pytest.mark.parametrize("hash_rows", [None, modulo(3), modulo(1)], ids=["hashes", "hashes modulo 3", "one hash"])
@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_equal_where_group_by_says_so(kind: str, hash_rows: key_index.HashRows | None) -> None:
    keys = column(*KEYS[kind])
    index = KeyIndex(keys.schema, hash_rows=hash_rows)
    assert index.slots(keys, insert=True).tolist() == groups(keys)
    assert index.slots(keys.reverse(), insert=False).tolist() == groups(keys)[::-1]
    assert len(index) == max(groups(keys)) + 1


@pytest.mark.parametrize("hash_rows", [None, modulo(3)], ids=["hashes", "hashes modulo 3"])
def test_several_key_columns_of_all_kinds_make_one_key(hash_rows: key_index.HashRows | None) -> None:
    rng = np.random.default_rng(5)
    kinds = ("text", "floats", "structs", "lists", "categories", "integers")
    keys = pl.DataFrame([column(*KEYS[kind])["key"].gather(rng.integers(0, 3, 300)).alias(kind) for kind in kinds])
    index = KeyIndex(keys.schema, hash_rows=hash_rows)
    halves = [index.slots(half, insert=True) for half in (keys.head(150), keys.tail(150))]
    assert np.concatenate(halves).tolist() == groups(keys)


def test_unknown_keys_are_minus_one_and_stay_unknown_when_only_asked_for() -> None:
    index = KeyIndex(TEXT)
    assert index.slots(texts("a", None), insert=False).tolist() == [-1, -1]
    assert len(index) == 0
    index.slots(texts("a"), insert=True)
    assert index.slots(texts(None, "a", "b"), insert=False).tolist() == [-1, 0, -1]


def test_no_rows_are_no_slots() -> None:
    index = KeyIndex(TEXT)
    for insert in (True, False):
        slots = index.slots(texts(), insert=insert)
        assert slots.dtype == np.int64
        assert slots.tolist() == []
    index.release(np.empty(0, np.int64))
    assert index.keys(np.empty(0, np.int64)).equals(texts())


def test_keys_come_back_by_slot() -> None:
    index = KeyIndex(TEXT)
    index.slots(texts("a", None, "c"), insert=True)
    assert index.keys(np.array([2, 0, 1, 2]))["key"].to_list() == ["c", "a", None, "c"]
    assert index.keys(np.array([0, 7]))["key"].to_list() == ["a", None]


def test_columns_may_come_in_any_order_among_others() -> None:
    index = KeyIndex(pl.Schema({"a": pl.Int64, "b": pl.String}))
    index.slots(pl.DataFrame({"b": ["x"], "other": [0.5], "a": [1]}), insert=True)
    assert index.slots(pl.DataFrame({"a": [1, 1], "b": ["x", "y"]}), insert=False).tolist() == [0, -1]


def test_a_released_key_that_comes_again_is_a_new_key() -> None:
    index = KeyIndex(TEXT)
    index.slots(texts("a", "b", "c"), insert=True)
    index.release(np.array([1]))
    assert index.slots(texts("a", "b", "c"), insert=False).tolist() == [0, -1, 2]
    assert index.slots(texts("d", "b"), insert=True).tolist() == [1, 3]
    assert index.keys(np.arange(4))["key"].to_list() == ["a", "d", "c", "b"]


@pytest.mark.parametrize("first_key_first", [True, False])
def test_of_keys_with_one_hash_each_can_be_released(first_key_first: bool) -> None:
    index = KeyIndex(TEXT, hash_rows=modulo(1))
    index.slots(texts("a", "b", "c"), insert=True)
    index.release(np.array([0 if first_key_first else 2]))
    left = ["b", "c"] if first_key_first else ["a", "b"]
    assert (index.slots(texts(*left), insert=False) >= 0).all()
    assert len(index) == 2
    gone = "a" if first_key_first else "c"
    assert index.slots(texts(gone), insert=False).tolist() == [-1]
    assert index.slots(texts(gone, *left, gone), insert=True).tolist()[0] == (0 if first_key_first else 2)
    assert len(index) == 3


def test_slots_are_used_again_before_new_ones_are_made() -> None:
    index = KeyIndex(TEXT)
    for window in range(50):
        slots = index.slots(texts(*(f"{window} {key}" for key in range(100))), insert=True)
        assert sorted(slots) == list(range(100))
        index.release(slots)
    assert len(index) == 0


def test_slots_released_together_are_used_again_one_by_one() -> None:
    index = KeyIndex(TEXT)
    index.release(index.slots(texts(*(f"old {key}" for key in range(10))), insert=True))
    given = [index.slots(texts(f"new {key}", f"newer {key}"), insert=True).tolist() for key in range(6)]
    assert sorted(slot for pair in given for slot in pair) == list(range(12))


def test_a_free_slot_cannot_be_released() -> None:
    index = KeyIndex(TEXT)
    index.slots(texts("a", "b"), insert=True)
    index.release(np.array([0, 0]))
    for slots in ([1, 0], [2], [-1]):
        with pytest.raises(StepError, match=r"no key has slot (0|2|-1); release a slot once"):
            index.release(np.array(slots))
    assert index.slots(texts("b"), insert=False).tolist() == [1]


def test_too_many_keys_are_refused_and_leave_the_index_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "MAX_SLOTS", 3)
    index = KeyIndex(TEXT)
    index.slots(texts("a", "b"), insert=True)
    index.release(np.array([0]))
    with pytest.raises(StepError, match="more than 3 keys at once"):
        index.slots(texts("c", "d", "e"), insert=True)
    assert index.slots(texts("c", "d"), insert=True).tolist() == [0, 2]


def test_what_is_wrong_with_keys_is_said() -> None:
    index = KeyIndex(pl.Schema({"carrier": pl.String, "n": pl.Int64}))
    with pytest.raises(UnknownColumnError, match=r"KeyIndex.slots: no column 'carrier'.*Did you mean 'carier'"):
        index.slots(pl.DataFrame({"carier": ["a"], "n": [1]}), insert=True)
    with pytest.raises(StepError, match="column 'n' is Int32; it must be Int64"):
        index.slots(pl.DataFrame({"carrier": ["a"], "n": pl.Series([1], dtype=pl.Int32)}), insert=True)


@pytest.mark.parametrize("dtype", [pl.Object(), pl.List(pl.Object()), pl.Struct({"a": pl.Array(pl.Object(), 2)})])
def test_a_type_without_equality_is_no_key(dtype: pl.DataType) -> None:
    with pytest.raises(PlanError, match=r"column 'o' is .*, which has no equality"):
        KeyIndex(pl.Schema({"o": dtype}))


def test_no_key_column_is_refused() -> None:
    with pytest.raises(PlanError, match="no key column"):
        KeyIndex(pl.Schema({}))


@pytest.mark.parametrize("many", [1, 10**9], ids=["all abreast", "one by one"])
@pytest.mark.parametrize("hash_rows", [None, modulo(97), modulo(1)], ids=["hashes", "hashes modulo 97", "one hash"])
def test_both_ways_of_searching_agree_with_a_dictionary(
    monkeypatch: pytest.MonkeyPatch, many: int, hash_rows: key_index.HashRows | None
) -> None:
    monkeypatch.setattr(key_index, "_MANY", many)
    rng = np.random.default_rng(3)
    index, model = KeyIndex(pl.Schema({"key": pl.Int64}), hash_rows=hash_rows), dict[int, int]()
    for _ in range(60):
        keys = rng.integers(0, 400, int(rng.integers(1, 60)))
        slots = index.slots(pl.DataFrame({"key": keys}), insert=True)
        for key, slot in zip(keys.tolist(), slots.tolist(), strict=True):
            assert model.setdefault(key, slot) == slot
        assert len(set(model.values())) == len(model) == len(index)
        gone = rng.choice(sorted(model), min(len(model), int(rng.integers(0, 40))), replace=False).tolist()
        index.release(np.array([model.pop(key) for key in gone], np.int64))
        hashes = np.concatenate([run.hashes[run.slots >= 0] for run in index._runs] or [np.empty(0, np.uint64)])
        assert len(set(hashes.tolist())) == len(hashes) == len(index) - len(index._side[0])
        assert sum(len(run.hashes) for run in index._runs) <= 2 * len(hashes)
        everything = np.arange(400)
        found = index.slots(pl.DataFrame({"key": everything}), insert=False)
        assert found.tolist() == [model.get(key, -1) for key in everything.tolist()]


def test_runs_and_parts_stay_few_however_keys_come() -> None:
    index = KeyIndex(pl.Schema({"key": pl.Int64}))
    for start in range(0, 20_000, 20):
        index.slots(pl.DataFrame({"key": np.arange(start, start + 20)}), insert=True)
        assert len(index._runs) <= math.log2(start + 20)
        assert len(index._keys._parts) <= math.log2(start + 20)
    index.release(np.arange(19_000))
    assert sum(len(run.hashes) for run in index._runs) <= 2 * len(index)
    assert index._keys._rows.height <= 2 * len(index) + 256


def test_a_key_costs_sixteen_bytes_beside_itself() -> None:
    index = KeyIndex(pl.Schema({"key": pl.Int64}))
    index.slots(pl.DataFrame({"key": np.arange(1 << 16)}), insert=True)
    assert index.estimated_size() / len(index) <= 8 + 16


def held_bytes(frame: pl.DataFrame) -> int:
    """Count the bytes of all buffers a frame holds on to, shown or not."""
    chunks = [chunk for series in frame for chunk in series.get_chunks()]
    arrays = [chunk.to_arrow(compat_level=pl.CompatLevel.newest()) for chunk in chunks]
    return sum(buffer.size for array in arrays for buffer in array.buffers() if buffer is not None)


TEXTS_OF = {
    "text": pl.col("key"),
    "bytes": pl.col("key").cast(pl.Binary),
    "structs": pl.struct("key", n=0),
    "lists": pl.concat_list("key", "key"),
    "structs of lists": pl.struct(pl.concat_list("key")),
}


@pytest.mark.filterwarnings("ignore:.*newest.*unstable")
@pytest.mark.parametrize("kind", TEXTS_OF)
def test_a_few_new_keys_a_batch_do_not_hold_the_text_of_the_batch(kind: str) -> None:
    def batch(number: int) -> pl.DataFrame:
        keys = pl.Series("key", [*range(2000), *range(2000 + 50 * number, 2050 + 50 * number)])
        return keys.cast(pl.String).str.pad_start(100, "k").to_frame().select(key=TEXTS_OF[kind])

    index, batches = KeyIndex(batch(0).schema), [batch(number) for number in range(30)]
    for keys in batches:
        index.slots(keys, insert=True)
    assert len(index) == 3500
    assert held_bytes(index._keys._rows) < 2 * held_bytes(batches[0])
    assert index.keys(np.arange(2000, 3500)).equals(pl.concat([keys[-50:] for keys in batches]))


def test_a_slice_does_not_hold_what_it_was_cut_from() -> None:
    rows = SlotFrame(pl.Schema({"n": pl.Int64}))
    rows.put(np.arange(3), pl.DataFrame({"n": range(100_000)}).slice(10, 3))
    assert held_bytes(rows._rows) == 24
    assert rows.take(np.arange(3))["n"].to_list() == [10, 11, 12]


@pytest.mark.parametrize("many", [1, 10**9])
def test_rows_are_the_newest_of_their_slots_across_parts(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(slot_frame, "_MANY", many)
    rows, model = SlotFrame(pl.Schema({"n": pl.Int64, "t": pl.String})), dict[int, int]()
    rng = np.random.default_rng(2)
    for step in range(200):
        slots = rng.integers(0, 300, int(rng.integers(0, 30)))
        numbers = 1000 * step + np.arange(len(slots))
        rows.put(slots, pl.DataFrame({"n": numbers, "t": pl.Series(numbers).cast(pl.String)}))
        model.update(zip(slots.tolist(), numbers.tolist(), strict=True))
        gone = [slot for slot in rng.choice(300, 5, replace=False).tolist() if model.pop(slot, None) is not None]
        rows.drop(np.array(gone, np.int64))
        asked = np.append(rng.integers(-1, 310, 50), [-1])
        taken = rows.take(asked)
        assert taken["n"].to_list() == [model.get(slot) for slot in asked.tolist()]
        assert taken["t"].to_list() == [str(n) if n is not None else None for n in taken["n"].to_list()]
        assert rows.has(asked).tolist() == [slot in model for slot in asked.tolist()]
        assert rows.used().tolist() == sorted(model)
        assert len(rows) == len(model)


def test_a_frame_changed_by_its_owner_afterwards_does_not_change_the_rows() -> None:
    rows, mine = SlotFrame(pl.Schema({"n": pl.Int64})), pl.DataFrame({"n": [1, 2]})
    rows.put(np.arange(2), mine)
    mine[0, "n"] = 99
    taken = rows.take(np.arange(2))
    taken[1, "n"] = 99
    assert rows.take(np.arange(2))["n"].to_list() == [1, 2]
