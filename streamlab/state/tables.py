"""Reading a pipeline's tables from any process, beside the engine that writes them or after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.errors import StateError, did_you_mean
from streamlab.state import segments
from streamlab.state.folders import STATE_FILE, find_pipeline
from streamlab.state.snapshot import read_head

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = "table:"


class TableView(Mapping[Any, dict[str, Any]]):
    """A table as of its last commit: a read-only mapping from key to row.

    The key is the value of its one key column, or the tuple of several.
    """

    def __init__(self, path: Path, name: str, keys: tuple[str, ...], rows: pl.DataFrame) -> None:
        self._path, self._name, self._keys, self._frame = path, name, keys, rows
        self._rows: dict[Any, dict[str, Any]] | None = None

    def frame(self) -> pl.DataFrame:
        """Return all rows."""
        return self._frame

    def _by_key(self) -> dict[Any, dict[str, Any]]:
        if self._rows is None:
            keys = self._frame.select(self._keys).rows()
            single = len(self._keys) == 1
            self._rows = {
                key[0] if single else key: row for key, row in zip(keys, self._frame.iter_rows(named=True), strict=True)
            }
        return self._rows

    def __getitem__(self, key: Any) -> dict[str, Any]:
        return self._by_key()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._by_key())

    def __len__(self) -> int:
        return self._frame.height

    def __repr__(self) -> str:
        """Say what it is."""
        return f"Table {self._name!r} by {', '.join(self._keys)}: {len(self):,} rows\n{self._frame.head(5)}"


def open_table(pipeline: str, table: str) -> TableView:
    """Return a table that a pipeline keeps with `sink_table`, as of its last commit.

    It reads beside a running pipeline, in this or any other process that sees the same state folder, and when none runs.

    Parameters
    ----------
    pipeline
        The pipeline's name.
    table
        The name given to `sink_table`.

    Raises
    ------
    StateError
        If there is no such pipeline or table; the message lists what there is.

    Examples
    --------
    >>> import tempfile, polars as pl, streamlab as sl
    >>> from unittest.mock import patch
    >>> users = sl.from_frame(pl.DataFrame({"user": ["a"], "n": [1], "ts": [0]}), event_time="ts", topic="users")
    >>> with patch.dict("os.environ", STREAMLAB_STATE_DIR=tempfile.mkdtemp()):
    ...     _ = sl.Pipeline([users.sink_table("users", key="user")], name="doc-users").run()
    ...     table = sl.open_table("doc-users", "users")
    >>> table["a"]["n"], len(table)
    (1, 1)
    """
    folders = find_pipeline(pipeline)
    if len(folders) > 1:
        raise StateError(
            f"pipeline {pipeline!r} has state of {len(folders)} clusters: {[f.parent.name for f in folders]}; remove what is old."
        )
    path = folders[0] / STATE_FILE
    with read_head(path) as snapshot:
        checkpoint = snapshot.checkpoint
        kept = {} if checkpoint is None else checkpoint.progress["holders"]
        tables = [name.removeprefix(_PREFIX) for name in kept if name.startswith(_PREFIX)]
        if table not in tables:
            raise StateError(
                f"pipeline {pipeline!r} has no table {table!r}; it has {tables}.{did_you_mean(table, tables)}"
            )
        name = f"{_PREFIX}{table}"
        runs = [(key, segments.decode(blob, key)) for key, blob in snapshot.segments(f"{name}/")]
        return TableView(path, table, tuple(kept[name]["by"]), newest_rows(kept[name], [frame for _, frame in runs]))


def newest_rows(about: Mapping[str, Any], runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return a table's rows from the runs of its state, oldest first.

    Parameters
    ----------
    about
        Key columns (`by`), columns, and the column that marks deleted rows (`deleted`).
    runs
        Frames of rows; of rows with one key the last counts.
    """
    if not runs:
        return pl.DataFrame(schema=about["columns"])
    newest = pl.concat(runs).unique(about["by"], keep="last", maintain_order=True)
    return newest.filter(~pl.col(about["deleted"])).select(about["columns"])
