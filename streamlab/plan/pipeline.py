"""A whole plan: sinks, a name, and what makes it this plan and no other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from streamlab.errors import PlanChangedError, PlanError, did_you_mean
from streamlab.plan import explain, fingerprint
from streamlab.plan.nodes import Node, Source
from streamlab.plan.stateful import Stateful
from streamlab.plan.table_source import StaticTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamlab.plan.sinks import Sink


@dataclass(frozen=True, eq=False)
class Plan:
    """Sinks and all that feeds them, under one name."""

    sinks: tuple[Sink, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.sinks:
            raise PlanError(
                "Pipeline: no sink; end each stream in one, such as .sink_table(...), and give them as a list."
            )
        seen: set[tuple[str, str]] = set()
        for sink in self.sinks:
            if (sink.kind, sink.target) in seen:
                raise PlanError(
                    f"Pipeline: two sinks go to {sink.kind} {sink.target!r}; give one of them another name."
                )
            seen.add((sink.kind, sink.target))
        self._check_names()

    def _check_names(self) -> None:
        """Refuse two different steps of one name, two different ways of reading a topic, and two topics of one name."""
        marks: dict[int, str] = {}
        steps: dict[str, Stateful] = {}
        sources: dict[str, Source] = {}
        for node in self.nodes():
            if isinstance(node, Stateful):
                first = steps.setdefault(node.name, node)
                if fingerprint.of_node(first, marks) != fingerprint.of_node(node, marks):
                    raise PlanError(
                        f"two steps are named {node.name!r}, and state is found by name; give one of them another: "
                        f'.window(..., name="..."), .agg(..., name="...") or .join(..., name="...").'
                    )
                if (
                    isinstance(first, StaticTable)
                    and isinstance(node, StaticTable)
                    and not first.frame.equals(node.frame)
                ):
                    raise PlanError(
                        f"two different static tables are named {node.name!r}, and what they gave out is found by name; "
                        'give one of them another: table_from_frame(..., name="...").'
                    )
            elif isinstance(node, Source):
                _check_same(sources.setdefault(node.topic, node), node)

    def nodes(self) -> Iterator[Node]:
        """All nodes, each once, results first."""
        todo, seen = list[Node](self.sinks), set[int]()
        while todo:
            node = todo.pop(0)
            if id(node) not in seen:
                seen.add(id(node))
                yield node
                todo += node.inputs

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """Where records come from."""
        return tuple(node for node in self.nodes() if isinstance(node, Source))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what the plan does."""
        return fingerprint.of_nodes(self.sinks)

    @cached_property
    def steps(self) -> dict[str, str]:
        """Fingerprint of each stateful step and table by its name: what its state fits."""
        found = {node.name: fingerprint.of_step(node) for node in self.nodes() if isinstance(node, Stateful)}
        tables = {f"table:{sink.target}": fingerprint.of_step(sink) for sink in self.sinks if sink.kind == "table"}
        return {**found, **tables}

    def explain(self) -> str:
        """Return the plan as a tree."""
        return explain.tree(*self.sinks)


def _check_same(first: Source, other: Source) -> None:
    if first.identity() != other.identity():
        raise PlanError(
            f"topic {first.topic!r} is read twice with different settings (schema, event time, key, ...); "
            "make one stream of it and branch from that."
        )
    if first.origin != other.origin:
        raise PlanError(
            f"two different topics are named {first.topic!r}, and records are told apart by it; give one of them another "
            'name, such as from_frame(..., topic="..."). The topics of two clusters cannot have one name in a plan.'
        )


def difference(plan: Plan, kept: Mapping[str, str]) -> PlanChangedError:
    """Return the error that shows how a plan differs from the one that state was written by."""
    lines = [f"The plan of pipeline {plan.name!r} has changed since its state was written."]
    for name, mark in plan.steps.items():
        if name not in kept:
            lines.append(f"  + {name}: new, starts empty.{did_you_mean(name, set(kept) - set(plan.steps))}")
        elif kept[name] == mark:
            lines.append(f"  = {name}: unchanged, keeps its state")
        else:
            lines.append(f"  ! {name}: changed, would lose its state")
    lines += [f"  - {name}: gone, its state would be dropped" for name in kept if name not in plan.steps]
    if list(kept.items()) == list(plan.steps.items()):
        lines.append("  What feeds the steps, or where results go, has changed.")
    lines.append("Go on with start(reset=True) or run(reset=True): offsets stay; or give the new plan another name.")
    return PlanChangedError("\n".join(lines))
