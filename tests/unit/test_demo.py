from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import streamlab as sl
from streamlab import data
from streamlab.connect.embedded import EmbeddedBroker
from streamlab.demo import Demo, copy_tour, notebook, replay_flights
from streamlab.demo.replay import Replay
from streamlab.demo.tape import BROKEN, MONTH, Live, Month, broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 60.0
NOW = 1_800_000_000_000


@pytest.fixture
def kafka() -> Iterator[sl.Kafka]:
    with EmbeddedBroker() as broker:
        yield sl.Kafka(broker.bootstrap)


@pytest.fixture
def begin() -> Iterator[Callable[..., Demo]]:
    begun: list[Demo] = []

    def start(**options: Any) -> Demo:
        begun.append(sl.demo(**{"show": False, **options}))
        return begun[-1]

    yield start
    for each in begun:
        each.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        threading.Event().wait(0.02)


def flights_in(kafka: sl.Kafka) -> pl.DataFrame:
    schema = {name: dtype for name, dtype in data.SCHEMA.items() if name != "departed"}
    return kafka.stream("flights", schema=schema, event_time="scheduled").collect()


# --- what is sent ---


def test_a_month_of_records_is_every_flight_once_and_what_cannot_be_decoded():
    numbers = np.arange(MONTH)
    faults = broken(numbers)
    whole = np.delete(numbers, list(faults))
    assert tuple(faults.values()) == BROKEN
    assert_frame_equal(Month().frame(whole, whole), data.flights())


def test_the_next_month_is_the_same_31_days_later():
    january, february = (Month().frame(np.arange(n, n + 50), np.arange(50)) for n in (0, MONTH))
    moved = february.with_columns(pl.col("scheduled", "departed").dt.offset_by("-31d"))
    assert_frame_equal(moved, january)


def test_how_a_sequence_is_cut_changes_nothing():
    numbers = np.arange(4_400, 4_700)
    for tape in (Month(), Live()):
        cut = [tape.frame(part, part + NOW) for part in np.array_split(numbers, 7)]
        assert_frame_equal(pl.concat(cut), tape.frame(numbers, numbers + NOW))


def test_live_flights_were_scheduled_before_they_leave_by_as_much_as_they_are_delayed():
    numbers = np.arange(20_000)
    rows = Live().frame(numbers, np.full(20_000, NOW))
    behind = NOW - rows["scheduled"].dt.epoch("ms")
    assert behind.min() == 0
    assert behind.to_list() == (rows["dep_delay"].fill_null(0).clip(0) * 50).cast(pl.Int64).to_list()
    assert 0 < (behind > 15_000).sum() < 200  # beyond a window and its grace: a few


def test_no_live_flight_was_scheduled_before_the_stream_began():
    numbers = np.arange(2_000)
    rows = Live(NOW - 1_000).frame(numbers, np.full(2_000, NOW))
    assert rows["scheduled"].dt.epoch("ms").min() == NOW - 1_000


# --- replay_flights ---


def test_the_first_thousand_leave_at_once_and_the_others_when_it_starts(kafka):
    replay = replay_flights(kafka)
    assert kafka.topics().select("name", "partitions", "records").rows() == [("flights", 4, 1_000)]
    assert repr(replay) == "Replay to 'flights': not sending, 1,000 of 27,007 records sent"
    assert replay.wait(timeout=SECONDS)
    assert kafka.topics()["records"].to_list() == [MONTH]
    assert not replay.running
    sent = flights_in(kafka).sort(pl.all())
    assert_frame_equal(sent, data.flights().drop("departed").sort(pl.all()))


def test_run_again_it_sends_nothing_twice(kafka):
    replay_flights(kafka).wait(timeout=SECONDS)
    again = replay_flights(kafka)
    assert again.wait(timeout=SECONDS)
    assert kafka.topics()["records"].to_list() == [MONTH]
    assert "done, 27,007 of 27,007" in repr(again)


def test_run_again_in_the_middle_it_replaces_itself_and_goes_on(kafka):
    first = replay_flights(kafka, rate=5_000)
    first.start()
    until(lambda: first.sent > 1_500)
    second = replay_flights(kafka)
    assert not first.running
    assert second.sent == first.sent < MONTH
    assert second.wait(timeout=SECONDS)
    assert_frame_equal(flights_in(kafka).sort(pl.all()), data.flights().drop("departed").sort(pl.all()))


def test_records_of_one_key_share_a_partition(kafka):
    replay_flights(kafka, key="origin")
    placed = kafka.stream("flights", schema={"origin": pl.String}, metadata=True).collect()
    assert placed.group_by("origin").agg(pl.col("_partition").n_unique())["_partition"].to_list() == [1, 1, 1]


def test_an_endless_replay_goes_on_after_the_month_until_it_is_stopped(kafka):
    replay = replay_flights(kafka, rate=200_000, endless=True)
    assert replay.wait(timeout=SECONDS)
    until(lambda: replay.sent > MONTH + 1_000)
    assert replay.running
    replay.stop()
    assert not replay.running
    assert kafka.topics()["records"].to_list() == [replay.sent]


def test_it_waits_for_a_query_to_have_read_all(kafka):
    replay = replay_flights(kafka)
    seen = []
    query = sl.Pipeline([kafka.stream("flights", schema={"carrier": pl.String}).sink_frame(seen.append)]).start()
    assert replay.wait(query, timeout=SECONDS)
    assert query.report.records == MONTH
    query.stop()


def test_a_query_that_has_ended_is_not_waited_for(kafka):
    replay = replay_flights(kafka, rate=1_000)
    query = sl.Pipeline([kafka.stream("flights", schema={"carrier": pl.String}).sink_frame(len)]).start(until="latest")
    assert not replay.wait(query, timeout=SECONDS)
    replay.stop()


def test_waiting_ends_with_its_timeout(kafka):
    replay = replay_flights(kafka, rate=10)
    assert not replay.wait(timeout=0.1)
    replay.stop()
    assert not replay.wait()  # stopped for good: there is nothing to wait for


class Torn:
    """A tape that breaks."""

    def frame(self, numbers: object, sent: object) -> pl.DataFrame:
        raise ValueError("torn")


def test_what_fails_in_the_background_is_raised_where_one_waits(kafka):
    kafka.cluster.create_topic("torn", 1)
    replay = Replay(kafka, "torn", "origin", Torn(), (0, MONTH), None)
    with pytest.raises(ValueError, match="torn"):
        replay.wait(timeout=SECONDS)
    assert repr(replay) == "Replay to 'torn': failed after 0 records: torn"


@pytest.mark.parametrize("rate", [0, -5, float("nan")])
def test_a_rate_that_is_none_is_refused(kafka, rate):
    with pytest.raises(sl.StreamlabError, match=r"replay_flights: rate=.*above 0"):
        replay_flights(kafka, rate=rate)
    with pytest.raises(sl.StreamlabError, match=r"demo: rate=.*above 0"):
        sl.demo(rate=rate, show=False)


def test_what_cannot_be_is_refused_with_what_can(kafka):
    with pytest.raises(sl.StreamlabError, match="endless=True needs a rate="):
        replay_flights(kafka, endless=True)
    with pytest.raises(sl.StreamlabError, match="Did you mean 'origin'"):
        replay_flights(kafka, key="orign")
    with pytest.raises(sl.StreamlabError, match="at most 20,000"):
        sl.demo(rate=50_000, show=False)


# --- demo ---


def test_it_has_results_late_rows_and_dead_letters_from_the_start_and_moves(begin):
    trial = begin()
    until(lambda: trial.query.report.records >= 18_000)
    start = trial.query.report
    assert start.results > 60
    assert start.late > 0
    assert start.dead_letters > 0
    assert trial.query.late.height == start.late
    assert set(trial.query.dead_letters["value"]) <= set(BROKEN)
    assert trial.query.frame()["flights"].min() > 20  # also in the first window, which is a whole one
    until(lambda: trial.query.report.records > start.records + 20)
    until(lambda: trial.query.report.results > start.results)
    assert trial.delays.node.schema.names() == trial.query.frame().columns


def test_event_time_is_the_present(begin):
    before = time.time()
    trial = begin()
    until(lambda: trial.query.lag()["event_time"].null_count() == 0)
    newest = trial.query.lag()["event_time"].dt.epoch("ms") / 1000
    assert before - 30 < newest.min() <= newest.max() <= time.time()


def test_all_but_the_clock_follows_from_the_seed(begin):
    def sent(seed: int) -> pl.DataFrame:
        trial = begin(seed=seed)
        rows = flights_in_order(trial.kafka)
        trial.stop()
        return rows

    first, again, other = sent(1), sent(1), sent(2)
    least = min(first.height, again.height)
    assert_frame_equal(first.head(least), again.head(least))
    assert not first.head(least).equals(other.head(least))


def flights_in_order(kafka: sl.Kafka) -> pl.DataFrame:
    """The flights of one partition, in its order."""
    schema = {name: data.SCHEMA[name] for name in ("carrier", "flight", "origin", "dest", "dep_delay")}
    rows = kafka.stream("flights", schema=schema, metadata=True).collect()
    return rows.filter(pl.col("_partition") == 0).sort("_offset").select(*schema)


def test_called_again_it_replaces_the_running_one(begin):
    first = begin()
    second = begin()
    assert first.query.status == "stopped"
    assert "stopped" in repr(first)
    assert second.query.status == "running"
    with pytest.raises(sl.StreamlabError, match="Connection refused"):
        first.kafka.topics()


def test_stopped_it_can_still_be_read(begin):
    trial = begin()
    trial.stop()
    assert trial.query.status == "stopped"
    assert trial.kafka.topics().filter(pl.col("name") == "flights")["records"].item() == trial.sent
    assert trial.flights.preview(3).height == 3


def test_its_repr_says_what_to_try(begin):
    trial = begin(rate=250, seed=3)
    said = repr(trial)
    for part in ("running", "250 a second", "seed 3", ".kafka", ".flights", ".delays", ".query", ".stop()"):
        assert part in said


def test_its_panel_is_shown(monkeypatch, begin):
    asked = []
    monkeypatch.setattr(sl.Query, "plot", lambda query, *args, **kwargs: asked.append((query, args, kwargs)))
    trial = begin(show=True)
    assert asked == [(trial.query, ("window_start", "mean_delay"), {"by": "origin"})]


def test_a_high_rate_has_a_history_that_is_there_at_once_all_the_same(begin):
    trial = begin(rate=5_000)
    assert trial.sent >= 20_000
    times = trial.kafka.topics().filter(pl.col("name") == "flights")
    assert (times["newest"] - times["oldest"]).item().total_seconds() > 120


# --- notebooks ---


def test_the_notebooks_that_come_along_are_found_and_others_are_not():
    assert notebook("01-tour").is_file()
    assert notebook("02-schedule-and-export").is_file()
    with pytest.raises(sl.StreamlabError, match=r"no notebook '01-tuor'.*Did you mean '01-tour'"):
        notebook("01-tuor")


def test_a_copy_of_the_tour_is_clean_and_may_be_endless(tmp_path: Path):
    copy_tour(tmp_path / "tour.ipynb", endless=True)
    copied = json.loads((tmp_path / "tour.ipynb").read_text())
    cells = [cell for cell in copied["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    [parameters] = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert "endless = True" in parameters
    copy_tour(tmp_path / "tour.ipynb")
    assert "endless = True" not in (tmp_path / "tour.ipynb").read_text()
