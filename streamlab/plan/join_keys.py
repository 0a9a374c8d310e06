"""The columns that two sides are joined by, and the columns that come of it: as in polars, checked when the join is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.errors import PlanError, UnknownColumnError, did_you_mean
from streamlab.plan import schema as schemas
from streamlab.plan.nodes import Source
from streamlab.plan.steps import RowByRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Node

On = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class JoinKeys:
    """Columns of the left side and those of the right side that must be equal, in pairs."""

    left: tuple[str, ...]
    right: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(a if a == b else f"{a} = {b}" for a, b in self.pairs())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield one column of each side at a time."""
        return zip(self.left, self.right, strict=True)

    def check(self, step: str, left: pl.Schema, right: pl.Schema) -> None:
        """Refuse columns that are not there, that are named twice, or whose types differ."""
        for side, names, schema in (("left", self.left, left), ("right", self.right, right)):
            for name in names:
                if name not in schema:
                    raise UnknownColumnError(f"{step}: {side} side", name, schema.names())
            if twice := [name for name in names if names.count(name) > 1]:
                raise PlanError(f"{step}: the {side} side names key {twice[0]!r} twice; name each column once.")
        for a, b in self.pairs():
            if left[a] != right[b]:
                raise PlanError(
                    f"{step}: {a!r} is {left[a]} on the left and {b!r} is {right[b]} on the right; keys must have one type. "
                    f'Cast one of them before: .cast({{"{a}": pl.{right[b]}}}).'
                )

    def shared(self, left: Node, right: Node) -> str | None:
        """Return the left column of which both sides promise that equal values share a partition, where there is one."""
        return next((a for a, b in self.pairs() if left.key == a and right.key == b), None)


def join_keys(step: str, on: On, left_on: On, right_on: On, default: tuple[Sequence[str], Sequence[str]]) -> JoinKeys:
    """Return the keys that `on`, or `left_on` and `right_on`, name.

    Parameters
    ----------
    step
        How errors call the join.
    on, left_on, right_on
        As a person wrote them.
    default
        What a message proposes: columns of the left side, and the key of the right side.

    Raises
    ------
    PlanError
        If none is given, or too many, or what is given is no column name.

    Examples
    --------
    >>> str(join_keys("join", None, "carrier", "code", ((), ())))
    'carrier = code'
    """
    if on is not None and (left_on is not None or right_on is not None):
        raise PlanError(f"{step}: on= and left_on=, right_on= exclude each other; write on= for equal names only.")
    if on is not None:
        both = _columns(step, "on", on)
        return JoinKeys(both, both)
    if left_on is None or right_on is None:
        raise PlanError(f"{step}: {_missing(left_on, right_on)}.{_proposal(default)}")
    left, right = _columns(step, "left_on", left_on), _columns(step, "right_on", right_on)
    if len(left) != len(right):
        raise PlanError(f"{step}: left_on={list(left)} and right_on={list(right)} must have equally many columns.")
    return JoinKeys(left, right)


def _missing(left_on: On, right_on: On) -> str:
    if left_on is None and right_on is None:
        return "no key; name the columns that must be equal: on=, or left_on= and right_on="
    return f"{'left_on' if left_on is None else 'right_on'}= is missing; left_on= and right_on= belong together"


def _proposal(default: tuple[Sequence[str], Sequence[str]]) -> str:
    left, right = default
    if not right:
        return ""
    written = repr(right[0]) if len(right) == 1 else list(right)
    if all(name in left for name in right):
        return f" Did you mean on={written}?"
    return (
        f" The key of the right side is {list(right)}; the left side has {list(left)}: left_on=..., right_on={written}."
    )


def _columns(step: str, what: str, given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, tuple | list) or not names or not all(isinstance(name, str) for name in names):
        raise PlanError(
            f"{step}: {what}={given!r} is no column name and no list of such; compute a key before: .with_columns(...)."
        )
    return tuple(names)


def check_how(step: str, how: str, valid: Sequence[str]) -> None:
    """Refuse a kind of join that there is not."""
    if how not in valid:
        raise PlanError(f"{step}: how={how!r}; valid are {list(valid)}.{did_you_mean(str(how), valid)}")


def check_table_key(step: str, names: Sequence[str], key: Sequence[str], side: str) -> None:
    """Refuse to join a table by other columns than its key."""
    if set(names) == set(key):
        return
    near = "".join(did_you_mean(name, [one for one in key if one not in names]) for name in names if name not in key)
    raise PlanError(
        f"{step}: the key of the {side} table is {list(key)}, and its rows are found by that alone; it is joined by {list(names)}."
        f"{near} For another key: table.group_by(...).agg(...)."
    )


def right_columns(left: pl.Schema, right: pl.Schema, keys: JoinKeys, suffix: str) -> dict[str, str]:
    """Return the columns that a join takes from the right side, its keys left out, and what they are called in the result."""
    return {name: f"{name}{suffix}" if name in left else name for name in right if name not in keys.right}


def joined_schema(step: str, left: pl.Schema, right: pl.Schema, keys: JoinKeys, suffix: str) -> pl.Schema:
    """Return the columns of a join: those of the left side, then those of the right side but for its keys."""
    columns = dict(left)
    for name, told in right_columns(left, right, keys, suffix).items():
        if told in columns:
            raise PlanError(
                f"{step}: both sides have {name!r}, and {told!r} is there already; "
                f"give suffix= another value than {suffix!r}, or rename a column."
            )
        columns[told] = right[name]
    schemas.check_names(step, columns)
    return pl.Schema(columns)


def history_of(node: Node) -> int | None:
    """Return for how long a table keeps the versions of a row, in milliseconds; None: it has the newest alone."""
    while isinstance(node, RowByRow):
        node = node.input
    return node.history if isinstance(node, Source) and node.is_table else None


def name_of(node: Node) -> str:
    """Return what a side of a join is called: the topic, step or table that its rows come from."""
    while isinstance(node, RowByRow):
        node = node.input
    name = node.topic if isinstance(node, Source) else getattr(node, "name", node.label)
    return str(name)
