"""Random plans, each written for streamlab and for the model at once, and random input for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import strategies as st

import streamlab as sl
from streamlab.testing import EPOCH
from tests.properties.aggregations import FUNCTIONS
from tests.properties.oracle import Aggregate, Aggregation, Each, LateRows, Restamp, Source, Together, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import DrawFn

    from tests.properties.oracle import Node, Row

SCHEMA = {
    "k": pl.String(),
    "j": pl.Int64(),
    "x": pl.Int64(),
    "f": pl.Float64(),
    "s": pl.String(),
    "xs": pl.List(pl.Int64),
    "ts": pl.Int64(),
    "t2": pl.Int64(),
}
KINDS = {"k": "text", "j": "int", "x": "int", "f": "float", "s": "text", "xs": "list", "ts": "time", "t2": "time"}
KEYS = ["a", "b", "c", None]
IDLE = 10_000
"""The idle timeout of all sources that have one."""

SPLIT = ["count", "min", "max", "first", "last"]
NUMERIC = ["sum", "mean", "var", "std"]
WHOLE = ["n_unique", "median"]
BY_ARRIVAL = {"first", "last"}


@dataclass(frozen=True)
class Branch:
    """A stream as a person writes it, and as the model has it."""

    frame: Any
    node: Node
    kinds: Mapping[str, str]
    sources: tuple[Source, ...]
    keyed: bool
    laned: bool = False  # whether rows come from one task a partition
    joined: bool = False  # whether it was put together of several streams
    crosses: bool = False  # whether one task over all partitions reads what one task a partition makes

    def each(self, frame: Any, function: Callable[[Row], list[Row]], **changes: Any) -> Branch:
        """Return the branch with a row-by-row step after it."""
        return replace(self, frame=frame, node=Each(self.node, function), **changes)


@dataclass(frozen=True)
class Plan:
    """A plan, and the circumstances it is run in."""

    branches: tuple[Branch, ...]
    partitions: int
    live: bool
    skips_bad: bool = False

    @property
    def unit(self) -> int:
        """Milliseconds in a step of event time: a live stream moves by seconds, a replayed one by milliseconds."""
        return 1_000 if self.live else 1

    @property
    def start(self) -> int:
        """Where event times begin: now, or long ago."""
        return EPOCH if self.live else 0

    def home(self, key: Any) -> int:
        """Return the partition that records of a key are sent to where a key is promised."""
        return KEYS.index(key) % self.partitions

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Show what one needs to see what went wrong."""
        printer.text(repr(self))

    def __repr__(self) -> str:
        trees = "\n".join(branch.frame.explain() for branch in self.branches)
        return f"{self.partitions} partitions, {'live' if self.live else 'history'}, skips={self.skips_bad}\n{trees}\n"


# --- steps ---


def _positive(branch: Branch) -> Branch:
    return branch.each(
        branch.frame.filter(pl.col("x") > 0), lambda row: [row] if row["x"] is not None and row["x"] > 0 else []
    )


def _some_keys(branch: Branch) -> Branch:
    return branch.each(
        branch.frame.filter(pl.col("k") != "b", pl.col("j").is_not_null()),
        lambda row: [row] if row["k"] not in {None, "b"} and row["j"] is not None else [],
    )


def _nan(branch: Branch) -> Branch:
    expr = pl.when(pl.col("x") == 1).then(float("nan")).otherwise(pl.col("f"))
    return branch.each(
        branch.frame.with_columns(f=expr), lambda row: [{**row, "f": float("nan") if row["x"] == 1 else row["f"]}]
    )


def _double(branch: Branch) -> Branch:
    return branch.each(
        branch.frame.with_columns(x=pl.col("x") * 2),
        lambda row: [{**row, "x": None if row["x"] is None else row["x"] * 2}],
    )


def _other_key(branch: Branch) -> Branch:
    return branch.each(branch.frame.with_columns(k=pl.col("s")), lambda row: [{**row, "k": row["s"]}], keyed=False)


def _explode(branch: Branch) -> Branch:
    return branch.each(
        branch.frame.explode("xs"),
        lambda row: [{**row, "xs": item} for item in ([None] if row["xs"] is None else row["xs"])],
        kinds={**branch.kinds, "xs": "int"},
    )


def _mapped(branch: Branch) -> Branch:
    schema = dict(branch.frame.schema)
    return branch.each(
        branch.frame.map_batches(lambda frame: frame.with_columns(pl.col("j") + 1), schema=schema),
        lambda row: [{**row, "j": None if row["j"] is None else row["j"] + 1}],
        keyed=False,
    )


def _restamped(branch: Branch) -> Branch:
    (source,) = branch.sources
    return replace(
        branch,
        frame=branch.frame.with_event_time(pl.col("t2")),
        node=Restamp(branch.node, source, lambda row: row["t2"]),
    )


STEPS = [_positive, _some_keys, _nan, _double, _other_key, _explode, _mapped, _restamped]


@st.composite
def stepped(draw: DrawFn, branch: Branch, most: int = 3, *, restamps: bool = True) -> Branch:
    """Put some row-by-row steps after a branch."""
    steps = [step for step in STEPS if not branch.keyed or step not in (_other_key, _mapped)]
    for step in draw(st.lists(st.sampled_from(steps), max_size=most)):
        fits = step is not _restamped or (restamps and not branch.joined)
        if fits and not (step is _explode and branch.kinds["xs"] == "int"):
            branch = step(branch)
    return branch


@st.composite
def sources(draw: DrawFn, plan: Plan, *, keyed: bool, never_idle: bool = False) -> Branch:
    """Read one topic, or two as one."""
    idle = IDLE if not never_idle and (plan.live or draw(st.booleans())) else None
    event_time = draw(st.sampled_from([None, "ts"]))
    streams = []
    for topic in ["one", "two"][: 1 if keyed else draw(st.sampled_from([1, 1, 1, 2]))]:
        frame = sl.Kafka("localhost:9092").stream(
            topic,
            schema=SCHEMA,
            event_time=event_time,
            key="k" if keyed else None,
            on_error="skip" if plan.skips_bad else "dead_letter",
            idle_timeout=None if idle is None else timedelta(milliseconds=idle),
        )
        node = Source(topic, plan.partitions, event_time=event_time, idle_timeout=idle)
        streams.append(Branch(frame, node, KINDS, (node,), keyed))
    if len(streams) == 1:
        return streams[0]
    return together([draw(stepped(stream, 1, restamps=not never_idle)) for stream in streams])


def together(parts: list[Branch]) -> Branch:
    """Make one branch of several; they must have one schema."""
    if any(part.kinds != parts[0].kinds for part in parts):
        parts = [part if part.kinds["xs"] == "int" else _explode(part) for part in parts]
    node = Together(*(part.node for part in parts))
    found = dict.fromkeys(source for part in parts for source in part.sources)
    return Branch(
        sl.concat([part.frame for part in parts]), node, parts[0].kinds, tuple(found), keyed=False, joined=True
    )


@st.composite
def forked(draw: DrawFn, branch: Branch) -> Branch:
    """Part a stream in two and put it together again: records may come along both ways, or none."""
    return together([draw(stepped(branch, 2)), draw(stepped(branch, 2))])


# --- aggregations ---


def _candidates(kinds: Mapping[str, str], by: tuple[str, ...], *, whole: bool, ordered: bool) -> list[tuple[str, str]]:
    found = [("len", next(iter(kinds)))]
    for column, kind in kinds.items():
        if kind == "list" or column in by or column.startswith("window_"):
            continue
        names = SPLIT + (NUMERIC if kind != "text" else []) + (WHOLE[: 2 if kind != "text" else 1] if whole else [])
        if kind == "time" and whole:  # kept rows leave it to polars, whose variance of such large values has few digits
            names = [name for name in names if name not in {"var", "std"}]
        found += [(name, column) for name in names if ordered or name not in BY_ARRIVAL]
    return found


def _kind_of(name: str, kind: str) -> str:
    """Return the kind of what an aggregation makes."""
    if name in {"len", "count", "n_unique"}:
        return "int"
    if name in {"min", "max", "first", "last", "sum"}:
        return kind
    return "time" if kind == "time" and name in {"mean", "median"} else "float"


def written(name: str, column: str) -> pl.Expr:
    """Return an aggregation as polars writes it."""
    made: pl.Expr = pl.len() if name == "len" else getattr(pl.col(column), name)()
    return made.alias(f"{name}_{column}")


@st.composite
def aggregated(
    draw: DrawFn,
    branch: Branch,
    plan: Plan,
    *,
    final: bool,
    windowed: bool = True,
    ordered: bool = True,
    name: str | None = None,
    window: Window | None = None,
) -> Branch:
    """Put groups, windows and aggregations after a branch; without `ordered` none that goes by arrival."""
    groupable = [column for column in ("k", "j", "s") if column in branch.kinds]
    by = tuple(draw(st.lists(st.sampled_from(groupable), unique=True, max_size=2))) if groupable else ()
    if branch.keyed and "k" not in by and not branch.laned:
        by = ("k", *by)[:2]
    laned = branch.keyed and "k" in by
    ordered = ordered and (laned or not branch.laned)
    candidates = _candidates(branch.kinds, by, whole=draw(st.booleans()), ordered=ordered)
    chosen = draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=4, unique=True))
    exprs = [written(name, column) for name, column in chosen]
    groups = branch.frame.group_by(*by)
    if windowed and window is None:
        window = draw(windows(plan.unit))
    if window is None:
        frame = groups.agg(*exprs, name=name)
    else:
        frame = groups.window(written_window(window), emit="final" if final else "updates", name=name).agg(*exprs)
    node = Aggregate(
        branch.node,
        by,
        [Aggregation(f"{name}_{column}", column, FUNCTIONS[name]) for name, column in chosen],
        window=window,
        final=final,
        partitions=plan.partitions if laned else None,
    )
    kinds = {column: branch.kinds[column] for column in by}
    kinds |= {f"{name_}_{column}": _kind_of(name_, branch.kinds[column]) for name_, column in chosen}
    return Branch(frame, node, kinds, branch.sources, laned, laned, crosses=branch.laned and not laned)


@st.composite
def windows(draw: DrawFn, unit: int) -> Window:
    """Draw a window: sizes and graces around the steps of event time, bounds that fall together and ones that do not."""
    size = draw(st.sampled_from([1, 4, 10]))
    every = draw(st.sampled_from([None, None, 1, 2, 3, 5, 7]))
    every = None if every is None or every >= size else every
    offset = draw(st.sampled_from([0, 0, 3]))
    offset = offset if offset < (every or size) else 0
    grace = draw(st.sampled_from([0, 0, 2, 15]))
    return Window(size * unit, grace * unit, offset * unit, every and every * unit)


def written_window(window: Window) -> Any:
    """Return a window as streamlab writes it."""
    size, grace, offset = (timedelta(milliseconds=part) for part in (window.size, window.grace, window.offset))
    if window.every is None:
        return sl.tumbling(size, grace=grace, offset=offset)
    return sl.hopping(size, every=timedelta(milliseconds=window.every), grace=grace, offset=offset)


@st.composite
def plans(draw: DrawFn, kinds: tuple[str, ...], *, keyed: bool = False) -> Plan:
    """Draw a plan of one sink.

    Parameters
    ----------
    kinds
        What it may end in: "rows", "final", "updates", "table", "late", "final-final", "final-updates", "final-table".
    keyed
        Whether a key is promised, so that what groups by it is done by one task a partition.
    """
    plan = draw(circumstances())
    kind = draw(st.sampled_from(kinds))
    branch = draw(sources(plan, keyed=keyed))
    if not keyed and not branch.joined and draw(st.integers(0, 4)) == 0:
        branch = draw(forked(branch))
    branch = draw(stepped(branch, 2))
    if kind == "rows":
        return replace(plan, branches=(branch,))
    first, _, second = kind.partition("-")
    made = draw(aggregated(branch, plan, final=first in {"final", "late"}, windowed=first != "table"))
    if first == "late":
        node = made.node
        assert isinstance(node, Aggregate)
        made = replace(branch, frame=made.frame.late, node=LateRows(node), keyed=False)
    if second:
        made = draw(aggregated(made, plan, final=second == "final", windowed=second != "table", name="second"))
    return replace(plan, branches=(made,))


@st.composite
def circumstances(draw: DrawFn) -> Plan:
    """Draw how many partitions there are, and whether event times are those of now."""
    return Plan((), draw(st.integers(1, 3)), draw(st.booleans()))
