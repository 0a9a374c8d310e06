from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from streamlab.engine.held.keyed_rows import DELETED, KeyedRows
from streamlab.errors import PlanError, StateDamagedError, StateError, StepError, UnknownColumnError

if TYPE_CHECKING:
    from collections.abc import Iterable

KEYS = pl.Schema({"key": pl.Int64})
VALUES = pl.Schema({"n": pl.Int64})


def keys(numbers: Iterable[int | None]) -> pl.DataFrame:
    return pl.DataFrame({"key": list(numbers)}, schema=KEYS)


def rows(pairs: dict[int | None, int | None]) -> pl.DataFrame:
    return pl.DataFrame({"key": list(pairs), "n": list(pairs.values())}, schema={**KEYS, **VALUES})


def filled(pairs: dict[int | None, int | None]) -> KeyedRows:
    held = KeyedRows(KEYS, VALUES)
    held.put(rows(pairs))
    return held


class Store:
    """What a store does with changes."""

    def __init__(self) -> None:
        self.runs: dict[int, pl.DataFrame] = {}
        self.written = 0

    def keep(self, held: KeyedRows) -> None:
        changes = held.changes()
        for number, frame in changes.put:
            self.runs[number] = frame
            self.written += frame.height
        for number in changes.dropped:
            del self.runs[number]
        assert sorted(self.runs) == held.live_runs()

    def restored(self) -> KeyedRows:
        held = KeyedRows(KEYS, VALUES)
        held.load(sorted(self.runs.items(), key=lambda run: run[0]))
        return held


def test_the_last_of_rows_with_one_key_counts() -> None:
    held = KeyedRows(KEYS, VALUES)
    held.put(pl.DataFrame({"key": [1, 2, 1, None, None], "n": [10, 20, 11, 1, None]}))
    assert held.frame().rows() == [(1, 11), (2, 20), (None, None)]
    assert len(held) == 3


def test_what_is_missing_is_null_and_not_found_and_a_null_value_is_found() -> None:
    held = filled({1: None, 2: 20})
    values, found = held.get(keys([2, 3, 1, 2]))
    assert values.schema == VALUES
    assert values["n"].to_list() == [20, None, None, 20]
    assert found.tolist() == [True, False, True, True]


def test_an_empty_object_answers() -> None:
    held = KeyedRows(KEYS, VALUES)
    values, found = held.get(keys([1]))
    assert (values["n"].to_list(), found.tolist()) == ([None], [False])
    assert held.get(keys([]))[0].schema == VALUES
    assert held.frame().equals(rows({}))
    held.delete(keys([1]))
    held.put(rows({}))
    assert (held.changes().put, held.live_runs(), len(held)) == ([], [], 0)
    held.load([])
    assert held.live_runs() == []


def test_rows_stand_in_order_of_first_insertion() -> None:
    held = filled({3: 1, 1: 1})
    held.put(rows({2: 1, 1: 2}))
    held.delete(keys([3]))
    held.put(pl.DataFrame({"key": [5, 4, 3, 5], "n": [1, 1, 1, 2]}))
    assert held.frame().rows() == [(1, 2), (2, 1), (5, 2), (4, 1), (3, 1)]


@pytest.mark.parametrize("saved", [True, False])
def test_a_key_deleted_after_it_was_asked_for_is_not_found_by_the_same_question(saved: bool) -> None:
    held = filled({1: 10, 2: 20})
    if saved:
        held.changes()
    question = keys([1, 2])
    assert held.get(question)[1].tolist() == [True, True]
    held.delete(question)
    assert held.get(question)[1].tolist() == [False, False]
    held.put(rows({1: 11, 2: 21}))
    held.delete(question)
    held.put(rows({1: 12, 2: 22}))
    assert held.frame().rows() == [(1, 12), (2, 22)]


def test_a_question_that_its_owner_changes_afterwards_is_another_question() -> None:
    held = filled({1: 10, 2: 20})
    question = keys([1, 1])
    held.get(question)
    question[0, "key"] = 2
    assert held.get(question)[0]["n"].to_list() == [20, 10]


def test_questions_that_differ_in_a_late_row_are_told_apart() -> None:
    held = filled({key: 10 * key for key in range(30)})
    asked = [*range(20), 25]
    assert held.get(keys([*range(20), 20]))[0]["n"].to_list()[-1] == 200
    assert held.get(keys(asked))[0]["n"].to_list() == [10 * key for key in asked]
    held.slots_of(keys(asked), insert=False)[:] = 0
    assert held.get(keys(asked))[0]["n"].to_list() == [10 * key for key in asked]


def test_values_can_be_read_and_written_by_slot() -> None:
    held = filled({1: 10})
    slots = held.slots_of(keys([2, 1, 2]), insert=True)
    assert len(held) == 1
    assert held.has(slots).tolist() == [False, True, False]
    assert held.get_slots(slots)["n"].to_list() == [None, 10, None]
    held.put_slots(slots, pl.DataFrame({"n": [1, 2, 3]}))
    assert held.frame().rows() == [(1, 2), (2, 3)]
    assert held.slots_of(keys([3, 2]), insert=False).tolist() == [-1, slots[0]]


def test_a_slot_stays_with_its_key_through_changes_until_the_key_is_deleted() -> None:
    held = filled(dict.fromkeys(range(10), 1))
    held.changes()
    held.delete(keys([3]))
    slot = held.slots_of(keys([3]), insert=True)
    held.delete(keys(set(range(10)) - {3}))
    held.changes()
    assert held.live_runs() == [1]
    held.put(rows(dict.fromkeys(range(20, 40), 1)))
    assert held.slots_of(keys([3]), insert=False).tolist() == slot.tolist()
    held.put_slots(slot, pl.DataFrame({"n": [33]}))
    assert held.get(keys([3]))[0]["n"].to_list() == [33]


def test_values_are_not_written_to_slots_of_no_key() -> None:
    held = filled({1: 10, 2: 20})
    gone = held.slots_of(keys([2]), insert=False)
    held.delete(keys([2]))
    for slots in (gone, np.array([-1])):
        with pytest.raises(StepError, match=r"a slot belongs to no key; take slots from slots_of"):
            held.put_slots(slots, pl.DataFrame({"n": [1]}))
    assert held.frame().rows() == [(1, 10)]
    full = filled({1: 10, 2: 20, 3: 30, 4: 40})
    with pytest.raises(StepError, match="a slot belongs to no key"):
        full.put_slots(np.array([-1]), pl.DataFrame({"n": [1]}))


def test_rows_may_be_keys_alone() -> None:
    held = KeyedRows(KEYS, pl.Schema({}))
    held.put(keys([2, 1, 2]))
    values, found = held.get(keys([1, 5, 2]))
    assert (values.shape, found.tolist()) == ((3, 0), [True, False, True])
    held.delete(keys([2]))
    assert held.frame().rows() == [(1,)]
    [(number, run)] = held.changes().put
    restored = KeyedRows(KEYS, pl.Schema({}))
    restored.load([(number, run)])
    assert restored.frame().equals(held.frame())


def test_values_of_all_kinds_are_kept() -> None:
    values: dict[str, tuple[Any, list[Any]]] = {
        "text": (pl.String(), ["", None, "more than twelve bytes"]),
        "bytes": (pl.Binary(), [b"", None, b"more than twelve bytes"]),
        "float": (pl.Float64(), [math.inf, None, -0.0]),
        "list": (pl.List(pl.String), [[], None, ["a", None]]),
        "struct": (pl.Struct({"a": pl.Binary, "b": pl.Int8}), [{"a": b"", "b": None}, None, {"a": None, "b": 1}]),
        "category": (pl.Categorical(), ["a", None, "b"]),
        "null": (pl.Null(), [None, None, None]),
    }
    frame = pl.DataFrame([pl.Series(name, data, dtype=dtype) for name, (dtype, data) in values.items()])
    held = KeyedRows(KEYS, frame.schema)
    held.put(frame.with_columns(key=pl.Series([1, 2, 3])))
    assert held.get(keys([3, 1, 2]))[0].equals(frame[[2, 0, 1]])
    restored = KeyedRows(KEYS, frame.schema)
    restored.load(held.changes().put)
    assert restored.frame().equals(held.frame())


def test_what_is_wrong_with_rows_is_said_and_nothing_is_taken_in() -> None:
    held = filled({1: 10})
    with pytest.raises(UnknownColumnError, match=r"KeyedRows.put: no column 'n'"):
        held.put(pl.DataFrame({"key": [2], "m": [1]}))
    with pytest.raises(StepError, match=r"KeyedRows.put: column 'n' is String; it must be Int64"):
        held.put(pl.DataFrame({"key": [2], "n": ["x"]}))
    with pytest.raises(StepError, match="column 'key' is Int32; it must be Int64"):
        held.get(pl.DataFrame({"key": [2]}, schema={"key": pl.Int32}))
    assert held.frame().rows() == [(1, 10)]
    assert held.slots_of(keys([2]), insert=False).tolist() == [-1]


def test_columns_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(PlanError, match=r"\['a'\] are key and value columns at once"):
        KeyedRows(pl.Schema({"a": pl.Int64, "b": pl.Int64}), pl.Schema({"a": pl.Int64}))
    marked = pl.Schema({DELETED: pl.Boolean})
    for key_columns, value_columns in ((marked, VALUES), (KEYS, marked)):
        with pytest.raises(PlanError, match="a column is called '_deleted'"):
            KeyedRows(key_columns, value_columns)
    with pytest.raises(PlanError, match="no key column"):
        KeyedRows(pl.Schema({}), VALUES)


def test_changes_are_the_newest_rows_of_what_changed_and_the_deleted_keys() -> None:
    held = filled(dict.fromkeys(range(100), 0))
    [(number, first)] = held.changes().put
    assert number == 0
    assert first.schema == pl.Schema({**KEYS, **VALUES, DELETED: pl.Boolean()})
    assert first.height == 100
    held.put(rows({3: 1, 200: 1, 300: 1}))
    held.put(rows({3: 2}))
    held.delete(keys([7, 300]))
    changes = held.changes()
    assert changes.dropped == []
    [(number, newer)] = changes.put
    assert (number, sorted(newer.rows())) == (1, [(3, 2, False), (7, None, True), (200, 1, False)])
    assert held.changes().put == []


def test_a_key_that_came_and_went_between_two_changes_leaves_no_trace() -> None:
    held = filled({1: 10})
    held.delete(keys([1]))
    assert len(held._index) == 0
    changes = held.changes()
    assert (changes.put, changes.dropped, held.live_runs()) == ([], [], [])


def test_a_key_in_the_slot_of_one_that_was_kept_leaves_no_trace_either() -> None:
    held, store = filled({1: 10}), Store()
    store.keep(held)
    held.delete(keys([1]))
    store.keep(held)
    held.put(rows({2: 20}))
    held.delete(keys([2]))
    assert len(held._index) == 0
    assert held.changes().put == []


def test_a_run_takes_in_the_one_before_when_it_outgrows_half_of_it() -> None:
    held = filled(dict.fromkeys(range(100), 0))
    held.changes()
    held.put(rows(dict.fromkeys(range(50), 1)))
    assert held.changes().dropped == []
    held.put(rows(dict.fromkeys(range(40, 66), 2)))
    changes = held.changes()
    assert changes.dropped == [0, 1]
    [(number, run)] = changes.put
    assert (number, held.live_runs()) == (2, [2])
    assert run.drop(DELETED).equals(held.frame())


def test_a_deleted_key_is_marked_until_the_oldest_run_is_taken_in() -> None:
    held, store = filled(dict.fromkeys(range(100), 0)), Store()
    store.keep(held)
    held.delete(keys([5]))
    assert held.slots_of(keys([5]), insert=False).tolist() == [-1]
    store.keep(held)
    held.put(rows({6: 1}))
    store.keep(held)
    assert {n: run.height for n, run in store.runs.items()} == {0: 100, 2: 2}
    assert (5, None, True) in store.runs[2].rows()
    assert len(held._index) == 100
    held.put(rows(dict.fromkeys(range(20, 80), 1)))
    store.keep(held)
    [(_, run)] = store.runs.items()
    assert run.height == 99
    assert not run[DELETED].any()
    assert len(held._index) == 99


def test_a_deleted_key_stays_deleted_over_restarts_and_is_forgotten_in_the_end() -> None:
    held, store = filled(dict.fromkeys(range(100), 0)), Store()
    store.keep(held)
    held.delete(keys([5]))
    store.keep(held)
    for step in range(3):
        held = store.restored()
        assert held.slots_of(keys([5]), insert=False).tolist() == [-1]
        held.put(rows({6 + step: 1}))
        held.delete(keys([90 + step]))
        store.keep(held)
        assert min(store.runs) == 0
    held = store.restored()
    assert len(held) == 96
    held.put(rows(dict.fromkeys(range(20, 80), 1)))
    store.keep(held)
    assert len(held._index) == 96
    assert store.restored().frame().equals(held.frame())


def test_when_all_rows_are_gone_an_empty_run_carries_the_numbers_on() -> None:
    held, store = filled({1: 10, 2: 20}), Store()
    store.keep(held)
    held.delete(keys([1, 2]))
    store.keep(held)
    assert {n: run.height for n, run in store.runs.items()} == {1: 0}
    assert len(held._index) == 0
    restored = store.restored()
    restored.put(rows({3: 30}))
    changes = restored.changes()
    assert ([n for n, _ in changes.put], changes.dropped) == ([2], [1])


def test_runs_stay_few_and_a_row_is_written_few_times() -> None:
    random.seed(4)
    held, store = KeyedRows(KEYS, VALUES), Store()
    for step in range(400):
        held.put(rows(dict.fromkeys(random.sample(range(2000), 20), step)))
        held.delete(keys(random.sample(range(2000), 3)))
        store.keep(held)
        sizes = [len(run.slots) for run in held._runs]
        assert all(2 * newer <= older for older, newer in pairwise(sizes))
        assert len(sizes) <= math.log2(2000)
    assert store.written <= 400 * 23 * math.log2(2000)
    assert store.restored().frame().sort("key").equals(held.frame().sort("key"))


def test_the_store_restores_the_rows_and_their_order() -> None:
    random.seed(8)
    held, store = KeyedRows(KEYS, VALUES), Store()
    for step in range(100):
        held.put(rows(dict.fromkeys(random.sample(range(10 * step, 10 * step + 30), 12), step)))
        store.keep(held)
        held.delete(keys([10 * step + 5]))
    store.keep(held)
    assert len(store.runs) > 1
    restored = store.restored()
    assert restored.frame().equals(held.frame())
    assert restored.changes().put == []


def test_a_key_deleted_and_put_again_is_last_now_and_may_be_where_it_was_after_a_restart() -> None:
    held, store = filled({3: 1, 1: 1, 2: 1}), Store()
    store.keep(held)
    held.delete(keys([1]))
    held.put(rows({1: 5}))
    store.keep(held)
    assert held.frame().rows() == [(3, 1), (2, 1), (1, 5)]
    assert store.restored().frame().rows() == [(3, 1), (1, 5), (2, 1)]


def test_a_run_may_come_cut_in_frames() -> None:
    held = filled(dict.fromkeys(range(100), 7))
    [(number, run)] = held.changes().put
    held.delete(keys(range(10)))
    [(newer, gone)] = held.changes().put
    restored = KeyedRows(KEYS, VALUES)
    cut = [(number, run[90:]), (number, run[:40]), (number, run[40:90])]
    restored.load([*cut, (newer, gone[5:]), (newer, gone[:0]), (newer, gone[:5])])
    assert restored.frame().sort("key").equals(held.frame())
    assert restored.live_runs() == [number, newer]


def test_runs_that_are_not_what_was_kept_are_refused() -> None:
    [(_, run)] = filled({1: 10}).changes().put
    with pytest.raises(StateDamagedError, match="run 1 after run 2; sort them first"):
        KeyedRows(KEYS, VALUES).load([(2, run), (1, run)])
    with pytest.raises(StateDamagedError, match=r"KeyedRows.load, run 4: no column '_deleted'.*Did you mean"):
        KeyedRows(KEYS, VALUES).load([(4, run.rename({DELETED: "deleted"}))])
    with pytest.raises(StateDamagedError, match="run 4: column 'n' is Float64; it must be Int64"):
        KeyedRows(KEYS, VALUES).load([(4, run), (4, run.cast({"n": pl.Float64}))])
    with pytest.raises(StateDamagedError, match="run 4: '_deleted' is null"):
        KeyedRows(KEYS, VALUES).load([(4, run.with_columns(pl.lit(None, pl.Boolean).alias(DELETED)))])


def test_rows_are_loaded_into_an_object_without_rows_only() -> None:
    held = filled({1: 10})
    runs = held.changes().put
    with pytest.raises(StateError, match="1 keys are here already; load into a new object"):
        held.load(runs)
    assert held.frame().rows() == [(1, 10)]


def test_memory_does_not_grow_with_what_came_and_went() -> None:
    held, sizes = KeyedRows(KEYS, VALUES), []
    for step in range(200):
        window = range(1000 * step, 1000 * step + 1000)
        held.put(rows(dict.fromkeys(window, step)))
        held.put(rows(dict.fromkeys(window, step + 1)))
        held.changes()
        held.delete(keys(window))
        sizes.append(held.estimated_size())
    assert len(held) == 0
    assert max(sizes[10:]) <= max(sizes[:10])
    assert len(held._index) <= 2000
