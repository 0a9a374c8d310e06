"""Which rows of a micro-batch make which sessions, with the sessions that were open before it.

Rows and open sessions of a key are put in order of time and cut where nothing happened for longer than the gap. That is exact as long as
every row finds its neighbour in time still open at its own turn, whatever happens later in the batch; this is asked of all rows at once,
and first of the watermark at the end of the batch. Only where a row fails (it is late, or the session before it had closed), its stretch
of time is gone through in order of arrival.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamlab.engine.stream_time import NEVER, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.engine.batch import Bools, Ints

NONE = -1
"""The group of a row that is late, and of a session that no row came to."""

_ROOM = 1 << 62


@dataclass(frozen=True, slots=True)
class Pieces:
    """Stretches of time, each of a key: open sessions, then the rows of a batch in order of arrival."""

    key: Ints
    first: Ints
    last: Ints
    open: int
    """How many of them are sessions."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Sessions that rows came to: groups of pieces.

    Parameters
    ----------
    group
        By piece: the number of its group, or NONE.
    key, first, last
        By group.
    """

    group: Ints
    key: Ints
    first: Ints
    last: Ints


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far back a session may end to be open: at the end of the batch, and (dearer) at the turn of single rows."""

    after: Ints
    """By row."""
    at: Callable[[Ints], Ints]
    """By number of row."""


def cut(pieces: Pieces, gap: int, horizon: Horizon) -> Cut:
    """Return the sessions that rows make; one ends at the last of them, both bounds inclusive.

    Examples
    --------
    >>> three = np.array([0, 5, 11])
    >>> found = cut(Pieces(np.zeros(3, np.int64), three, three, 0), 5, Horizon(np.zeros(3, np.int64), lambda rows: rows))
    >>> found.first.tolist(), found.last.tolist()
    ([0, 11], [5, 11])
    """
    order, joins, origin = _in_time(pieces, gap)
    stretch = np.cumsum(~joins) - 1
    failed = _failed(pieces, order, joins, origin, horizon)
    group = np.empty(len(order), np.int64)
    group[order] = stretch
    if len(failed):
        doubtful = np.zeros(int(stretch[-1]) + 1, np.bool_)
        doubtful[stretch[failed]] = True
        at = order[doubtful[stretch]]
        group[at] = _one_by_one(pieces, at, group[at], gap, horizon)
    return _groups(pieces, group)


def _in_time(pieces: Pieces, gap: int) -> tuple[Ints, Bools, Ints]:
    """Return the order by key and time; whether each is within the gap of those before it; which of those up to it reaches farthest."""
    low = int(pieces.first.min())
    span = int(pieces.last.max()) - low + gap + 1
    if (int(pieces.key.max()) + 1) * span < _ROOM:
        base = pieces.key * span - low
        start = base + pieces.first
        order = np.argsort(start)
        start, end = start[order], (base + pieces.last)[order]
        top = np.maximum.accumulate(end)
        joins = start[1:] <= top[:-1] + gap  # the next key begins farther than the gap behind
    else:
        order = np.lexsort((pieces.first, pieces.key))
        key, ends = pieces.key[order], np.unique(pieces.last)
        end = key * len(ends) + np.searchsorted(ends, pieces.last[order])
        top = np.maximum.accumulate(end)
        joins = (key[1:] == key[:-1]) & (pieces.first[order][1:] <= ends[top[:-1] % len(ends)] + gap)
    origin = np.arange(len(order))
    origin[1:][end[1:] <= top[:-1]] = 0
    return order, np.append(False, joins), np.maximum.accumulate(origin)


def _failed(pieces: Pieces, order: Ints, joins: Bools, origin: Ints, horizon: Horizon) -> Ints:
    """Return the places in order of time where a row may not have found an open session that the cut gives it.

    A row that came after the one before it in time must have found that one open; one that came before it must only be in time itself,
    since then that one found it open.
    """
    place = np.flatnonzero(order >= pieces.open)
    before = np.append(0, origin[:-1])[place]
    behind = joins[place] & (order[before] < order[place])
    ends = pieces.last[np.where(behind, order[before], order[place])]
    row = order[place] - pieces.open
    suspects = np.flatnonzero(ends < horizon.after[row])
    if not len(suspects):
        return suspects
    found: Ints = place[suspects[ends[suspects] < horizon.at(row[suspects])]]
    return found


def _one_by_one(pieces: Pieces, at: Ints, stretch: Ints, gap: int, horizon: Horizon) -> Ints:
    """Return the groups of pieces, numbered beyond all stretches, by letting them arrive one after the other."""
    rows, counts = at >= pieces.open, np.bincount(stretch)
    alone = counts[stretch] == 1
    found = np.full(len(at), NONE)  # a row that failed and has no company is late
    seen = np.full(len(at), NEVER)
    company = np.flatnonzero(~alone)
    mine = company[rows[company]]
    seen[mine] = horizon.at(at[mine] - pieces.open)
    turn = company[np.lexsort((at[company], stretch[company]))]  # sessions first, then rows by arrival
    columns = (stretch[turn], pieces.first[at[turn]], pieces.last[at[turn]], seen[turn])
    found[turn] = _arrived(*columns, gap)
    found[found != NONE] += len(pieces.key)
    return found


def _arrived(stretch: Ints, first: Ints, last: Ints, seen: Ints, gap: int) -> Ints:
    """Return the number of each piece's session; NONE: it is late. Sessions that end before `seen` have closed at its turn."""
    found, into = [NONE] * len(stretch), list[int]()
    now, firsts, lasts, names = NONE, list[int](), list[int](), list[int]()
    columns = (column.tolist() for column in (stretch, first, last, seen))
    for turn, (where, begin, end, closed) in enumerate(zip(*columns, strict=True)):
        if where != now:
            now, firsts, lasts, names = where, [], [], []
        if (
            lasts and lasts[0] >= closed and firsts[-1] <= begin <= lasts[-1] + gap
        ):  # to the newest: the others are farther away
            lasts[-1], found[turn] = max(end, lasts[-1]), names[-1]
            continue
        gone = bisect_left(lasts, closed)
        del firsts[:gone], lasts[:gone], names[:gone]
        near = slice(bisect_left(lasts, begin - gap), bisect_right(firsts, end + gap))
        met = names[near]
        if not met and end < closed:
            continue
        name = met[0] if met else len(into)
        if not met:
            into.append(name)
        for other in met[1:]:
            into[other] = name
        firsts[near] = [min([begin, *firsts[near]])]
        lasts[near] = [max([end, *lasts[near]])]
        names[near] = [name]
        found[turn] = name
    return _merged(np.array([*into, NONE]))[np.array(found, np.int64)]


def _merged(into: Ints) -> Ints:
    """Return which session each is part of in the end, given which one it was merged into, or itself."""
    while (into != into[into]).any():
        into = into[into]
    return into


def _groups(pieces: Pieces, group: Ints) -> Cut:
    """Return the groups that have a row, numbered one after the other, with their bounds."""
    used = np.zeros(int(group.max(initial=NONE)) + 2, np.bool_)
    used[group[pieces.open :]] = True
    used[NONE] = False
    number = np.where(used, np.cumsum(used) - 1, NONE)
    group = number[group]
    count, member = int(used.sum()), group != NONE
    key, first, last = np.empty(count, np.int64), np.full(count, OPEN), np.full(count, NEVER)
    key[group[member]] = pieces.key[member]
    np.minimum.at(first, group[member], pieces.first[member])
    np.maximum.at(last, group[member], pieces.last[member])
    return Cut(group, key, first, last)
