"""The rows of a table with their versions, as a join asks for them: what a key had at a record's own time.

The newest version of each key is kept as in a table without versions, those that it followed in a `History`. By the horizon of a record,
the watermark at its turn less the history, versions are gone for it that newer ones had followed by then, and keys of which only a
deletion is left. When they leave memory is another matter: half of what is held may be such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.held.keyed_rows import KeyedRows
from streamlab.engine.held.runs import named
from streamlab.engine.held.slot_frame import rows_at
from streamlab.engine.operator import Changes, Holding
from streamlab.engine.operators.shared.current_rows import Arrived, Asked, Found, overlaid
from streamlab.engine.operators.shared.history import GONE, VERSION, History, Versions, before
from streamlab.engine.operators.shared.horizon import lanes_of_keys
from streamlab.engine.stream_time import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.operators.shared.horizon import Horizons

_NEWEST, _OLDER = "newest-", "older-"
_SLACK = 256  # versions that are not worth a cleaning


class VersionedRows:
    """The versions of a table's rows that a record can still ask for.

    Parameters
    ----------
    keys, values
        Columns of the table.
    """

    def __init__(self, keys: pl.Schema, values: pl.Schema) -> None:
        self._keys, self._values = keys, values
        self._newest = KeyedRows(keys, pl.Schema({**values, VERSION: pl.Int64(), GONE: pl.Boolean()}))
        self._history = History()
        self._deletions: list[
            tuple[Ints, Ints, Ints]
        ] = []  # slots, lanes and times of keys whose newest version is one

    def answer(self, asked: Asked | None, table: Arrived, horizons: Horizons | None) -> Found | None:
        parts: list[tuple[Bools, Found]] = []
        done = np.zeros(0 if asked is None else len(asked.turn), np.bool_)
        while horizons is not None and (cut := self._conflict(table, horizons)) is not None:
            first = table.filter(table.turn < cut)
            if asked is not None:
                mine = ~done & (asked.turn < cut)
                parts.append((mine, self._find(_picked(asked, mine), _Batch.of(self, first))))
                done |= mine
            self._take(first, None)
            table = table.filter(table.turn >= cut)
            self._forget(table.filter(table.turn == cut), horizons)
        if asked is not None:
            parts.append((~done, self._find(asked if not parts else _picked(asked, ~done), _Batch.of(self, table))))
        self._take(table, None if horizons is None else horizons.after)
        return _assembled(parts) if parts else None

    # --- a deletion that is gone by the time an older version comes: as if the key had never been ---

    def _conflict(self, table: Arrived, horizons: Horizons) -> int | None:
        """Return the turn of the first row that is older than the horizon, and than a deletion of its key older than that too."""
        lanes = lanes_of_keys(table.keys)
        at = np.flatnonzero(table.time <= horizons.after[lanes])
        if not at.size:
            return None
        horizon = horizons.at(lanes[at], table.turn[at] - 1)  # as of the record before
        at, horizon = at[table.time[at] <= horizon], horizon[table.time[at] <= horizon]
        if not at.size:
            return None
        newest = self._newest.get(table.keys[at])[0]
        deleted = newest[GONE].fill_null(value=False).to_numpy()
        time = newest[VERSION].fill_null(NEVER).to_numpy()
        odd = deleted & (time > table.time[at]) & (time <= horizon)
        if table.deleted.any():
            slots = self._newest.slots_of(table.keys, insert=True)
            gone = pl.DataFrame({"slot": slots, "time": np.where(table.deleted, table.time, NEVER)})
            newer = gone.select(pl.col("time").cum_max().shift(1).over("slot")).to_series().fill_null(NEVER).to_numpy()
            # the row that the last cut was made for is the first one now: no deletion in this part comes before it
            odd |= newer[at] > table.time[at]
        return int(table.turn[at[odd]].min()) if odd.any() else None

    def _forget(self, row: Arrived, horizons: Horizons) -> None:
        """Drop the key of a row if only a deletion older than the horizon is left of it."""
        lanes = lanes_of_keys(row.keys)
        newest = self._newest.get(row.keys)[0]
        time = newest[VERSION].fill_null(NEVER).to_numpy()
        gone = newest[GONE].fill_null(value=False).to_numpy() & (time <= horizons.at(lanes, row.turn - 1))
        self._delete(self._newest.slots_of(row.keys, insert=False)[gone], row.keys.filter(pl.Series(gone)))

    def _delete(self, slots: Ints, keys: pl.DataFrame) -> None:
        if slots.size:
            self._history.keep(lambda run: ~np.isin(run.slots, slots))
            self._newest.delete(keys)
            stays = [(part, ~np.isin(part[0], slots)) for part in self._deletions]
            self._deletions = [(part[0][mask], part[1][mask], part[2][mask]) for part, mask in stays]

    # --- questions ---

    def _find(self, asked: Asked, batch: _Batch) -> Found:
        slots = self._newest.slots_of(asked.keys, insert=False)
        held = self._newest.get_slots(slots)
        newest = np.where(self._newest.has(slots), held[VERSION].fill_null(NEVER).to_numpy(), _LATER)
        place = self._versions(slots, newest, asked.time, asked.turn, batch)
        early = np.flatnonzero(asked.time < asked.horizon)
        if early.size:
            last = self._versions(slots[early], newest[early], asked.horizon[early], asked.turn[early], batch)
            place.time[early[last.time > place.time[early]]] = NEVER
        values, gone = held.drop(VERSION, GONE), held[GONE].fill_null(value=False).to_numpy().copy()
        known = place.time != NEVER
        if (older := known & place.older).any():
            rows = self._history.take(place.run[older], place.row[older], [*self._values, GONE])
            values, gone[older] = overlaid(values, older, rows.drop(GONE)), rows[GONE].to_numpy()
        if (fresh := known & place.fresh).any():
            rows = rows_at(batch.rows.values, batch.order[place.row[fresh]])
            values, gone[fresh] = overlaid(values, fresh, rows), batch.rows.deleted[batch.order[place.row[fresh]]]
        hit = known & ~gone
        return Found(values if hit.all() else rows_at(values, np.where(hit, np.arange(len(hit)), -1)), hit)

    def _versions(self, slots: Ints, newest: Ints, limit: Ints, turn: Ints, batch: _Batch) -> _Place:
        """Return where the newest version is that is no later than `limit` and has come by `turn`."""
        time = np.where(newest <= limit, newest, NEVER)
        older = (newest > limit) & (newest != _LATER)
        run, row = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
        if older.any() and len(self._history):
            time[older], run[older], row[older] = self._history.find(slots[older], limit[older])
        fresh = np.zeros(len(slots), np.bool_)
        if batch.rows.height:
            at = batch.last(slots, limit, turn)
            came = np.where(at >= 0, batch.times[at], NEVER)
            fresh = (at >= 0) & (came >= time)
            time[fresh], row[fresh] = came[fresh], at[fresh]
        return _Place(time, run, row, older & ~fresh, fresh)

    # --- rows of the table ---

    def _take(self, table: Arrived, horizon: Ints | None) -> None:
        """Keep versions; those that nobody can ask for by the horizon are let go, where there is one."""
        if table.height:
            self._add(table, horizon)
        if horizon is not None:
            self._clean(horizon)

    def _add(self, table: Arrived, horizon: Ints | None) -> None:
        slots = self._newest.slots_of(table.keys, insert=True)
        order = np.lexsort((table.turn, table.time, slots))
        slots, times = slots[order], table.time[order]
        stays = np.append((np.diff(slots) != 0) | (np.diff(times) != 0), True)
        order, slots, times = order[stays], slots[stays], times[stays]
        last = np.append(np.diff(slots) != 0, True)
        held = self._newest.get_slots(slots)
        had = self._newest.has(slots)
        newest = held[VERSION].fill_null(NEVER).to_numpy()
        wins = last & (~had | (times >= newest))
        rows = self._rows(table, order)
        until = np.where(last, newest, np.append(times[1:], NEVER))
        followed = last & had & (times > newest)
        lanes = lanes_of_keys(rows)
        old = Versions(
            slots[followed], lanes[followed], newest[followed], times[followed],
            rows.select(self._keys.names()).hstack(held.drop(VERSION)).filter(pl.Series(followed)),
        )  # fmt: skip
        new = Versions(slots, lanes, times, until, rows.drop(VERSION)).take(~wins)
        for versions in (old, new):
            self._history.add(versions if horizon is None else versions.take(versions.until > horizon[versions.lanes]))
        self._newest.put_slots(slots[wins], rows.select([*self._values, VERSION, GONE]).filter(pl.Series(wins)))
        dead = wins & table.deleted[order]
        if dead.any():
            self._deletions.append((slots[dead], lanes[dead], times[dead]))

    def _rows(self, table: Arrived, order: Ints) -> pl.DataFrame:
        extra = [pl.Series(VERSION, table.time[order]), pl.Series(GONE, table.deleted[order])]
        return table.keys[order].hstack(rows_at(table.values, order)).with_columns(extra)

    def _clean(self, horizon: Ints) -> None:
        """Let go of versions and deletions that nobody can ask for, once they are half of what there is."""
        gone = [int((times <= horizon[lanes]).sum()) for _, lanes, times in self._deletions]
        held = len(self._history) + sum(len(slots) for slots, _, _ in self._deletions)
        if 2 * (sum(gone) + self._history.expired(horizon)) <= held + _SLACK:
            return
        self._history.keep(lambda run: run.until > horizon[run.lanes])
        slots, lanes, times = (np.concatenate(part) for part in zip(*self._deletions, _NONE, strict=True))
        due = times <= horizon[lanes]
        self._deletions = [(slots[~due], lanes[~due], times[~due])]
        newest = self._newest.get_slots(slots[due])
        still = newest[GONE].fill_null(value=False).to_numpy() & (
            newest[VERSION].fill_null(NEVER).to_numpy() == times[due]
        )
        if still.any():
            dead = np.unique(slots[due][still])
            self._delete(dead, self._newest.keys_of(dead))

    # --- state ---

    def changes(self) -> Changes:
        newest, older = named(self._newest, _NEWEST), self._history.changes(_OLDER)
        return Changes({**newest.put, **older.put}, [*newest.drop, *older.drop])

    def progress(self) -> Any:
        return {"sequence": self._history.sequence}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        parts = list(frames)
        self._newest.load((int(name.removeprefix(_NEWEST)), frame) for name, frame in parts if name.startswith(_NEWEST))
        self._history.load(((name, frame) for name, frame in parts if name.startswith(_OLDER)), self._place)
        self._history.sequence = progress["sequence"]
        deleted = self._newest.frame().filter(GONE)
        slots, lanes = self._place(deleted)
        self._deletions = [(slots, lanes, deleted[VERSION].to_numpy())]

    def _place(self, rows: pl.DataFrame) -> tuple[Ints, Ints]:
        keys = rows.select(self._keys.names())
        return self._newest.slots_of(keys, insert=True), lanes_of_keys(keys)

    def rows(self) -> pl.DataFrame:
        newest = self._newest.frame()
        return newest.filter(~pl.col(GONE)).select(*self._keys, *self._values)

    def holding(self) -> Holding:
        size = self._newest.estimated_size() + self._history.estimated_size()
        return Holding(len(self._newest) + len(self._history), size)


_LATER = -NEVER
"""The time of the newest version of a key that has none."""

_NONE = (np.empty(0, np.int64),) * 3


@dataclass(frozen=True, slots=True)
class _Place:
    """Where versions are: in the history, among the rows of the batch, or (neither) the newest of the state; NEVER: nowhere."""

    time: Ints
    run: Ints
    row: Ints
    older: Bools
    fresh: Bools


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of the table in a micro-batch, ordered by slot, time and arrival."""

    rows: Arrived
    order: Ints
    slots: Ints
    times: Ints
    turns: tuple[Ints, ...]  # the smallest turn of the 1, 2, 4, ... rows that end at each

    @classmethod
    def of(cls, state: VersionedRows, rows: Arrived) -> _Batch:
        """Return rows in that order."""
        slots = state._newest.slots_of(rows.keys, insert=True)  # noqa: SLF001  # two parts of one thing
        order = np.lexsort((rows.turn, rows.time, slots))
        turns = [rows.turn[order]]
        while (1 << len(turns)) <= len(order):
            step = 1 << (len(turns) - 1)
            wider = turns[-1].copy()
            wider[step:] = np.minimum(wider[step:], turns[-1][:-step])
            turns.append(wider)
        return cls(rows, order, slots[order], rows.time[order], tuple(turns))

    def last(self, slots: Ints, limit: Ints, turn: Ints) -> Ints:
        """Return the place of the newest row of each slot that is no later than `limit` and has come by `turn`; -1: none."""
        start = np.searchsorted(self.slots, slots)
        at = before(self.times, start, np.searchsorted(self.slots, slots, side="right"), limit)
        for level in range(len(self.turns) - 1, -1, -1):
            # all of so many rows before have come later: pass them over
            later = (at - (1 << level) >= start) & (self.turns[level][np.maximum(at - 1, 0)] > turn)
            at = np.where(later, at - (1 << level), at)
        return np.where(at > start, at - 1, -1)


def _picked(asked: Asked, mask: Bools) -> Asked:
    return replace(
        asked,
        keys=asked.keys.filter(pl.Series(mask)),
        time=asked.time[mask],
        turn=asked.turn[mask],
        horizon=asked.horizon[mask],
    )


def _assembled(parts: list[tuple[Bools, Found]]) -> Found:
    """Put answers together in the order of the questions."""
    if len(parts) == 1:
        return parts[0][1]
    hit = np.zeros(len(parts[0][0]), np.bool_)
    for mask, found in parts:
        hit[mask] = found.hit
    order = np.argsort(np.concatenate([np.flatnonzero(mask) for mask, _ in parts]))
    return Found(rows_at(pl.concat([found.values for _, found in parts], rechunk=True), order), hit)
