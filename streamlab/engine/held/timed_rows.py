"""Rows that are held for some time, in order of arrival, and found by their number.

Rows lie in blocks of consecutive arrivals: frames that are only appended to, each of which is one frame of a checkpoint. A block whose
rows have all expired is dropped whole; one that has lost more than half of them is written anew. So neither memory nor the state on disk
is more than about twice what is needed, and a commit writes what came since the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.held.slot_frame import own_texts, rows_at
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints

_TIME, _LANE, _NUMBER = f"{RESERVED}time", f"{RESERVED}lane", f"{RESERVED}number"
_MOST = 1 << 17
"""Rows in a block that is not joined with others any more."""


@dataclass(slots=True, eq=False)
class Block:
    """Some rows: what they are, and their times, lanes, numbers, in ascending order, and the slots of their keys; -1: not known."""

    data: pl.DataFrame
    time: Ints
    lane: Ints
    number: Ints
    slot: Ints
    name: str | None = None  # in the last checkpoint

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.number)

    def places(self, numbers: Ints) -> Ints:
        """Return where rows of the block stand in it."""
        if self.number[-1] - self.number[0] + 1 == self.height:
            return numbers - int(self.number[0])
        found: Ints = np.searchsorted(self.number, numbers)
        return found

    def filter(self, mask: Bools) -> Block:
        """Return the rows where `mask` is true, with texts of their own."""
        data = own_texts(self.data.filter(pl.Series(mask)))
        return Block(data, self.time[mask], self.lane[mask], self.number[mask], self.slot[mask])

    def frame(self) -> pl.DataFrame:
        """Return what a checkpoint keeps."""
        beside = {_TIME: self.time, _LANE: self.lane, _NUMBER: self.number}
        return self.data.hstack([pl.Series(name, values) for name, values in beside.items()])


def _joined(blocks: Sequence[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    time, lane, number, slot = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("time", "lane", "number", "slot")
    )
    return Block(pl.concat([block.data for block in blocks], rechunk=True), time, lane, number, slot)


class TimedRows:
    """Rows by number, which is their place in the order of arrival.

    Parameters
    ----------
    schema
        Columns of the rows.
    prefix
        What the names of its frames begin with.

    Examples
    --------
    >>> rows = TimedRows(pl.Schema({"x": pl.Int64}), "left")
    >>> rows.append(pl.DataFrame({"x": [7, 8]}), np.array([10, 20]), np.array([0, 0])).tolist()
    [0, 1]
    >>> rows.take(np.array([1, -1]))["x"].to_list()
    [8, None]
    >>> rows.drop_before(np.array([25]))
    >>> len(rows)
    0
    """

    def __init__(self, schema: pl.Schema, prefix: str) -> None:
        self.schema, self._prefix = schema, prefix
        self.blocks: list[Block] = []
        self.next = 0
        self._sequence = 0
        self._gone: list[str] = []

    def __len__(self) -> int:
        return sum(block.height for block in self.blocks)

    def append(self, data: pl.DataFrame, time: Ints, lane: Ints, slot: Ints | None = None) -> Ints:
        """Take in rows in order of arrival and return their numbers."""
        number = np.arange(self.next, self.next + data.height)
        self.next += data.height
        if data.height:
            self.blocks.append(Block(data, time, lane, number, np.full(len(number), -1) if slot is None else slot))
        return number

    def settle(self, stays: Bools) -> None:
        """Keep only some of the rows of the last append; what is kept is a copy, so that it does not keep a whole batch in memory."""
        if not len(stays):
            return
        last = self.blocks.pop()
        if not stays.any():
            return
        last = last.filter(stays)
        while self.blocks and self.blocks[-1].name is None and self.blocks[-1].height <= 2 * last.height:
            if self.blocks[-1].height + last.height > _MOST:
                break
            last = _joined([self.blocks.pop(), last])
        self.blocks.append(last)

    def take(self, numbers: Ints) -> pl.DataFrame:
        """Return rows by number, nulls where a number is negative."""
        taken, place, done = [], np.full(len(numbers), -1), 0
        for block, at in self._touched(numbers):
            taken.append(rows_at(block.data, block.places(numbers[at])))
            place[at] = np.arange(done, done + len(at))
            done += len(at)
        if not taken:
            return (
                pl.DataFrame(schema=self.schema)
                if not len(numbers)
                else pl.DataFrame(schema=self.schema).clear(len(numbers))
            )
        if len(taken) == 1 and done == len(numbers):
            return taken[0]
        return rows_at(pl.concat(taken, rechunk=True), place)

    def slots(self, numbers: Ints) -> Ints:
        """Return the slots of the keys of rows by number."""
        found = np.full(len(numbers), -1)
        for block, at in self._touched(numbers):
            found[at] = block.slot[block.places(numbers[at])]
        return found

    def _touched(self, numbers: Ints) -> Iterable[tuple[Block, Ints]]:
        """Yield the blocks that have rows of these numbers, and which of the numbers."""
        if not self.blocks:
            return
        which = np.searchsorted(np.array([block.number[0] for block in self.blocks]), numbers, side="right") - 1
        which[numbers < 0] = -1
        for position in np.unique(which).tolist():
            if position >= 0:
                yield self.blocks[position], np.flatnonzero(which == position)

    def drop_before(self, oldest: Ints) -> None:
        """Drop rows older than the oldest time that is needed, by lane; a few stay until more are gone."""
        blocks, self.blocks = self.blocks, []
        for block in blocks:
            stays = block.time >= oldest[block.lane]
            left = int(stays.sum())
            if 2 * left >= block.height and left:
                self.blocks.append(block)
                continue
            if block.name is not None:
                self._gone.append(block.name)
            if left:
                self.blocks.append(block.filter(stays))

    def changes(self) -> tuple[dict[str, pl.DataFrame], list[str]]:
        """Return the frames that a checkpoint has to keep from now on, and the names of those that it can drop."""
        put: dict[str, pl.DataFrame] = {}
        blocks, self.blocks = self.blocks, []
        for block in blocks:
            parts = [block]
            while self.blocks and block.name is None and self._joins(self.blocks[-1], sum(p.height for p in parts)):
                older = self.blocks.pop()
                if older.name is not None and older.name not in put:
                    self._gone.append(older.name)
                put.pop(older.name or "", None)
                parts.insert(0, older)
            whole = _joined(parts)
            if whole.name is None:
                self._sequence += 1
                whole.name = f"{self._prefix}-{self._sequence:012d}"
                put[whole.name] = whole.frame()
            self.blocks.append(whole)
        gone, self._gone = self._gone, []
        return put, gone

    @staticmethod
    def _joins(older: Block, rows: int) -> bool:
        """Whether new rows are worth writing an older block again with them: a logarithmic number of small ones stays."""
        return older.height < 2 * rows and older.height + rows <= _MOST

    def progress(self) -> dict[str, int]:
        """Return the numbers to go on with."""
        return {"next": self.next, "sequence": self._sequence}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: dict[str, int]) -> None:
        """Go on from frames of a checkpoint; those of one name come one after the other or not, rows in any order."""
        self.next, self._sequence = progress["next"], progress["sequence"]
        parts: dict[str, list[pl.DataFrame]] = {}
        for name, frame in frames:
            parts.setdefault(name, []).append(frame)
        for name, pieces in parts.items():
            whole = pl.concat(pieces).sort(_NUMBER)
            time, lane, number = (whole[column].to_numpy().copy() for column in (_TIME, _LANE, _NUMBER))
            self.blocks.append(
                Block(whole.select(self.schema.names()), time, lane, number, np.full(len(time), -1), name)
            )
        self.blocks.sort(key=lambda block: int(block.number[0]))

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        arrays = sum(b.time.nbytes + b.lane.nbytes + b.number.nbytes for b in self.blocks)
        return arrays + int(sum(block.data.estimated_size() for block in self.blocks))
