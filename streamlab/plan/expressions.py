"""Polars expressions as values of a plan: compared, fingerprinted, and checked before any data is there.

Checks need an expression's structure. Where polars' `meta` cannot judge without data (selectors, `list.eval`), the expression's own
serialised form is rewritten into one that it can judge: a selector becomes its first column, `list.eval` and its like (which look at one
row's list at a time) become the list they look at. That form is MessagePack: polars' JSON has null for NaN and the infinities.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
from polars.exceptions import ComputeError, PolarsError

from streamlab.errors import PlanError, UnsafeExpressionError
from streamlab.plan.approx import stands_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IntoExpr = Any
"""What polars takes for an expression: an expression, a column name, or a value."""


@dataclass(frozen=True, eq=False)
class PlanExpr:
    """A polars expression with value equality.

    `pl.Expr` overloads ``==`` and has no hash, so a plan cannot hold it bare.

    Examples
    --------
    >>> PlanExpr(pl.col("x") > 1) == PlanExpr(pl.col("x") > 1)
    True
    >>> PlanExpr(pl.col("x").round(2)) == PlanExpr(pl.col("x").round(0))  # they print alike
    False
    """

    expr: pl.Expr

    @cached_property
    def canonical(self) -> str:
        """The expression's structure as text, equal in every process with the same polars."""
        return json.dumps(tree(self.expr), sort_keys=True, separators=(",", ":"), default=bytes.hex)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlanExpr) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)

    def __str__(self) -> str:
        if (approximate := stands_for(self.expr)) is not None:
            alias = (
                "" if self.expr.meta.eq(self.expr.meta.undo_aliases()) else f'.alias("{self.expr.meta.output_name()}")'
            )
            return f"{approximate}{alias}"
        return " ".join(str(self.expr).split())


def parse(exprs: Iterable[IntoExpr], named: dict[str, IntoExpr], *, step: str) -> tuple[pl.Expr, ...]:
    """Return what polars would make of `select(*exprs, **named)`: strings are columns when positional or named.

    Examples
    --------
    >>> [str(e) for e in parse(["a", [pl.col("b")]], {"c": 1}, step="select")]
    ['col("a")', 'col("b")', 'dyn int: 1.alias("c")']
    """
    flat = [e for given in exprs for e in (given if isinstance(given, list | tuple) else [given])]
    parsed = [_into(e, step) for e in flat] + [_into(e, step).alias(name) for name, e in named.items()]
    if not parsed:
        raise PlanError(f"{step}: no expression given; name at least one column or expression.")
    return tuple(parsed)


def _into(value: IntoExpr, step: str) -> pl.Expr:
    if isinstance(value, pl.Expr):
        return value
    if isinstance(value, str):
        return pl.col(value)
    if value is None or isinstance(value, bool | int | float):
        return pl.lit(value)
    if hasattr(value, "then") and hasattr(value, "otherwise"):  # a `when().then()` left open
        return value.otherwise(None)  # type: ignore[no-any-return]  # polars' own builder, known by its methods only
    try:
        return pl.lit(value)
    except (TypeError, PolarsError) as error:
        raise PlanError(f"{step}: {value!r} is no expression; write pl.col(...), a column name or a value.") from error


def tree(expr: pl.Expr) -> Any:
    """Return an expression's structure as plain values; Python functions have none and are refused.

    Raises
    ------
    UnsafeExpressionError
        If the expression holds a Python function.
    """
    try:
        found = json.loads(expr.meta.serialize(format="json"))
    except ComputeError as error:
        raise _python_function(expr) from error
    if any("AnonymousFunction" in node or "PythonUdf" in node for node in _dicts(found)):
        raise _python_function(expr)
    return msgspec.msgpack.decode(expr.meta.serialize())


def _python_function(expr: pl.Expr) -> UnsafeExpressionError:
    return UnsafeExpressionError(
        f"{expr}: a Python function inside an expression cannot be compared, fingerprinted or checked row by row. "
        "Write .map_batches(fn, schema=...) on the stream: fn gets a polars DataFrame."
    )


def expand(exprs: Iterable[pl.Expr], schema: pl.Schema) -> list[pl.Expr]:
    """Return one expression per output column: selectors replaced by the columns they pick.

    Examples
    --------
    >>> [str(e) for e in expand([pl.all().sum()], pl.Schema({"a": pl.Int64, "b": pl.Int64}))]
    ['col("a").sum()', 'col("b").sum()']
    """
    return [one for expr in exprs for one in _expand(expr, schema)]


def _expand(expr: pl.Expr, schema: pl.Schema) -> Iterator[pl.Expr]:
    if not expr.meta.has_multiple_outputs():
        yield expr
        return
    structure = tree(expr)
    for n, _ in enumerate(pl.LazyFrame(schema=schema).select(expr).collect_schema()):
        yield _expression(_rewrite(structure, schema, n))


def checkable(expr: pl.Expr, schema: pl.Schema) -> pl.Expr:
    """Return an expression of the same shape that polars' `meta` can judge without data."""
    return _expression(_rewrite(tree(expr), schema, 0, drop_eval=True))


def is_aggregating(expr: pl.Expr, schema: pl.Schema) -> bool:
    """Whether an expression makes one value of a group.

    Examples
    --------
    >>> schema = pl.Schema({"x": pl.Int64})
    >>> is_aggregating(pl.col("x").max() - pl.col("x").min(), schema), is_aggregating(pl.col("x") * 2, schema)
    (True, False)
    """
    try:
        return checkable(expr, schema).meta.is_scalar() and bool(_columns_or_len(expr))
    except PolarsError:  # polars cannot tell without data
        return False


def _columns_or_len(expr: pl.Expr) -> bool:
    """Whether rows matter at all: a bare literal is scalar too, but aggregates nothing."""
    return any("Column" in node or "Selector" in node for node in _dicts(tree(expr))) or "Len" in _words(tree(expr))


def check_row_safe(step: str, expr: pl.Expr, schema: pl.Schema) -> None:
    """Refuse an expression whose value for a row depends on other rows.

    A stream has no whole column: what `x.mean()` is would depend on how the records happened to be cut into batches.

    Raises
    ------
    UnsafeExpressionError
        Naming the part that is not safe and the valid form.

    Examples
    --------
    >>> schema = pl.Schema({"x": pl.Int64})
    >>> check_row_safe("filter", pl.col("x") > 1, schema)
    >>> check_row_safe("filter", pl.col("x") > pl.col("x").mean(), schema)
    Traceback (most recent call last):
    ...
    streamlab.errors.UnsafeExpressionError: filter: col("x").mean() needs more than one row, and here every row stands alone. \
Aggregate in a window: .group_by(...).window(sl.tumbling("1m")).agg(...).
    """
    for part in _walk(checkable(expr, schema)):
        meta = part.meta
        if meta.is_literal() and not _is_long_literal(part):
            continue
        if not _is_row_separable(part, schema):
            raise UnsafeExpressionError(
                f"{step}: {PlanExpr(part)} needs more than one row, and here every row stands alone. {_valid_form(meta)}"
            )
        if not meta.is_length_preserving() and not meta.is_scalar():
            raise UnsafeExpressionError(
                f"{step}: {PlanExpr(part)} changes the number of rows. Write .filter(...) or .explode(...) on the stream."
            )


def rows_stand_alone(expr: pl.Expr, schema: pl.Schema, *, same_length: bool) -> bool:
    """Whether an expression over a group's rows can be worked out part by part of the rows.

    Examples
    --------
    >>> schema = pl.Schema({"x": pl.Int64})
    >>> rows_stand_alone(pl.col("x").filter(pl.col("x") > 1), schema, same_length=False)
    True
    >>> rows_stand_alone(pl.col("x").sort(), schema, same_length=False)
    False
    """
    parts = [part for part in _walk(checkable(expr, schema)) if not part.meta.is_literal() or _is_long_literal(part)]
    return all(
        _is_row_separable(part, schema) and (part.meta.is_length_preserving() or not same_length) for part in parts
    )


def _is_row_separable(part: pl.Expr, schema: pl.Schema) -> bool:
    """Whether the root of an expression works row by row; what polars cannot tell without data does not."""
    try:
        return part.meta.is_row_separable() and not _looks_into_column(part, schema)
    except PolarsError:
        return False


def _looks_into_column(part: pl.Expr, schema: pl.Schema) -> bool:
    """Whether the root is `is_in` or `replace` with another column: all of it is meant, though polars calls them row-separable."""
    node = tree(part).get("Function", {})
    function, inputs = node.get("function"), [_expression(given) for given in node.get("input", ())]
    if isinstance(function, dict) and "IsIn" in (function.get("Boolean") or ()):
        of, among = (pl.LazyFrame(schema=schema).select(i.alias("x")).collect_schema()["x"] for i in inputs)
        return of == among
    replaces = function == "Replace" or (isinstance(function, dict) and "ReplaceStrict" in function)
    return replaces and any(not given.meta.is_literal() for given in inputs[1:3])


def goes_by_place(expr: pl.Expr) -> bool:
    """Whether an aggregation of a group's rows depends on their order, and does not put them in one of its own.

    Examples
    --------
    >>> goes_by_place(pl.col("x").last()), goes_by_place(pl.col("x").sort_by("ts").last()), goes_by_place(pl.col("x").max())
    (True, False, False)
    """
    words = set().union(*(_names(node) for node in _dicts(tree(expr))))
    return bool(words & _PLACES) and not words & {"Sort", "SortBy"}


_PLACES = {"First", "Last", "Implode", "ConcatVertical", "Slice", "Gather", "ArgMax", "ArgMin"} | {
    *("Diff", "CumSum", "Shift", "Reverse", "RLE", "EwmMean", "RollingExpr", "Interpolate", "FillNullWithStrategy")
}
"""What looks at where a row stands among the others, by polars' names."""


def _names(node: dict[str, Any]) -> set[str]:
    return set(node) | ({node["function"]} if isinstance(node.get("function"), str) else set())


def _is_long_literal(part: pl.Expr) -> bool:
    return part.meta.is_literal() and not part.meta.is_scalar()


def _valid_form(meta: Any) -> str:
    try:
        if meta.is_scalar():
            return 'Aggregate in a window: .group_by(...).window(sl.tumbling("1m")).agg(...).'
        if meta.is_literal():
            return "Give one value with pl.lit(...), or join a table of values."
    except PolarsError:
        return "Polars cannot tell without data that it does not; use .map_batches(fn, schema=...)."
    return "Use .map_batches(fn, schema=...) for work on a whole micro-batch, or aggregate in a window."


def _walk(expr: pl.Expr) -> Iterator[pl.Expr]:
    yield expr
    for part in expr.meta.pop():
        yield from _walk(part)


def _rewrite(node: Any, schema: pl.Schema, output: int, *, drop_eval: bool = False) -> Any:
    """Replace selectors by a column each, structs unnested by a field each, and `list.eval` by the list it looks at."""
    if isinstance(node, list):
        return [_rewrite(item, schema, output, drop_eval=drop_eval) for item in node]
    if not isinstance(node, dict) or "Literal" in node:
        return node
    if "Selector" in node:
        picked = pl.LazyFrame(schema=schema).select(_expression(node)).collect_schema().names()
        return {"Column": picked[min(output, len(picked) - 1)]} if picked else {"Literal": "Null"}
    if drop_eval and "Eval" in node and "Cumulative" not in node["Eval"]["variant"]:
        return _rewrite(node["Eval"]["expr"], schema, output, drop_eval=True)
    if _is_unnest(node):
        fields = pl.LazyFrame(schema=schema).select(_expression(node)).collect_schema().names()
        of = _rewrite(node["Function"]["input"], schema, output, drop_eval=drop_eval)
        field = {"StructExpr": {"FieldByName": fields[min(output, len(fields) - 1)]}}
        return {"Function": {**node["Function"], "input": of, "function": field}}
    return {name: _rewrite(value, schema, output, drop_eval=drop_eval) for name, value in node.items()}


def _is_unnest(node: dict[str, Any]) -> bool:
    """Whether a node gives several fields of a struct as columns."""
    function = node["Function"]["function"] if "Function" in node else None
    struct = function.get("StructExpr") if isinstance(function, dict) else None
    return isinstance(struct, dict) and "SelectFields" in struct


def _expression(structure: Any) -> pl.Expr:
    return pl.Expr.deserialize(io.BytesIO(msgspec.msgpack.encode(structure)))


def _dicts(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        if "Literal" not in node:
            for value in node.values():
                yield from _dicts(value)
    elif isinstance(node, list):
        for item in node:
            yield from _dicts(item)


def _words(node: Any) -> set[str]:
    if isinstance(node, str):
        return {node}
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*(_words(value) for value in values))
