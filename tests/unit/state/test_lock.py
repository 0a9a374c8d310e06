from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamlab.errors import StateError, StateLockedError
from streamlab.state.lock import FileLock

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from streamlab.state.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
if sys.stdin.readline() == "release\\n":
    lock.release()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_lock_in_this_process_is_refused_and_says_so(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "state")
    with pytest.raises(StateLockedError, match=rf"another query of this process \(pid {os.getpid()}\) holds it"):
        FileLock(tmp_path / "state")
    lock.release()
    FileLock(tmp_path / "state").release()


def test_another_process_that_holds_it_is_named(tmp_path: Path) -> None:
    with hold(tmp_path / "state") as holder:
        with pytest.raises(StateLockedError, match=rf"{tmp_path}/state: process {holder.pid} on host"):
            FileLock(tmp_path / "state")
        holder.communicate("release\n", timeout=30)
    lock = FileLock(tmp_path / "state")
    assert not lock.left_open
    lock.release()


def test_a_killed_holder_leaves_the_lock_free_and_a_mark_of_it(tmp_path: Path) -> None:
    with hold(tmp_path / "state") as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(30)
    lock = FileLock(tmp_path / "state")
    assert lock.left_open
    lock.release(clean=False)
    lock = FileLock(tmp_path / "state")
    assert lock.left_open
    lock.release()
    lock = FileLock(tmp_path / "state")
    assert not lock.left_open
    lock.release()


def test_who_waits_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    with hold(tmp_path / "state") as holder:
        assert holder.stdin is not None
        holder.stdin.write("release\n")
        holder.stdin.flush()
        FileLock(tmp_path / "state", patience=30).release()


def test_who_waits_in_vain_gives_up(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "state")
    with pytest.raises(StateLockedError):
        FileLock(tmp_path / "state", patience=0.05)
    lock.release()


def test_a_lock_that_is_lost_is_released(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "state")
    del lock
    gc.collect()
    lock = FileLock(tmp_path / "state")
    assert lock.left_open
    lock.release()


def test_releasing_twice_does_not_close_a_file_of_somebody_else(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "state")
    lock.release()
    with (tmp_path / "other").open("w") as other:  # likely under the number that the lock had
        lock.release()
        assert other.write("still open") == len("still open")


def test_the_lock_is_for_this_user_alone(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "state")
    assert (tmp_path / "state.lock").stat().st_mode & 0o777 == 0o600
    lock.release()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=rf"{tmp_path}/missing: No such file .* STREAMLAB_STATE_DIR"):
        FileLock(tmp_path / "missing" / "state")
