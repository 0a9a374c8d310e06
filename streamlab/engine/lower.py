"""A plan lowered to a graph of stages that runs micro-batches.

Each node becomes one stage, equal nodes share one. Stages run in topological order; each gives its rows and the signals of progress that
an operator downstream takes its watermark from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from streamlab.engine.aggregates import TIME
from streamlab.engine.batch import Rows, by_arrival, concat, empty
from streamlab.engine.catalogue import operator_of
from streamlab.engine.event_time import event_times
from streamlab.engine.operators.table_sink import Table
from streamlab.engine.stateless import compile_step
from streamlab.engine.stream_time import STILL, Clock, Signal
from streamlab.engine.turns import Turns, made_at
from streamlab.engine.watermark import Gate, Shifted
from streamlab.plan import fingerprint
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.join_table import JoinTable
from streamlab.plan.nodes import Concat, Node, Source
from streamlab.plan.schema import TIME as TIME_TYPE
from streamlab.plan.schema import WATERMARK, WINDOW_END, WINDOW_START
from streamlab.plan.stateful import Late, Stateful
from streamlab.plan.steps import WithEventTime
from streamlab.plan.table_source import LookupTable, StaticTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.operator import Operator, Output
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.sinks import Sink


@dataclass(frozen=True, slots=True)
class Flow:
    """What a stage gives for one micro-batch."""

    rows: Rows
    signals: tuple[Signal | Shifted, ...]


@dataclass(frozen=True, slots=True)
class Bad:
    """Records whose event time a step could not read."""

    source: Source
    step: str
    error: str
    rows: Rows


@dataclass(slots=True)
class Result:
    """What one micro-batch made of the whole graph."""

    sinks: dict[str, Rows] = field(default_factory=dict)
    late: dict[str, Rows] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)
    reached: list[np.ndarray[Any, Any]] = field(default_factory=list)  # records in time for some window
    missed: list[np.ndarray[Any, Any]] = field(default_factory=list)  # records late for some window

    @property
    def late_records(self) -> int:
        """Records that are late for every window of every step that they came to."""
        if not self.missed:
            return 0
        others = np.concatenate([*self.reached, self._set_aside])
        missed = np.unique(np.concatenate(self.missed))
        return int((~np.isin(missed[missed % 2 == 1], others)).sum())

    @property
    def _set_aside(self) -> Ints:
        """The records that are bad: each is set aside once, whatever else becomes of its rows."""
        return np.concatenate([np.empty(0, np.int64), *(bad.rows.index for bad in self.bad)])

    def set_aside(self, bad: Bad) -> None:
        """Take note of bad records that no other step has found bad before."""
        rows = bad.rows.filter(~np.isin(bad.rows.index, self._set_aside))
        if rows.height:
            self.bad.append(replace(bad, rows=rows))


Flows = dict[int, Flow]
Stage = Callable[[Flows, Result], Flow]
"""One node at work: it reads the flows of its inputs, by node, and may add to the result."""


class Place:
    """An operator in its place in the graph: its node, and the gate that its watermark goes through.

    Parameters
    ----------
    node
        The step.
    followed
        Whether a stateful step or a concat comes after it, to which it matters when in a micro-batch its rows came to be.
    """

    def __init__(self, node: Stateful, *, followed: bool) -> None:
        self.node = node
        self.gate = Gate(node.laned)
        self.operator: Operator = operator_of(node)
        self._followed = followed

    def step(self, flows: Sequence[Flow]) -> tuple[Flow, Output]:
        """Run the operator on a micro-batch."""
        signals = dict.fromkeys(signal for at in self.node.clocks for signal in flows[at].signals) or {STILL: None}
        watermarks = self.gate.advance(tuple(signals))
        output = self.operator.step([flow.rows for flow in flows], watermarks)
        # what no source feeds holds nothing back
        passed = (STILL,) if set(signals) == {STILL} else (Shifted(watermarks, self.operator.delay),)
        return Flow(self._in_turn(output.emitted, watermarks) if self._followed else output.emitted, passed), output

    def _in_turn(self, rows: Rows, watermarks: Merged | Laned) -> Rows:
        """Return rows in order of arrival: those of a window came when the watermark passed their time by the operator's delay."""
        if rows.height and isinstance(self.node, Aggregate) and not self.node.is_table:
            turns = Turns(watermarks, rows.index, rows.partition)
            rows = replace(rows, index=made_at(turns.moments(rows.time + self.operator.delay, rows.partition)))
        return by_arrival(rows)


class Graph:
    """A plan that runs: sinks in, stages out of it, in topological order.

    Parameters
    ----------
    sinks
        What the plan ends in.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.order, self._same = _topological(sinks)
        self.sinks = {_sink_name(sink): sink for sink in sinks}
        self.sources = {source_name(node): node for node in self.order if isinstance(node, Source)}
        self.clocks: dict[str, Clock] = {name: Clock() for name in self.sources}
        self._asked = self._only_asked(sinks)
        followed = self._followed()
        self.stateful = {
            node.name: Place(node, followed=id(node) in followed)
            for node in self.order
            if isinstance(node, Stateful) and id(node) not in self._asked
        }
        self.tables = {name: Table(sink) for name, sink in self.sinks.items() if sink.kind == "table"}
        self._restamps = {id(n): Clock() for n in self.order if isinstance(n, WithEventTime)}
        self._run: list[tuple[Node, Stage]] = [(node, self._stage(node)) for node in self.order]
        self._arrivals: Mapping[str, Rows] = {}

    def _only_asked(self, sinks: Sequence[Sink]) -> set[int]:
        """Return the tables that have no rows to give out, for whoever joins with them asks them: databases, and frames joined with."""
        taken = [part for n in self.order for part in (n.inputs[:1] if isinstance(n, JoinTable) else n.inputs)]
        wanted = {self._same[id(part)] for part in (*taken, *(sink.input for sink in sinks))}
        tables = [node for node in self.order if isinstance(node, LookupTable | StaticTable)]
        return {id(node) for node in tables if isinstance(node, LookupTable) or id(node) not in wanted}

    def _followed(self) -> set[int]:
        """Return the nodes that a stateful step or a concat comes after, with or without other steps between."""
        found: set[int] = set()
        for node in reversed(self.order):
            if isinstance(node, Stateful | Concat) or id(node) in found:
                found |= {self._same[id(part)] for part in node.inputs}
        return found

    def step(self, arrivals: Mapping[str, Rows]) -> Result:
        """Run one micro-batch: rows by source name; a source without rows has only its idleness to say."""
        self._arrivals, result = arrivals, Result()
        flows: Flows = {}
        for node, stage in self._run:
            flows[id(node)] = stage(flows, result)
        return self._ended(flows, result)

    def close(self) -> Result:
        """End the input: close every window, first those nearest to the sources."""
        self._arrivals = {}
        flows: Flows = {}
        result = Result()
        for node, stage in self._run:
            flow = stage(flows, result)
            if isinstance(node, Stateful) and id(node) not in self._asked:
                rest = self.stateful[node.name].operator.close()
                flow = Flow(concat([flow.rows, rest], node.schema), flow.signals)
            flows[id(node)] = flow
        return self._ended(flows, result)

    def _ended(self, flows: Flows, result: Result) -> Result:
        for name, sink in self.sinks.items():
            rows = flows[self._same[id(sink.input)]].rows
            if rows.height:
                result.sinks[name] = rows
                if name in self.tables:
                    self.tables[name].upsert(rows)
        return result

    def _stage(self, node: Node) -> Stage:
        inputs = [self._same[id(part)] for part in node.inputs]
        if isinstance(node, Stateful) and id(node) not in self._asked:
            return self._stateful(self.stateful[node.name], inputs)
        if not inputs:
            return self._source(node) if isinstance(node, Source) else lambda _, __: Flow(empty(node.schema), (STILL,))
        if isinstance(node, Late):
            name = node.input.name
            return lambda flows, result: Flow(result.late.get(name, empty(node.schema)), flows[inputs[0]].signals)
        if isinstance(node, Concat):
            return lambda flows, _: _union(node, [flows[i] for i in inputs])
        if isinstance(node, WithEventTime):
            return self._restamp(node, inputs[0])
        apply = compile_step(node)
        return lambda flows, _: Flow(apply(flows[inputs[0]].rows), flows[inputs[0]].signals)

    def _source(self, node: Source) -> Stage:
        name, clock = source_name(node), self.clocks[source_name(node)]

        def stage(_flows: Flows, _result: Result) -> Flow:
            rows = self._arrivals.get(name)
            rows = empty(node.schema) if rows is None else rows
            return Flow(rows, (clock.advance(rows),))

        return stage

    def _stateful(self, place: Place, sources: Sequence[int]) -> Stage:
        def stage(flows: Flows, result: Result) -> Flow:
            given = [flows[source] for source in sources]
            flow, output = place.step(given)
            came = np.concatenate([np.empty(0, np.int64), *(each.rows.index for each in given)])
            if output.late.height:
                result.late[place.operator.name] = output.late
                result.missed.append(output.late.index)
                result.reached.append(_in_time(came, output.late.index) if output.reached is None else output.reached)
            elif len(came) and not place.node.passes_on:
                result.reached.append(came)
            return flow

        return stage

    def _restamp(self, node: WithEventTime, source: int) -> Stage:
        clock, origin = self._restamps[id(node)], _only_source(node)
        begin = id(self.sources[source_name(origin)])

        def stage(flows: Flows, result: Result) -> Flow:
            rows = flows[source].rows
            if rows.height:
                times, bad = event_times(rows.data.with_columns(node.expr.expr.alias(TIME))[TIME])
                if bad.any():
                    what = "event time is null, before 1970 or after the year 9998"
                    result.set_aside(Bad(origin, node.describe(), what, rows.filter(bad)))
                rows = Rows(rows.data, times, rows.partition, rows.offset, rows.index, rows.deleted).filter(~bad)
            (spoken,) = flows[begin].signals
            return Flow(rows, (clock.follow(cast("Signal", spoken), rows),))

        return stage

    def clocks_of(self, node: Node) -> list[tuple[Source, Clock]]:
        """Return the clocks that a node's watermark goes by, each with the source of its partitions."""
        node = next(one for one in self.order if id(one) == self._same[id(node)])
        if isinstance(node, Source):
            return [(node, self.clocks[source_name(node)])]
        if isinstance(node, WithEventTime):
            return [(_only_source(node), self._restamps[id(node)])]
        fed = [node.inputs[at] for at in node.clocks] if isinstance(node, Stateful) else node.inputs
        found = {id(clock): (source, clock) for part in fed for source, clock in self.clocks_of(part)}
        return list(found.values())

    @property
    def restamps(self) -> bool:
        """Whether a step takes event time anew, and so may find records bad."""
        return bool(self._restamps)

    def late_schema(self) -> pl.Schema:
        """Return the columns of late rows: those of the first step that has such."""
        windowed = [place.node for place in self.stateful.values() if place.node.late_schema is not None]
        return (
            Late(windowed[0]).schema
            if windowed
            else pl.Schema(dict.fromkeys((WINDOW_START, WINDOW_END, WATERMARK), TIME_TYPE))
        )

    def progress(self) -> dict[str, Any]:
        """Return the small part of the state, as JSON values."""
        return {
            "clocks": {name: clock.to_json() for name, clock in self.clocks.items()},
            "restamps": [clock.to_json() for clock in self._restamps.values()],
            "gates": {name: place.gate.to_json() for name, place in self.stateful.items()},
            "operators": {name: place.operator.progress() for name, place in self.stateful.items()},
        }

    def load(self, progress: Mapping[str, Any]) -> None:
        """Go on from `progress`; clocks and gates that it does not know start anew."""
        for name, clock in self.clocks.items():
            if name in progress["clocks"]:
                clock.load(progress["clocks"][name])
        for clock, kept in zip(self._restamps.values(), progress["restamps"], strict=False):
            clock.load(kept)
        for name, place in self.stateful.items():
            if name in progress["gates"]:
                place.gate.load(progress["gates"][name])


def _in_time(given: Ints, late: Ints) -> Ints:
    """Return the records of which some row was not late: a record may come as several rows."""
    records, rows = np.unique(given, return_counts=True)
    missed, times = np.unique(late, return_counts=True)
    rows[np.searchsorted(records, missed)] -= times
    return records[rows > 0]


def source_name(source: Source) -> str:
    """Return what a source is called in checkpoints and by the runtime: its topic."""
    return source.topic


def _sink_name(sink: Sink) -> str:
    return f"{sink.kind}:{sink.target}"


def _topological(sinks: Sequence[Sink]) -> tuple[list[Node], dict[int, int]]:
    """Return the nodes that feed the sinks, each after its inputs, and for every node the equal one that stands for it."""
    order: dict[str, Node] = {}
    same: dict[int, int] = {}
    marks: dict[int, str] = {}

    def visit(node: Node) -> None:
        mark = fingerprint.of_node(node, marks)
        if mark not in order:
            for part in node.inputs:
                visit(part)
            order[mark] = node
        same[id(node)] = id(order[mark])
        for part in node.inputs:
            same.setdefault(id(part), id(order[fingerprint.of_node(part, marks)]))

    for sink in sinks:
        visit(sink.input)
    return list(order.values()), same


def _union(node: Node, parts: Sequence[Flow]) -> Flow:
    signals = dict.fromkeys(signal for part in parts for signal in part.signals)
    return Flow(concat([part.rows for part in parts], node.schema), tuple(signals))


def _only_source(node: Node) -> Source:
    while not isinstance(node, Source):
        (node,) = node.inputs  # the plan refuses with_event_time after a concat
    return node
