"""Co-partitioning: steps that take each partition of several topics for itself need as many partitions of each.

That both sides promise to keep equal keys together is known when the plan is written; how many partitions there are, only the broker knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.errors import PlanError
from streamlab.plan.nodes import Source
from streamlab.plan.stateful import Stateful

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamlab.plan.nodes import Node
    from streamlab.plan.pipeline import Plan


def check_partitions(plan: Plan, counts: Mapping[str, int]) -> None:
    """Refuse a plan that puts together partitions of topics that have not equally many.

    Parameters
    ----------
    plan
        What is to run.
    counts
        How many partitions each topic has; topics that are not named are not judged.

    Raises
    ------
    PlanError
        If the counts of topics that are taken partition by partition differ.
    """
    for problem in uneven(plan, counts):
        raise PlanError(problem)


def uneven(plan: Plan, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield what is wrong with the numbers of partitions, a text for each step."""
    for node in plan.nodes():
        if not isinstance(node, Stateful) or len(node.copartitioned) < 2:  # noqa: PLR2004  # one side has nothing to differ from
            continue
        topics = dict.fromkeys(
            source.topic for part in node.copartitioned for source in _sources(part) if source.topic in counts
        )
        if len({counts[topic] for topic in topics}) > 1:
            told = " and ".join(f"{topic!r} with {counts[topic]}" for topic in topics)
            yield (
                f"{node.label} [{node.name}]: its topics have different numbers of partitions: {told}. Both sides promise that rows of one "
                f"{node.key} share a partition, and are put together partition by partition. Give the topics equally many partitions, "
                "or leave out key= of a stream: then one task reads all partitions."
            )


def _sources(node: Node) -> Iterator[Source]:
    if isinstance(node, Source):
        yield node
    for part in node.inputs:
        yield from _sources(part)
