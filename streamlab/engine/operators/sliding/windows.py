"""Sliding windows of some keys, worked out from the rows of those keys: which there are, and which rows each holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.held.near import Near
from streamlab.engine.held.slot_lists import spread
from streamlab.engine.operators.sliding.judge import left_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.engine.batch import Bools, Ints
    from streamlab.plan.windows import Sliding

PAIRS = 1_000_000
"""Pairs of window and row that are worked out at once."""


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of some keys by key and time; a key is its position in `slots`."""

    slots: Ints
    near: Near
    numbers: Ints
    since: Ints


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows by key and start: the rows between their bounds are those from `first` to before `last`."""

    size: int
    key: Ints
    start: Ints
    first: Ints
    last: Ints

    def where(self, mask: Bools | Ints) -> Windows:
        """Return those where `mask` is true, or those at some positions."""
        return Windows(self.size, self.key[mask], self.start[mask], self.first[mask], self.last[mask])

    @property
    def pairs(self) -> int:
        """How many pairs of window and row there are, each row between the bounds counted."""
        return int((self.last - self.first).sum())

    def members(self, since: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Yield pairs of window and row by position, some windows at once: rows between a window's bounds that are in time for it."""
        counts, check = self.last - self.first, bool(since.any())
        for piece in pieces(counts):
            which, at = np.repeat(piece, counts[piece]), spread(self.first[piece], counts[piece])
            if check:
                in_time = since[at] <= self.start[which] + self.size
                which, at = which[in_time], at[in_time]
            if len(which):
                yield which, at


def bounded(held: Held, key: Ints, start: Ints, size: int) -> Windows:
    """Return windows with the rows between their bounds."""
    return Windows(size, key, start, *held.near.between(key, start, start + size))


def changed(held: Held, fresh: Bools, window: Sliding) -> Windows:
    """Return the windows that rows brought about or came into.

    Parameters
    ----------
    held
        All rows that are not further than `size` + 1 from those.
    fresh
        Which of the rows are those.
    window
        The kind of windows.
    """
    at = np.flatnonzero(held.near.begins)  # one for each key and time
    key, time = held.near.key[at], held.near.time[at]
    own = np.minimum.reduceat(held.since, at) == 0
    new = np.logical_and.reduceat(fresh, at)
    starts = np.concatenate([left_end(time[own], window) - window.size, time + 1])
    named = Near(np.concatenate([key[own], key]), starts)
    begins = np.flatnonzero(named.begins)
    windows = bounded(held, named.key[begins], named.time[begins], window.size)
    # one that only follows new rows was not there before; one that ends with a new row holds it
    follows = np.concatenate([np.zeros(int(own.sum()), np.bool_), new])
    opens = np.logical_and.reduceat(follows[named.order], begins) & (windows.last > windows.first)
    return windows.where(opens | _hold(windows, fresh & (held.since == 0)) | _hold_late(windows, fresh, held.since))


def _hold(windows: Windows, rows: Bools) -> Bools:
    """Return which windows have some of these rows between their bounds."""
    upto = np.concatenate([[0], np.cumsum(rows)])
    found: Bools = upto[windows.last] > upto[windows.first]
    return found


def _hold_late(windows: Windows, fresh: Bools, since: Ints) -> Bools:
    """Return which windows have some of the rows that are not in all windows: each is looked at alone."""
    late = fresh & (since > 0)
    upto, ends = np.concatenate([[0], np.cumsum(late)]), since[late]
    first, count = upto[windows.first], upto[windows.last] - upto[windows.first]
    found = np.zeros(len(first), np.bool_)
    for piece in pieces(count):
        which = np.repeat(piece, count[piece])
        row = spread(first[piece], count[piece])
        found[which[ends[row] <= windows.start[which] + windows.size]] = True
    return found


def pieces(counts: Ints) -> list[Ints]:
    """Return all positions in pieces, each with some `PAIRS` in all, or with one position only."""
    upto = np.cumsum(counts)
    cuts = np.searchsorted(upto, np.arange(PAIRS, int(counts.sum()), PAIRS))
    return np.split(np.arange(len(counts)), np.unique(cuts))
