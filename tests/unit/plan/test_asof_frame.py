"""What an as-of join with a frame refuses when it is written, and what it says of itself."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError, UnknownColumnError
from streamlab.plan import fingerprint

FRAME = pl.DataFrame({"id": [1, 1], "price": [2.0, 3.0], "ts": [9, 5]})


def join(frame=FRAME, **settings):
    schema = {"id": pl.Int64, "ts": pl.Int64}
    left = sl.Kafka("localhost:9092").stream("l", schema=schema, event_time="ts")
    return left.join_asof(frame, **({"on": "ts", "by": "id"} | settings))


def test_a_frame_that_is_not_sorted_is_sorted_and_that_is_said():
    assert "the frame is not sorted by 'ts': it is sorted here" in join().explain()
    assert "sorted" not in join(FRAME.sort("ts")).explain()


@pytest.mark.parametrize(
    ("frame", "settings", "error", "words"),
    [
        (FRAME, {"on": None}, PlanError, ["which column of the frame is its time"]),
        (FRAME, {"grace": "1m"}, PlanError, ["grace", "has all its rows"]),
        (FRAME.rename({"ts": "tss"}), {}, UnknownColumnError, ["'ts'", "Did you mean 'tss'?"]),
        (FRAME.cast({"id": pl.String}), {}, PlanError, ["'id' is Int64", "String"]),
        (FRAME.cast({"ts": pl.String}), {}, PlanError, ["'ts' is String"]),
        (pl.DataFrame({"id": [1, 1, 1], "ts": [5, None, -1]}), {}, PlanError, ["2 rows", "no usable time"]),
        (FRAME, {"by": "price"}, UnknownColumnError, ["'price'"]),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_written(frame, settings, error, words):
    with pytest.raises(error) as caught:
        join(frame, **settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "times",
    [
        [datetime(1970, 1, 1, 0, 0, 5), datetime(1970, 1, 2)],  # noqa: DTZ001  # a frame's times may be without a zone
        [date(1970, 1, 1), date(1970, 1, 2)],
    ],
)
def test_times_of_other_types_are_milliseconds_too(times):
    frame = pl.DataFrame({"id": [1, 1], "since": times})
    node = join(frame, on=None, left_on="ts", right_on="since").node
    assert node.times.to_list() == [5_000 if isinstance(times[0], datetime) else 0, 86_400_000]


def test_state_fits_whatever_the_frame_holds():
    more = pl.concat([FRAME, FRAME])
    assert fingerprint.of_node(join().node) == fingerprint.of_node(join(more).node)
    assert fingerprint.of_node(join().node) != fingerprint.of_node(join(tolerance="1h").node)
