"""A case: inputs in order and what must come of them, taken as facts from the public tests of other engines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

AGGREGATED = frozenset({"tumbling", "hopping", "sliding", "session", "suppress", "reduce"})
"""Operations that group a stream."""


class NotThereError(NotImplementedError):
    """A case asks for something that streamlab does not have."""


class NotExpressibleError(Exception):
    """A case asks for something that no polars expression says."""


@dataclass(frozen=True)
class Case:
    """One line of a file of cases."""

    id: str
    op: str
    params: dict[str, Any]
    inputs: list[dict[str, Any]]
    mode: str
    compare: str
    expected: list[dict[str, Any]]
    expected_dropped: int | None = None
    checkpoints: list[list[int]] = field(default_factory=list)
    source: str = ""
    tier: int = 1
    note: str = ""

    @property
    def name(self) -> str:
        """Operation and id, for the name of a test."""
        return f"{self.op}-{self.id}"

    @property
    def window(self) -> str | None:
        """The kind of its windows; cases of one kind only need not say it."""
        said = self.params.get("window", self.op if self.op in AGGREGATED - {"reduce", "suppress"} else None)
        return None if said is None else str(said)


def load(path: Path) -> list[Case]:
    """Return the cases of a file."""
    return [Case(**json.loads(line)) for line in path.read_text().splitlines() if line.strip()]
