"""`worker.py check`: whether a pipeline could run where it is now. It connects and reads samples, joins no group and changes nothing."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import polars as pl

from streamlab.connect.cluster import Cluster
from streamlab.engine.event_time import event_times
from streamlab.errors import BrokerError, StreamlabError, UnknownTopicError
from streamlab.export.service import reach
from streamlab.plan.copartition import uneven
from streamlab.runtime import promises, resources
from streamlab.runtime.decoding import FORMATS
from streamlab.state.folders import STATE_FILE
from streamlab.state.snapshot import read_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamlab.plan.nodes import Source
    from streamlab.plan.pipeline import Plan
    from streamlab.plan.sinks import Sink

SAMPLE = 1_000
"""Newest records of a topic that are looked at."""

_Finding = tuple[bool, str]


def check(plan: Plan) -> int:
    """Print what was found, a line each; return 0 if all is well, else 1.

    Raises
    ------
    BrokerError
        If no broker answers.
    """
    sound = True
    for good, line in findings(plan):
        sys.stdout.write(f"{'ok  ' if good else 'FAIL'}  {line}\n")
        sys.stdout.flush()
        sound = sound and good
    return 0 if sound else 1


def findings(plan: Plan) -> Iterator[_Finding]:
    """Yield what was found: whether it is well, and a line that says what."""
    reach(plan)
    cluster = resources.cluster_of(plan)
    if cluster is not None:
        yield True, f"broker {cluster.bootstrap}: cluster {cluster.cluster_id()}"
    for source in plan.sources:
        yield from _source(source)
    yield from ((False, problem) for problem in uneven(plan, dict(_partitions(plan))))
    for sink in plan.sinks:
        yield from _sink(sink, cluster)
    yield from _state(plan)


def _partitions(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield how many partitions each topic has; one that is not there has been found already."""
    for source in plan.sources:
        if isinstance(source.origin, Cluster):
            with contextlib.suppress(UnknownTopicError):
                yield source.topic, source.origin.partitions(source.topic)


def _source(source: Source) -> Iterator[_Finding]:
    if not isinstance(source.origin, Cluster):
        yield True, source.describe()
        return
    try:
        spans = source.origin.watermarks(source.topic)
    except UnknownTopicError as error:
        yield False, " ".join(str(error).split())
        return
    records = sum(high - low for low, high in spans.values())
    yield True, f"topic {source.topic!r}: {len(spans)} partitions, {records:,} records"
    sample = source.origin.peek(source.topic, SAMPLE)
    if sample.is_empty():
        yield True, f"topic {source.topic!r}: empty, so the schema was not checked"
        return
    yield from _sample(source, sample)


def _sample(source: Source, sample: pl.DataFrame) -> Iterator[_Finding]:
    """Decode a sample as the pipeline would, and look at its event times and keys."""
    valued = sample.filter(pl.col("value").is_not_null())
    step = f"topic {source.topic!r}"
    decoded = FORMATS[source.format].decode([value.encode() for value in valued["value"]], source.columns)
    good = valued if decoded.kept is None else valued[decoded.kept]
    if decoded.bad:
        first = decoded.bad[0]
        where = f"partition {valued['partition'][first.index]} offset {valued['offset'][first.index]}"
        share = f"{len(decoded.bad):,} of the newest {valued.height:,} records do not fit the schema"
        fits = bool(decoded.rows.height) and source.on_error != "raise"
        yield fits, f"{step}: {share} (on_error={source.on_error!r}), such as {where}: {first.error}"
    else:
        yield True, f"{step}: the newest {valued.height:,} records fit the schema"
    if source.event_time is not None and decoded.rows.height:
        bad = int(event_times(decoded.rows[source.event_time])[1].sum())
        said = "all usable" if not bad else f"{bad:,} are null, before 1970 or after the year 9998"
        yield (
            bad < decoded.rows.height,
            f"{step}: event times {source.event_time!r} of {decoded.rows.height:,} records: {said}",
        )
    if source.key is not None and decoded.rows.height:
        yield _promise(source, decoded.rows, good)


def _promise(source: Source, rows: pl.DataFrame, records: pl.DataFrame) -> _Finding:
    """Whether rows that are equal in the promised column share a partition."""
    found = promises.broken(source, rows, records["partition"])
    if found is not None:
        return False, found
    return (
        True,
        f"topic {source.topic!r}: key={source.key!r}: no value is in two partitions, among {rows.height:,} records",
    )


def _sink(sink: Sink, source: Cluster | None) -> Iterator[_Finding]:
    if sink.kind != "kafka":
        yield True, sink.describe()
        return
    cluster = sink.origin or source
    if cluster is None:
        yield False, f"{sink.describe()}: no cluster to send to; say sink_kafka(..., kafka=kafka)"
        return
    try:
        yield True, f"{sink.describe()}: the topic has {cluster.partitions(sink.target)} partitions"
    except UnknownTopicError:
        yield True, f"{sink.describe()}: the topic is not there yet; a run makes it"
    except BrokerError as error:
        yield False, f"{sink.describe()}: {' '.join(str(error).split())}"


def _state(plan: Plan) -> Iterator[_Finding]:
    if plan.name is None:
        return
    try:
        file = resources.store_folder(plan) / STATE_FILE
        if not file.exists():
            yield True, f"state: none yet; pipeline {plan.name!r} begins anew"
            return
        with read_head(file) as snapshot:
            head = snapshot.checkpoint
    except StreamlabError as error:
        yield False, f"state: {' '.join(str(error).split())}"
        return
    if head is None:
        yield True, f"state: none yet; pipeline {plan.name!r} begins anew"
    elif head.plan == plan.fingerprint:
        yield True, f"state: checkpoint {head.number:,} of this plan"
    else:
        yield (
            False,
            f"state: checkpoint {head.number:,} is of another plan ({head.plan}); a run would show the difference and stop",
        )
