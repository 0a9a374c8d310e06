from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.errors import StateDamagedError, StateError
from streamlab.state.snapshot import ReadOnlySnapshot
from streamlab.state.sqlite import SqliteStore
from streamlab.state.store import FORMAT, Checkpoint, Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FIELDS: dict[str, Any] = {"plan": "p", "offsets": {"flights": {0: 1}}}


def test_the_sqlite_store_is_a_store() -> None:
    with SqliteStore.temporary() as store:
        as_store: Store = store  # checked by mypy
        assert as_store.head is None
        assert not hasattr(ReadOnlySnapshot, "stage")


@settings(deadline=None)
@given(
    offsets=st.dictionaries(
        st.text(min_size=1), st.dictionaries(st.integers(0, 2**31), st.integers(0, 2**63)), max_size=3
    ),
    progress=st.dictionaries(st.text(), JSON, max_size=3),
    steps=st.dictionaries(st.text(), st.text(min_size=1), max_size=3),
)
def test_a_checkpoint_comes_back_from_json_as_it_was(
    offsets: dict[str, dict[int, int]], progress: dict[str, Any], steps: dict[str, str]
) -> None:
    checkpoint = Checkpoint.after(None, plan="p", offsets=offsets, progress=progress, steps=steps)
    assert Checkpoint.from_json(checkpoint.to_json()) == checkpoint
    assert Checkpoint.from_json(checkpoint.to_json().encode()) == checkpoint


def test_the_same_checkpoint_gives_the_same_text_in_whatever_order_its_parts_came() -> None:
    one = Checkpoint("i", None, 1, "p", {"a": {0: 1, 1: 2}, "b": {}}, {"x": 1, "y": 2}, {})
    other = Checkpoint("i", None, 1, "p", {"b": {}, "a": {1: 2, 0: 1}}, {"y": 2, "x": 1}, {})
    assert one.to_json() == other.to_json()


def test_mappings_that_are_no_dicts_are_written_as_well() -> None:
    offsets = MappingProxyType({"flights": MappingProxyType({0: 1})})
    checkpoint = Checkpoint.after(None, plan="p", offsets=offsets, progress=MappingProxyType({"mark": 3}))
    assert Checkpoint.from_json(checkpoint.to_json()).offsets == {"flights": {0: 1}}


def test_a_checkpoint_follows_its_parent_under_an_id_of_its_own() -> None:
    first = Checkpoint.after(None, **FIELDS)
    second, other = Checkpoint.after(first, **FIELDS), Checkpoint.after(first, **FIELDS)
    assert (first.number, first.parent) == (1, None)
    assert (second.number, second.parent) == (2, first.id)
    assert second.id != other.id


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "Out of range float"),
        ((1, 2), "would read back as"),
        ({1: "a"}, "would read back as"),
        (b"bytes", "bytes is not JSON serializable"),
        (np.int64(3), "int64 is not JSON serializable"),
        ({"a": 1, 2: 3}, "not supported between"),
    ],
)
def test_progress_that_json_would_change_is_refused_when_it_is_written(value: object, told: str) -> None:
    checkpoint = Checkpoint.after(None, **FIELDS, progress={"x": value})
    with pytest.raises(StateError, match=told):
        checkpoint.to_json()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"plan": 3}, "plan is 3, not a text"),
        ({"offsets": {"flights": {0: "1"}}}, "the offset of 'flights' is '1'"),
        ({"offsets": {"flights": {"0": 1}}}, "a partition of 'flights' is '0'"),
        ({"offsets": {"flights": {0: -1001}}}, "-1001, not a whole number from 0"),
        ({"offsets": {"flights": {0: True}}}, "True, not a whole number"),
        ({"steps": {"delays": None}}, r"steps\['delays'\] is None"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_where_it_is_made(change: dict[str, Any], told: str) -> None:
    with pytest.raises(StateError, match=told):
        Checkpoint.after(None, **(FIELDS | change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "3",
        '{"version": 1}',
        '{"version": "1"}',
        b"\xff\xfe",
        "[" * 100_000,
        '{"version": 1, "offsets": []}',
        '{"version": 1, "offsets": {"t": {"x": 1}}}',
        '{"version": 1, "offsets": {}, "more": 1}',
        '{"version":1,"id":"i","parent":null,"number":1,"plan":7,"offsets":{},"progress":{},"steps":{}}',
        '{"version":1,"id":"i","parent":null,"number":1,"plan":"p","offsets":{},"progress":{},"steps":7}',
    ],
)
def test_what_is_no_checkpoint_is_damage(text: str | bytes) -> None:
    with pytest.raises(StateDamagedError, match="checkpoint: not"):
        Checkpoint.from_json(text)


def test_a_checkpoint_of_a_newer_format_is_told_from_damage() -> None:
    record = json.loads(Checkpoint.after(None, **FIELDS).to_json()) | {"version": FORMAT + 1, "new": "field"}
    with pytest.raises(StateError, match=f"format {FORMAT + 1} is newer than {FORMAT}") as caught:
        Checkpoint.from_json(json.dumps(record))
    assert not isinstance(caught.value, StateDamagedError)
