"""Hopping windows put together from panes, against the operator that holds each window."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamlab as sl
from streamlab.engine import catalogue
from streamlab.engine.operators import paned_updates
from streamlab.engine.operators.paned_updates import PanedUpdates
from streamlab.engine.operators.updates import Updates
from streamlab.plan.windows import Hopping
from streamlab.testing import StreamTester

SCHEMA: dict[str, Any] = {"k": pl.String, "x": pl.Int64}
x = pl.col("x")
AGGREGATIONS = (pl.len().alias("n"), x.sum().alias("total"), x.max().alias("most"), x.std().alias("spread"))
BELOW = (pl.len().alias("n"), x.cast(pl.String).cast(pl.Categorical).max().alias("most"))
WINDOWS = (
    sl.hopping("10ms", every="5ms"),
    sl.hopping("10ms", every="2ms", grace="6ms"),
    sl.hopping("10ms", every="3ms", grace="20ms", offset="2ms"),
    sl.hopping("40ms", every="1ms", grace="3ms"),
)

records = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 15), st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)
batches = st.lists(st.tuples(records, st.booleans()), min_size=1, max_size=8)


def counted(window: Any, aggs: Any, *, keyed: bool) -> Any:
    stream = sl.Kafka("localhost:9092").stream("events", schema=SCHEMA, key="k" if keyed else None, idle_timeout=None)
    return stream.group_by("k").window(window, emit="updates").agg(*aggs)


def outcome(frame: Any, sent: Any, partitions: int) -> list[Any]:
    """Return for each batch what changed, in no order, with the late rows and what the state says of windows."""
    made, clock = [], 0
    with StreamTester(frame, partitions=partitions) as tester:
        for shots, restart in sent:
            given_ = []
            for on, back, key, value, partition in shots:
                clock += on
                at = {"timestamp": max(clock - back, 0), "partition": partition % partitions}
                given_.append({"value": {"k": key, "x": value}, **at})
            tester.send_batch("events", given_, wrapped=True)
            rows = [(r.key, r.timestamp, *(rounded(v) for v in r.value.values())) for r in tester.read()]
            assert len({row[0] for row in rows}) == len(rows) or partitions > 1
            late = [(r.timestamp, *r.value.values()) for r in tester.late()]
            held = tester._task.graph.stateful[frame.node.name].operator.held(None)
            now = [tuple(map(rounded, row)) for row in held.rows()]
            made.append((sorted(rows, key=str), late, sorted(now, key=str), tester.state()["windows"].to_list()))
            if restart:
                tester.restart()
    return made


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


@pytest.mark.parametrize("pays", [0, 1 << 60], ids=["one from the other", "from blocks"])
@settings(max_examples=25, deadline=None)
@given(
    window=st.sampled_from(WINDOWS),
    aggs=st.sampled_from([AGGREGATIONS, BELOW]),
    sent=batches,
    keyed=st.booleans(),
    partitions=st.integers(1, 3),
)
def test_panes_give_what_windows_give(
    pays: int, window: Any, aggs: Any, sent: Any, keyed: bool, partitions: int
) -> None:
    frame = counted(window, aggs, keyed=keyed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paned_updates, "_SCAN_PAYS", pays)
        found = outcome(frame, sent, partitions)
        patch.setitem(catalogue.UPDATES, Hopping, Updates)
        wanted = outcome(frame, sent, partitions)
    for one, other in zip(found, wanted, strict=True):
        assert one == other


def test_it_is_of_hopping_windows_whose_aggregations_do_not_go_by_arrival() -> None:
    hop = sl.hopping("10ms", every="5ms")
    make = catalogue.operator_of
    assert isinstance(make(counted(hop, (pl.len(),), keyed=False).node), PanedUpdates)
    assert not isinstance(make(counted(hop, (x.first(),), keyed=False).node), PanedUpdates)
    with pytest.raises(TypeError, match="tumbling 10ms is no hopping window"):
        PanedUpdates(counted(sl.tumbling("10ms"), (pl.len(),), keyed=False).node, laned=False)


def test_a_record_is_held_once_however_many_windows_cover_it() -> None:
    with StreamTester(counted(sl.hopping("1h", every="1m"), (pl.len(),), keyed=False)) as tester:
        tester.send("events", {"k": "a", "x": 1}, timestamp=3_600_000)
        assert len(tester.read()) == 60
        assert tester.state().select("rows", "windows").row(0) == (1, 60)
