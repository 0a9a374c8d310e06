"""What every payload format does: bytes to rows and back.

Whatever the format, the rows and the verdicts on bad payloads are the same however the payloads are cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import polars as pl


@dataclass(frozen=True, slots=True)
class BadPayload:
    """A payload that does not hold what the schema promises.

    Parameters
    ----------
    index
        Its position among the payloads given.
    error
        One line: the column, what was found there, what is expected.
    """

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of payloads holds.

    Parameters
    ----------
    rows
        One row per good payload, in the order of the payloads, with exactly the schema asked for.
    kept
        Positions of the good payloads, shape (rows,); None when all are good.
    bad
        The other payloads, by position.
    """

    rows: pl.DataFrame
    kept: npt.NDArray[np.int64] | None
    bad: tuple[BadPayload, ...]


class Format(Protocol):
    """Reads payloads of one format. Payloads are never None: a null payload is no matter of format."""

    @property
    def name(self) -> str:
        """How the format is called where it is chosen, such as `"json"`."""
        ...

    def check(self, schema: pl.Schema) -> None:
        """Refuse, while a plan is written, a type that this format cannot read.

        Raises
        ------
        PlanError
            Naming the column, its type and the valid ones.
        """
        ...

    def infer(self, payloads: Sequence[bytes]) -> pl.Schema:
        """Guess a schema from a sample.

        Raises
        ------
        PlanError
            When the sample holds nothing to guess from.
        """
        ...

    def decode(self, payloads: Sequence[bytes], schema: pl.Schema) -> Decoded:
        """Turn payloads into rows, and say what is wrong with those that cannot be."""
        ...
