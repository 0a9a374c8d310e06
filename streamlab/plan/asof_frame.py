"""The as-of join with a frame: each row with the newest row of a frame that is not newer than itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.durations import text
from streamlab.errors import PlanError
from streamlab.plan import schema as schemas
from streamlab.plan.join_asof import check_length, check_time, with_time
from streamlab.plan.join_keys import JoinKeys, joined_schema, right_columns
from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Node


@dataclass(frozen=True, eq=False)
class AsofFrame(Stateful):
    """Rows of a stream, each with the newest row of a frame in [t - tolerance, t], or nulls; no row waits, as the frame is all there."""

    input: Node
    frame: pl.DataFrame = field(repr=False)
    by: JoinKeys
    on: tuple[str, str]
    tolerance: int | None = None
    suffix: str = "_right"
    given_name: str | None = None
    label = "join_asof"

    def check(self) -> None:
        super().check()
        if self.input.is_table:
            raise PlanError(f"{self.label}: the left side is a table; it joins the events of a stream with a frame.")
        self.by.check(self.label, self.input.schema, self.frame.schema)
        if self.tolerance is not None:
            check_length(self.label, "tolerance", self.tolerance, 1)
        check_time(self.label, "left", self.input, self.on[0])
        schemas.require(f"{self.label}: on, right side", [self.on[1]], self.frame.schema)
        schemas.require_time(f"{self.label}: right side", self.on[1], self.frame.schema[self.on[1]])
        if odd := int((self.times.is_null() | (self.times < 0)).sum()):
            raise PlanError(
                f"{self.label}: {odd} rows of the frame have no usable time in {self.on[1]!r} (null, or before 1970); "
                "filter them out before."
            )

    @cached_property
    def times(self) -> pl.Series:
        """Times of the frame's rows, milliseconds since 1970."""
        column = self.frame[self.on[1]]
        if column.dtype.is_temporal():
            return column.cast(pl.Datetime("ms")).dt.epoch("ms")
        return column.cast(pl.Int64)

    @cached_property
    def same(self) -> JoinKeys:
        """Columns of both sides that are one in the result."""
        return with_time(self.by, self.on)

    @cached_property
    def added(self) -> dict[str, str]:
        """Columns of the frame that the result has, and what they are called there."""
        return right_columns(self.input.schema, self.frame.schema, self.same, self.suffix)

    @cached_property
    def schema(self) -> pl.Schema:
        return joined_schema(self.label, self.input.schema, self.frame.schema, self.same, self.suffix)

    @property
    def key(self) -> str | None:
        return self.input.key

    @property
    def makes_rows(self) -> bool:
        return self.input.makes_rows

    @property
    def passes_on(self) -> bool:
        return True

    @property
    def derived_name(self) -> str:
        return "-".join(["join-asof-frame-by", *self.by.left])

    def describe(self) -> str:
        reach = "of all before" if self.tolerance is None else f"of the last {text(self.tolerance)}"
        return f"{self.label} by {self.by}: newest of {self.frame.height:,} rows of a frame {reach} [{self.name}]"

    def identity(self) -> Any:
        types = [[name, str(dtype)] for name, dtype in self.schema.items()]
        keys = [list(self.by.left), list(self.by.right), list(self.on)]
        return [self.label, self.name, keys, self.tolerance, self.suffix, types]

    def notes(self) -> Iterator[str]:
        yield "the frame never changes: nothing of it is kept in the state, and no row waits"
        if not self.times.is_sorted():
            yield f"the frame is not sorted by {self.on[1]!r}: it is sorted here"
        yield from super().notes()
