"""How an as-of join is written: with a stream on the right, or with a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError
from streamlab.plan.asof_frame import AsofFrame
from streamlab.plan.join_asof import AsofJoin
from streamlab.plan.join_keys import join_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamlab.plan.nodes import Node


def asof_join(
    left: Node,
    right: Node | pl.DataFrame,
    columns: Mapping[str, Any],
    tolerance: Duration | None,
    strategy: str,
    *,
    grace: Duration | None,
    suffix: str,
    name: str | None,
) -> AsofJoin | AsofFrame:
    """Return the join that a person wrote.

    Parameters
    ----------
    left, right
        Both sides; the right one may be a frame.
    columns
        What was given as on, left_on, right_on, by, by_left and by_right.
    tolerance, strategy, grace, suffix, name
        As they were given.
    """
    step = AsofJoin.label
    if strategy != "backward":
        raise PlanError(
            f'{step}: strategy={strategy!r}; a stream has only the rows that have come, so "backward" is the one there is. '
            "To match rows that come later use .join_interval(..., after=...)."
        )
    by = _pair(step, columns, "by", "by_left", "by_right")
    if by is None:
        raise PlanError(
            f"{step}: no common key; name the columns that must be equal: by=, or by_left= and by_right=. "
            f"The left side has {left.schema.names()}, the right side {right.schema.names()}."
        )
    keys = join_keys(step, None, *by, ((), ()))
    on = _pair(step, columns, "on", "left_on", "right_on")
    if on is not None and not all(isinstance(column, str) for column in on):
        raise PlanError(f"{step}: on={on[0]!r} is no column name; name the one column of event time, or leave it out.")
    length = None if tolerance is None else milliseconds(tolerance, f"{step}: tolerance", positive=True)
    if isinstance(right, pl.DataFrame):
        if on is None:
            raise PlanError(f"{step}: which column of the frame is its time? Name it: on=, or left_on= and right_on=.")
        if grace is not None:
            raise PlanError(
                f"{step}: grace waits for rows of a stream that come late; a frame has all its rows. Leave it out."
            )
        return AsofFrame(left, right, keys, on, length, suffix, name)
    if length is None:
        raise PlanError(
            f'{step}: no tolerance; without one every right row would be kept for ever. Say how old a match may be: tolerance="1h".'
        )
    wait = 0 if grace is None else milliseconds(grace, f"{step}: grace")
    return AsofJoin(left, right, keys, length, wait, on, suffix, name)


def _pair(step: str, given: Mapping[str, Any], both: str, left: str, right: str) -> tuple[Any, Any] | None:
    """Return what was given for both sides at once or for each, None if nothing was."""
    one, ours, theirs = given[both], given[left], given[right]
    if one is not None and (ours is not None or theirs is not None):
        raise PlanError(
            f"{step}: {both}= and {left}=, {right}= exclude each other; write {both}= for equal names only."
        )
    if (ours is None) != (theirs is None):
        raise PlanError(
            f"{step}: {left}= and {right}= belong together; {right if theirs is None else left}= is missing."
        )
    if one is not None:
        return one, one
    return None if ours is None else (ours, theirs)
