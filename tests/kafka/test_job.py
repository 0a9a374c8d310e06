"""Jobs on a real Kafka: what has arrived since last time, each record once, also when a job or the broker ends in the middle."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import polars as pl
import pytest

import streamlab as sl
from streamlab.data import flights as january
from tests.kafka.broker import create_topic
from tests.kafka.support import (
    assert_same,
    assert_settled,
    batch_answer,
    close_windows,
    comparable,
    eventually,
    flights,
    send_flights,
)
from tests.notebooks.jobs import RECIPES, Done, ended, job, notebook, started

if TYPE_CHECKING:
    from pathlib import Path

PART, MANY = 3_000, 60_000
TWICE = ("daily-top-n",)
PARAMETERS = 'topic = ""\nname = "carrier-hours"\nhold = False'
DEFINITION = """
import threading
from pathlib import Path
import polars as pl, streamlab as sl
SCHEMA = {"carrier": pl.String, "flight": pl.Int64, "scheduled": pl.Datetime("ms", "UTC"), "dep_delay": pl.Float64}
class Pace:
    held = hold
def pace(frame):
    Path("here").touch()
    while Pace.held and not Path("go").exists():
        threading.Event().wait(0.05)
stream = sl.Kafka().stream(topic, schema=SCHEMA, event_time="scheduled")
hours = (
    stream.group_by("carrier")
    .window(sl.tumbling("1h", grace="24h"), name="hours")
    .agg(
        pl.len().alias("flights"),
        pl.col("dep_delay").mean().alias("mean_delay"),
        (pl.col("dep_delay").max() - pl.col("dep_delay").min()).alias("spread"),
    )
)
pipeline = sl.Pipeline([hours.sink_parquet("hours"), stream.sink_frame(pace)], name=name)
"""
SMALL = (
    'sl.Kafka(None, {"queued.min.messages": 100, "queued.max.messages.kbytes": 64, '
    '"fetch.message.max.bytes": 20_000, "fetch.max.bytes": 1_000_000})'
)
"""A cluster read in small pieces, so that there is a middle to stop in."""


def results(folder: Path) -> pl.DataFrame:
    return comparable(pl.read_parquet(folder / "hours" / "*.parquet"))


def assert_spreads(folder: Path, sent: pl.DataFrame) -> None:
    delay, hour = pl.col("dep_delay"), pl.col("scheduled").dt.truncate("1h").alias("window_start")
    answer = sent.group_by("carrier", hour).agg((delay.max() - delay.min()).alias("spread"))
    found = pl.read_parquet(folder / "hours" / "*.parquet").select(answer.columns)
    order = ["carrier", "window_start"]
    assert found.sort(order).equals(answer.sort(order))


def test_a_job_a_job_with_nothing_new_and_a_job_with_more_give_the_batch_answer(
    bootstrap, topic, tmp_path, monkeypatch
):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))
    source = topic("flights")
    given = ("-p", "topic", source, "-p", "name", f"p-{source}", "--bootstrap-servers", bootstrap)
    path = notebook(tmp_path / "hours.ipynb", DEFINITION, "query = pipeline.start()", parameters=PARAMETERS)
    send_flights(bootstrap, source, flights(PART))
    first = job(path, *given)
    assert (first.code, first.err) == (0, "")
    assert first.result["pipelines"][0]["records"] == PART
    assert_settled(bootstrap, f"p-{source}", source)

    before = results(tmp_path)
    second = job(path, *given, "--fail-if-nothing")
    assert (second.code, second.result["outcome"], second.result["pipelines"][0]["records"]) == (3, "nothing", 0)
    assert f"nothing new for p-{source} since" in second.out
    assert results(tmp_path).equals(before)

    send_flights(bootstrap, source, flights(2 * PART).tail(PART))
    closing = close_windows(bootstrap, source)
    third = job(path, *given)
    (ran,) = third.result["pipelines"]
    assert (third.code, ran["records"], ran["late"], ran["dead_letters"]) == (0, PART + closing, 0, 0)
    assert_same(results(tmp_path), batch_answer(flights(2 * PART)))
    assert_spreads(tmp_path, flights(2 * PART))
    assert_settled(bootstrap, f"p-{source}", source)
    assert {done.result["pipelines"][0]["fingerprint"] for done in (first, second, third)} == {ran["fingerprint"]}


def test_a_job_that_is_terminated_is_gone_on_with_by_the_next(bootstrap, topic, tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))
    source = topic("flights")
    given = ("-p", "topic", source, "-p", "name", f"p-{source}", "--bootstrap-servers", bootstrap)
    cells = (DEFINITION.replace("sl.Kafka()", SMALL), "pipeline.run()")
    path = notebook(tmp_path / "hours.ipynb", *cells, parameters=PARAMETERS)
    send_flights(bootstrap, source, flights(MANY))
    closing = close_windows(bootstrap, source)
    with started(path, *given, "-p", "hold", "True") as process:
        eventually(lambda: (tmp_path / "here").exists() or process.poll() is not None, "the first batch")
        process.send_signal(signal.SIGTERM)
        assert any("stopping with a commit" in line for line in iter(process.stdout.readline, ""))
        (tmp_path / "go").touch()
        first = ended(process, path)
    (ran,) = first.result["pipelines"]
    assert (first.code, first.result["outcome"], ran["status"]) == (143, "terminated", "stopped")
    assert 0 < ran["records"] < MANY
    second = job(path, *given)
    assert second.code == 0, second.err
    assert second.result["pipelines"][0]["records"] == MANY + closing - ran["records"]
    assert_same(results(tmp_path), batch_answer(flights(MANY)))
    assert_settled(bootstrap, f"p-{source}", source)


def test_a_broker_that_dies_in_the_middle_fails_the_job_and_the_next_goes_on(own_broker, tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMLAB_STATE_DIR", str(tmp_path / "state"))
    broker = own_broker()
    source = create_topic(broker.bootstrap, "flights")
    given = ("-p", "topic", source, "-p", "name", f"p-{source}", "--bootstrap-servers", broker.bootstrap)
    impatient = (
        "import streamlab.connect.kafka_source, streamlab.runtime.runner\n"
        "streamlab.connect.kafka_source.LONGEST_OUTAGE = streamlab.runtime.runner.LONGEST_OUTAGE = 3.0"
    )
    cells = (impatient, DEFINITION.replace("sl.Kafka()", SMALL), "pipeline.run()")
    path = notebook(tmp_path / "hours.ipynb", *cells, parameters=PARAMETERS)
    send_flights(broker.bootstrap, source, flights(MANY))
    closing = close_windows(broker.bootstrap, source)
    with started(path, *given, "-p", "hold", "True") as process:
        eventually(lambda: (tmp_path / "here").exists() or process.poll() is not None, "the first batch")
        broker.kill()
        (tmp_path / "go").touch()
        first = ended(process, path)
    assert (first.code, first.result["outcome"], first.result["error"]["cell"]) == (1, "failed", 5)
    assert broker.bootstrap in first.err
    assert first.result["pipelines"][0]["status"] == "failed"
    assert "Traceback" not in first.err + first.out
    assert "the next run goes on from its last commit" in first.err
    assert "committed:" not in first.err
    broker.start()
    second = job(path, *given)
    assert second.code == 0, second.err
    assert 0 < second.result["pipelines"][0]["records"] <= MANY + closing
    assert_same(results(tmp_path), batch_answer(flights(MANY)))
    assert_settled(broker.bootstrap, f"p-{source}", source)


@pytest.fixture(scope="module")
def recipes(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Done]]:
    """Every recipe run on one topic, some twice, with nothing new the second time; two recipes at a time."""
    source = create_topic(bootstrap, "recipes")
    send_flights_of_january(bootstrap, source)
    names = sorted(path.stem for path in RECIPES.glob("*.ipynb"))

    def run(name: str) -> list[Done]:
        folder = tmp_path_factory.mktemp(name)
        given = ["-p", "topic", source, "-p", "name", f"{source}.{name}", "--bootstrap-servers", bootstrap]
        if name == "filter-to-topic":
            given += ["-p", "target", f"{source}.delayed"]
        done = []
        for number in ("1", "2") if name in TWICE else ("1",):
            one = job(RECIPES / f"{name}.ipynb", *given, "-o", str(folder / number / "out.ipynb"), cwd=folder)
            done.append(Done(one.code, one.out, one.err, folder / number))
        return done

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(run, names), strict=True))


def send_flights_of_january(bootstrap: str, source: str) -> None:
    kafka = sl.Kafka(bootstrap)
    replay = sl.from_frame(january(), event_time="scheduled", topic="january")
    sl.Pipeline([replay.sink_kafka(source, key="carrier", kafka=kafka)]).run()


def test_every_recipe_runs_on_kafka(recipes):
    assert len(recipes) == 5
    for name, (first, *_) in recipes.items():
        assert (first.code, first.err) == (0, ""), name
        assert [run["records"] for run in first.result["pipelines"]] == [january().height], name


def test_a_recipes_report_is_the_same_from_the_table_with_nothing_new(recipes):
    for name in TWICE:
        first, second = recipes[name]
        assert (second.code, second.err, second.result["outcome"]) == (0, "", "nothing"), name
        assert first.texts[-1] == second.texts[-1], name
    day = january().filter(pl.col("dep_delay").is_not_null(), pl.col("scheduled").dt.date() == pl.date(2013, 1, 5))
    routes = day.group_by("origin", "dest").agg(
        pl.len().alias("flights"), pl.col("dep_delay").mean().round(1).alias("mean_delay")
    )
    best = routes.sort("flights", "origin", "dest", descending=[True, False, False]).head(10)
    assert recipes["daily-top-n"][0].texts[-1] == str(best)
