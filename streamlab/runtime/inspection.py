"""What the steps of a running plan hold of one key, and what they wait for, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from streamlab.durations import text
from streamlab.engine.aggregates import LANE
from streamlab.engine.operator import Telling
from streamlab.engine.stream_time import NEVER
from streamlab.errors import PlanError
from streamlab.plan import fingerprint
from streamlab.plan.apply_state import ApplyState
from streamlab.plan.join_keys import JoinKeys
from streamlab.plan.schema import WINDOW_END, WINDOW_START
from streamlab.plan.stateful import Stateful
from streamlab.plan.windows import Session, Sliding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamlab.engine.lower import Place
    from streamlab.plan.nodes import Node
    from streamlab.plan.pipeline import Plan
    from streamlab.plan.windows import Window
    from streamlab.runtime.tasks import Task

_MOST = 20  # windows that are shown of a step
_FEW = 100_000  # rows up to which all keys are looked through for a near one


def stateful_behind(node: Node) -> list[Stateful]:
    """Return the steps with state that a stream comes from, the nearest first."""
    todo, found = [node], dict[int, Stateful]()
    while todo:
        one = todo.pop(0)
        if isinstance(one, Stateful):
            found.setdefault(id(one), one)
        todo += one.inputs
    return list(found.values())


def runs(plan: Plan, step: Stateful) -> bool:
    """Return whether a plan has a step, or one that does the same."""
    mark, marks = fingerprint.of_node(step), dict[int, str]()
    return any(fingerprint.of_node(node, marks) == mark for node in plan.nodes())


def told(task: Task, key: Any, steps: Sequence[Stateful] | None = None) -> str:
    """Return what the steps of a task hold of a key, and what they wait for.

    Parameters
    ----------
    task
        What runs; nothing else may step it meanwhile.
    key
        The value of the grouping column, a tuple of several, or a dict of values by column.
    steps
        Which steps of its plan; None: all.

    Raises
    ------
    PlanError
        If no step has such a key.
    """
    marks = None if steps is None else {fingerprint.of_node(step) for step in steps}
    places = [p for p in task.graph.stateful.values() if marks is None or fingerprint.of_node(p.node) in marks]
    asked = [_Asked(task, place, _as_key(place.node, key)) for place in reversed(places)]
    if asked and all(one.key is None for one in asked):
        forms = "; ".join(f"[{one.place.node.name}] {_form(one.place.node)}" for one in asked)
        raise PlanError(f"explain: {key!r} is the key of no step: {forms}.")
    return "\n".join(line for one in asked for line in one.lines())


def _columns(node: Stateful) -> tuple[str, ...] | None:
    """Return the columns that a step finds what it holds by; None: it cannot tell what it holds of a key."""
    by: Any = getattr(node, "by", getattr(node, "subset", None))
    return by.left if isinstance(by, JoinKeys) else by


def _types(node: Stateful) -> pl.Schema:
    """Return the types of a step's key columns among others: custom state may return other columns of these names."""
    return node.input.schema if isinstance(node, ApplyState) else node.schema


def _form(node: Stateful) -> str:
    by = _columns(node)
    if by is None:
        return "holds nothing that it tells of by key"
    types = ", ".join(f"{name}: {_types(node)[name]}" for name in by)
    return f"has the key ({types})" if by else "has one group, without a key"


def _as_key(node: Stateful, key: Any) -> pl.DataFrame | None:
    """Return a person's key as the columns of a step, None where it does not fit them."""
    by = _columns(node)
    if by is None:
        return None
    if isinstance(key, dict):
        if set(key) != set(by):
            return None
        values = [key[name] for name in by]
    else:
        values = list(key) if isinstance(key, tuple) else [key]
        if not by:
            values = []  # one group holds all keys
        if len(values) != len(by):
            return None
    schema = _types(node)
    try:
        columns = [_value(name, value, schema[name]) for name, value in zip(by, values, strict=True)]
    except (PolarsError, TypeError, OverflowError):
        return None
    return pl.DataFrame(columns)


def _value(name: str, value: Any, dtype: pl.DataType) -> pl.Series:
    if isinstance(value, str) != (dtype in (pl.String, pl.Categorical, pl.Enum)) and value is not None:
        raise TypeError(name)  # a strict Series would take some of these
    return pl.Series(name, [value], dtype, strict=True)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One step that is asked for one key; None: the key does not fit it."""

    task: Task
    place: Place
    key: pl.DataFrame | None

    def lines(self) -> Iterator[str]:
        node, operator = self.place.node, self.place.operator
        yield node.describe()
        if self.key is None or not isinstance(operator, Telling):
            why = (
                _form(node) if self.key is None and _columns(node) is not None else "does not tell what it holds by key"
            )
            held = operator.holding()
            yield f"   {why}; in all it holds {held.rows:,} rows ({held.bytes / 1e6:,.1f} MB)"
            yield from self._clock(None)
            return
        rows = operator.held(self.key)
        if not rows.height:
            yield f"   {self._nothing(operator)}"
            yield from self._clock(None)
        elif not node.laned or LANE not in rows.columns:
            yield from self._of_lane(rows, None)
        else:
            for lane in rows[LANE].unique().sort().to_list():
                yield from self._of_lane(rows.filter(pl.col(LANE) == lane), lane)

    def _of_lane(self, rows: pl.DataFrame, lane: int | None) -> Iterator[str]:
        node = self.place.node
        yield from self._clock(lane)
        window: Window | None = getattr(node, "window", None)
        if window is None or WINDOW_START not in rows.columns:
            yield from (
                f"   holds for {self._named}: {_values(row, self._hidden)}" for row in rows.rows(named=True)[:_MOST]
            )
            return
        yield f"   open for {self._named}: {rows.height} window{'s' * (rows.height > 1)}"
        watermark = self._watermark(lane)
        for row in rows.sort(WINDOW_START).rows(named=True)[:_MOST]:
            yield f"      {_span(row[WINDOW_START], row[WINDOW_END])}: {_values(row, self._hidden)}"
            yield f"         {_closing(window, row[WINDOW_END], watermark)}"
        if rows.height > _MOST:
            yield f"      and {rows.height - _MOST} more"

    @property
    def _hidden(self) -> set[str]:
        return {LANE, WINDOW_START, WINDOW_END, *(_columns(self.place.node) or ())}

    @property
    def _named(self) -> str:
        if self.key is None or not self.key.width:
            return "all rows, which are one group"
        return ", ".join(f"{name}={value!r}" for name, value in self.key.row(0, named=True).items())

    def _nothing(self, operator: Telling) -> str:
        said = f"holds nothing for {self._named}"
        if self.key is None or not self.key.width or self.place.operator.holding().rows > _FEW:
            return said
        keys = operator.held(None).select(self.key.columns).unique(maintain_order=True)
        if not keys.height:
            return f"{said}, nor for any other key"
        named = [", ".join(str(part) for part in row) for row in keys.rows()]
        wanted = ", ".join(str(part) for part in self.key.row(0))
        near = get_close_matches(wanted, named, n=3) or sorted(named)[:3]
        return f"{said}; it has {keys.height:,} key{'s' * (keys.height > 1)}, such as {', '.join(map(repr, near))}"

    # --- what it waits for ---

    def _watermark(self, lane: int | None) -> int:
        marks = self.place.gate.watermark
        return int(marks[lane or 0]) if (lane or 0) < len(marks) else NEVER

    def _clock(self, lane: int | None) -> Iterator[str]:
        """Yield how far the watermark is, and what holds it back."""
        parts = [part for part in self._partitions() if lane is None or part.number == lane]
        if not parts:
            return
        apart, reached = self.place.node.laned and lane is None, self._watermark(lane)
        where = "" if lane is None else f" of partition {lane}, which has the key"
        mark = _time(reached) if reached != NEVER else "none yet"
        yield "   each partition has a watermark of its own" if apart else f"   watermark{where}: {mark}{self._behind}"
        awake = [part for part in parts if not part.idle]
        if not awake:
            yield "   all of its partitions are idle: it waits for a record, or on a live stream for the wall clock"
        slowest = None if apart else min(awake, key=lambda part: part.time, default=None)
        if slowest is not None:
            yield f"   waits for {'the slowest, ' * (len(parts) > 1)}{slowest.described(self.task.now())}"
        others = [part for part in parts if part is not slowest]
        yield from (f"      {part.described(self.task.now())}" for part in others[:_MOST])
        if len(others) > _MOST:
            yield f"      and {len(others) - _MOST} more partitions"

    @property
    def _behind(self) -> str:
        """Steps before this one, which may still emit what is older than the records."""
        before = [step for at in self.place.node.clocks for step in stateful_behind(self.place.node.inputs[at])]
        places = self.task.graph.stateful  # a table that is only asked has none
        delays = {step.name: places[step.name].operator.delay for step in before if step.name in places}
        held = [f"{text(delay)} for what [{name}] may still emit" for name, delay in delays.items() if delay]
        return f" (behind the records: {', '.join(held)})" if held else ""

    def _partitions(self) -> list[_Partition]:
        found = []
        for source, clock in self.task.graph.clocks_of(self.place.node):
            idleness = self.task.idleness[source.topic]
            for number in sorted(self.task.positions[source.topic]):
                if number < len(clock.stream_time):
                    time, idle = int(clock.stream_time[number]), bool(clock.idle[number])
                    found.append(
                        _Partition(source.topic, number, time, idle, idleness.last.get(number), idleness.timeout)
                    )
        return found


@dataclass(frozen=True, slots=True)
class _Partition:
    topic: str
    number: int
    time: int
    idle: bool
    heard: int | None
    timeout: int | None

    def described(self, now: int) -> str:
        at = "no record yet" if self.time == NEVER else f"at {_time(self.time)}"
        name = f"{self.topic!r} partition {self.number}, {at}"
        ago = None if self.heard is None else text(max(0, now - self.heard) // 1000 * 1000)
        if self.idle:
            return f"{name}: idle, silent for {ago}" if self.time != NEVER else f"{name}: idle, it is empty"
        if self.timeout is None:
            return f"{name}: never idle"
        return f"{name}: not idle, heard {ago} ago; it is left out after {text(self.timeout)} of silence"


def _closing(window: Window, end: datetime, watermark: int) -> str:
    """Say when a window closes, by the rules of the semantics: some kinds close at a time, some right after it."""
    gap = window.gap if isinstance(window, Session) else 0
    after = isinstance(window, Session | Sliding)
    at = _epoch(end) + gap + _grace(window)
    why = "".join([", gap " + text(gap) if gap else "", ", grace " + text(_grace(window)) if _grace(window) else ""])
    left = "" if watermark == NEVER else f", {text(max(0, at - watermark + after))} to go"
    return f"closes when the watermark {'passes' if after else 'reaches'} {_time(at)} (its end{why}){left}"


def _grace(window: Window) -> int:
    return int(getattr(window, "grace", 0))


def _values(row: dict[str, Any], hidden: set[str]) -> str:
    return ", ".join(f"{name}={_value_text(value)}" for name, value in row.items() if name not in hidden)


def _value_text(value: Any) -> str:
    return _time(_epoch(value)) if isinstance(value, datetime) and value.tzinfo else repr(value)


def _span(start: datetime, end: datetime) -> str:
    return f"{_time(_epoch(start))} to {_time(_epoch(end))}"


def _epoch(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _time(milliseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.strftime("%Y-%m-%d %H:%M:%S") + (f".{milliseconds % 1000:03d}" if milliseconds % 1000 else "")
