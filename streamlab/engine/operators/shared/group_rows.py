"""The current row of partial results of every group, a group being a key in a window: changed in place, dropped by the window.

A key has a slot, slot and window have a row. What is kept on disk is runs of changed rows by window, of which the newest counts; a run
that outgrows half of the one before takes that one in, like the levels of an LSM tree. A window is dropped whole, in memory and on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE
from streamlab.engine.held.key_index import KeyIndex, distinct
from streamlab.engine.held.pair_index import ONE, PairIndex, cuts, pairs_of, parts_of
from streamlab.engine.held.row_store import RowStore
from streamlab.engine.held.slot_frame import Slots, grown
from streamlab.engine.operator import Changes
from streamlab.plan.aggregations import EARLIER
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streamlab.engine.batch import Bools

_FOUND, _ROW = f"{RESERVED}found", f"{RESERVED}row"
_FEW = 64


@dataclass(slots=True)
class Window:
    """One window of one lane: its rows, and which of them are in which frame on disk."""

    lane: int
    start: int
    rows: list[Slots] = field(default_factory=list)
    runs: list[tuple[str, Slots]] = field(default_factory=list)


class GroupRows:
    """Rows of partial results by window and slot of a key.

    Parameters
    ----------
    keys
        Columns of a key; a lane among them where lanes have keys of their own.
    partials
        Columns of partial results.
    merges
        By column: how an earlier partial result, whose columns end in `EARLIER`, and a later one are put together side by side.
    together
        The same for any number of them below each other, where a column has no such way.
    """

    def __init__(
        self,
        keys: pl.Schema,
        partials: pl.Schema,
        merges: Mapping[str, pl.Expr],
        together: Sequence[pl.Expr],
    ) -> None:
        self.index = KeyIndex(keys)
        self.windows: dict[int, Window] = {}
        self.sequence = 0  # frames named so far
        self._numbers: dict[tuple[int, int], int] = {}  # never used twice
        self._next = 0
        self._pairs, self._store = PairIndex(), RowStore(partials)
        self._together = together
        self._merge = [
            pl.when(_FOUND).then(merges[name]).otherwise(pl.col(name)).cast(dtype).alias(name)
            for name, dtype in self._store.schema.items()
            if name in merges
        ]
        self._uses = np.zeros(1024, np.int32)  # by slot: how many windows hold its key
        self._changed = np.zeros(1024, np.bool_)  # by row: since the last checkpoint
        self._dropped: list[str] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def number(self, lane: int, start: int) -> int:
        """Return the number of a window, which begins to be held with it."""
        key = lane, start
        if key not in self._numbers:
            self._numbers[key] = number = self._next
            self.windows[number] = Window(*key)
            self._next += 1
        return self._numbers[key]

    def known(self, lane: int, start: int) -> int:
        """Return the number of a window, -1 if it is not held."""
        return self._numbers.get((lane, start), -1)

    def add(self, pairs: Slots, later: pl.DataFrame) -> pl.DataFrame:
        """Put partial results to those held of the same pairs of window and slot, each once; return them together."""
        at = self._pairs.find(pairs)
        found = at >= 0
        if found.any():
            later = self.merged(self._store.take(at), later, found)
        new = np.flatnonzero(~found)
        if len(new):
            at[new] = self._insert(pairs[new])
        self._store.put(at, later)
        self._changed[at] = True
        return later

    def find(self, pairs: Slots) -> Slots:
        """Return where the rows of pairs are, -1 where nothing is held."""
        return self._pairs.find(pairs)

    def take(self, at: Slots) -> pl.DataFrame:
        """Return the partial results that are somewhere; what is at -1 says nothing."""
        return self._store.take(at)

    def read(self, number: int) -> tuple[Slots, pl.DataFrame]:
        """Return slots and rows of a window."""
        rows = np.concatenate(self.windows[number].rows)
        return parts_of(self._pairs.pairs(rows))[1], self._store.take(rows)

    def drop(self, passed: Callable[[Window], bool]) -> None:
        """Forget the windows that have passed, and keys that are in none."""
        gone = [number for number, window in self.windows.items() if passed(window)]
        if not gone:
            return
        windows = [self.windows.pop(number) for number in gone]
        for window in windows:
            del self._numbers[window.lane, window.start]
            self._dropped += [name for name, _ in window.runs]
        rows = np.concatenate([part for window in windows for part in window.rows])
        pairs = self._pairs.pairs(rows)
        self._store.drop(rows)
        self._pairs.release(rows)
        self._changed[rows] = False
        _, slots = parts_of(pairs)
        np.subtract.at(self._uses, slots, ONE)
        free = distinct(slots[self._uses[slots] == 0])
        if free.size:
            self.index.release(free)

    def changes(self) -> Changes:
        """Return what changed since the last call."""
        changed = np.flatnonzero(self._changed)
        self._changed[changed] = False
        numbers, _ = parts_of(self._pairs.pairs(changed))
        order = np.argsort(numbers, kind="stable")
        put = dict(self._run(self.windows[n], changed[order[begin:end]]) for n, begin, end in cuts(numbers[order]))
        drop, self._dropped = self._dropped, []
        return Changes(put, drop)

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]]) -> None:
        """Take in the frames of a checkpoint, in the order of their names; those of one name may come in several parts."""
        for name, frame in frames:
            lane, start, _ = name.split("/")
            number = self.number(int(lane), int(start))
            slots = self.index.slots(frame.select(self.index.schema.names()), insert=True)
            pairs = pairs_of(np.full(len(slots), number), slots)
            at = self._pairs.find(pairs)
            new = np.flatnonzero(at < 0)
            if len(new):
                at[new] = self._insert(pairs[new])
            self._store.put(at, frame.select(self._store.schema.names()))
            runs = self.windows[number].runs
            older = runs.pop()[1] if runs and runs[-1][0] == name else at[:0]
            runs.append((name, np.append(older, at)))

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return self.index.estimated_size() + self._pairs.estimated_size() + self._store.estimated_size()

    def merged(self, held: pl.DataFrame, later: pl.DataFrame, found: Bools) -> pl.DataFrame:
        """Put partial results to what is held where there is some."""
        if len(self._merge) == later.width:
            earlier = held.rename(lambda name: name + EARLIER)
            return later.hstack(earlier).with_columns(pl.Series(_FOUND, found)).select(self._merge)
        both = pl.concat(
            [held.with_row_index(_ROW).filter(pl.Series(found)), later.select(held.columns).with_row_index(_ROW)]
        )
        return both.group_by(_ROW).agg(self._together).sort(_ROW).select(held.columns)

    def _insert(self, pairs: Slots) -> Slots:
        """Give new pairs rows."""
        at = self._pairs.insert(pairs)
        numbers, slots = parts_of(pairs)
        self._changed = grown(self._changed, int(at.max()) + 1, 0)
        self._uses = grown(self._uses, int(slots.max()) + 1, 0)
        np.add.at(self._uses, slots, ONE)
        for number, rows in _by_window(numbers, at):
            self.windows[number].rows.append(rows)
        return at

    def _run(self, window: Window, rows: Slots) -> tuple[str, pl.DataFrame]:
        """Make one named frame of changed rows, and of older frames that they outgrow."""
        while window.runs and 2 * len(rows) > len(window.runs[-1][1]):
            name, older = window.runs.pop()
            self._dropped.append(name)
            rows = distinct(np.append(rows, older))
        self.sequence += 1
        name = f"{window.lane:05d}/{window.start:015d}/{self.sequence:012d}"
        window.runs.append((name, rows))
        _, slots = parts_of(self._pairs.pairs(rows))
        return name, self.index.keys(slots).hstack(self._store.take(rows))


def lane_key(*, laned: bool, by: tuple[str, ...]) -> dict[str, pl.DataType]:
    """Return the lane as a column of a key, where lanes have keys of their own or there is no other column."""
    return {LANE: pl.Int64()} if laned or not by else {}


def _by_window(numbers: Slots, rows: Slots) -> Iterator[tuple[int, Slots]]:
    """Yield rows by the number of their window: as they stand where they are in few stretches, else in order."""
    if np.count_nonzero(numbers[1:] != numbers[:-1]) > _FEW:
        order = np.argsort((numbers - numbers.min()).astype(np.uint32), kind="stable")
        numbers, rows = numbers[order], rows[order]
    for number, begin, end in cuts(numbers):
        yield number, rows[begin:end].copy()
