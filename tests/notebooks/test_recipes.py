"""The recipes run as jobs with no broker, on real flights, and what they show is polars' answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import nbformat
import polars as pl
import pytest

from streamlab.data import flights
from tests.notebooks.jobs import RECIPES, Done, job

if TYPE_CHECKING:
    from pathlib import Path

NAMES = sorted(path.stem for path in RECIPES.glob("*.ipynb"))
FLIGHTS = 27_004
TIME = pl.Datetime("ms", "UTC")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Every recipe as a job, two at a time."""

    def run(name: str) -> Done:
        folder: Path = tmp_path_factory.mktemp(name)
        return job(
            RECIPES / f"{name}.ipynb", "-o", str(folder / "out.ipynb"), cwd=folder, STREAMLAB_BOOTSTRAP_SERVERS=""
        )

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(NAMES, pool.map(run, NAMES), strict=True))


def test_there_are_five() -> None:
    assert len(NAMES) == 5
    listed = (RECIPES / "README.md").read_text()
    assert all(f"({name}.ipynb)" in listed for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_done_and_read_all_flights(runs: dict[str, Done], name: str) -> None:
    done = runs[name]
    assert (done.code, done.err) == (0, "")
    (ran,) = [run for run in done.result["pipelines"] if run["name"]]
    assert ran["records"] == FLIGHTS + (200 if name == "data-quality" else 0)
    assert done.result["outcome"] == "done"


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_does_and_when_and_is_kept_without_outputs(name: str) -> None:
    book = nbformat.read(RECIPES / f"{name}.ipynb", as_version=4)
    first, *code = (cell for cell in book.cells if cell.cell_type == "code" or cell is book.cells[0])
    assert first.source.startswith("# ")
    assert "**When:**" in first.source
    assert f"streamlab run {name}.ipynb" in first.source
    assert code[0].metadata.tags == ["parameters"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_the_hours_in_parquet_and_in_the_table_are_those_of_polars(runs: dict[str, Done]) -> None:
    done = runs["hourly-aggregates"]
    found = pl.read_parquet(done.folder / "hours" / "*.parquet").sort("carrier", "window_start")
    flown = flights().filter(pl.col("dep_delay").is_not_null())
    hour = pl.col("scheduled").dt.truncate("1h").alias("window_start")
    answer = flown.group_by("carrier", hour).agg(pl.len().alias("flights"), pl.col("dep_delay").max().alias("worst"))
    (ran,) = [run for run in done.result["pipelines"] if run["name"]]
    closed = found.join(answer, on=["carrier", "window_start"], how="left", suffix="_all")
    late = closed["flights_all"].sum() - closed["flights"].sum()
    assert found.select("carrier", "window_start").is_unique().all()
    assert found.height == ran["results"] > 5_000
    assert 0 < late <= ran["late"]  # all that is missing came late, and was counted
    assert (closed["flights_all"] >= closed["flights"]).all()
    assert done.texts[-1] == str(
        found.sort("window_start", "flights", "carrier", descending=[True, True, False]).head(10)
    )


def test_the_report_of_a_day_is_that_of_polars(runs: dict[str, Done]) -> None:
    day = flights().filter(pl.col("dep_delay").is_not_null(), pl.col("scheduled").dt.date() == pl.date(2013, 1, 5))
    routes = day.group_by("origin", "dest").agg(
        pl.len().alias("flights"), pl.col("dep_delay").mean().round(1).alias("mean_delay")
    )
    assert runs["daily-top-n"].texts[-1] == str(
        routes.sort("flights", "origin", "dest", descending=[True, False, False]).head(10)
    )


def test_the_filtered_rows_are_those_of_polars(runs: dict[str, Done]) -> None:
    delayed = flights().filter(pl.col("dep_delay") > 60)
    worst = delayed.select("carrier", "flight", "dest", "scheduled", "dep_delay")
    (ran,) = [run for run in runs["filter-to-topic"].result["pipelines"] if run["name"]]
    assert ran["results"] == delayed.height
    assert runs["filter-to-topic"].texts[-1] == str(
        worst.sort("dep_delay", "scheduled", descending=[True, False]).head(10)
    )


def test_the_exported_rows_are_the_flights_each_once(runs: dict[str, Done]) -> None:
    found = pl.read_parquet(runs["export-to-parquet"].folder / "flights" / "*.parquet")
    columns = ["carrier", "flight", "origin", "dest", "scheduled", "dep_delay"]
    assert found.select(columns).sort(columns).equals(flights().select(columns).sort(columns))
    assert found.select("_partition", "_offset").is_unique().all()


def test_the_report_on_quality_counts_every_record_once(runs: dict[str, Done]) -> None:
    (ran,) = [run for run in runs["data-quality"].result["pipelines"] if run["name"]]
    assert ran["records"] == ran["processed"] + ran["late"] + ran["dead_letters"]
    assert ran["dead_letters"] == 200
    assert ran["late"] > 0
    shown = "".join(runs["data-quality"].texts)
    assert f"{ran['late']}" in shown
    assert "column 'dep_delay': found 'n/a', expected a" in shown
