"""De-duplication: of rows with one key that come close to each other in time, the first to arrive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.durations import text
from streamlab.errors import PlanError
from streamlab.plan import schema as schemas
from streamlab.plan.stateful import Stateful
from streamlab.plan.windows import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Node


@dataclass(frozen=True, eq=False)
class Unique(Stateful):
    """Rows that no row of their key has come before, within so many milliseconds of event time; None: ever."""

    input: Node
    subset: tuple[str, ...]
    within: int | None = None
    given_name: str | None = None
    label = "unique"

    def check(self) -> None:
        super().check()
        if self.input.is_table:
            raise PlanError(
                f"unique: a table has each key once already, here {list(self.input.keys)}; to de-duplicate events, do it before "
                "the step that makes the table."
            )
        schemas.require(self.label, self.subset, self.input.schema)
        if twice := [name for name in self.subset if self.subset.count(name) > 1]:
            raise PlanError(f"unique: column {twice[0]!r} is named twice; name each once.")
        if odd := [name for name in self.subset if self.input.schema[name] == pl.Object]:
            raise PlanError(f"unique: column {odd[0]!r} holds Python objects, which have no equality; leave it out.")
        if self.within is not None and not 0 <= self.within <= LONGEST:
            raise PlanError(f"unique: within {self.within} ms; it must be from 0 to {text(LONGEST)}.")

    @cached_property
    def schema(self) -> pl.Schema:
        return self.input.schema

    @property
    def key(self) -> str | None:
        return self.input.key if self.input.key in self.subset else None

    @property
    def makes_rows(self) -> bool:
        return self.input.makes_rows

    @property
    def passes_on(self) -> bool:
        return True

    @property
    def reach(self) -> int:
        return self.within or 0

    @property
    def derived_name(self) -> str:
        return "-".join(["unique-by", *self.subset])

    def describe(self) -> str:
        within = "" if self.within is None else f" within {text(self.within)}"
        return f"unique by {', '.join(self.subset)}{within} [{self.name}]"

    def identity(self) -> Any:
        types = [[name, str(self.schema[name])] for name in self.subset]
        return [self.label, self.name, types, self.within]

    def notes(self) -> Iterator[str]:
        if self.within is None:
            yield "remembers every key for ever: state grows with keys (within= forgets them)"
        else:
            yield f"remembers the key and time of each row that passed until the watermark is {text(self.within)} past it"
        if self.key is None:
            yield "the first to arrive passes: partitions read in another order may let others pass"
        yield from super().notes()
