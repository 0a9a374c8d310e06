"""Row-by-row steps: a node of the plan becomes a function from rows to rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
    from streamlab.engine.batch import Bools
    from streamlab.plan.nodes import Node

_ROW = f"{RESERVED}row"


def compile_step(node: Node) -> Callable[[Rows], Rows]:
    """Return a node's function; what fails in it fails as a StepError that names the step."""
    apply = _on_table(node, _compiled(node)) if node.is_table else _compiled(node)

    def step(rows: Rows) -> Rows:
        if not rows.height:
            return rows.with_data(pl.DataFrame(schema=node.schema))
        try:
            return apply(rows)
        except PolarsError as error:
            raise StepError(f"{node.describe()}: {str(error).splitlines()[0]}") from error

    return step


def _on_table(node: Node, apply: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    """Return what keeps deletions out of a step of a table, and brings them back with the key that they have after it."""
    (source,) = node.inputs
    columns = [
        pl.lit(None, dtype).alias(name)
        if name not in node.keys
        else pl.col(source.keys[node.keys.index(name)]).alias(name)
        for name, dtype in node.schema.items()
    ]

    def step(rows: Rows) -> Rows:
        if rows.deleted is None or not rows.deleted.any():
            return apply(rows)
        gone, live = rows.filter(rows.deleted), apply(rows.filter(~rows.deleted))
        together = pl.concat([live.data, gone.data.with_columns(columns).select(node.schema.names())])
        marks = np.concatenate([_marks(live), _marks(gone)])
        order = np.argsort(np.concatenate([np.flatnonzero(~rows.deleted), np.flatnonzero(rows.deleted)]))
        return Rows(together[order], rows.time, rows.partition, rows.offset, rows.index, marks[order])

    return step


def _marks(rows: Rows) -> Bools:
    return np.zeros(rows.height, np.bool_) if rows.deleted is None else rows.deleted


def _marked(node: Filter, rows: Rows, passes: Bools) -> Rows:
    """Return the rows of a table with those that do not pass as deletions: they may have passed before."""
    if passes.all():
        return rows
    mask = pl.Series(passes)
    nulled = [pl.when(mask).then(pl.col(name)).alias(name) for name in node.schema if name not in node.keys]
    return replace(rows, data=rows.data.with_columns(nulled), deleted=~passes)


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
        passes = verdicts.to_series().fill_null(value=False).to_numpy()
        return _marked(node, rows, passes) if node.is_table else rows.filter(passes)

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
        frame = made if isinstance(made, pl.DataFrame) else _from_pandas(node, made)
        found = promised(node.describe(), frame, node.schema)
        if found.height != rows.height:
            raise StepError(
                f"{node.describe()}: got {rows.height} rows and returned {found.height}; it must return one row for each. "
                "Filter or explode in a step of its own."
            )
        return rows.with_data(found)

    return apply


def promised(step: str, frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return what a user's function gave as the frame that its `schema=` promised, or fail as a StepError that names the step."""
    if frame.schema == schema:
        return frame
    if missing := [name for name in schema if name not in frame.columns]:
        raise StepError(
            f"{step}: the result lacks {missing}; schema= promised {schema.names()}, found {frame.columns}."
        )
    frame = frame.select(schema.names())
    for name, dtype in schema.items():
        if frame[name].dtype != dtype and not _widens(frame[name].dtype, dtype):
            raise StepError(f"{step}: column {name!r} is {frame[name].dtype}; schema= promised {dtype}.")
    return frame.cast(schema)


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
