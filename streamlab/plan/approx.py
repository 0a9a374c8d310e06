"""Approximate aggregations as a person writes them: polars expressions that say what they stand for.

Each is an expression that polars could work out exactly, behind a `when` whose condition is a text: the name and the arguments of what it
stands for. So it has a type, columns and a fingerprint as any other; `stands_for` reads what it is, and `.agg(...)` takes a sketch for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.errors import PlanError
from streamlab.plan.sketch_distinct import Distinct
from streamlab.plan.sketch_frequent import Frequent
from streamlab.plan.sketch_quantile import Quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamlab.plan.sketches import Sketch

_MARK = "streamlab: "


@dataclass(frozen=True)
class Approximate:
    """What an expression stands for.

    Parameters
    ----------
    kind
        The name of the function that made it.
    of
        The values.
    arguments
        The function's other arguments.
    """

    kind: str
    of: pl.Expr
    arguments: dict[str, Any]

    @property
    def sketch(self) -> Sketch:
        """The summary that is kept."""
        given = self.arguments
        if self.kind == "approx_n_unique":
            return Distinct.within(given["error"])
        if self.kind == "approx_quantile":
            return Quantile(given["q"], given["error"])
        return Frequent(given["k"], max(given["k"], round(1 / given["error"])))

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.kind}({' '.join(str(self.of).split())}, {arguments})"


def approx_n_unique(expr: str | pl.Expr, error: float = 0.02) -> pl.Expr:
    """Count distinct values approximately, in bounded state, in `.agg(...)`: HyperLogLog.

    Counts of few values (fewer than about ``0.27 / error ** 2``, at most that many are kept) are exact, but for one collision of hashes
    among some million pairs; larger ones have a standard error of `error` at most: two thirds of the counts are closer to the truth, 95 %
    within twice that. A null is a value, as for polars' `n_unique`. The result depends on the values alone, not on their order.

    Costs 4 bytes for each distinct value of a group, at most ``1.1 / error ** 2`` to ``4.4 / error ** 2`` bytes (4 kB at 2 %).

    Parameters
    ----------
    expr
        A column or an expression, of any type that has equality.
    error
        Relative standard error, from 0.002 to 0.25.

    Returns
    -------
    pl.Expr
        An aggregation for `.agg(...)`, on its own: `.alias` names it; to go on from its value use `with_columns` behind.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> clicks = sl.from_frame(pl.DataFrame({"user": ["a", "b", "a"], "ts": [0, 1, 2]}), event_time="ts", topic="clicks")
    >>> minutes = clicks.group_by().window(sl.tumbling("1m"))
    >>> minutes.agg(sl.approx_n_unique("user").alias("users")).collect()["users"].to_list()
    [2]
    """
    _require("approx_n_unique", "error", error, 0.002, 0.25)
    return _mark("approx_n_unique", _column(expr, "approx_n_unique"), {"error": float(error)})


def approx_quantile(expr: str | pl.Expr, q: float, error: float = 0.01) -> pl.Expr:
    """Estimate a quantile in bounded state, in `.agg(...)`: DDSketch.

    The result is off by at most ``error * abs(value)`` from the value that stands at place ``floor(q * (n - 1))`` of the group's n
    values, sorted: that of ``quantile(q, "lower")``. Nulls are left out; what is no number stands above all others, as polars sorts it.
    Of values that fill more than 17 orders of magnitude, those nearest to zero count as zero. The result depends on the values alone, not
    on their order.

    Costs 16 bytes for each bucket that is filled, at most ``20 / error`` buckets a group (32 kB at 1 %).

    Parameters
    ----------
    expr
        A column or an expression: numbers or durations.
    q
        From 0 to 1: 0.5 is the median.
    error
        Relative error of the value, from 0.0001 to 0.5.

    Returns
    -------
    pl.Expr
        An aggregation for `.agg(...)`, on its own: `.alias` names it; to go on from its value use `with_columns` behind.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> calls = sl.from_frame(pl.DataFrame({"ms": range(1, 1001), "ts": 0}), event_time="ts", topic="calls")
    >>> minutes = calls.group_by().window(sl.tumbling("1m"))
    >>> minutes.agg(p99=sl.approx_quantile("ms", 0.99)).collect()["p99"].round().to_list()  # 990 is that of the values
    [983.0]
    """
    _require("approx_quantile", "q", q, 0, 1)
    _require("approx_quantile", "error", error, 0.0001, 0.5)
    return _mark("approx_quantile", _column(expr, "approx_quantile"), {"q": float(q), "error": float(error)})


def top_k(expr: str | pl.Expr, k: int, error: float = 0.001) -> pl.Expr:
    """Find the most frequent values and their counts in bounded state, in `.agg(...)`: the summary of Misra and Gries.

    Exact while a group has at most ``1 / error`` distinct values. With more, counts are too low by at most ``error`` times the group's
    rows, so that each value that is more frequent than that is found where `k` has room for it; how much too low depends then on how the
    records were cut into micro-batches. A null is a value.

    Costs a value and 8 bytes for each distinct value of a group, at most ``1 / error`` of them.

    Parameters
    ----------
    expr
        A column or an expression of text, numbers, Booleans or times.
    k
        How many values, 1 or more.
    error
        What counts may lack, as a share of the group's rows, from 0.00001 to 0.5.

    Returns
    -------
    pl.Expr
        An aggregation for `.agg(...)`, on its own, of type List(Struct(value, count)): the most frequent first, of equally frequent ones
        the smallest. `.alias` names it; to go on from its value use `with_columns` behind.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> views = sl.from_frame(pl.DataFrame({"page": ["a", "b", "b", "c"], "ts": 0}), event_time="ts", topic="views")
    >>> minutes = views.group_by().window(sl.tumbling("1m"))
    >>> minutes.agg(top=sl.top_k("page", 2)).collect()["top"].to_list()
    [[{'value': 'b', 'count': 2}, {'value': 'a', 'count': 1}]]
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise PlanError(f"top_k: k={k!r}; it must be a whole number, 1 or more.")
    _require("top_k", "error", error, 0.00001, 0.5)
    return _mark("top_k", _column(expr, "top_k"), {"k": k, "error": float(error)})


def _require(kind: str, name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise PlanError(f"{kind}: {name}={value!r}; it must be a number from {low} to {high}.")


def _column(expr: str | pl.Expr, kind: str) -> pl.Expr:
    if isinstance(expr, str):
        return pl.col(expr)
    if not isinstance(expr, pl.Expr):
        raise PlanError(f"{kind}: {expr!r} is no column; write its name, or an expression such as pl.col(...).")
    return expr


def _exact_top(of: pl.Expr, k: int) -> pl.Expr:
    return of.value_counts(sort=True).struct.rename_fields(["value", "count"]).head(k).implode()


_EXACT: dict[str, tuple[Callable[..., pl.Expr], int]] = {
    "approx_n_unique": (lambda of, error: of.n_unique(), 1),  # noqa: ARG005  # the sketch's
    "approx_quantile": (lambda of, q, error: of.quantile(q, interpolation="lower"), 1),  # noqa: ARG005  # the sketch's
    "top_k": (lambda of, k, error: _exact_top(of, k), 4),  # noqa: ARG005  # the sketch's
}
"""What polars would make of it, and how many operations that puts on the values."""


def _mark(kind: str, of: pl.Expr, arguments: dict[str, Any]) -> pl.Expr:
    build, _ = _EXACT[kind]
    return pl.when(pl.lit(_MARK + json.dumps([kind, arguments])).is_not_null()).then(build(of, **arguments))


def stands_for(expr: pl.Expr) -> Approximate | None:
    """Return what an expression stands for, if it is one of these; its name does not matter.

    Examples
    --------
    >>> str(stands_for(top_k("page", 3).alias("top")))
    'top_k(col("page"), k=3, error=0.001)'
    >>> stands_for(pl.col("page").n_unique()) is None
    True
    """
    bare = expr.meta.undo_aliases()
    if not is_marked(bare):
        return None
    parts = bare.meta.pop()
    if len(parts) != 3 or not is_marked(parts[0]):  # noqa: PLR2004  # condition, otherwise, then
        return None
    text = parts[0].meta.pop()
    if len(text) != 1 or not text[0].meta.is_literal():
        return None
    kind, arguments = json.loads(pl.select(text[0]).item().removeprefix(_MARK))
    of = parts[2]
    for _ in range(_EXACT[kind][1]):
        of = of.meta.pop()[-1]
    return Approximate(kind, of, arguments) if bare.meta.eq(_mark(kind, of, arguments)) else None


def is_marked(expr: pl.Expr) -> bool:
    """Whether an expression has one of these somewhere in it."""
    return f'"{_MARK}[' in str(expr)


def check(step: str, expr: pl.Expr, schema: pl.Schema) -> None:
    """Refuse one of these where it cannot be: as a part of another expression, or of values that it does not take.

    Raises
    ------
    PlanError
        Naming what was found and the valid form.

    Examples
    --------
    >>> check("agg", top_k("page", 3).list.first(), pl.Schema({"page": pl.String}))
    Traceback (most recent call last):
    ...
    streamlab.errors.PlanError: agg: approx_n_unique, approx_quantile and top_k cannot be a part of another expression: give each a name \
in .agg(...), and go on from it in .with_columns(...) behind.
    """
    if not is_marked(expr):
        return
    found = stands_for(expr)
    if found is None or is_marked(found.of):
        raise PlanError(
            f"{step}: approx_n_unique, approx_quantile and top_k cannot be a part of another expression: give each a name in "
            ".agg(...), and go on from it in .with_columns(...) behind."
        )
    dtype = pl.LazyFrame(schema=schema).select(found.of.alias("of")).collect_schema()["of"]
    if found.kind == "approx_quantile" and not (dtype.is_numeric() or dtype in (pl.Duration, pl.Null)):
        raise PlanError(f"{step}: {found}: the values are {dtype}; they must be numbers or durations.")
    if dtype == pl.Object or (found.kind == "top_k" and dtype.is_nested()):
        raise PlanError(f"{step}: {found}: the values are {dtype}; they must be text, numbers, Booleans or times.")


def notes(exprs: Iterable[pl.Expr]) -> Iterator[str]:
    """Yield what `explain` says of the cost and the exactness of those of a step's aggregations that are such."""
    for expr in exprs:
        found = stands_for(expr)
        if found is not None and found.kind == "top_k":
            most = found.sketch.capacity  # type: ignore[attr-defined]  # that kind of sketch has one
            yield (
                f"{found}: exact up to {most:,} distinct values in a group; with more, counts are too low by at most "
                f"rows/{most + 1:,}, how much depends on how the load cuts records into micro-batches"
            )
