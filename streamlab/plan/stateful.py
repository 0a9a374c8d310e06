"""What steps with state have in common: a name that their state is found by, and the rows that come too late for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from streamlab.errors import PlanError
from streamlab.plan import schema as schemas
from streamlab.plan.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stateful(Node):
    """A step that remembers: its state is found by its name, whatever stands before or after it."""

    given_name: str | None

    @property
    def name(self) -> str:
        """The step's identity; derived from what it does where none was given."""
        return self.given_name if self.given_name is not None else self.derived_name.replace("/", "-")

    @property
    def derived_name(self) -> str:
        """What the step is called by default."""
        raise NotImplementedError

    @property
    def laned(self) -> bool:
        """Whether each partition is a task of its own; else one task takes all of them."""
        return self.key is not None

    @property
    def clocks(self) -> tuple[int, ...]:
        """Which of its inputs, by position, its watermark is taken from."""
        return tuple(range(len(self.inputs)))

    @property
    def copartitioned(self) -> tuple[Node, ...]:
        """Inputs that are taken partition by partition, each with the same partition of the others."""
        return self.inputs if self.laned else ()

    @property
    def passes_on(self) -> bool:
        """Whether rows go on with their records, so that later steps alone say which records are late."""
        return False

    @property
    def reach(self) -> int:
        """Milliseconds of event time that it holds at once, as windows or rows of a join."""
        return 0

    @property
    def late_schema(self) -> pl.Schema | None:
        """Columns of the rows that came too late for it, without bounds and watermark; None: none ever does."""
        return None

    @property
    def late_keys(self) -> tuple[str, ...]:
        """Columns of a late row that are its key."""
        return ()

    @property
    def makes_rows(self) -> bool:
        return True

    def check(self) -> None:
        if self.given_name is not None:
            schemas.check_identity("name", self.given_name)

    def notes(self) -> Iterator[str]:
        """Yield what `explain` says of its cost, a line each."""
        yield (
            f"one task per partition: rows of one {self.key} share a partition"
            if self.laned
            else "one task over all partitions"
        )


@dataclass(frozen=True, eq=False)
class Late(Node):
    """Rows that came too late for a step, with the window they missed and the watermark they missed it by."""

    input: Stateful
    label = "late"

    def check(self) -> None:
        if self.input.late_schema is None:
            raise PlanError(f"late: no row is ever late for step {self.input.name!r}: it has no window.")

    @cached_property
    def schema(self) -> pl.Schema:
        extra = dict.fromkeys((schemas.WINDOW_START, schemas.WINDOW_END, schemas.WATERMARK), schemas.TIME)
        return pl.Schema({**(self.input.late_schema or {}), **extra})

    @property
    def makes_rows(self) -> bool:
        return any(part.makes_rows for part in self.input.inputs)

    def describe(self) -> str:
        return f"late rows of [{self.input.name}]"
