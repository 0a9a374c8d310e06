"""Replace what lists and structs hold, with their nulls and empty lists left as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence


def items_of(lists: pl.Series) -> pl.Series:
    """Return the items of all lists, one after another.

    Examples
    --------
    >>> items_of(pl.Series([[1, None], [], None, [2]])).to_list()
    [1, None, 2]
    """
    return lists.explode(empty_as_null=False, keep_nulls=False)


def rows_of_items(lists: pl.Series) -> npt.NDArray[np.int64]:
    """Return for each item the position of its list.

    Examples
    --------
    >>> rows_of_items(pl.Series([[1, None], [], None, [2]])).tolist()
    [0, 0, 3]
    """
    return np.repeat(np.arange(len(lists)), lists.list.len().fill_null(0).to_numpy())


def with_items(lists: pl.Series, items: pl.Series) -> pl.Series:
    """Return lists that hold other items, as many as before.

    Examples
    --------
    >>> lists = pl.Series([[1, None], [], None, [2]])
    >>> with_items(lists, pl.Series(["a", "b", None])).to_list()
    [['a', 'b'], [], None, [None]]
    """
    rows = pl.Series("row", rows_of_items(lists), dtype=pl.Int64)
    grouped = pl.DataFrame([rows, items.alias("items")]).group_by("row").agg("items")
    every = pl.DataFrame({"row": np.arange(len(lists)), "given": lists.is_not_null()})
    # an empty list has left no item to group
    empty = pl.lit(pl.Series([[]], dtype=pl.List(items.dtype)))
    whole = pl.when("given").then(pl.coalesce("items", empty))
    joined = every.join(grouped, on="row", how="left", maintain_order="left")
    return joined.select(whole.alias(lists.name)).to_series()


def with_fields(structs: pl.Series, fields: Sequence[pl.Series]) -> pl.Series:
    """Return structs that hold other fields.

    Examples
    --------
    >>> structs = pl.Series([{"a": 1}, None])
    >>> with_fields(structs, [pl.Series("b", ["x", None])]).to_list()
    [{'b': 'x'}, None]
    """
    whole = pl.DataFrame({field.name: field for field in fields}).to_struct(structs.name)
    return only_where(whole, structs.is_not_null()) if structs.null_count() else whole


def only_where(values: pl.Series, mask: pl.Series) -> pl.Series:
    """Return the values with null where the mask is not True.

    Examples
    --------
    >>> only_where(pl.Series([1, 2]), pl.Series([True, None])).to_list()
    [1, None]
    """
    return pl.select(pl.when(mask).then(values)).to_series().alias(values.name)


def instance(dtype: Any) -> pl.DataType:
    """Return `pl.Int64()` for `pl.Int64`: inside of other types polars keeps what was written.

    Examples
    --------
    >>> instance(pl.List(pl.Int64).inner)
    Int64
    """
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made
