"""Helpers to commit to stores, and to be somebody without the rights of root."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamlab.state import folders
from streamlab.state.folders import STATE_DIR
from streamlab.state.store import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from streamlab.state.store import Store

NOBODY = 65534


class Commit:
    """Stages, and promotes, checkpoints that follow the head."""

    @staticmethod
    def stage(store: Store, put: Mapping[str, bytes], delete: Collection[str] = ()) -> Checkpoint:
        number = store.head.number if store.head else 0
        checkpoint = Checkpoint.after(store.head, plan="p", offsets={"flights": {0: number + 1}})
        store.stage(checkpoint, put, delete)
        return checkpoint

    def __call__(self, store: Store, put: Mapping[str, bytes], delete: Collection[str] = ()) -> Checkpoint:
        checkpoint = self.stage(store, put, delete)
        store.promote()
        return checkpoint


@pytest.fixture
def commit() -> Commit:
    return Commit()


@pytest.fixture
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setattr(folders, "_temporary", set())  # those of embedded brokers that other tests use
    monkeypatch.setenv(STATE_DIR, str(folder))
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that other users can get to, unlike those of tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def powerless() -> Callable[[], AbstractContextManager[None]]:
    """Give a context in which files have the rights that they show, also when the tests are run by root."""

    @contextmanager
    def context() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(user)

    return context
