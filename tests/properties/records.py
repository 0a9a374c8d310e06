"""Random records for a plan, and what happens between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.properties.oracle import Message
from tests.properties.strategies import KEYS, SCHEMA

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from tests.properties.oracle import Row
    from tests.properties.strategies import Plan


@dataclass(frozen=True)
class Shot:
    """A record to be, in steps of event time; `then` says what happens after it."""

    step: int
    back: int
    other_topic: bool
    partition: int
    fate: str
    values: Row = field(repr=False)
    then: str


FATES = ["good"] * 12 + ["bad", "null", "no time", "early"]
BAD = [
    b"nope",
    b"[1]",
    b"7",
    b'{"x": 1.5}',
    b'{"x": 1.0}',
    b'{"k": {}}',
    b"\xff",
    b'{"x": 1} 2',
    b"",
    b'{"ts": "soon"}',
]
AFTER = ["join"] * 4 + ["cut"] * 4 + ["restart", "crash", "1000", "9999", "10000", "25000"]

values: SearchStrategy[Row] = st.fixed_dictionaries(
    {
        "k": st.sampled_from(KEYS),
        "j": st.sampled_from([0, 1, None]),
        "x": st.sampled_from([0, 1, 2, -3, 5, None]),
        "f": st.sampled_from([0.25, -1.5, 1000.75, 3.0, None]),
        "s": st.sampled_from(["", "p", "qé", None]),
        "xs": st.sampled_from([None, [], [4], [1, None], [2, 2, 3]]),
        "shift": st.sampled_from([0, 0, 1, -2, None]),
        "absent": st.booleans(),
        "bad": st.integers(0, len(BAD) - 1),
    }
)

shots: SearchStrategy[Shot] = st.builds(
    Shot,
    step=st.sampled_from([0, 0, 1, 1, 2, 3, 7, 40]),
    back=st.sampled_from([0, 0, 0, 1, 3, 12]),
    other_topic=st.booleans(),
    partition=st.integers(0, 2),
    fate=st.sampled_from(FATES),
    values=values,
    then=st.sampled_from(AFTER),
)


volleys: SearchStrategy[list[Shot]] = st.integers(1, 30).flatmap(lambda n: st.lists(shots, min_size=n, max_size=n))


def messages(plan: Plan, given: list[Shot]) -> list[Message]:
    """Return the records that shots make of a plan's circumstances."""
    topics = sorted({source.topic for branch in plan.branches for source in branch.sources})
    keyed = any(_promised(branch.frame) for branch in plan.branches)
    clock, found = 0, []
    for shot in given:
        clock = min(clock + shot.step, 300)
        time = plan.start + max(clock - shot.back, 0) * plan.unit
        topic = topics[-1] if shot.other_topic else topics[0]
        partition = plan.home(shot.values["k"]) if keyed else shot.partition % plan.partitions
        found.append(_message(plan, shot, topic, partition, time))
    return found


def _promised(frame: Any) -> bool:
    return "key k" in frame.explain()


def _message(plan: Plan, shot: Shot, topic: str, partition: int, time: int) -> Message:
    if shot.fate == "null":
        return Message(topic, partition, time, None, None)
    if shot.fate == "bad":
        return Message(topic, partition, time, BAD[shot.values["bad"]], None)
    moved = {"no time": None, "early": -5}.get(shot.fate, time)
    shift = shot.values["shift"]
    row = {name: shot.values.get(name) for name in SCHEMA}
    row |= {"ts": moved, "t2": None if shift is None else time + shift * plan.unit}
    sent = {name: value for name, value in row.items() if value is not None or not shot.values["absent"]}
    return Message(topic, partition, -1 if shot.fate == "early" else time, sent, row)
