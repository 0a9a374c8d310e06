"""Records of a table: which row each one sets, and which row it deletes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from streamlab.connect.record_keys import read_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.plan.nodes import Source


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table, in order of arrival.

    Parameters
    ----------
    data
        Columns; of a deletion the key alone, the others null.
    kept
        Positions of the records that they are of.
    deleted
        Which of them are deletions.
    bad
        Records whose key cannot be read: position, and why.
    skipped
        Number of records that have no key, or null in it.
    """

    data: pl.DataFrame
    kept: Ints
    deleted: Bools
    bad: list[tuple[int, str]]
    skipped: int


def table_rows(
    source: Source, keys: Sequence[bytes | None], data: pl.DataFrame, kept: Ints, tombstones: Ints
) -> TableRows:
    """Return the rows that records of a table set and delete.

    Parameters
    ----------
    source
        The table.
    keys
        Record keys, of all records; empty where there are none.
    data, kept
        Decoded payloads, and the positions of the records that they are of. A null in a key column is filled from the record key.
    tombstones
        Positions of the records without a payload.
    """
    by = list(source.table_key)
    asked = data.select(pl.any_horizontal(pl.col(by).is_null())).to_series().to_numpy()
    told, bad = _told(source, keys, np.concatenate([kept[asked], tombstones]))
    filled = told[: int(asked.sum())]
    if filled.height:
        at = pl.Series(np.where(asked, np.cumsum(asked) - 1, 0))
        data = data.with_columns(
            pl.when(pl.col(name).is_null() & pl.Series(asked))
            .then(filled[name][at])
            .otherwise(pl.col(name))
            .alias(name)
            for name in by
        )
    gone = told[filled.height :].select(
        pl.col(name) if name in by else pl.lit(None, t).alias(name) for name, t in data.schema.items()
    )
    deleted = np.arange(data.height + gone.height) >= data.height
    return _in_order(pl.concat([data, gone]), np.concatenate([kept, tombstones]), deleted, by, bad)


def _in_order(data: pl.DataFrame, kept: Ints, deleted: Bools, by: list[str], bad: list[tuple[int, str]]) -> TableRows:
    """Leave out rows without a key, and bring the others in order of arrival."""
    keyless = data.select(pl.any_horizontal(pl.col(by).is_null())).to_series().to_numpy()
    stays = np.flatnonzero(~keyless)
    if deleted.any():
        stays = stays[np.argsort(kept[stays], kind="stable")]
    if len(stays) < data.height or deleted.any():
        data, kept, deleted = data[stays], kept[stays], deleted[stays]
    return TableRows(data, kept, deleted, bad, int(keyless.sum()) - len(bad))


def _told(source: Source, keys: Sequence[bytes | None], which: Ints) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """Return what record keys say of the key columns, nulls where they say nothing, and which of them cannot be read."""
    schema = pl.Schema({name: source.columns[name] for name in source.table_key})
    there = [i for i in which.tolist() if keys and keys[i] is not None]
    given = [key for i in there if (key := keys[i]) is not None]
    found = read_keys(given, schema)
    bad = [(there[one.index], one.error) for one in found.bad]
    good = np.array(there, np.int64) if found.kept is None else np.array(there, np.int64)[found.kept]
    rows = found.rows
    if incomplete := _incomplete(rows, [keys[i] for i in good.tolist()]):
        bad += [(int(good[row]), error) for row, error in incomplete]
    place = np.full(int(which.max(initial=-1)) + 1, -1, np.int64)
    place[good] = np.arange(len(good))
    at = pl.Series(place[which])
    return rows.select(pl.all().gather(at.replace(-1, rows.height).cast(pl.UInt32), null_on_oob=True)), bad


def _incomplete(rows: pl.DataFrame, keys: Sequence[bytes | None]) -> list[tuple[int, str]]:
    """Return the rows of which a column is null because their record key lacks it, which is not the same as a null in it."""
    found = []
    empty = rows.select(pl.any_horizontal(pl.all().is_null())).to_series()
    for row in empty.arg_true().to_list():
        missing = set(rows.columns) - set(json.loads(keys[row] or b"{}"))
        if missing:
            found.append(
                (row, f"the record key {keys[row]!r} lacks column {min(missing)!r} of the table's key {rows.columns}")
            )
    return found
