"""Aggregations in plain Python: functions of the values of a column, in order of arrival, None for null."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def known(values: list[Any]) -> list[Any]:
    """Return the values that are not null."""
    return [value for value in values if value is not None]


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def extreme(pick: Callable[[list[Any]], Any], values: list[Any]) -> Any:
    """Return the least or greatest value; a NaN only where there is nothing else, as polars does."""
    numbers = [value for value in known(values) if not is_nan(value)]
    return pick(numbers) if numbers else (math.nan if known(values) else None)


def total(values: list[Any]) -> Any:
    found = known(values)
    if any(is_nan(value) for value in found):
        return math.nan
    return math.fsum(found) if any(isinstance(value, float) for value in found) else sum(found)


def mean(values: list[Any]) -> Any:
    found = known(values)
    return total(found) / len(found) if found else None


def variance(values: list[Any]) -> float | None:
    """Return the sample variance, worked out in whole numbers and their ratios: there is nothing to round."""
    found = known(values)
    if len(found) < 2:
        return None
    if any(is_nan(value) for value in found):
        return math.nan
    exact = [Fraction(value) for value in found]
    average = sum(exact) / len(exact)
    return float(sum((value - average) ** 2 for value in exact) / (len(exact) - 1))


def deviation(values: list[Any]) -> float | None:
    found = variance(values)
    return None if found is None else math.sqrt(found)


def median(values: list[Any]) -> Any:
    """Return the middle value, or the mean of the two in the middle; NaN is greater than every number, as in polars."""
    found = sorted(known(values), key=lambda value: (is_nan(value), value))
    if not found:
        return None
    return (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2


def distinct(values: list[Any]) -> int:
    """Return how many values differ; null is one of them, and so is NaN."""
    return len({"NaN" if is_nan(value) else (value,) for value in values})


FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "len": len,
    "count": lambda values: len(known(values)),
    "sum": total,
    "mean": mean,
    "min": lambda values: extreme(min, values),
    "max": lambda values: extreme(max, values),
    "var": variance,
    "std": deviation,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "n_unique": distinct,
    "median": median,
}
