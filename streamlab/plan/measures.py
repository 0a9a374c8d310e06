"""Aggregations of a table that rows can be taken out of again: each as sums of measures, one number a row.

A measure is worked out once, when a row comes, and kept with it: it is added to the row's group, and subtracted when the row changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from streamlab.plan.expressions import rows_stand_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Subtractable:
    """One aggregation of measures.

    Parameters
    ----------
    kind
        How it is made of their sums: "sum", "mean", or "spread" for var and std.
    name, dtype
        Of the output column.
    total
        Number of the measure whose sum it is made of.
    count
        Number of the measure that counts its values; None where that does not matter.
    ddof, root
        Of a spread: delta degrees of freedom, and whether its root is taken.
    """

    kind: str
    name: str
    dtype: pl.DataType
    total: int
    count: int | None = None
    ddof: int = 1
    root: bool = False


@dataclass(frozen=True, slots=True)
class Measures:
    """The measures of a step, and its aggregations made of them.

    Parameters
    ----------
    exprs
        One number a row each, never null.
    floats
        Which of them are floating; the others are Int64.
    squared
        Numbers of the measures whose squares are summed too.
    outputs
        The aggregations.
    """

    exprs: tuple[pl.Expr, ...]
    floats: tuple[bool, ...]
    squared: frozenset[int]
    outputs: tuple[Subtractable, ...]


def measures(exprs: Sequence[pl.Expr], schema: pl.Schema, outputs: pl.Schema) -> Measures | None:
    """Return how aggregations are made of measures; None where one of them needs the rows.

    Examples
    --------
    >>> schema = pl.Schema({"x": pl.Int64})
    >>> found = measures([pl.len().alias("n"), pl.col("x").mean().alias("m")], schema, pl.Schema({"n": pl.UInt32, "m": pl.Float64}))
    >>> [output.kind for output in found.outputs], len(found.exprs)
    (['sum', 'mean'], 3)
    >>> measures([pl.col("x").max()], schema, schema) is None
    True
    """
    finder = _Finder(schema)
    made = [finder.find(expr, outputs[expr.meta.output_name()]) for expr in exprs]
    known = [one for one in made if one is not None]
    if len(known) < len(made):
        return None
    return Measures(tuple(finder.exprs), tuple(finder.floats), frozenset(finder.squared), tuple(known))


def needs_rows(exprs: Sequence[pl.Expr], schema: pl.Schema, outputs: pl.Schema) -> list[str]:
    """Return the aggregations that rows cannot be taken out of."""
    finder = _Finder(schema)
    return [str(expr) for expr in exprs if finder.find(expr, outputs[expr.meta.output_name()]) is None]


_COUNTS: dict[str, tuple[Callable[[pl.Expr], pl.Expr], Callable[[pl.Expr], pl.Expr]]] = {
    "count": (lambda e: e.count(), lambda e: e.is_not_null()),
    "len": (lambda e: e.len(), lambda _: pl.lit(value=True)),
    "null_count": (lambda e: e.null_count(), lambda e: e.is_null()),
}
_DDOFS = (1, 0, 2)


class _Finder:
    """Recognises aggregations, and numbers the measures that they share."""

    def __init__(self, schema: pl.Schema) -> None:
        self._schema = schema
        self.exprs: list[pl.Expr] = []
        self.floats: list[bool] = []
        self.squared: set[int] = set()

    def find(self, expr: pl.Expr, output: pl.DataType) -> Subtractable | None:
        bare, name = expr.meta.undo_aliases(), expr.meta.output_name()
        if bare.meta.eq(pl.len()):
            return Subtractable("sum", name, output, self._measure(pl.lit(value=True)))
        if bare.meta.is_column() or bare.meta.is_literal():
            return None
        of = bare.meta.pop(schema=self._schema)[-1]
        if of.meta.is_literal() or not rows_stand_alone(of, self._schema, same_length=True):
            return None
        for build, measure in _COUNTS.values():
            if bare.meta.eq(build(of)):
                return Subtractable("sum", name, output, self._measure(measure(of)))
        return self._numeric(bare, of, name, output)

    def _numeric(self, bare: pl.Expr, of: pl.Expr, name: str, output: pl.DataType) -> Subtractable | None:
        dtype = pl.LazyFrame(schema=self._schema).select(of.alias("of")).collect_schema()["of"]
        whole = dtype in _WHOLE
        if not whole and not dtype.is_float():
            return None
        if bare.meta.eq(of.sum()):
            return Subtractable("sum", name, output, self._measure(of, floating=not whole))
        if not output.is_float():
            return None
        if bare.meta.eq(of.mean()):
            return Subtractable("mean", name, output, self._measure(of, floating=True), self._measure(of.is_not_null()))
        for ddof in _DDOFS:
            for root, build in ((False, of.var(ddof)), (True, of.std(ddof))):
                if bare.meta.eq(build):
                    total, count = self._measure(of, floating=True), self._measure(of.is_not_null())
                    self.squared.add(total)
                    return Subtractable("spread", name, output, total, count, ddof, root)
        return None

    def _measure(self, expr: pl.Expr, *, floating: bool = False) -> int:
        made = expr.cast(pl.Float64 if floating else pl.Int64).fill_null(0)
        for number, known in enumerate(self.exprs):
            if known.meta.eq(made):
                return number
        self.exprs.append(made)
        self.floats.append(floating)
        return len(self.exprs) - 1


_WHOLE = frozenset({pl.Boolean(), pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32()})
"""Types whose sums Int64 holds as exactly as polars does."""
