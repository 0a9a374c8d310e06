"""Finding a key: which rows of a state belong to the keys of a batch, with no Python object per key.

`KeyIndex` gives every key a *slot*, a small dense number under which arrays and frames keep what belongs to it.
It has sorted runs of 64-bit key hashes with their slots; a run that outgrows half of the one before is merged into it,
as in an LSM tree, so a lookup is a search in O(log keys) runs and a key is copied O(log keys) times. Equal hashes of
different keys are told apart by comparing the key columns; the later of such keys are in a small side table.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from streamlab.engine.held.dense import Dense
from streamlab.engine.held.slot_frame import Mask, SlotFrame, Slots, conform, leaves, rows_at
from streamlab.errors import PlanError, StepError

Hashes = npt.NDArray[np.uint64]
HashRows = Callable[[pl.DataFrame], Hashes]

MAX_SLOTS = 10**9  # slots and row numbers have 32 bits inside, and a frame may hold twice as many rows as slots
_MANY = 4096  # rows from which on working column by column is worth its overhead
_SEED = secrets.randbits(63)  # whoever sends the keys must not be able to choose them so that their hashes are equal


class KeyIndex:
    """Dense slots for the distinct values of one or several key columns.

    Keys are equal where `group_by` puts them in one group: null is a key like any other, NaN equals NaN and -0.0
    equals 0.0. A slot stays with its key until it is released. Costs about 16 bytes a key plus the key columns.

    Parameters
    ----------
    schema
        Names and types of the key columns.
    hash_rows
        One 64-bit hash per row, equal for equal keys. Hashes never leave this object: another process may have others.

    Raises
    ------
    PlanError
        There is no key column, or one has no equality.

    Examples
    --------
    >>> index = KeyIndex(pl.Schema({"carrier": pl.String}))
    >>> index.slots(pl.DataFrame({"carrier": ["UA", "AA", "UA"]}), insert=True)
    array([0, 1, 0])
    >>> index.slots(pl.DataFrame({"carrier": ["AA", "DL"]}), insert=False)
    array([ 1, -1])
    >>> index.release(np.array([0]))
    >>> len(index), index.slots(pl.DataFrame({"carrier": ["UA"]}), insert=False)
    (1, array([-1]))
    """

    def __init__(self, schema: pl.Schema, *, hash_rows: HashRows | None = None) -> None:
        _refuse_bad_keys(schema)
        self._hash = hash_rows or _hash_rows
        self._keys = SlotFrame(schema)
        self.schema = self._keys.schema
        self._runs: list[_Run] = []  # each at most half as long as the one before; a hash is live in one of them only
        self._side: tuple[Hashes, Slots] = np.empty(0, np.uint64), np.empty(0, np.int64)
        self._slots = Dense()

    def __len__(self) -> int:
        return len(self._keys)

    def slots(self, keys: pl.DataFrame, *, insert: bool) -> Slots:
        """Return the slot of each row's key; keys may repeat, columns that are no key are ignored.

        Unknown keys get new slots in order of first appearance with `insert`, else -1.

        Raises
        ------
        UnknownColumnError, StepError
            A key column is missing or of another type; there are more than `MAX_SLOTS` keys.
        """
        keys = conform(keys, self.schema, "KeyIndex.slots")
        hashes, first, group = _by_hash(self._hash(keys))
        found = self._find(hashes)
        odd = self._collisions(keys, hashes, first, group, found)
        slots, leaders = found[group], first[group]
        if odd.any():
            self._resolve(keys, odd, slots, leaders)
        new = slots < 0
        if insert and new.any():
            fresh = np.flatnonzero(new & (leaders == np.arange(len(slots))))
            slots[fresh] = self._give(rows_at(keys, fresh))
            slots[new] = slots[leaders[new]]
            plain = (found < 0) & ~odd[first]
            self._add_run(hashes[plain], slots[first[plain]])
            fresh = fresh[odd[fresh]]
            self._side = np.append(self._side[0], hashes[group[fresh]]), np.append(self._side[1], slots[fresh])
        return slots

    def keys(self, slots: Slots) -> pl.DataFrame:
        """Return the key columns of slots; nulls where a slot is free."""
        return self._keys.take(slots)

    def release(self, slots: Slots) -> None:
        """Forget the keys of slots, which may go to other keys then; a slot without a key raises `StepError`."""
        slots = distinct(slots)
        known = self._keys.has(slots)
        if not known.all():
            raise StepError(f"KeyIndex.release: no key has slot {slots[~known][0]}; release a slot once, as given.")
        hashes = self._hash(self._keys.take(slots))
        self._runs = [run for run in (run.without(hashes, slots) for run in self._runs) if len(run.hashes)]
        stays = ~np.isin(self._side[1], slots)
        self._side = self._side[0][stays], self._side[1][stays]
        self._keys.drop(slots)
        self._slots.take_back(slots)

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        arrays = [array for run in self._runs for array in (run.hashes, run.slots, run.starts)]
        return self._keys.estimated_size() + sum(array.nbytes for array in arrays)

    def _find(self, hashes: Hashes) -> Slots:
        """Return the slots of sorted hashes, -1 where unknown."""
        slots, todo = np.full(len(hashes), -1), np.arange(len(hashes))
        for run in self._runs:
            at, hit = run.search(hashes[todo])
            slots[todo[hit]] = run.slots[at[hit]]
            todo = todo[~hit]
            if not todo.size:
                break
        return slots

    def _collisions(self, keys: pl.DataFrame, hashes: Hashes, first: Slots, group: Slots, found: Slots) -> Mask:
        """Return which rows cannot trust their hash: another key has the same one."""
        wrong = np.isin(hashes, self._side[0]) if self._side[0].size else np.zeros(len(hashes), np.bool_)
        known = np.flatnonzero(found >= 0)
        wrong[known] |= differ(rows_at(keys, first[known]), self._keys.take(found[known]))
        odd = wrong[group]
        if len(hashes) < keys.height:
            odd |= differ(keys, rows_at(keys, first[group]))
        return odd

    def _resolve(self, keys: pl.DataFrame, odd: Mask, slots: Slots, leaders: Slots) -> None:
        """Find slot (-1 where new) and first row with the same key for odd rows, by comparing keys with `group_by`."""
        rows = np.flatnonzero(odd)
        known = distinct(np.append(self._side[1], slots[rows][slots[rows] >= 0]))
        first = _first_equal(pl.concat([self._keys.take(known), rows_at(keys, rows)]))[len(known) :]
        slots[rows] = np.append(known, np.full(len(rows), -1))[first]
        leaders[rows] = np.append(np.full(len(known), -1), rows)[first]

    def _give(self, keys: pl.DataFrame) -> Slots:
        """Give new keys slots: free ones first."""
        if len(self) + keys.height > MAX_SLOTS:
            raise StepError(f"KeyIndex.slots: more than {MAX_SLOTS:,} keys at once; spread them over more tasks.")
        slots = self._slots.give(keys.height)
        self._keys.put(slots, keys)
        return slots

    def _add_run(self, hashes: Hashes, slots: Slots) -> None:
        run = _Run(hashes, slots.astype(np.int32))
        while self._runs and 2 * len(run.hashes) > len(self._runs[-1].hashes):
            run = self._runs.pop().merged(run)
        if len(run.hashes):
            self._runs.append(run)


class _Run:
    """Sorted hashes, each once, and their slots; -1 where the key is gone."""

    def __init__(self, hashes: Hashes, slots: npt.NDArray[np.int32]) -> None:
        self.hashes, self.slots = hashes, slots
        self._gone = 0
        self._bits = max(1, len(hashes).bit_length() - 1)
        self.starts = np.empty(0, np.int32)  # where the hashes with the same leading bits begin, once that is needed
        self._longest = 0

    def search(self, hashes: Hashes) -> tuple[Slots, Mask]:
        """Return where hashes stand, and whether they are there and not gone."""
        at = np.searchsorted(self.hashes, hashes) if len(hashes) < _MANY else self._descend(hashes)
        at[at == len(self.hashes)] = 0
        return at, (self.hashes[at] == hashes) & (self.slots[at] >= 0)

    def _descend(self, hashes: Hashes) -> Slots:
        """Do what `np.searchsorted` does, for all abreast: three times faster where a run is larger than the cache."""
        shift = np.uint64(64 - self._bits)
        if not self.starts.size:
            counts = np.bincount((self.hashes >> shift).astype(np.int64), minlength=1 << self._bits)
            self.starts, self._longest = np.append(0, np.cumsum(counts)).astype(np.int32), int(counts.max())
        at = self.starts[(hashes >> shift).astype(np.int64)].astype(np.int64)
        step = 1 << self._longest.bit_length()
        while step := step >> 1:
            ahead = np.minimum(at + step, len(self.hashes))
            at = np.where(self.hashes[ahead - 1] < hashes, ahead, at)
        return at

    def merged(self, other: _Run) -> _Run:
        """Merge this run with a new one that shares no live hash with it."""
        long = self._tidied()
        at = np.searchsorted(long.hashes, other.hashes) + np.arange(len(other.hashes))
        mine = np.ones(len(long.hashes) + len(other.hashes), np.bool_)
        mine[at] = False
        merged = _Run(np.empty(len(mine), np.uint64), np.empty(len(mine), np.int32))
        merged.hashes[at], merged.slots[at] = other.hashes, other.slots
        merged.hashes[mine], merged.slots[mine] = long.hashes, long.slots
        return merged

    def without(self, hashes: Hashes, slots: Slots) -> _Run:
        """Return this run without those of the pairs of hash and slot that it has."""
        at, hit = self.search(hashes)
        at = at[hit & (self.slots[at] == slots)]
        self.slots[at] = -1
        self._gone += len(at)
        return self._tidied() if 2 * self._gone > len(self.hashes) else self

    def _tidied(self) -> _Run:
        stays = self.slots >= 0
        return _Run(self.hashes[stays], self.slots[stays]) if self._gone else self


def distinct(numbers: Slots) -> Slots:
    """Return distinct numbers, sorted: `np.unique`, but fast where many differ."""
    numbers = np.sort(numbers)
    return numbers[_begins(numbers)]


def _begins(ordered: npt.NDArray[Any]) -> Mask:
    begins = np.ones(len(ordered), np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    return begins


def _by_hash(hashes: Hashes) -> tuple[Hashes, Slots, Slots]:
    """Return the distinct hashes, sorted, the first row of each, and which of them each row has."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    begins = _begins(ordered)
    group = np.empty(len(hashes), np.int64)
    group[order] = np.cumsum(begins) - 1
    starts = np.flatnonzero(begins)
    return ordered[starts], np.minimum.reduceat(order, starts) if len(hashes) else order, group


def _hash_rows(keys: pl.DataFrame) -> Hashes:
    return keys.hash_rows(_SEED).to_numpy()


def differ(left: pl.DataFrame, right: pl.DataFrame) -> Mask:
    """Return which rows of two frames with the same columns differ."""
    return reduce(or_, (a.ne_missing(b) for a, b in zip(left, right, strict=True))).to_numpy()


def _first_equal(keys: pl.DataFrame) -> Slots:
    """Return for each row the first row with an equal key."""
    numbered = pl.DataFrame([column.alias(str(i)) for i, column in enumerate(keys)]).with_row_index("row")
    return numbered.select(pl.col("row").cast(pl.Int64).first().over(numbered.columns[1:])).to_series().to_numpy()


def _refuse_bad_keys(schema: pl.Schema) -> None:
    if not schema:
        raise PlanError("KeyIndex: no key column given; name at least one.")
    for name, dtype in schema.items():
        if pl.Object in leaves(dtype):  # polars does not refuse to hash a list of them: it ends the process
            raise PlanError(f"KeyIndex: column {name!r} is {dtype}, which has no equality; use text, numbers or times.")
