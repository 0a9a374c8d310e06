"""The SQLite store against a dictionary that does the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamlab.errors import StateError
from streamlab.state.snapshot import read_head
from streamlab.state.sqlite import SqliteStore
from streamlab.state.store import Checkpoint, Size

KEYS = st.sampled_from([f"{step}/{n}" for step in ("a", "ab", "ä") for n in range(6)])
BLOBS = st.binary(max_size=40) | st.integers(5_000, 60_000).map(bytes)


class StoreMachine(RuleBasedStateMachine):
    """Any order of stage, promote, discard, clear, restarts and crashes leaves what the model says."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = SqliteStore(self.folder / "0" / "state.sqlite")
        self.homes = 1
        self.head: Checkpoint | None = None
        self.segments: dict[str, bytes] = {}
        self.prepared: Checkpoint | None = None
        self.staged: dict[str, bytes] = {}

    @rule(put=st.dictionaries(KEYS, BLOBS, max_size=5), data=st.data())
    def stage(self, put: dict[str, bytes], data: Any) -> None:
        delete = data.draw(st.sets(st.sampled_from(sorted(self.segments)))) if self.segments else set()
        number = self.head.number if self.head else 0
        checkpoint = Checkpoint.after(
            self.head, plan="p", offsets={"t": {0: number}}, progress={"mark": [number, None]}
        )
        if self.prepared is not None or put.keys() & self.segments.keys():
            with pytest.raises(StateError):
                self.store.stage(checkpoint, put, delete)
            return
        self.store.stage(checkpoint, put, delete)
        self.prepared = checkpoint
        self.staged = {key: blob for key, blob in self.segments.items() if key not in delete} | put

    @rule()
    def promote(self) -> None:
        if self.prepared is None:
            with pytest.raises(StateError):
                self.store.promote()
            return
        self.store.promote()
        self.head, self.segments, self.prepared = self.prepared, self.staged, None

    @rule()
    def discard(self) -> None:
        self.store.discard()
        self.prepared = None

    @precondition(lambda self: len(self.segments) > 8)
    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.head, self.segments, self.prepared = None, {}, None

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = SqliteStore(self.store.path)

    @rule()
    def crash(self) -> None:
        """Go on from what a kill would leave on disk."""
        image = self.folder / str(self.homes)
        shutil.copytree(self.store.path.parent, image)
        (image / "state.sqlite-shm").unlink(missing_ok=True)
        self.store.close()
        self.store, self.homes = SqliteStore(image / "state.sqlite"), self.homes + 1

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        if not hasattr(self, "store"):
            return
        assert (self.store.head, self.store.prepared) == (self.head, self.prepared)
        assert list(self.store.segments()) == sorted(self.segments.items(), key=lambda item: item[0].encode())
        assert [key for key, _ in self.store.segments("a/")] == sorted(k for k in self.segments if k.startswith("a/"))
        assert self.store.size() == Size(sum(map(len, self.segments.values())), len(self.segments))
        with read_head(self.store.path) as snapshot:
            assert (snapshot.checkpoint, dict(snapshot.segments())) == (self.head, self.segments)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store._db.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
            self.store.close()
            shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_the_store_does_what_a_dictionary_does = StoreMachine.TestCase
