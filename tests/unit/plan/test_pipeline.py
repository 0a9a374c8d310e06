from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanChangedError, PlanError
from streamlab.plan.pipeline import difference

SCHEMA = {"k": pl.String, "x": pl.Int64}


def stream(topic: Any = "events", **settings: Any) -> Any:
    return sl.Kafka("localhost:9092").stream(topic, schema=SCHEMA, **settings)


def counts(by: Any = "k", name: Any = None, size: Any = "1m", events: Any = None) -> Any:
    events = stream() if events is None else events
    return events.group_by(by).window(sl.tumbling(size), name=name).agg(pl.len())


REFUSED = {
    "no sink": (lambda: sl.Pipeline([]), "Pipeline: no sink; end each stream in one, such as .sink_table"),
    "a stream": (lambda: sl.Pipeline([stream()]), "Pipeline: StreamFrame is no sink"),
    "two sinks that are one": (
        lambda: sl.Pipeline([counts().sink_table("x"), counts("x").sink_table("x")]),
        "two sinks go to table 'x'; give one of them another name",
    ),
    "a name that is no path": (lambda: sl.Pipeline([stream().sink_parquet("x")], name="a/b"), "'a/b' .* such as 'a-b'"),
    "two steps of one given name": (
        lambda: sl.Pipeline([counts("k", "n").sink_table("x"), counts("x", "n").sink_table("y")]),
        r"two steps are named 'n', and state is found by name.*\.window\(\.\.\., name=",
    ),
    "two steps of one derived name": (
        lambda: sl.Pipeline([counts().sink_table("x"), counts(events=stream().filter(x=1)).sink_table("y")]),
        "two steps are named 'tumbling-1m-by-k'",
    ),
    "windows over windows of one name": (
        lambda: sl.Pipeline([counts(events=counts().select("k", "len")).sink_table("x")]),
        "two steps are named 'tumbling-1m-by-k'",
    ),
    "a topic read in two ways": (
        lambda: sl.Pipeline([stream().sink_parquet("x"), stream(on_error="skip").sink_parquet("y")]),
        "topic 'events' is read twice with different settings",
    ),
    "two frames of one name": (
        lambda: sl.Pipeline([
            sl.concat([sl.from_frame(pl.DataFrame({"t": [value]}), event_time="t") for value in (1, 2)]).sink_parquet("x")
        ]),
        r"two different topics are named 'frame'.*from_frame\(\.\.\., topic=",
    ),
    "topics of two clusters of one name": (
        lambda: sl.Pipeline([
            sl.concat([sl.Kafka(f"{host}:9092").stream("events", schema=SCHEMA) for host in "ab"]).sink_parquet("x")
        ]),
        "two different topics are named 'events'",
    ),
}  # fmt: skip  # one line a mistake


@pytest.mark.parametrize(("write", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_one_job_is_refused_where_it_is_written(write: Any, told: Any) -> None:
    with pytest.raises(PlanError, match=told):
        write()


def test_one_step_may_feed_two_sinks_even_if_it_was_written_twice() -> None:
    one, again = counts(), counts()
    plan = sl.Pipeline([one.sink_table("x"), again.sink_parquet("y"), again.late.sink_parquet("late")]).plan
    assert list(plan.steps) == ["tumbling-1m-by-k", "table:x"]
    assert {source.topic for source in plan.sources} == {"events"}


def test_two_frames_of_two_names_are_two_streams() -> None:
    frames = [sl.from_frame(pl.DataFrame({"t": [n]}), event_time="t", topic=str(n)) for n in (1, 2)]
    assert sorted(sl.concat(frames).collect()["t"].to_list()) == [1, 2]


def test_steps_and_tables_are_found_by_name_with_what_their_state_fits() -> None:
    plan = sl.Pipeline(
        [counts(name="minutes").sink_table("x"), stream().group_by("k").agg(pl.len()).sink_table("y")]
    ).plan
    assert set(plan.steps) == {"minutes", "group-by-k", "table:x", "table:y"}
    assert len(set(plan.steps.values())) == 4


def steps(*sinks: Any) -> Any:
    return sl.Pipeline(list(sinks), name="job").plan


def test_the_difference_of_two_plans_says_what_each_step_would_keep_or_lose() -> None:
    kept = steps(
        counts("k", "a").sink_table("x"), counts("x", "b").sink_table("y"), counts("k", "old").sink_parquet("z")
    )
    plan = steps(
        counts("k", "a").sink_table("x"), counts("x", "b", "2m").sink_table("y"), counts("k", "olds").sink_parquet("z")
    )
    error = difference(plan, kept.steps)
    assert isinstance(error, PlanChangedError)
    assert str(error).splitlines() == [
        "The plan of pipeline 'job' has changed since its state was written.",
        "  = a: unchanged, keeps its state",
        "  ! b: changed, would lose its state",
        "  + olds: new, starts empty. Did you mean 'old'?",
        "  = table:x: unchanged, keeps its state",
        "  = table:y: unchanged, keeps its state",
        "  - old: gone, its state would be dropped",
        "Go on with start(reset=True) or run(reset=True): offsets stay; or give the new plan another name.",
    ]


def test_a_change_outside_the_steps_is_told_as_such() -> None:
    kept = steps(counts(name="a").sink_table("x"))
    plan = steps(counts(name="a", events=stream().filter(x=1)).sink_table("x"))
    assert plan.fingerprint != kept.fingerprint
    assert "What feeds the steps, or where results go, has changed." in str(difference(plan, kept.steps))


def test_a_renamed_step_changes_the_plan_since_its_state_would_not_be_found() -> None:
    kept, plan = (steps(counts(name=name).sink_table("x")) for name in ("delays", "delay"))
    assert plan.fingerprint != kept.fingerprint
    assert "+ delay: new, starts empty. Did you mean 'delays'?" in str(difference(plan, kept.steps))
