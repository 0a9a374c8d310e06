"""Rows by key and time, and how they go: what the watermark has passed is swept out now and then, never row by row.

A sweep costs as much as there are rows. It comes when a quarter of them may have expired, so each row is in a few sweeps only; what has
expired and is still there must be passed over by whoever looks (it is by its time). Keys without rows give their slot back in a sweep,
and only then: until then no other key's rows can be taken for theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, TIME
from streamlab.engine.held.key_index import KeyIndex
from streamlab.engine.held.slot_frame import grown
from streamlab.engine.held.time_index import TimeIndex
from streamlab.engine.held.timed_rows import TimedRows
from streamlab.engine.operator import Changes, Holding, of_keys
from streamlab.engine.stream_time import NEVER
from streamlab.engine.stream_time import grown as lengthened
from streamlab.plan.schema import RESERVED
from streamlab.plan.schema import TIME as TIME_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamlab.engine.batch import Bools, Ints

_SIDE = f"{RESERVED}side"
_SHARE = 0.25
"""Of the rows: how many may have expired before they are swept out."""


class Side:
    """The rows of one input.

    Parameters
    ----------
    name
        What the names of its frames begin with.
    schema
        Columns of its rows.
    keys
        Which of them are the key.
    horizon
        Milliseconds that the watermark must be past a row's time for it to expire.
    indexed
        Whether rows are looked up by key and time; else they are only kept.
    """

    def __init__(
        self, name: str, schema: pl.Schema, keys: Sequence[str], horizon: int, *, indexed: bool = True
    ) -> None:
        self.name, self.keys, self.horizon, self.indexed = name, tuple(keys), horizon, indexed
        self.rows = TimedRows(schema, name)
        self.index = TimeIndex()


def counted(names: Sequence[str], sides: Sequence[Side], key: pl.DataFrame | None, watermark: Ints) -> pl.DataFrame:
    """Return how many rows sides hold of keys, and between which times, by key and lane, the key columns called `names`."""
    parts = []
    for side in sides:
        for block in side.rows.blocks:
            keys = block.data.select(side.keys)
            keys.columns = list(names)
            expired = block.time + side.horizon < lengthened(watermark, int(block.lane.max()) + 1, NEVER)[block.lane]
            rows = keys.with_columns(
                pl.Series(LANE, block.lane), pl.Series(TIME, block.time).cast(TIME_TYPE), pl.lit(side.name).alias(_SIDE)
            )
            parts.append(of_keys(rows.filter(pl.Series(~expired)), key))
    if not parts:
        return pl.DataFrame(schema=dict.fromkeys([*names, LANE], pl.Int64))
    of_sides = [(pl.col(_SIDE) == side.name).sum().alias(f"{side.name} rows") for side in sides]
    bounds = pl.col(TIME).min().alias("oldest"), pl.col(TIME).max().alias("newest")
    return pl.concat(parts).group_by(*names, LANE, maintain_order=True).agg(*of_sides, *bounds)


class KeyedTimes:
    """Sides that share their keys: the slots of keys, and the rows of each side by slot and time."""

    def __init__(self, schema: pl.Schema, *sides: Side) -> None:
        self.sides = sides
        self._names = list(schema)
        self._keys = KeyIndex(pl.Schema({LANE: pl.Int64(), **schema}))
        self._lane_of = np.zeros(1, np.int64)  # by slot
        self._given = np.zeros(1, np.bool_)  # by slot: it belongs to a key
        self._count = np.zeros(1, np.int64)  # by lane: rows taken in since the last sweep, and those that it left
        self._newest = np.full(1, NEVER, np.int64)  # by lane: time of the newest row
        self._swept = np.full(1, NEVER, np.int64)  # by lane: watermark at the last sweep

    def slots(self, parts: Sequence[tuple[pl.DataFrame, Ints, Bools]], *, insert: bool) -> list[Ints]:
        """Return the slots of the keys of several frames, each with the lanes of its rows and which of them are asked for.

        -1 for the others, for a key with a null, which equals none, and without `insert` for an unknown one.
        """
        asked = np.concatenate([mask for *_, mask in parts])
        names = dict(enumerate(self._names))
        frames = [frame.rename({old: names[n] for n, old in enumerate(frame.columns)}) for frame, *_ in parts]
        whole = pl.concat(frames).insert_column(0, pl.Series(LANE, np.concatenate([lane for _, lane, _ in parts])))
        if any(column.null_count() for column in whole):
            asked = asked & whole.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
        found = np.full(whole.height, -1)
        if asked.any():
            keys = whole if asked.all() else whole.filter(pl.Series(asked))
            found[asked] = self._find(keys, insert=insert)
        return np.split(found, np.cumsum([frame.height for frame in frames])[:-1])

    def _find(self, keys: pl.DataFrame, *, insert: bool) -> Ints:
        slots = self._keys.slots(keys, insert=insert)
        if insert:
            size = int(slots.max()) + 1
            self._lane_of, self._given = grown(self._lane_of, size, 0), grown(self._given, size, 0)
            self._lane_of[slots], self._given[slots] = keys[LANE].to_numpy(), True
        return slots

    def keep(self, side: Side, places: Ints, time: Ints, lane: Ints) -> None:
        """Keep of a side's last append the rows at these places; whoever looks rows up puts them in the index."""
        stays = np.zeros(len(time), np.bool_)
        stays[places] = True
        side.rows.settle(stays)
        self._note(time[places], lane[places])

    def _note(self, time: Ints, lane: Ints) -> None:
        if not len(time):
            return
        self._know(int(lane.max()) + 1)
        self._count += np.bincount(lane, minlength=len(self._count))
        np.maximum.at(self._newest, lane, time)

    def _know(self, lanes: int) -> None:
        self._count = lengthened(self._count, lanes, 0)
        self._newest, self._swept = (lengthened(values, lanes, NEVER) for values in (self._newest, self._swept))

    def sweep(self, watermark: Ints) -> None:
        """Drop what has expired, if it is worth it."""
        self._know(len(watermark))
        now, total = lengthened(watermark, len(self._count), NEVER), int(self._count.sum())
        if not total:
            return
        horizon = max(side.horizon for side in self.sides)
        moved = np.minimum((now - self._swept) / (horizon + 1), 1.0)
        all_gone = not (self._count * (self._newest + horizon >= now)).any()
        if all_gone or (self._count * moved).sum() >= _SHARE * total:
            self._sweep(now)

    def _sweep(self, now: Ints) -> None:
        used = np.zeros(len(self._given), np.bool_)
        for side in self.sides:
            oldest = now - side.horizon
            side.rows.drop_before(oldest)
            if side.indexed:
                used |= side.index.keep(oldest[self._lane_of])
        free = np.flatnonzero(self._given & ~used)
        if len(free):
            self._keys.release(free)
            self._given[free] = False
        self._swept = now.copy()
        self._count = np.zeros(len(now), np.int64)
        for block in (block for side in self.sides for block in side.rows.blocks):
            self._count += np.bincount(block.lane, minlength=len(now))

    def changes(self) -> Changes:
        """Return what changed since the last call."""
        put: dict[str, pl.DataFrame] = {}
        drop: list[str] = []
        for side in self.sides:
            fresh, gone = side.rows.changes()
            put |= fresh
            drop += gone
        return Changes(put, drop)

    def progress(self) -> Any:
        """Return the small part of the state."""
        return {side.name: side.rows.progress() for side in self.sides}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        """Go on from frames and progress."""
        frames = list(frames)
        for side in self.sides:
            mine = [(name, frame) for name, frame in frames if name.rpartition("-")[0] == side.name]
            side.rows.load(mine, progress[side.name])
            for block in side.rows.blocks:
                self._note(block.time, block.lane)
                if side.indexed:
                    (slot,) = self.slots([(block.data.select(side.keys), block.lane, block.time >= 0)], insert=True)
                    block.slot, keyed = slot, slot >= 0
                    side.index.add(slot[keyed], block.time[keyed], block.number[keyed])

    def held(self, key: pl.DataFrame | None, watermark: Ints) -> pl.DataFrame:
        """Return how many rows each side holds of keys, and between which times, by key and lane; what has expired is left out."""
        return counted(self._names, self.sides, key, watermark)

    def holding(self) -> Holding:
        """Return how much is held."""
        rows = sum(len(side.rows) for side in self.sides)
        size = sum(side.rows.estimated_size() + side.index.estimated_size() for side in self.sides)
        oldest = min((int(block.time.min()) for side in self.sides for block in side.rows.blocks), default=None)
        return Holding(rows, size + self._keys.estimated_size(), len(self._keys), oldest)
