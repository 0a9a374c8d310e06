"""Hopping windows that emit their current row each time it changes, put together from panes.

A pane is a stretch of event time that no bound of a window cuts. What is held is a row for each key and pane, not one for each key and
window: a record changes one row, and the windows that cover it are put together from the panes of its key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, compile_aggregates
from streamlab.engine.batch import empty
from streamlab.engine.held.key_index import distinct
from streamlab.engine.held.pair_index import pairs_of
from streamlab.engine.operator import Holding, of_keys
from streamlab.engine.operators.shared.covering import covering, panes_of, spread
from streamlab.engine.operators.shared.ranges import put_together
from streamlab.engine.operators.updates import FIRST, GROUP, Updates
from streamlab.engine.stream_time import NEVER, OPEN, grown
from streamlab.plan.schema import RESERVED, WINDOW_START
from streamlab.plan.windows import Hopping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.engine.batch import Bools, Ints, Rows
    from streamlab.engine.held.slot_frame import Slots
    from streamlab.engine.operator import Output
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate

_ASKED = f"{RESERVED}asked"
_SCAN_PAYS = 6_000
"""How many windows, of all keys, must cover a pane for it to pay to work them out one from the other."""
_FAR = 1 << 40  # panes of a key are never so many lengths of a window apart


def hopping_updates(step: Aggregate, *, laned: bool) -> Updates:
    """Return the operator of hopping windows: panes that are put together do not stand in order of arrival."""
    by_arrival = compile_aggregates(step, step.by, sequenced=True).sequenced
    return (Updates if by_arrival else PanedUpdates)(step, laned=laned)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Windows of keys, each once: which row of the batch has the key, the key's slot, its lane and the start of the window."""

    own: Ints
    slot: Slots
    lane: Ints
    start: Ints

    def where(self, at: Ints) -> _Asked:
        """Return those at some positions."""
        return _Asked(self.own[at], self.slot[at], self.lane[at], self.start[at])

    def starting(self, start: int) -> _Asked:
        """Return those of the same keys that start then."""
        return replace(self, start=np.full(len(self.own), start, np.int64))

    def by_key(self) -> tuple[_Asked, Ints]:
        """Return them in order by key, as keys first came, then by start; of equal ones the first. And where each stood."""
        _, first, key = np.unique(self.slot, return_index=True, return_inverse=True)
        order = np.lexsort((self.start, self.own[first][key]))
        same = (np.diff(key[order], prepend=-1) == 0) & (np.diff(self.start[order], prepend=NEVER) == 0)
        order = order[~same]
        return self.where(order), order


_Found = tuple[_Asked, pl.DataFrame]
"""Windows of keys, and their partial results."""


class PanedUpdates(Updates):
    """The operator: the current row of each window and group that a micro-batch changed."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        super().__init__(step, laned=laned)
        if not isinstance(step.window, Hopping):
            raise TypeError(f"{step.window} is no hopping window")
        self._hops = step.window
        self._before = self._closed  # by lane: as it was when the batch began

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        self._before = self._closed
        return super().step(inputs, watermarks)

    def _update(self, rows: Rows, lane: Ints, since: Ints, last: Ints) -> Rows:
        slots = self._slots(rows, lane)
        panes = panes_of(rows.time, self._hops)
        newest = self._newest(int(lane.max()))
        fresh = self._split(rows, np.arange(rows.height), pairs_of(self._number(lane, panes), slots))
        pairs, own = fresh[GROUP].to_numpy(), fresh[FIRST].to_numpy().astype(np.int64)
        first, _ = covering(rows.time, self._hops)
        found, closed = [], grown(self._before, len(self._closed), NEVER)
        if (since > np.maximum(first, closed[lane] + self._every)).any():
            # some came too late for windows that were open when the batch began, and are in the panes of these all the same
            found.append(self._ended(rows, slots, lane, since, last))
            closed = self._closed
        asked, fresh = _Asked(own, slots[own], lane[own], panes[own]), fresh.drop(GROUP, FIRST)
        at_once = len(own) * (self._hops.size // self._every) >= _SCAN_PAYS * len(distinct(asked.start))
        if at_once and not found and (asked.start >= newest[asked.lane]).all():
            found = self._in_order(asked, pairs, fresh, closed)
        else:
            self._groups.add(pairs, fresh)
            found.append(self._open(asked, closed))
        found = [part for part in found if len(part[0].own)]
        if not found:
            return empty(self._step.schema)
        own, starts = (np.concatenate([getattr(asked, name) for asked, _ in found]) for name in ("own", "start"))
        return self._values(pl.concat([part for _, part in found]), self._given(rows, own), starts, lane[own])

    def _ended(self, rows: Rows, slots: Slots, lane: Ints, since: Ints, last: Ints) -> _Found:
        """Return the windows that close in this batch, as they were at their last row in time."""
        which, starts = spread(since, np.minimum(self._closed[lane], last), self._every)
        fresh = self._split(rows, which, pairs_of(self._windows(lane[which], starts), slots[which]))
        first = fresh[FIRST].to_numpy().astype(np.int64)
        own, fresh = which[first], fresh.drop(GROUP, FIRST)
        asked, order = _Asked(own, slots[own], lane[own], starts[first]).by_key()
        fresh = fresh[order]
        held, older = self._put_together(asked)
        return asked, self._groups.merged(older, fresh, held) if held.any() else fresh

    def _open(self, panes: _Asked, closed: Ints) -> _Found:
        """Return the windows that cover some panes of keys, and were not closed."""
        if len(distinct(panes.slot)) < len(panes.slot):
            panes, _ = panes.by_key()
        first, last = covering(panes.start, self._hops)
        low = np.maximum(first, closed[panes.lane] + self._every)
        again = panes.slot[1:] == panes.slot[:-1]  # then windows of the pane before are asked for already
        low[1:][again] = np.maximum(low[1:], last[:-1] + self._every)[again]
        which, starts = spread(low, last, self._every)
        asked = _Asked(panes.own[which], panes.slot[which], panes.lane[which], starts)
        return asked, self._put_together(asked)[1]

    # --- panes that no pane comes after ---

    def _newest(self, lanes: int) -> Ints:
        """Return where the newest pane of each lane, up to one, begins."""
        newest = np.full(lanes + 1, NEVER, np.int64)
        for pane in self._groups.windows.values():
            if pane.lane <= lanes:
                newest[pane.lane] = max(newest[pane.lane], pane.start)
        return newest

    def _in_order(self, panes: _Asked, pairs: Slots, fresh: pl.DataFrame, closed: Ints) -> list[_Found]:
        """Take in panes, the oldest first, and return the open windows that cover them; those of a newer pane of a key are left to that."""
        order = np.lexsort((panes.start, panes.slot))
        again = np.flatnonzero(panes.slot[order][1:] == panes.slot[order][:-1])
        until = np.full(len(panes.own), OPEN, np.int64)
        until[order[again]], _ = covering(panes.start[order[again + 1]], self._hops)
        found: list[_Found] = []
        for start in distinct(panes.start).tolist():
            at = np.flatnonzero(panes.start == start)
            every = len(at) == len(panes.own)
            now = self._groups.add(pairs[at], fresh if every else fresh[at])
            mine = panes if every else panes.where(at)
            found += self._growing(mine, start, now, (closed[mine.lane] + self._every, until[at]))
        return found

    def _growing(self, panes: _Asked, pane: int, now: pl.DataFrame, within: tuple[Ints, Ints]) -> list[_Found]:
        """Return the windows that cover a pane: an older one has what a newer one has, and some panes before that."""
        (first,), (last,) = covering(np.array([pane]), self._hops)
        older = [start for start in self._panes().tolist() if first <= start < pane]
        found: list[_Found] = []
        for start in range(int(last), int(first) - 1, -self._every):
            while older and older[-1] >= start:
                held, part = self._held_in(np.full(len(panes.lane), older.pop()), panes.lane, panes.slot)
                now = self._groups.merged(part, now, held) if held.any() else now
            mine = np.flatnonzero((start >= within[0]) & (start < within[1]))
            every = len(mine) == len(panes.own)
            asked = panes if every else panes.where(mine)
            found.append((asked.starting(start), now if every else now[mine]))
        return found[::-1]

    def _held_in(self, start: Ints, lane: Ints, slot: Slots) -> tuple[Bools, pl.DataFrame]:
        """Return which keys have something in panes, and what; what is said of others is nothing."""
        number = self._number(lane, start, self._groups.known)
        at = self._groups.find(pairs_of(np.maximum(number, 0), slot))
        held = (at >= 0) & (number >= 0)
        return held, self._groups.take(at)

    def _windows(self, lane: Ints, starts: Ints) -> Ints:
        """Return numbers that tell windows apart by lane and start."""
        low, lanes = int(starts.min(initial=OPEN)), int(lane.max(initial=0)) + 1
        return (starts - low) // self._every * lanes + lane

    # --- panes to windows ---

    def _put_together(self, asked: _Asked) -> tuple[Bools, pl.DataFrame]:
        """Return which windows have something in their panes, and what; windows in order by key, then by start."""
        if not len(asked.own):
            return np.empty(0, np.bool_), pl.DataFrame()
        starts = self._panes()
        low, high = (np.searchsorted(starts, asked.start + ahead) for ahead in (0, self._hops.size))
        # windows of a key that overlap lie in one stretch of panes
        begins = (np.diff(asked.slot, prepend=-1) != 0) | (np.diff(asked.start, prepend=NEVER) > self._hops.size)
        begin, key = np.flatnonzero(begins), np.cumsum(begins) - 1
        end = np.append(begin[1:], len(key)) - 1
        least, most = low[begin], high[end]
        stretch, pane = spread(least, most - 1, 1)
        held, part = self._held_in(starts[pane], asked.lane[begin][stretch], asked.slot[begin][stretch])
        count = np.cumsum(np.append(0, held))
        if not count[-1]:
            return np.zeros(len(key), np.bool_), pl.DataFrame()
        before = (np.cumsum(most - least) - most)[
            key
        ]  # where the panes of a stretch begin, less the place of the first
        first, last = count[before + low], count[before + high]
        # in lengths of time as long as a window it is the end of one, and the beginning of the next; few keys have panes after the newest
        ahead = (starts[pane] - asked.start[end][stretch]) // self._hops.size
        block = (stretch * _FAR + ahead)[held]
        found = first < last
        whole = put_together(part.filter(pl.Series(held)), block, first[found], last[found], self._groups.merged)
        return found, whole if found.all() else whole[np.maximum(np.cumsum(found) - 1, 0)]

    def _panes(self) -> Ints:
        """Return where the panes that are held begin, of any lane, ascending."""
        return np.array(sorted({pane.start for pane in self._groups.windows.values()}), np.int64)

    def _drop(self) -> None:
        """Forget the panes of which all windows are closed."""
        closed, more = self._closed.tolist(), self._every - 1
        self._groups.drop(lambda pane: pane.lane < len(closed) and pane.start <= closed[pane.lane] + more)

    # --- state ---

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        nothing = empty(self._step.schema).data.with_columns(pl.lit(0, pl.Int64).alias(LANE))
        slots = [(self._groups.read(number)[0], pane) for number, pane in self._groups.windows.items()]
        if not slots:
            return nothing
        slot = np.concatenate([part for part, _ in slots])
        lane, start = (
            np.repeat([getattr(p, name) for _, p in slots], [len(s) for s, _ in slots]) for name in ("lane", "start")
        )
        keys = self._groups.index.keys(slot)
        at = of_keys(keys.with_row_index(_ASKED), key)[_ASKED].to_numpy().astype(np.int64)
        panes = _Asked(at, slot[at], lane[at], start[at])
        asked, partials = self._open(panes, grown(self._closed, int(lane.max()) + 1, NEVER))
        if not len(asked.own):
            return nothing
        rows = self._values(partials, keys[asked.own] if self._step.by else None, asked.start, asked.lane)
        return rows.data.with_columns(pl.Series(LANE, asked.lane)).sort(WINDOW_START)

    def holding(self) -> Holding:
        """Count the rows of panes, and the windows that are open."""
        starts: set[tuple[int, int]] = set()
        for pane in self._groups.windows.values():
            (first,), (last,) = covering(np.array([pane.start]), self._hops)
            closed = int(self._closed[pane.lane]) if pane.lane < len(self._closed) else NEVER
            low = max(int(first), closed + self._every)
            starts |= {(start, pane.lane) for start in range(low, int(last) + 1, self._every)}
        oldest = min(starts)[0] if starts else None
        return Holding(len(self._groups), self._groups.estimated_size(), len(starts), oldest)
