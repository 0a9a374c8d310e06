"""The pairs that a batch of two streams makes, each with the record that made it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.held.time_index import TimeIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.engine.batch import Bools, Ints, Rows


@dataclass(eq=False)
class Arrived:
    """What came on one side in a batch, late rows and null keys too.

    `turn` is each row's place in the order of arrival over both sides; of one record the left row comes first. `slot` is -1 where a row
    can match nothing: it is late, or its key has a null.
    """

    rows: Rows
    lane: Ints
    number: Ints
    turn: Ints
    late: Bools
    slot: Ints

    @cached_property
    def unkeyed(self) -> Ints:
        """Places of the rows whose key has a null: they match nothing."""
        return np.flatnonzero((self.slot < 0) & ~self.late)

    @cached_property
    def joinable(self) -> Ints:
        """Places of the rows that may match, by slot and time: questions in order walk an index once instead of jumping about in it."""
        places = np.flatnonzero(self.slot >= 0)
        return places[np.lexsort((self.rows.time[places], self.slot[places]))]


def in_order(index: Sequence[Ints]) -> tuple[list[Ints], Ints]:
    """Return the turn of every row of two sides, by their places of arrival, and for each turn its place in both sides together."""
    whole = np.concatenate(index)
    order = np.argsort(whole, kind="stable")
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order))
    return np.split(turn, [len(index[0])]), order


@dataclass(slots=True, eq=False)
class Pairs:
    """Rows that match, by number, with their times, and the turn that made them: that of the later one."""

    turn: Ints
    left: Ints
    right: Ints
    left_time: Ints
    right_time: Ints
    left_made: Bools  # whether the left row is the later one

    def filter(self, mask: Bools) -> Pairs:
        """Return the pairs where `mask` is true."""
        if mask.all():
            return self
        return Pairs(*(getattr(self, name)[mask] for name in self.__slots__))

    @property
    def earlier_time(self) -> Ints:
        """Times of the rows that were there already."""
        return np.where(self.left_made, self.right_time, self.left_time)

    @property
    def earlier(self) -> Ints:
        """Numbers of the rows that were there already: their order of arrival."""
        return np.where(self.left_made, self.right, self.left)


def pairs_of(left: Arrived, right: Arrived, held: tuple[TimeIndex, TimeIndex], before: int, after: int) -> Pairs:
    """Return the pairs of a batch: its rows with those held, and with each other."""
    ours, theirs = left.joinable, right.joinable
    found = [_with_right(left, ours, held[1], before, after), _with_left(right, theirs, held[0], before, after)]
    if len(ours) and len(theirs):
        fresh = TimeIndex()
        fresh.add(right.slot[theirs], right.rows.time[theirs], theirs)
        time = left.rows.time[ours]
        asked, at, times = fresh.between(left.slot[ours], time - before, time + after)
        at_left = ours[asked]
        one, other = left.turn[at_left], right.turn[at]
        numbers = left.number[at_left], right.number[at]
        found.append(Pairs(np.maximum(one, other), *numbers, left.rows.time[at_left], times, one > other))
    return Pairs(*(np.concatenate([getattr(pairs, name) for pairs in found]) for name in Pairs.__slots__))


def _with_right(left: Arrived, ours: Ints, held: TimeIndex, before: int, after: int) -> Pairs:
    time = left.rows.time[ours]
    asked, right, times = held.between(left.slot[ours], time - before, time + after)
    at = ours[asked]
    return Pairs(left.turn[at], left.number[at], right, left.rows.time[at], times, np.ones(len(at), np.bool_))


def _with_left(right: Arrived, theirs: Ints, held: TimeIndex, before: int, after: int) -> Pairs:
    time = right.rows.time[theirs]
    asked, left, times = held.between(right.slot[theirs], time - after, time + before)
    at = theirs[asked]
    return Pairs(right.turn[at], left, right.number[at], times, right.rows.time[at], np.zeros(len(at), np.bool_))
