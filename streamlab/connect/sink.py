"""What a place that results go to promises to the runtime, and the simple ones: memory, a function, Parquet files."""

from __future__ import annotations

import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from streamlab.errors import StateError, StepError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Batch:
    """Results of one micro-batch: columns, event times in milliseconds, and which rows are deletions (None: none)."""

    data: pl.DataFrame
    time: np.ndarray[Any, Any]
    deleted: np.ndarray[Any, Any] | None = None

    def marked(self, column: str | None) -> pl.DataFrame:
        """Return the columns and, with a name for it, one more that is true for deletions; their columns but the key are null."""
        if column is None:
            return self.data
        marks = np.zeros(self.data.height, np.bool_) if self.deleted is None else self.deleted
        return self.data.with_columns(pl.Series(column, marks))


class Outlet(Protocol):
    """A place for results. Writing may be late; after `flush` all that was written is safe."""

    def recover(self, number: int) -> None:
        """Undo what was written after checkpoint `number`, where that is possible."""
        ...

    def write(self, batch: Batch) -> None:
        """Take results."""
        ...

    def flush(self, number: int) -> None:
        """Make all that was written since the last flush safe; it belongs to checkpoint `number`."""
        ...

    def close(self) -> None:
        """Let go of everything; what was not flushed may be lost."""
        ...


class Recent:
    """The newest rows, in memory, bounded."""

    def __init__(self, schema: pl.Schema, rows: int = 10_000) -> None:
        self._schema, self._limit = schema, rows
        self._parts: deque[pl.DataFrame] = deque()
        self._rows = 0

    def add(self, data: pl.DataFrame) -> None:
        """Take rows; the oldest beyond the limit go."""
        data = data.tail(self._limit)
        self._parts.append(data)
        self._rows += data.height
        while self._rows - self._parts[0].height >= self._limit:
            self._rows -= self._parts.popleft().height

    def frame(self, n: int) -> pl.DataFrame:
        """Return the newest `n` rows, oldest first."""
        parts = list(self._parts)
        return pl.concat(parts).tail(n) if parts else pl.DataFrame(schema=self._schema)


@dataclass(frozen=True)
class FunctionOutlet:
    """Calls a function of the user's with each micro-batch."""

    name: str
    function: Callable[[pl.DataFrame], object]
    mark: str | None = None  # the column that marks deletions, where there may be such

    def recover(self, number: int) -> None:
        """Do nothing: what a function did cannot be undone."""

    def write(self, batch: Batch) -> None:
        """Call the function."""
        try:
            self.function(batch.marked(self.mark))
        except Exception as error:
            raise StepError(f"sink_frame {self.name!r}: {type(error).__name__}: {error}") from error

    def flush(self, number: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class ParquetOutlet:
    """One file per checkpoint that has results, named by its number: a checkpoint done again overwrites its file.

    Files appear whole, by renaming. A file of a checkpoint that never came to count is removed when the pipeline goes on.
    """

    def __init__(self, folder: str, pipeline: str, mark: str | None = None) -> None:
        self._folder, self._pipeline, self._mark = Path(folder), pipeline, mark
        self._parts: list[pl.DataFrame] = []
        self._pattern = re.compile(re.escape(pipeline) + r"-(\d{10})\.parquet")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"sink_parquet {folder!r}: {error.strerror}; name a folder that can be written to."
            ) from error

    def recover(self, number: int) -> None:
        """Remove files of later checkpoints."""
        for file in self._folder.iterdir():
            found = self._pattern.fullmatch(file.name)
            if found and int(found[1]) > number:
                file.unlink()

    def write(self, batch: Batch) -> None:
        """Keep rows until the checkpoint."""
        self._parts.append(batch.marked(self._mark))

    def flush(self, number: int) -> None:
        """Write the file of a checkpoint."""
        if not self._parts:
            return
        file = self._folder / f"{self._pipeline}-{number:010d}.parquet"
        draft = file.with_suffix(".tmp")
        pl.concat(self._parts).write_parquet(draft)
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.replace(file)
        self._parts = []

    def close(self) -> None:
        """Forget rows that no checkpoint has."""
        self._parts = []
