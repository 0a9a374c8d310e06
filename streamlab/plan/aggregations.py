"""Which aggregations can be put together from partial results, and how.

An aggregation of a window is split into partial columns per micro-batch, combined across batches and finished when read. The known ones
are recognised by building each from the expression's outermost input and comparing (`meta.eq`). One unknown aggregation makes the step
keep its rows, and then all of them are worked out from the rows by polars itself.

Variance: partial count, mean and M2 (sum of squared deviations), combined by Chan, Golub and LeVeque, "Updating formulae and a pairwise
algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial as partial_of
from typing import TYPE_CHECKING

import polars as pl

from streamlab.plan.approx import Approximate, is_marked, stands_for
from streamlab.plan.expressions import goes_by_place, rows_stand_alone
from streamlab.plan.schema import RESERVED
from streamlab.plan.sketches import merge, merge_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.plan.aggregate import Aggregate

SEQUENCE = f"{RESERVED}sequence"
"""Column of the engine's own: number of a row in order of arrival, where parts may stand in another order."""

EARLIER = "_earlier"
"""What the names of columns end in that hold an earlier partial result, beside a later one."""


@dataclass(frozen=True, slots=True)
class Partial:
    """How one output column is split, combined and finished.

    `split` makes the partial columns from rows, `combine` makes them from partial columns of the same names, `finish` makes the value.
    `merge` does what `combine` does for two partial results side by side, columns that end in `EARLIER` before the others; none where
    that cannot be done.
    """

    kind: str
    split: tuple[pl.Expr, ...]
    combine: tuple[pl.Expr, ...]
    finish: pl.Expr
    merge: tuple[pl.Expr, ...] = ()


def partial(  # noqa: PLR0911  # a way for each kind of aggregation
    expr: pl.Expr, schema: pl.Schema, output: pl.DataType, number: int, *, sequenced: bool = False
) -> Partial | None:
    """Return how an aggregation is split into partial results, or None if it needs the rows.

    Parameters
    ----------
    expr
        One aggregating expression with one output.
    schema
        Columns of its input.
    output
        Type of its result.
    number
        Its position in the step, which names its partial columns.
    sequenced
        Whether rows have a column `SEQUENCE`: what goes by arrival goes by it, in whatever order rows and partial results stand.

    Examples
    --------
    >>> schema = pl.Schema({"x": pl.Float64})
    >>> partial(pl.col("x").mean(), schema, pl.Float64(), 0).kind
    'mean'
    >>> partial(pl.col("x").median(), schema, pl.Float64(), 0) is None
    True
    """
    bare, name = expr.meta.undo_aliases(), expr.meta.output_name()
    if bare.meta.eq(pl.len()):
        return _simple("len", pl.len().cast(pl.Int64), "sum", name, output, number)
    if bare.meta.is_column() or bare.meta.is_literal():
        return None
    if (approximate := stands_for(bare)) is not None:
        return _sketched(approximate, schema, name, output, number)
    of = bare.meta.pop(schema=schema)[-1]
    ordered = _is_ordered(bare, of)
    if not rows_stand_alone(of, schema, same_length=ordered):
        return None
    if ordered and sequenced:
        return _by_sequence("first" if bare.meta.eq(of.first()) else "last", of, name, output, number)
    for kind, (build, combine) in _SIMPLE.items():
        if bare.meta.eq(build(of)):
            return _simple(kind, _start(kind, build, of, output), combine, name, output, number)
    return _mean(bare, of, name, output, number) or _spread(bare, of, name, output, number)


_SIMPLE: dict[str, tuple[Callable[[pl.Expr], pl.Expr], str]] = {
    "count": (lambda e: e.count(), "sum"),
    "len": (lambda e: e.len(), "sum"),
    "null_count": (lambda e: e.null_count(), "sum"),
    "sum": (lambda e: e.sum(), "sum"),
    "min": (lambda e: e.min(), "min"),
    "max": (lambda e: e.max(), "max"),
    "first": (lambda e: e.first(), "first"),
    "last": (lambda e: e.last(), "last"),
    "any": (lambda e: e.any(), "max"),
    "all": (lambda e: e.all(), "min"),
}
_COUNTS = {"count", "len", "null_count"}


def _start(kind: str, build: Callable[[pl.Expr], pl.Expr], of: pl.Expr, output: pl.DataType) -> pl.Expr:
    """Return what is worked out of a part's rows: wide enough that adding up parts neither wraps nor rounds."""
    if kind == "sum" and output == pl.Float32:
        return build(of.cast(pl.Float64))
    return build(of).cast(pl.Int64) if kind in _COUNTS else build(of)


def keeps_rows(step: Aggregate) -> list[str]:
    """Return the aggregations of a step that need its rows: one such makes it keep them."""
    outputs = [(e, step.schema[e.meta.output_name()]) for e in step.expanded]
    return [str(e) for n, (e, dtype) in enumerate(outputs) if partial(e, step.input.schema, dtype, n) is None]


def by_arrival(step: Aggregate) -> list[str]:
    """Return the aggregations of a step that go by the order in which its rows arrive."""
    return [str(e) for e in step.expanded if goes_by_place(e) and not is_marked(e)]


def from_rows(expr: pl.Expr, schema: pl.Schema, output: pl.DataType) -> pl.Expr:
    """Return an aggregation as it is worked out of the rows of a group."""
    approximate, name = stands_for(expr), expr.meta.output_name()
    if approximate is None:
        return expr.cast(output).alias(name)
    start, _, finish = _sketching(approximate, schema, output)
    return finish(start).alias(name)


def _is_ordered(bare: pl.Expr, of: pl.Expr) -> bool:
    """Whether an aggregation takes one row by its place: a part in which a filter leaves none must not count as a null."""
    return bare.meta.eq(of.first()) or bare.meta.eq(of.last())


def _column(number: int, part: str) -> str:
    return f"{RESERVED}{number}_{part}"


def _simple(kind: str, start: pl.Expr, combine: str, name: str, output: pl.DataType, number: int) -> Partial:
    column = _column(number, kind)
    together: pl.Expr = getattr(pl.col(column), combine)()
    merge = _MERGES[combine](pl.col(column + EARLIER), pl.col(column)).alias(column)
    return Partial(
        kind,
        (start.alias(column),),
        (together,),
        pl.col(column).cast(output).alias(name),
        (merge,) if _side_by_side(combine, output) else (),
    )


def _side_by_side(combine: str, dtype: pl.DataType) -> bool:
    """Whether polars puts two values side by side together as it does two in a column: not two dates, say, or lists."""
    if combine == "sum":
        return dtype.is_numeric() or dtype == pl.Duration
    return combine in {"first", "last"} or not (dtype.is_nested() or dtype in (pl.Categorical, pl.Object))


_MERGES: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "sum": lambda earlier, later: earlier + later,
    "min": pl.min_horizontal,
    "max": pl.max_horizontal,
    "first": lambda earlier, _: earlier,
    "last": lambda _, later: later,
}


def _by_sequence(kind: str, of: pl.Expr, name: str, output: pl.DataType, number: int) -> Partial:
    """Take the value of the row with the smallest or largest number; the number goes along with it."""
    value, place = _column(number, kind), _column(number, "place")
    first = kind == "first"

    def pick(what: pl.Expr, by: str) -> tuple[pl.Expr, pl.Expr]:
        numbers = pl.col(by)
        chosen = what.min_by(numbers) if first else what.max_by(numbers)
        return chosen.alias(value), (numbers.min() if first else numbers.max()).alias(place)

    return Partial(kind, pick(of, SEQUENCE), pick(pl.col(value), place), pl.col(value).cast(output).alias(name))


def _sketched(
    approximate: Approximate, schema: pl.Schema, name: str, output: pl.DataType, number: int
) -> Partial | None:
    if not rows_stand_alone(approximate.of, schema, same_length=False):
        return None
    column = _column(number, approximate.kind)
    start, (together, pairs), finish = _sketching(approximate, schema, output)
    combine = together(pl.col(column).implode()).alias(column)
    merge = pairs(pl.struct(column + EARLIER, column)).alias(column)
    return Partial(approximate.kind, (start.alias(column),), (combine,), finish(pl.col(column)).alias(name), (merge,))


def _sketching(
    approximate: Approximate, schema: pl.Schema, output: pl.DataType
) -> tuple[pl.Expr, tuple[Callable[[pl.Expr], pl.Expr], ...], Callable[[pl.Expr], pl.Expr]]:
    """Return the summary of a group's values, how lists and pairs of summaries are put together, and how summaries are read."""
    sketch, of = approximate.sketch, approximate.of
    held = sketch.held(pl.LazyFrame(schema=schema).select(of.alias("of")).collect_schema()["of"])
    # a list a group: the functions are called once for all groups
    start = of.implode().map_batches(sketch.start, return_dtype=held, is_elementwise=True)

    def together(lists: pl.Expr) -> pl.Expr:
        return lists.map_batches(partial_of(merge, sketch), return_dtype=held, is_elementwise=True)

    def pairs(structs: pl.Expr) -> pl.Expr:
        return structs.map_batches(partial_of(merge_pairs, sketch), return_dtype=held, is_elementwise=True)

    def finish(summaries: pl.Expr) -> pl.Expr:
        found = summaries.map_batches(sketch.finish, is_elementwise=True, return_dtype=sketch.found(held))
        return (found.round().cast(pl.Int64) if output == pl.Duration else found).cast(output)

    return start, (together, pairs), finish


def _mean(bare: pl.Expr, of: pl.Expr, name: str, output: pl.DataType, number: int) -> Partial | None:
    if not bare.meta.eq(of.mean()) or not output.is_float():
        return None
    total, count = _column(number, "sum"), _column(number, "count")
    start = (of.cast(pl.Float64).sum().alias(total), of.count().cast(pl.Int64).alias(count))
    value = pl.when(pl.col(count) > 0).then(pl.col(total) / pl.col(count))
    merge = tuple(pl.col(c + EARLIER).alias(c) + pl.col(c) for c in (total, count))
    return Partial("mean", start, (pl.col(total).sum(), pl.col(count).sum()), value.cast(output).alias(name), merge)


def _spread(bare: pl.Expr, of: pl.Expr, name: str, output: pl.DataType, number: int) -> Partial | None:
    for kind in ("var", "std"):
        for ddof in (1, 0):
            if output.is_float() and bare.meta.eq(getattr(of, kind)(ddof=ddof)):
                return _moments(kind, ddof, of, name, output, number)
    return None


def _moments(kind: str, ddof: int, of: pl.Expr, name: str, output: pl.DataType, number: int) -> Partial:
    """Count, mean and M2, the mean as a distance from the first value: of large values that lie close together it keeps their digits."""
    count, first, mean, spread = (_column(number, part) for part in ("count", "first", "mean", "m2"))
    value = of.cast(pl.Float64)
    n, origin, squares = pl.col(count), pl.col(first), pl.col(spread)
    away = value - value.drop_nulls().first()
    start = (
        of.count().cast(pl.Int64).alias(count),
        value.drop_nulls().first().alias(first),
        away.mean().alias(mean),
        ((away - away.mean()) ** 2).sum().alias(spread),
    )
    begin = origin.drop_nulls().first()
    average = pl.col(mean) + (origin - begin)
    grand = (average * n).sum() / n.sum()
    # where no partial holds a value the mean is 0/0: null, as polars' mean of nothing
    together = (
        n.sum(),
        begin.alias(first),
        pl.when(n.sum() > 0).then(grand).alias(mean),
        (squares.sum() + (n * (average - grand) ** 2).sum()).alias(spread),
    )
    variance = pl.when(n > ddof).then(squares / (n - ddof))
    value = (variance.sqrt() if kind == "std" else variance).cast(output).alias(name)
    return Partial(kind, start, together, value, _merged_moments(count, first, mean, spread))


def _merged_moments(count: str, first: str, mean: str, spread: str) -> tuple[pl.Expr, ...]:
    """Put the moments of two parts together; a part without values has no mean."""
    n, m = pl.col(count + EARLIER), pl.col(count)
    begin = pl.coalesce(first + EARLIER, first)
    one, other = (
        pl.when(pl.col(c) > 0).then(pl.col(mean + of) + (pl.col(first + of) - begin)).otherwise(0.0)
        for c, of in ((count + EARLIER, EARLIER), (count, ""))
    )
    grand = (one * n + other * m) / (n + m)
    return (
        (n + m).alias(count),
        begin.alias(first),
        pl.when(n + m > 0).then(grand).alias(mean),
        (
            pl.col(spread + EARLIER)
            + pl.col(spread)
            + pl.when(n > 0).then(n * (one - grand) ** 2).otherwise(0.0)
            + pl.when(m > 0).then(m * (other - grand) ** 2).otherwise(0.0)
        ).alias(spread),
    )
