"""The newest row of every key, in memory and as runs of changes for a store.

`KeyedRows` is what tables, table sinks and windows that emit updates keep: a mapping from key to one row of values,
read and written a batch at a time, at a cost per record that does not depend on the rows held.

It knows no store. `changes()` tells what a store has to do to hold the same rows: keep one more *run*, a frame of the
rows changed since the last call, and drop runs that the new one replaces. A run that outgrows half of the one before
takes that one in, so n rows are kept in O(log n) runs and a row is written O(log n) times. A key that was deleted is a
row marked as such in the newest run, until that run takes in the oldest one: then nothing is left to be hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.engine.held.key_index import HashRows, KeyIndex, differ, distinct
from streamlab.engine.held.slot_frame import Mask, SlotFrame, Slots, conform, grown
from streamlab.errors import PlanError, StateDamagedError, StateError, StepError, StreamlabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DELETED = "_deleted"


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What a store has to do: keep the runs in `put` (at most one, by number), then drop the runs in `dropped`."""

    put: list[tuple[int, pl.DataFrame]]
    dropped: list[int]


@dataclass(frozen=True, slots=True)
class _Run:
    number: int
    slots: Slots  # each once


class KeyedRows:
    """A mapping from key to its newest row of values.

    Keys are equal as in `KeyIndex`. A key has a slot from its first `put` (or `slots_of` with `insert`) to its
    `delete`; then the slot may go to another key.

    Parameters
    ----------
    keys
        Names and types of the key columns, at least one.
    values
        Names and types of the value columns; there may be none.
    hash_rows
        As in `KeyIndex`.

    Raises
    ------
    PlanError
        A column is both key and value, is called `_deleted`, or is no possible key.

    Examples
    --------
    >>> rows = KeyedRows(pl.Schema({"carrier": pl.String}), pl.Schema({"flights": pl.Int64}))
    >>> rows.put(pl.DataFrame({"carrier": ["UA", "AA", "UA"], "flights": [1, 2, 3]}))
    >>> values, found = rows.get(pl.DataFrame({"carrier": ["UA", "DL"]}))
    >>> values["flights"].to_list(), found.tolist()
    ([3, None], [True, False])
    >>> rows.delete(pl.DataFrame({"carrier": ["UA"]}))
    >>> rows.frame().rows()
    [('AA', 2)]
    """

    def __init__(self, keys: pl.Schema, values: pl.Schema, *, hash_rows: HashRows | None = None) -> None:
        both = sorted(set(keys) & set(values))
        if both:
            raise PlanError(f"KeyedRows: {both} are key and value columns at once; name each column once.")
        if DELETED in keys or DELETED in values:
            raise PlanError(f"KeyedRows: a column is called {DELETED!r}, which marks deleted rows; rename it.")
        self._index = KeyIndex(keys, hash_rows=hash_rows)
        self._values = SlotFrame(values)
        self._schema = pl.Schema({**self._index.schema, **self._values.schema})
        self._held = np.zeros(1, np.bool_)  # by slot: it belongs to a key, as a caller sees it
        self._saved = np.zeros(1, np.bool_)  # by slot: some run has its key
        self._changed = np.zeros(1, np.bool_)  # by slot: the newest run does not tell how it is now
        self._born = np.zeros(1, np.int64)  # by slot: place in the order of first insertion
        self._births = 0
        self._last = pl.DataFrame(schema=keys), np.empty(0, np.int64)  # the keys last asked for, and their slots
        self._runs: list[_Run] = []
        self._next_run = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, keys: pl.DataFrame) -> tuple[pl.DataFrame, Mask]:
        """Return the values of each row's key, nulls where it has none, and which rows have some."""
        slots = self.slots_of(keys, insert=False)
        return self.get_slots(slots), self.has(slots)

    def put(self, rows: pl.DataFrame) -> None:
        """Set rows of key and value columns; of rows with one key the last counts.

        Raises
        ------
        UnknownColumnError
            A column is missing.
        StepError
            A column is of another type than declared.
        """
        rows = conform(rows, self._schema, "KeyedRows.put")
        self.put_slots(self.slots_of(rows, insert=True), rows)

    def delete(self, keys: pl.DataFrame) -> None:
        """Forget keys and their rows; unknown keys are ignored."""
        slots = distinct(self.slots_of(keys, insert=False))
        slots = slots[slots >= 0]
        self._drop(slots)
        self._held[slots] = False
        self._release(slots[~self._saved[slots]])

    def slots_of(self, keys: pl.DataFrame, *, insert: bool) -> Slots:
        """Return the slot of each row's key; an unknown key gets one with `insert`, else -1."""
        slots = self._find(conform(keys, self._index.schema, "KeyedRows"), insert=insert)
        if insert:
            self._held[slots] = True
        else:
            slots[~self._held[slots]] = -1
        return slots

    def keys_of(self, slots: Slots) -> pl.DataFrame:
        """Return the key columns of slots, nulls where they belong to no key."""
        return self._index.keys(slots)

    def has(self, slots: Slots) -> Mask:
        """Return which slots have a row of values."""
        return self._values.has(slots)

    def get_slots(self, slots: Slots) -> pl.DataFrame:
        """Return the values of slots, nulls where there are none."""
        return self._values.take(slots)

    def key_frame(self, slots: Slots) -> pl.DataFrame:
        """Return the key columns of slots."""
        return self._index.keys(slots)

    def put_slots(self, slots: Slots, values: pl.DataFrame) -> None:
        """Set the values of slots from `slots_of`; of rows for one slot the last counts.

        Raises
        ------
        StepError
            A slot belongs to no key, or a column is of another type than declared.
        """
        values = conform(values, self._values.schema, "KeyedRows.put_slots")
        if slots.min(initial=0) < 0 or not self._held[slots].all():
            raise StepError(
                "KeyedRows.put_slots: a slot belongs to no key; take slots from slots_of(..., insert=True)."
            )
        fresh = slots[~self._values.has(slots)]
        # of the places given to a slot that repeats, the last one written stays: the first place
        self._born[fresh[::-1]] = np.arange(self._births, self._births + len(fresh))[::-1]
        self._births += len(fresh)
        self._values.put(slots, values)
        self._changed[slots] = True

    def frame(self) -> pl.DataFrame:
        """Return all rows, key columns first, in order of first insertion.

        A key that was deleted and put again stands where it was put again. `load` restores the order as far as the
        rows of a run come in theirs, but a key that was deleted and put again may have its old place back.
        """
        slots = self._values.used()
        return self._rows(slots[np.argsort(self._born[slots])])

    def changes(self) -> Changes:
        """Return what changed since the last call, as a store has to write it.

        A run has the key columns, the value columns and `_deleted`, true for a key that is gone (its values are null);
        each key is in it once. Run numbers only grow. When the last row goes, a run without rows remains, so that the
        numbers go on from it.
        """
        changed = np.flatnonzero(self._changed)
        if not changed.size:
            return Changes([], [])
        self._changed[changed] = False
        dropped = []
        while self._runs and 2 * changed.size > self._runs[-1].slots.size:
            run = self._runs.pop()
            dropped.append(run.number)
            changed = distinct(np.append(changed, run.slots))
        if not self._runs:
            changed = self._bury(changed)
        run = _Run(self._next_run, changed[np.argsort(self._born[changed])])
        self._next_run += 1
        self._runs.append(run)
        self._saved[changed] = True
        deleted = pl.Series(DELETED, ~self._values.has(run.slots))
        return Changes([(run.number, self._rows(run.slots).with_columns(deleted))], dropped[::-1])

    def live_runs(self) -> list[int]:
        """Return the numbers of the runs that hold the rows, as of the last call of `changes`, ascending."""
        return [run.number for run in self._runs]

    def load(self, runs: Iterable[tuple[int, pl.DataFrame]]) -> None:
        """Take in the rows of the live runs, in ascending order of number; the newest counts.

        A run may come cut in several frames with its number, one after the other, its rows in any order.

        Raises
        ------
        StateError
            There are rows already.
        StateDamagedError
            A run is out of order, or is not what `changes` gave.
        """
        if len(self._index) or self._runs:
            raise StateError(f"KeyedRows.load: {len(self._index):,} keys are here already; load into a new object.")
        for number, frames in groupby(runs, key=itemgetter(0)):
            if number < self._next_run:
                raise StateDamagedError(
                    f"KeyedRows.load: run {number} after run {self._next_run - 1}; sort them first."
                )
            self._runs.append(_Run(number, self._load(number, [frame for _, frame in frames])))
            self._next_run = number + 1
        self._changed[:] = False

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        arrays = (self._held, self._saved, self._changed, self._born, *(run.slots for run in self._runs))
        return self._index.estimated_size() + self._values.estimated_size() + sum(array.nbytes for array in arrays)

    def _load(self, number: int, frames: Sequence[pl.DataFrame]) -> Slots:
        """Take in one run and return the slots of its keys."""
        schema = pl.Schema({**self._schema, DELETED: pl.Boolean()})
        try:
            rows = pl.concat([conform(frame, schema, f"KeyedRows.load, run {number}") for frame in frames])
        except StreamlabError as error:
            raise StateDamagedError(f"{error} These are not the rows that were kept.") from error
        if rows[DELETED].null_count():
            raise StateDamagedError(f"KeyedRows.load, run {number}: {DELETED!r} is null; it must be true or false.")
        # a deleted key that no older run has is hidden by nothing, so it need not be known
        gone = distinct(self._find(rows.filter(DELETED)[self._index.schema.names()], insert=False))
        gone = gone[gone >= 0]
        self._drop(gone)
        self._held[gone] = False
        rows = rows.filter(~pl.col(DELETED))
        slots = self.slots_of(rows, insert=True)
        self.put_slots(slots, rows)
        slots = distinct(np.append(slots, gone))
        self._saved[slots] = True
        return slots

    def _rows(self, slots: Slots) -> pl.DataFrame:
        return self._index.keys(slots).hstack(self._values.take(slots))

    def _drop(self, slots: Slots) -> None:
        """Drop the rows of slots; a store that has their keys must hear of it."""
        live = slots[self._values.has(slots)]
        self._values.drop(live)
        self._changed[live] = self._saved[live]

    def _bury(self, slots: Slots) -> Slots:
        """Forget those slots that have no row, now that no run has their keys, and return the others."""
        live = self._values.has(slots)
        gone = slots[~live]
        self._saved[gone] = False
        self._release(gone[~self._held[gone]])
        return slots[live]

    def _release(self, slots: Slots) -> None:
        if slots.size:
            self._index.release(slots)
            self._last = self._last[0].clear(), slots[:0]

    def _find(self, keys: pl.DataFrame, *, insert: bool) -> Slots:
        """Find slots in the index, unless the last call was for the same keys, as a `put` is after a `get`."""
        last, slots = self._last
        if (insert and slots.min(initial=0) < 0) or not _same(keys, last):
            slots = self._index.slots(keys, insert=insert)
            self._last = keys.clone(), slots
        size = int(slots.max(initial=0)) + 1
        self._held, self._saved = grown(self._held, size, 0), grown(self._saved, size, 0)
        self._changed, self._born = grown(self._changed, size, 0), grown(self._born, size, 0)
        return slots.copy()


def _same(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    few = left.height == right.height and not differ(left.head(9), right.head(9)).any()
    return few and not differ(left, right).any()
