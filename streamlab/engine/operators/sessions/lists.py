"""The open sessions of each key as a list from the newest to the oldest.

Those that the rows of a batch may come to are at the head of their key's list, and those that close at its end; no session is looked at
that a batch has nothing to do with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.held.key_index import distinct
from streamlab.engine.held.slot_frame import grown
from streamlab.engine.operators.sessions.cut import NONE

if TYPE_CHECKING:
    from streamlab.engine.batch import Ints

_STEPS = 64  # sessions of one key that are found one after the other, before all are looked through at once


class SessionLists:
    """Lists of sessions by key; keys and sessions are numbers.

    Examples
    --------
    >>> lists = SessionLists()
    >>> lists.grow(8)
    >>> key, none, sessions = np.array([0]), np.array([NONE]), np.array([5, 2])
    >>> lists.key[sessions], lists.last[sessions] = 0, [100, 200]
    >>> lists.hold(0)
    >>> lists.link(key, none, sessions)
    >>> lists.near(key, np.array([150]), 10)  # keys, the sessions that end after 140, the newest that does not
    (array([0]), array([2]), array([5]))
    """

    def __init__(self) -> None:
        self.key, self.last, self._older, self._newer = (np.empty(0, np.int64) for _ in range(4))
        self._head = np.full(1, NONE)  # by key
        self._low = np.zeros(1, np.int64)  # by key: from where on sessions are near to the rows of the batch

    def grow(self, size: int) -> None:
        """Make room for so many sessions."""
        self.key, self.last, self._older, self._newer = (
            np.append(array, np.full(size - len(array), NONE))
            for array in (self.key, self.last, self._older, self._newer)
        )

    def hold(self, key: int) -> None:
        """Make room for keys up to this one."""
        self._head, self._low = grown(self._head, key + 1, NONE), grown(self._low, key + 1, 0)

    def empty(self, keys: Ints) -> Ints:
        """Return those of the keys that have no session, each once."""
        return distinct(keys[self._head[keys] == NONE])

    def near(self, keys: Ints, time: Ints, gap: int) -> tuple[Ints, Ints, Ints]:
        """Return the distinct keys of rows, sessions that the rows may come to, and by key the newest one that is too old for that."""
        touched = distinct(keys)
        self._low[touched] = np.iinfo(np.int64).max
        np.minimum.at(self._low, keys, time - gap)
        older, found = np.full(len(touched), NONE), [touched[:0]]
        which, at = np.arange(len(touched)), self._head[touched]
        while True:
            there = at != NONE
            which, at = which[there], at[there]
            near = self.last[at] >= self._low[touched[which]]
            older[which[~near]] = at[~near]
            which, at = which[near], at[near]
            found.append(at)
            if not len(at):
                return touched, np.concatenate(found), older
            if len(found) > _STEPS:
                found.append(self._look_through(touched[which], at, which, older))
                return touched, np.concatenate(found), older
            at = self._older[at]

    def _look_through(self, keys: Ints, at: Ints, which: Ints, older: Ints) -> Ints:
        """Return the sessions near to the rows that are older than those given, of keys that have many."""
        place = np.full(len(self._head), NONE)
        place[keys] = np.arange(len(keys))
        mine = np.flatnonzero(self.key != NONE)
        mine = mine[place[self.key[mine]] != NONE]
        mine = mine[self.last[mine] < self.last[at][place[self.key[mine]]]]
        near = self.last[mine] >= self._low[self.key[mine]]
        rest = mine[~near]
        rest = rest[np.argsort(self.last[rest])]
        older[which[place[self.key[rest]]]] = rest  # of several the last one written stays
        found: Ints = mine[near]
        return found

    def link(self, keys: Ints, older: Ints, sessions: Ints) -> None:
        """Let the lists of distinct keys be these sessions, in any order, and then the rest of the old list from `older` on."""
        key, last = self.key[sessions], self.last[sessions]
        if not ((key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & (last[1:] > last[:-1]))).all():
            order = np.lexsort((last, key))
            sessions, key = sessions[order], key[order]
        same = key[1:] == key[:-1]
        self._older[sessions[1:][same]] = sessions[:-1][same]
        self._newer[sessions[:-1][same]] = sessions[1:][same]
        self._head[keys] = older
        self._newer[older[older != NONE]] = NONE
        begins, ends = np.append(True, ~same)[: len(key)], np.append(~same, True)[: len(key)]
        oldest, newest = sessions[begins], sessions[ends]
        rest = self._head[key[begins]]
        self._older[oldest] = rest
        self._newer[rest[rest != NONE]] = oldest[rest != NONE]
        self._newer[newest] = NONE
        self._head[key[ends]] = newest

    def unlink(self, sessions: Ints) -> None:
        """Take the oldest sessions of keys off their lists: with a session, all that are older."""
        newer = self._newer[sessions]
        self._older[newer[newer != NONE]] = NONE
        self._head[self.key[sessions[newer == NONE]]] = NONE

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        arrays = (self.key, self.last, self._older, self._newer, self._head, self._low)
        return sum(array.nbytes for array in arrays)
