"""What the tests start in order to kill it: a process that commits to a store.

hold PATH         open the store, say so, and wait for a line
step PATH N       stage and promote one checkpoint, and die by SIGKILL right before the N-th statement of it
load PATH         commit for ever, a line per commit
full PATH BYTES   commit with files limited to so many bytes, until that is refused; then commit something small
"""

from __future__ import annotations

import os
import resource
import signal
import sys

from streamlab.errors import StateError
from streamlab.state.sqlite import SqliteStore
from streamlab.state.store import Checkpoint

ALL = 1_000_000


def contents(number: int, kept: int = 3) -> dict[str, bytes]:
    """Return what a store holds at its checkpoint of this number: the last segments."""
    return {f"load/{n:06d}": blob(n) for n in range(max(number - kept + 1, 1), number + 1)}


def blob(number: int) -> bytes:
    return number.to_bytes(4, "big") * 40_000


def stage_next(store: SqliteStore, kept: int = 3) -> int:
    number = store.head.number + 1 if store.head else 1
    checkpoint = Checkpoint.after(store.head, plan="p", offsets={"flights": {0: number}})
    gone = [f"load/{number - kept:06d}"] if number > kept else []
    store.stage(checkpoint, {f"load/{number:06d}": blob(number)}, gone)
    return number


def die_at(store: SqliteStore, statement: int) -> None:
    seen = 0

    def count(_: str) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    store._db.set_trace_callback(count)


def main(mode: str, path: str, *more: str) -> None:
    store = SqliteStore(path)
    if mode == "hold":
        print("held", flush=True)  # noqa: T201 - it is how the test knows
        sys.stdin.readline()
    elif mode == "step":
        die_at(store, int(more[0]))
        stage_next(store)
        store.promote()
    elif mode == "load":
        while True:
            number = stage_next(store)
            store.promote()
            print(number, flush=True)  # noqa: T201 - it is how the test knows
    elif mode == "full":
        fill(store, int(more[0]))
    store.close()


def fill(store: SqliteStore, limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        while True:
            stage_next(store, ALL)
            store.promote()
    except StateError as error:
        print(error)  # noqa: T201 - the test reads it
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.discard()
    stage_next(store, ALL)
    store.promote()
    print(store.head.number if store.head else 0)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(*sys.argv[1:])
