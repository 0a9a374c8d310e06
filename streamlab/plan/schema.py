"""Schemas of steps, worked out by polars without data, with polars' errors in the plan's own words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from streamlab.errors import PlanError, UnknownColumnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RESERVED = "__sl_"
"""Columns of the engine's own begin with this."""

TABLE = "table:"
"""What the names of tables begin with among those of the steps."""

WINDOW_START, WINDOW_END, WATERMARK = "window_start", "window_end", "watermark"
TIME = pl.Datetime("ms", "UTC")
"""The type of event times and window bounds."""

METADATA = pl.Schema(
    {
        "_topic": pl.String(),
        "_partition": pl.Int32(),
        "_offset": pl.Int64(),
        "_timestamp": TIME,
        "_key": pl.Binary(),
        "_headers": pl.List(pl.Struct({"name": pl.String(), "value": pl.Binary()})),
    }
)
"""Columns that `metadata=True` adds to a source."""

_MISSING = re.compile(r'unable to find column "([^"]*)"|"([^"]*)" not found')


def after(step: str, schema: pl.Schema, apply: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.Schema:
    """Return the schema that a polars operation makes of a schema.

    Raises
    ------
    UnknownColumnError
        If the operation names a column that is not there.
    PlanError
        If polars refuses the operation for another reason.

    Examples
    --------
    >>> dict(after("select", pl.Schema({"x": pl.Int64}), lambda f: f.select(pl.col("x") / 2)))
    {'x': Float64}
    """
    try:
        found = apply(pl.LazyFrame(schema=schema)).collect_schema()
    except PolarsError as error:
        raise translated(step, schema, error) from None
    check_names(step, found)
    return found


_BARE: dict[type[pl.DataType], pl.DataType] = {
    pl.Datetime: pl.Datetime("ms", "UTC"),
    pl.Duration: pl.Duration("ms"),
    pl.Categorical: pl.Categorical(),
}


def declared(step: str, columns: Mapping[str, Any]) -> pl.Schema:
    """Return the schema that a person wrote; bare Datetime is milliseconds in UTC, bare Duration milliseconds.

    Raises
    ------
    PlanError
        If a column has no type, or one that needs to be said in full.

    Examples
    --------
    >>> dict(declared("stream", {"ts": pl.Datetime, "x": int}))
    {'ts': Datetime(time_unit='ms', time_zone='UTC'), 'x': Int64}
    """
    types = {}
    for name, dtype in columns.items():
        try:
            types[name] = pl.Schema({name: _BARE.get(dtype, dtype)})[name]
        except (TypeError, PolarsError) as error:
            raise PlanError(
                f"{step}: column {name!r}: {error}; write a polars type in full, such as pl.List(pl.Int64)."
            ) from error
    check_names(step, types)
    return pl.Schema(types)


def translated(step: str, schema: pl.Schema, error: PolarsError) -> PlanError:
    """Return polars' error as the plan's, without polars' stack of plans."""
    reason = str(error).split("\n\n", 1)[0].strip()
    missing = _MISSING.search(reason)
    if missing:
        return UnknownColumnError(step, missing[1] or missing[2] or "", schema.names())
    listed = ", ".join(f"{name}: {dtype}" for name, dtype in schema.items())
    return PlanError(f"{step}: {reason} (the stream has {listed})")


def check_names(step: str, names: Iterable[str]) -> None:
    """Refuse column names that are the engine's own."""
    for name in names:
        if name.startswith(RESERVED):
            raise PlanError(f"{step}: column {name!r}: names that begin with {RESERVED!r} are kept for the engine.")


def check_identity(what: str, name: str) -> None:
    """Refuse a name that state cannot be found by: of a step, or of a table.

    Examples
    --------
    >>> check_identity("sink_table", "a/b")
    Traceback (most recent call last):
    ...
    streamlab.errors.PlanError: sink_table: 'a/b' cannot be a name, by which state is found: it must be printable text \
without '/' that does not begin with 'table:', such as 'a-b'.
    """
    if not isinstance(name, str) or not name or not name.isprintable() or "/" in name or name.startswith(TABLE):
        near = re.sub(r"[^\w. -]+", "-", str(name).removeprefix(TABLE)).strip("-") or "delays"
        raise PlanError(
            f"{what}: {name!r} cannot be a name, by which state is found: it must be printable text without '/' "
            f"that does not begin with {TABLE!r}, such as {near!r}."
        )


def require(step: str, columns: Iterable[str], schema: pl.Schema) -> None:
    """Refuse columns that a schema lacks."""
    for column in columns:
        if column not in schema:
            raise UnknownColumnError(step, column, schema.names())


def require_time(step: str, column: str, dtype: pl.DataType) -> None:
    """Refuse a type that no event time can be read from."""
    if not (dtype.is_integer() or isinstance(dtype, pl.Datetime | pl.Date)):
        raise PlanError(
            f"{step}: event time {column!r} is {dtype}; it must be Datetime, Date, or an integer of milliseconds since 1970 (UTC)."
        )
