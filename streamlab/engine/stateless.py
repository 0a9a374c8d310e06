"""Row-by-row steps: a node of the plan becomes a function from rows to rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from streamlab.engine.batch import Rows
from streamlab.errors import StepError
from streamlab.plan.schema import RESERVED
from streamlab.plan.steps import Cast, Drop, Explode, Filter, MapBatches, Rename, Select

if TYPE_CHECKING:
    from streamlab.plan.nodes import Node

_ROW = f"{RESERVED}row"


def compile_step(node: Node) -> Callable[[Rows], Rows]:
    """Return a node's function; what fails in it fails as a StepError that names the step."""
    apply = _compiled(node)

    def step(rows: Rows) -> Rows:
        if not rows.height:
            return rows.with_data(pl.DataFrame(schema=node.schema))
        try:
            return apply(rows)
        except PolarsError as error:
            raise StepError(f"{node.describe()}: {str(error).splitlines()[0]}") from error

    return step


@singledispatch
def _compiled(node: Node) -> Callable[[Rows], Rows]:
    raise TypeError(f"{type(node).__name__} is no row-by-row step")


@_compiled.register
def _(node: Filter) -> Callable[[Rows], Rows]:
    predicates = [p.expr.alias(f"{RESERVED}{n}") for n, p in enumerate(node.predicates)]

    def apply(rows: Rows) -> Rows:
        verdicts = rows.data.with_columns(predicates).select(
            pl.all_horizontal(f"{RESERVED}{n}" for n in range(len(predicates)))
        )
        return rows.filter(verdicts.to_series().fill_null(value=False).to_numpy())

    return apply


@_compiled.register
def _(node: Select) -> Callable[[Rows], Rows]:
    exprs, names = [e.expr for e in node.exprs], node.schema.names()
    # with_columns first: a literal alone would make a frame of one row
    return lambda rows: rows.with_data(rows.data.with_columns(exprs).select(names))


@_compiled.register
def _(node: Rename) -> Callable[[Rows], Rows]:
    return lambda rows: rows.with_data(rows.data.rename(node.names))


@_compiled.register
def _(node: Drop) -> Callable[[Rows], Rows]:
    return lambda rows: rows.with_data(rows.data.drop(node.columns))


@_compiled.register
def _(node: Cast) -> Callable[[Rows], Rows]:
    return lambda rows: rows.with_data(rows.data.cast(node.dtypes))


@_compiled.register
def _(node: Explode) -> Callable[[Rows], Rows]:
    def apply(rows: Rows) -> Rows:
        numbered = rows.data.with_columns(pl.Series(_ROW, np.arange(rows.height)))
        long = numbered.explode(list(node.columns))
        return rows.take(long[_ROW].to_numpy()).with_data(long.drop(_ROW))

    return apply


@_compiled.register
def _(node: MapBatches) -> Callable[[Rows], Rows]:
    def apply(rows: Rows) -> Rows:
        given = rows.data if node.flavour == "polars" else rows.data.to_pandas()
        try:
            made = node.function(given)
        except Exception as error:
            raise StepError(f"{node.describe()}: {type(error).__name__}: {error}") from error
        return rows.with_data(_checked(node, made, rows.height))

    return apply


def _checked(node: MapBatches, made: object, height: int) -> pl.DataFrame:
    """Return what a user's function gave as the frame that it promised."""
    frame = made if isinstance(made, pl.DataFrame) else _from_pandas(node, made)
    if missing := [name for name in node.schema if name not in frame.columns]:
        raise StepError(
            f"{node.describe()}: the result lacks {missing}; schema= promised {node.schema.names()}, found {frame.columns}."
        )
    if frame.height != height:
        raise StepError(
            f"{node.describe()}: got {height} rows and returned {frame.height}; it must return one row for each. "
            "Filter or explode in a step of its own."
        )
    frame = frame.select(node.schema.names())
    for name, dtype in node.schema.items():
        if frame[name].dtype != dtype and not _widens(frame[name].dtype, dtype):
            raise StepError(f"{node.describe()}: column {name!r} is {frame[name].dtype}; schema= promised {dtype}.")
    return frame.cast(node.schema)


def _widens(found: pl.DataType, promised: pl.DataType) -> bool:
    """Whether a strict cast loses nothing worth an error: numbers among numbers, times among times, nulls, text that is categorical."""
    numbers = found.is_numeric() and promised.is_numeric() and not (found.is_float() and promised.is_integer())
    return (
        numbers
        or (found.is_temporal() and type(found) is type(promised))
        or found == pl.Null
        or promised == pl.Categorical
    )


def _from_pandas(node: MapBatches, made: object) -> pl.DataFrame:
    import pandas as pd  # noqa: PLC0415  # slow to import, and only this step needs it

    if not isinstance(made, pd.DataFrame):
        wanted = "polars" if node.flavour == "polars" else "pandas or polars"
        raise StepError(
            f"{node.describe()}: the function returned {type(made).__name__}; it must return a {wanted} DataFrame."
        )
    return pl.from_pandas(made)
