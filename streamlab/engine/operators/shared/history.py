"""Versions of a table's rows that newer ones have followed: found by key and time, dropped when nobody can ask for them any more.

A version is kept with the time of the one that followed it. They lie in runs, sorted by slot and time; a run that outgrows half of the one
before is merged with it, so that a lookup is a search in a logarithmic number of runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.held.slot_frame import own_texts, rows_at
from streamlab.engine.operator import Changes
from streamlab.engine.stream_time import NEVER
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamlab.engine.batch import Bools, Ints

VERSION, UNTIL, GONE = f"{RESERVED}version", f"{RESERVED}until", f"{RESERVED}gone"
"""Columns: the time of a version, that of the one after it, and whether it says that the key is deleted."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Some versions: the slot of their key, their lane and times, and their rows."""

    slots: Ints
    lanes: Ints
    times: Ints
    until: Ints
    rows: pl.DataFrame
    name: str | None = None  # as which it is in the last checkpoint

    @property
    def height(self) -> int:
        """Number of versions."""
        return len(self.slots)

    def take(self, which: Ints | Bools) -> Versions:
        """Return versions by position or mask."""
        at: Ints = np.flatnonzero(which) if which.dtype == np.bool_ else which.astype(np.int64)
        rows = own_texts(rows_at(self.rows, at))
        return Versions(self.slots[at], self.lanes[at], self.times[at], self.until[at], rows)


def together(parts: list[Versions]) -> Versions:
    """Return versions sorted by slot and time; of two at one time that of the later part."""
    slots, lanes, times, until = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("slots", "lanes", "times", "until")
    )
    order = np.lexsort((times, slots))
    last = np.ones(len(order), np.bool_)
    last[:-1] = (np.diff(slots[order]) != 0) | (np.diff(times[order]) != 0)
    whole = Versions(slots, lanes, times, until, pl.concat([part.rows for part in parts], rechunk=True))
    return whole.take(order[last])


def before(values: Ints, start: Ints, end: Ints, limit: Ints) -> Ints:
    """Return where in values[start:end], which ascend, those end that are at most `limit`: a search for all abreast."""
    low, high = start.copy(), end.copy()
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) // 2
        open_ = low < high
        under = open_ & (values[np.minimum(middle, len(values) - 1)] <= limit)
        low = np.where(under, middle + 1, low)
        high = np.where(open_ & ~under, middle, high)
    return low


class History:
    """Versions that newer ones have followed."""

    def __init__(self) -> None:
        self._runs: list[Versions] = []
        self._dropped: list[str] = []
        self.sequence = 0

    def __len__(self) -> int:
        return sum(run.height for run in self._runs)

    def add(self, versions: Versions) -> None:
        """Keep versions."""
        if not versions.height:
            return
        parts = [versions]
        while self._runs and self._runs[-1].name is None and self._runs[-1].height < 2 * sum(p.height for p in parts):
            parts.append(self._runs.pop())
        self._runs.append(together(parts[::-1]))

    def find(self, slots: Ints, limit: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the time of the newest version of each slot that is no later than `limit`, and where it is; NEVER: there is none."""
        times, runs, rows = np.full(len(slots), NEVER), np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
        for number, run in enumerate(self._runs):
            start = np.searchsorted(run.slots, slots)
            at = before(run.times, start, np.searchsorted(run.slots, slots, side="right"), limit) - 1
            # of versions of one time the one that came later counts, which is in the later run
            better = (at >= start) & (run.times[at] >= times)
            times[better], runs[better], rows[better] = run.times[at[better]], number, at[better]
        return times, runs, rows

    def take(self, runs: Ints, rows: Ints, columns: list[str]) -> pl.DataFrame:
        """Return columns of versions by where they are."""
        starts = np.cumsum([0, *(run.height for run in self._runs)])
        wanted = [int(number) for number in np.unique(runs)]
        frame = pl.concat([self._runs[number].rows.select(columns) for number in wanted], rechunk=True)
        base = np.zeros(len(starts), np.int64)
        base[wanted] = np.cumsum([0, *(self._runs[number].height for number in wanted)])[:-1]
        return rows_at(frame, base[runs] + rows)

    def expired(self, horizon: Ints) -> int:
        """Return how many versions nobody can ask for, by the horizon of each lane."""
        return sum(int((run.until <= horizon[run.lanes]).sum()) for run in self._runs)

    def keep(self, stays: Callable[[Versions], Bools]) -> None:
        """Drop the versions that do not stay."""
        runs, moved = list[Versions](), False
        for run in self._runs:
            mask = stays(run)
            if mask.all() and not moved:
                runs.append(run)
                continue
            if run.name is not None:
                self._dropped.append(run.name)
            if mask.any():  # what comes after it gets a new name too: the order of names is the order of runs
                moved = True
                runs.append(run.take(mask))
        self._runs = runs

    def changes(self, prefix: str) -> Changes:
        """Return what changed since the last call: runs that are new, and those that they replace."""
        put, names, kept = dict[str, pl.DataFrame](), set[str](), list[Versions]()
        for run in self._runs:
            part = run
            if part.name is None:
                while kept and kept[-1].height < 2 * part.height:
                    older = kept.pop()
                    part = together([older, part])
                    if older.name in names:
                        del put[older.name]
                    elif older.name is not None:
                        self._dropped.append(older.name)
                self.sequence += 1
                part = replace(part, name=f"{prefix}{self.sequence:012d}")
                names.add(str(part.name))
                put[str(part.name)] = part.rows.with_columns(
                    pl.Series(VERSION, part.times), pl.Series(UNTIL, part.until)
                )
            kept.append(part)
        self._runs = kept
        dropped, self._dropped = self._dropped, []
        return Changes(put, dropped)

    def load(
        self, frames: Iterable[tuple[str, pl.DataFrame]], place: Callable[[pl.DataFrame], tuple[Ints, Ints]]
    ) -> None:
        """Go on from frames; `place` gives the slots and lanes of their rows."""
        parts: dict[str, list[pl.DataFrame]] = {}
        for name, frame in frames:
            parts.setdefault(name, []).append(frame)
        for name in sorted(parts):
            rows = pl.concat(parts[name], rechunk=True)
            slots, lanes = place(rows)
            times, until = rows[VERSION].to_numpy(), rows[UNTIL].to_numpy()
            run = Versions(slots, lanes, times, until, rows.drop(VERSION, UNTIL))
            self._runs.append(replace(together([run]), name=name))

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return sum(int(run.rows.estimated_size()) + 4 * run.slots.nbytes for run in self._runs)
