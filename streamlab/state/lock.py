"""A lock that one process holds on a file, and that says who it is.

The lock is the kernel's (`flock`), so it ends with its holder, however that ends. The file of the lock stays; it names the
holder, and is emptied by a clean release. So what is still written in it when nobody holds it tells of an unclean stop.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import weakref
from typing import TYPE_CHECKING

from streamlab.errors import StateLockedError
from streamlab.state.folders import not_writable

if TYPE_CHECKING:
    from pathlib import Path

_POLL = 0.01  # seconds between two tries


class FileLock:
    """The exclusive lock of a file, from the moment it is made until `release`.

    Parameters
    ----------
    guarded
        The file that the lock is for: its own is beside it, named `<guarded>.lock`.
    patience
        Seconds to wait while somebody else holds it.

    Raises
    ------
    StateLockedError
        Somebody else holds it: another process, or another object of this one.
    StateError
        The lock's file cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = FileLock(Path(folder) / "state.sqlite")
    ...     lock.left_open
    ...     lock.release()
    False
    """

    def __init__(self, guarded: Path, *, patience: float = 0.0) -> None:
        path = guarded.with_name(guarded.name + ".lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise not_writable(path.parent, error) from error
        self._close = weakref.finalize(self, os.close, self._file)  # a lock that is lost is released
        try:
            _acquire(self._file, guarded, time.monotonic() + patience)
            self.left_open = bool(_read(self._file))
            """Whether the last holder stopped without a clean release."""
            _write(self._file, f"{os.getpid()} {socket.gethostname()}\n".encode())
        except OSError as error:
            self._close()
            raise not_writable(path.parent, error) from error
        except StateLockedError:
            self._close()
            raise

    def release(self, *, clean: bool = True) -> None:
        """Let go; `clean=False` leaves the mark of an unclean stop."""
        if self._close.alive:
            if clean:
                os.ftruncate(self._file, 0)
            self._close()


def _acquire(file: int, guarded: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise StateLockedError(
                    f"{guarded}: {_holder(file)} holds it. Stop that first, or run under another pipeline name."
                ) from error
            time.sleep(_POLL)
        else:
            return


def _holder(file: int) -> str:
    process, _, host = _read(file).decode(errors="replace").strip().partition(" ")
    if not process:
        return "another process"
    if process == str(os.getpid()) and host == socket.gethostname():
        return f"another query of this process (pid {process})"
    return f"process {process} on host {host!r}"


def _read(file: int) -> bytes:
    return os.pread(file, 300, 0)


def _write(file: int, text: bytes) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text, 0)
    os.fsync(file)  # the mark must be there after a power cut: that is what it is for
