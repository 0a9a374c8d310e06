"""`KeyedRows` and a plain dict tell the same story, through any writes, crashes and restarts, with good hashes and bad."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.engine.held import key_index, slot_frame
from streamlab.engine.held.key_index import Hashes, KeyIndex
from streamlab.engine.held.keyed_rows import DELETED, KeyedRows

Key = tuple[Any, ...]
Row = tuple[Any, ...]

VALUES = pl.Schema({"n": pl.Int64(), "text": pl.String(), "list": pl.List(pl.Float64)})
FLOATS = st.sampled_from([0.0, -0.0, math.nan, 1.5, math.inf, None])
TEXTS = st.sampled_from(["", "a", "b", "longer than twelve bytes", None])
INTEGERS = st.one_of(st.none(), st.integers(-3, 3))
LISTS = st.none() | st.lists(FLOATS, max_size=2)
STRUCTS = st.none() | st.fixed_dictionaries({"a": FLOATS, "b": TEXTS})
FEW = st.tuples(FLOATS, st.sampled_from([True, False, None]), st.sampled_from(["x", "y", None]))
KEYS: dict[str, tuple[pl.Schema, st.SearchStrategy[Key]]] = {
    "text": (pl.Schema({"k": pl.String}), st.tuples(TEXTS)),
    "integer": (pl.Schema({"k": pl.Int64}), st.tuples(st.integers(0, 30))),
    "float": (pl.Schema({"k": pl.Float64}), st.tuples(FLOATS)),
    "date": (pl.Schema({"k": pl.Date}), st.tuples(st.dates(dt.date(1969, 12, 28), dt.date(1970, 1, 4)) | st.none())),
    "two": (pl.Schema({"a": pl.Int64, "b": pl.String}), st.tuples(INTEGERS, TEXTS)),
    "three": (pl.Schema({"a": pl.Float64(), "b": pl.Boolean(), "c": pl.Enum(["x", "y"])}), FEW),
    "struct": (pl.Schema({"k": pl.Struct({"a": pl.Float64, "b": pl.String})}), st.tuples(STRUCTS)),
    "list": (pl.Schema({"k": pl.List(pl.Float64)}), st.tuples(LISTS)),
}
VALUE_ROWS = st.tuples(INTEGERS, TEXTS, LISTS)


def same(value: Any) -> Any:
    """Return a stand-in that Python compares as polars groups."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    if isinstance(value, dict):
        return tuple(same(part) for _, part in sorted(value.items()))
    return tuple(same(part) for part in value) if isinstance(value, (list, tuple)) else value


def modulo(n: int) -> key_index.HashRows:
    def hash_rows(keys: pl.DataFrame) -> Hashes:
        return keys.hash_rows(1).to_numpy() % np.uint64(n)

    return hash_rows


HASHES = st.sampled_from([None, modulo(3), modulo(1)])


@dataclass
class Story:
    """The rows, what a dict says they are, and what a store has of both."""

    keys: pl.Schema
    hash_rows: key_index.HashRows | None
    model: dict[Any, Row] = field(default_factory=dict)
    slots: dict[Any, int] = field(default_factory=dict)
    store: dict[int, pl.DataFrame] = field(default_factory=dict)
    stored_model: dict[Any, Row] = field(default_factory=dict)
    newest_run: int = -1

    def __post_init__(self) -> None:
        self.rows = KeyedRows(self.keys, VALUES, hash_rows=self.hash_rows)

    def key_frame(self, keys: list[Key]) -> pl.DataFrame:
        return pl.DataFrame(keys, schema=self.keys, orient="row")

    def put(self, rows: list[tuple[Key, Row]]) -> None:
        self.rows.put(pl.DataFrame([key + row for key, row in rows], schema={**self.keys, **VALUES}, orient="row"))
        self.model.update({same(key): row for key, row in rows})

    def get(self, keys: list[Key]) -> None:
        values, found = self.rows.get(self.key_frame(keys))
        assert values.schema == VALUES
        assert found.tolist() == [same(key) in self.model for key in keys]
        nothing = (None,) * len(VALUES)
        assert same(values.rows()) == same([self.model.get(same(key), nothing) for key in keys])

    def get_then_put(self, rows: list[tuple[Key, Row]]) -> None:
        self.get([key for key, _ in rows])
        self.put(rows)

    def delete(self, keys: list[Key]) -> None:
        self.rows.delete(self.key_frame(keys))
        for key in keys:
            self.model.pop(same(key), None)
            self.slots.pop(same(key), None)

    def hold_slots(self, keys: list[Key]) -> None:
        slots = self.rows.slots_of(self.key_frame(keys), insert=True).tolist()
        for key, slot in zip(keys, slots, strict=True):
            assert self.slots.setdefault(same(key), slot) == slot
        assert len(set(self.slots.values())) == len(self.slots)
        assert self.rows.slots_of(self.key_frame(keys), insert=False).tolist() == slots
        assert self.rows.has(np.array(slots, np.int64)).tolist() == [same(key) in self.model for key in keys]

    def commit(self) -> None:
        changes = self.rows.changes()
        assert len(changes.put) <= 1
        for number, frame in changes.put:
            assert number > self.newest_run
            assert not frame.select(pl.struct(list(self.keys)).is_duplicated().any()).item()
            self.newest_run, self.store[number] = number, frame
        for number in changes.dropped:
            del self.store[number]
        assert sorted(self.store) == self.rows.live_runs()
        assert not self.store or not self.store[min(self.store)][DELETED].any()
        assert self.rows.changes().put == []
        self.stored_model = dict(self.model)

    def restart(self, piece: int) -> None:
        """Go on from what the store has; runs come cut in pieces, their rows in another order."""
        pieces = [
            (number, frame[list(range(at, min(at + piece, frame.height)))[::-1]])
            for number, frame in sorted(self.store.items(), key=lambda run: run[0])
            for at in range(0, frame.height + 1, piece)
        ]
        self.rows, self.model, self.slots = KeyedRows(self.keys, VALUES, hash_rows=self.hash_rows), {}, {}
        self.rows.load(pieces)
        assert self.rows.live_runs() == sorted(self.store)
        assert self.rows.changes().put == []
        self.model = {same(row[: len(self.keys)]): row[len(self.keys) :] for row in self.rows.frame().rows()}
        assert {key: same(row) for key, row in self.model.items()} == {
            key: same(row) for key, row in self.stored_model.items()
        }

    def check(self) -> None:
        frame = self.rows.frame()
        assert frame.schema == pl.Schema({**self.keys, **VALUES})
        assert same(frame.rows()) == same([(*key, *row) for key, row in self.model.items()])
        assert len(self.rows) == len(self.model)


@st.composite
def stories(draw: st.DrawFn) -> tuple[Story, list[tuple[str, Any]]]:
    kind = draw(st.sampled_from(sorted(KEYS)))
    schema, key = KEYS[kind]
    keys, rows = st.lists(key, max_size=6), st.lists(st.tuples(key, VALUE_ROWS), max_size=12)
    step = st.one_of(
        st.tuples(st.just("put"), rows),
        st.tuples(st.just("get_then_put"), rows),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("hold_slots"), keys),
        st.tuples(st.just("commit"), st.none()),
        st.tuples(st.just("restart"), st.integers(1, 20)),
    )
    steps = draw(st.lists(step, min_size=12, max_size=24))  # lists without a least length are mostly too short to tell
    if kind == "integer" and draw(st.booleans()):  # runs that are not at once taken in by the newest
        steps = [("put", [((number,), (0, None, None)) for number in range(31)]), ("commit", None), *steps]
    return Story(schema, draw(HASHES)), steps


@settings(max_examples=150, deadline=None)
@given(told=stories(), many=st.sampled_from([1, 4096]), slack=st.sampled_from([0, 256]))
def test_any_writes_crashes_and_restarts_leave_what_a_dict_would_have(
    told: tuple[Story, list[tuple[str, Any]]], many: int, slack: int
) -> None:
    story, steps = told
    with (
        patch.object(key_index, "_MANY", many),
        patch.object(slot_frame, "_MANY", many),
        patch.object(slot_frame, "_SLACK", slack),
    ):
        for name, given_ in steps:
            getattr(story, name)(*([] if given_ is None else [given_]))
            story.check()
        story.commit()
        story.restart(3)
        story.check()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(KEYS)), n=st.integers(1, 4))
def test_slots_do_not_depend_on_the_hash(data: st.DataObject, kind: str, n: int) -> None:
    schema, key = KEYS[kind]
    indexes = [KeyIndex(schema), KeyIndex(schema, hash_rows=modulo(n))]
    for _ in range(data.draw(st.integers(1, 8))):
        keys = pl.DataFrame(data.draw(st.lists(key, max_size=12)), schema=schema, orient="row")
        insert, release = data.draw(st.booleans()), data.draw(st.booleans())
        slots = [index.slots(keys, insert=insert) for index in indexes]
        assert slots[0].tolist() == slots[1].tolist()
        if release:
            for index in indexes:
                index.release(slots[0][slots[0] >= 0])
        assert len(indexes[0]) == len(indexes[1])
