"""What every stateful operator promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars as pl

    from streamlab.engine.batch import Ints, Rows
    from streamlab.engine.watermark import Laned, Merged


@dataclass(frozen=True, slots=True)
class Output:
    """What one micro-batch made of an operator: results, and rows that came too late.

    A row that may miss several windows is in `late` once for each. `reached` says then which records had a row that was in time for some
    window, by their arrival indices; None: every row of `late` is a row of the input that was late for all there is.
    """

    emitted: Rows
    late: Rows
    reached: Ints | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """How an operator's state differs from what was last handed out: frames to keep by name, names to forget.

    A name is never used twice, so a frame once handed out never changes.
    """

    put: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    drop: Iterable[str] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """How much an operator holds."""

    rows: int
    bytes: int
    windows: int = 0
    oldest: int | None = None


class Operator(Protocol):
    """A deterministic transition: state and a micro-batch in, results and late rows out. No clock, no broker, no disk."""

    name: str
    delay: int
    """How far its own watermark trails that of its input: nothing older can still be emitted."""

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        """Take in a micro-batch: the rows of each input, in order of arrival by their `index`, which counts over all inputs."""
        ...

    def close(self) -> Rows:
        """Emit all that is still open: the input has ended."""
        ...

    def changes(self) -> Changes:
        """Return what changed since the last call."""
        ...

    def progress(self) -> Any:
        """Return the small part of the state that no frame holds, as JSON values."""
        ...

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        """Go on from frames and progress of a checkpoint; frames of one name may come in several parts."""
        ...

    def holding(self) -> Holding:
        """Return how much is held."""
        ...


@runtime_checkable
class Telling(Protocol):
    """An operator that can tell what it holds of a key: `explain(key)` asks for it. Not every one has something to tell."""

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        """Return what is held of keys, a row for each window, or for each key; None: of all.

        Grouping columns, values as they stand now, and `WINDOW_START` and `WINDOW_END` where there are windows. `LANE` is the task, where
        there may be several.
        """
        ...


def of_keys(frame: pl.DataFrame, key: pl.DataFrame | None) -> pl.DataFrame:
    """Return the rows of keys; None, or a key without columns: all.

    Examples
    --------
    >>> import polars as pl
    >>> of_keys(pl.DataFrame({"k": ["a", None, "b"], "n": [1, 2, 3]}), pl.DataFrame({"k": ["b", None]})).rows()
    [(None, 2), ('b', 3)]
    """
    return frame if key is None or not key.width else frame.join(key, on=key.columns, how="semi", nulls_equal=True)
