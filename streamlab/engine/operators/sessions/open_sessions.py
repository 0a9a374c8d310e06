"""The sessions that are open: found by key, dropped by time, kept by a store.

A session has a slot, under which arrays hold its bounds and a frame what is kept of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.held.due import Due
from streamlab.engine.held.key_index import KeyIndex, distinct
from streamlab.engine.held.row_store import RowStore
from streamlab.engine.operator import of_keys
from streamlab.engine.operators.sessions.cut import NONE
from streamlab.engine.operators.sessions.lists import SessionLists
from streamlab.engine.operators.sessions.runs import SessionRuns, newest
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamlab.engine.batch import Bools, Ints

FIRST, LAST = f"{RESERVED}first", f"{RESERVED}last"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions as columns: number of their key, task, bounds, and what is kept of each."""

    key: Ints
    lane: Ints
    first: Ints
    last: Ints
    kept: pl.DataFrame

    def where(self, mask: Bools) -> Sessions:
        """Return those where `mask` is true."""
        if mask.all():
            return self
        kept = self.kept.filter(pl.Series(mask))
        return Sessions(self.key[mask], self.lane[mask], self.first[mask], self.last[mask], kept)

    def and_(self, other: Sessions) -> Sessions:
        """Return these and others."""
        return Sessions(
            np.concatenate([self.key, other.key]),
            np.concatenate([self.lane, other.lane]),
            np.concatenate([self.first, other.first]),
            np.concatenate([self.last, other.last]),
            pl.concat([self.kept, other.kept]),
        )


class OpenSessions:
    """Open sessions with what is kept of each.

    Parameters
    ----------
    keys
        Names and types of the key columns.
    kept
        Names and types of what is kept of a session.
    """

    def __init__(self, keys: pl.Schema, kept: pl.Schema) -> None:
        self._index = KeyIndex(keys)
        self._lists = SessionLists()
        self._kept = RowStore(kept)
        self._runs = SessionRuns()
        self._due: dict[int, Due] = {}  # by lane
        self._due_at, self._lane, self._first = (np.empty(0, np.int64) for _ in range(3))
        self._free = np.empty(0, np.int64)  # a stack, as long as there are slots
        self._unused = 0  # how high it stands

    def __len__(self) -> int:
        return len(self._free) - self._unused

    # --- found ---

    def keys(self, rows: pl.DataFrame) -> Ints:
        """Return the number of each row's key; one that is new gets one, until `release`."""
        keys = self._index.slots(rows, insert=True)
        self._lists.hold(int(keys.max(initial=0)))
        return keys

    def columns(self, keys: Ints) -> pl.DataFrame:
        """Return the key columns of keys."""
        return self._index.keys(keys)

    def near(self, keys: Ints, time: Ints, gap: int) -> tuple[Ints, Ints, Ints]:
        """Return the distinct keys of rows, the slots of sessions that they may come to, and by key the newest one that is too old."""
        return self._lists.near(keys, time, gap)

    def take(self, slots: Ints) -> Sessions:
        """Return the sessions in slots."""
        key, last = self._lists.key[slots], self._lists.last[slots]
        return Sessions(key, self._lane[slots], self._first[slots], last, self._kept.take(slots))

    def all(self) -> Ints:
        """Return the slots of all sessions."""
        return np.flatnonzero(self._due_at != NONE)

    def of(self, key: pl.DataFrame | None) -> Sessions:
        """Return the sessions of keys; None: all. Looks through all of them."""
        slots = self.all()
        keys = self._index.keys(self._lists.key[slots]).with_columns(pl.Series(FIRST, slots))
        return self.take(of_keys(keys, key)[FIRST].to_numpy())

    # --- changed ---

    def put(self, sessions: Sessions, slots: Ints) -> Ints:
        """Set sessions in slots, or in new ones where that is NONE, and return the slots; `link` must follow."""
        new = slots == NONE
        slots = slots.copy()
        slots[new] = self._take_free(int(new.sum()))
        self._lists.key[slots], self._lists.last[slots] = sessions.key, sessions.last
        self._lane[slots], self._first[slots] = sessions.lane, sessions.first
        self._kept.put(slots, sessions.kept)
        self._runs.change(slots)
        self._await(slots[new])
        return slots

    def link(self, keys: Ints, older: Ints, slots: Ints) -> None:
        """Let the sessions of distinct keys be those in slots, and those from `older` on, as `near` gave them."""
        self._lists.link(keys, older, slots)

    def drop(self, slots: Ints) -> None:
        """Forget sessions that are in no list any more; none may repeat."""
        self._kept.drop(slots)
        self._runs.forget(slots)
        self._due_at[slots] = self._lists.key[slots] = NONE
        self._free[self._unused : self._unused + len(slots)] = slots
        self._unused += len(slots)

    def expire(self, before: Ints) -> Sessions:
        """Take out the sessions that end before a time, given by lane."""
        closed = [np.empty(0, np.int64)]
        for lane, due in self._due.items():
            if lane >= len(before):
                continue
            times, slots = due.take(int(before[lane]))
            # a slot may have gone to another session since, and that may even be due at the same time
            slots = distinct(slots[(self._due_at[slots] == times) & (self._lane[slots] == lane)])
            ends = self._lists.last[slots] < before[lane]
            closed.append(slots[ends])
            self._await(slots[~ends])
        slots = np.concatenate(closed)
        sessions = self.take(slots)
        self._lists.unlink(slots)
        self.drop(slots)
        return sessions

    def release(self, keys: Ints) -> None:
        """Forget those of the keys that have no session."""
        empty = self._lists.empty(keys)
        if len(empty):
            self._index.release(empty)

    def _await(self, slots: Ints) -> None:
        """Look at sessions again when they would close as they are now; what comes to them until then changes nothing."""
        self._due_at[slots] = self._lists.last[slots]
        lanes = self._lane[slots]
        for lane in np.unique(lanes).tolist():
            mine = slots[lanes == lane]
            self._due.setdefault(lane, Due()).put(self._due_at[mine], mine)

    def _take_free(self, count: int) -> Ints:
        if count > self._unused:
            size = len(self._free)
            total = size + max(size, count, 1024)
            self._free = np.concatenate([np.arange(size, total), self._free])
            self._unused += total - size
            self._due_at, self._lane, self._first = (
                np.append(array, np.full(total - size, NONE)) for array in (self._due_at, self._lane, self._first)
            )
            self._lists.grow(total)
            self._runs.grow(total)
        self._unused -= count
        return self._free[self._unused : self._unused + count].copy()

    # --- kept by a store ---

    def changes(self) -> tuple[dict[str, pl.DataFrame], list[str]]:
        """Return the frame that a store must keep to hold the same sessions, and the names of those that it may drop."""
        number, slots, dropped = self._runs.write()
        names = [_name(run) for run in dropped]
        if not len(slots):
            return {}, names
        bounds = pl.DataFrame({FIRST: self._first[slots], LAST: self._lists.last[slots]})
        frame = self._index.keys(self._lists.key[slots]).hstack(bounds).hstack(self._kept.take(slots))
        return {_name(number): frame}, names

    def progress(self) -> int:
        """Return what no frame holds: the number of the next run."""
        return self._runs.next

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: int, lane: str | None, before: Ints) -> None:
        """Go on from the frames that a store holds.

        Parameters
        ----------
        frames
            By name, perhaps in several parts.
        progress
            What `progress` gave.
        lane
            The key column that says which task a session is of; None: there is only one.
        before
            By lane: sessions that end before it have closed.
        """
        parts = [(int(name), frame) for name, frame in frames]
        self._runs.next = progress
        if not parts:
            return
        rows = pl.concat([frame for _, frame in parts])
        run = np.concatenate([np.full(frame.height, number) for number, frame in parts])
        lanes = np.zeros(rows.height, np.int64) if lane is None else rows[lane].to_numpy()
        opens = rows[LAST].to_numpy() >= before[lanes]
        rows, lanes, runs = rows.filter(pl.Series(opens)), lanes[opens], run[opens]
        key, first, last = self.keys(rows), rows[FIRST].to_numpy(), rows[LAST].to_numpy()
        stays = newest(key, first, last, runs)
        found = Sessions(key, lanes, first, last, rows.select(self._kept.schema.names())).where(stays)
        slots = self.put(found, np.full(len(found.key), NONE))
        keys = distinct(found.key)
        self.link(keys, np.full(len(keys), NONE), slots)
        for number, height in zip(*np.unique(run, return_counts=True), strict=True):
            self._runs.add(int(number), slots[runs[stays] == number], int(height))
        self._runs.next = progress

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        arrays = sum(array.nbytes for array in (self._due_at, self._lane, self._first, self._free))
        due = sum(due.estimated_size() for due in self._due.values())
        numbers = arrays + due + self._lists.estimated_size() + self._runs.estimated_size()
        return numbers + self._index.estimated_size() + self._kept.estimated_size()

    def oldest(self) -> int | None:
        """Return where the earliest session begins."""
        slots = self.all()
        return int(self._first[slots].min()) if len(slots) else None


def _name(number: int) -> str:
    return f"{number:012d}"
