"""An exported worker on a real broker: in parts, with nothing new, stopped by a signal, gone on; then compared with a batch answer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import nbformat
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import streamlab as sl
from streamlab.export.kernel import export_file
from streamlab.state.folders import STATE_DIR
from tests.kafka.support import SECONDS, TIME, Sent, assert_settled, consume_all, groups, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kafka.conftest import Topic

BEGIN = 1_700_000_000_000
CELLS = (
    "%load_ext autoreload\nimport polars as pl\nimport streamlab as sl",
    'topic = {topic!r}\nleast = 2.0\nsize = "1m"',
    "kafka = sl.Kafka({bootstrap!r})\nkafka.peek(topic)",
    """orders = kafka.stream(
    topic,
    schema={{
        "placed": pl.Datetime("ms", "UTC"),
        "buyer": pl.Struct({{"country": pl.String, "marks": pl.List(pl.Int64)}}),
        "lines": pl.List(pl.Struct({{"price": pl.Float64, "n": pl.Int64}})),
    }},
    event_time="placed",
    idle_timeout=None,
)
orders""",
    """VAT = 1.19
NAMES = {{"de": "Germany", "fr": "France"}}

def totals(frame: pl.DataFrame) -> pl.DataFrame:
    line = pl.element().struct.field("price") * pl.element().struct.field("n")
    return frame.select(
        "placed",
        country=pl.col("buyer").struct.field("country").replace(NAMES),
        total=frame["lines"].list.eval(line).list.sum() * VAT,
    )""",
    """%%time
priced = orders.map_batches(totals, schema={{"placed": pl.Datetime("ms", "UTC"), "country": pl.String, "total": pl.Float64}})
priced.preview(3)""",
    """spread = pl.col("total").max() - pl.col("total").min()
spreads = (
    priced.filter(pl.col("total") >= least)
    .group_by("country")
    .window(sl.tumbling(size, grace="10s"), name="spreads")
    .agg(spread.alias("spread"), n=pl.len())
)""",
    """pipeline = sl.Pipeline([spreads.sink_kafka(topic + "-spreads"), spreads.sink_table("spreads")], name=topic + "-orders")
query = pipeline.start()
query.show()""",
)


def orders(first: int, count: int) -> list[dict[str, object]]:
    """Return orders by number: nested, a hundred milliseconds apart, out of order by up to three seconds."""
    made = []
    for n in range(first, first + count):
        at = pl.Series([BEGIN + n * 100 - n * 7919 % 3000]).cast(TIME).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").item()
        lines = [{"price": (n * 37 % 900) / 100 + k, "n": n % 3 + 1} for k in range(n % 4)]
        made.append({"placed": at, "buyer": {"country": ("de", "fr", "it")[n % 3], "marks": [n % 5]}, "lines": lines})
    return made


def write(bootstrap: str, topic: str, made: list[dict[str, object]]) -> None:
    """Write orders, spread over the partitions."""
    send(
        bootstrap,
        topic,
        [Sent(json.dumps(one).encode(), partition=n % 4, timestamp=BEGIN) for n, one in enumerate(made)],
    )


def batch_answer(made: list[dict[str, object]]) -> pl.DataFrame:
    """Return what polars makes of the orders at once."""
    line = pl.element().struct.field("price") * pl.element().struct.field("n")
    frame = pl.DataFrame(made).select(
        pl.col("placed").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="ms", time_zone="UTC"),
        country=pl.col("buyer").struct.field("country").replace({"de": "Germany", "fr": "France"}),
        total=pl.col("lines").list.eval(line).list.sum() * 1.19,
    )
    windows = frame.filter(pl.col("total") >= 2.0).group_by("country", window_start=pl.col("placed").dt.truncate("1m"))
    spread = (pl.col("total").max() - pl.col("total").min()).alias("spread")
    return windows.agg(spread, n=pl.len().cast(pl.Int64)).sort("country", "window_start")


class Worker:
    """The script, run in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "worker.py"

    def _popen(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", str(self.path), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run it to its end; return its exit code and all that it said."""
        with self._popen(*arguments) as process:
            out, err = process.communicate(timeout=SECONDS)
        return process.returncode, out + err

    def run_until(self, said: Callable[[str], bool], number: signal.Signals) -> tuple[int, str]:
        """Run it until a line of its log is as wanted, then send a signal, twice; return its exit code and log."""
        with self._popen("--log-every", "0.2") as process:
            killer = threading.Timer(SECONDS, process.kill)
            killer.start()
            log = ""
            for line in process.stderr or ():
                log += line
                if said(line):
                    process.send_signal(number)
                    process.send_signal(number)
                    break
            log += process.stderr.read() if process.stderr else ""
            process.wait()
            killer.cancel()
        return process.returncode, log


@pytest.fixture
def exported(bootstrap: str, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Worker]:
    """A topic, and the worker of a notebook that reads it."""
    name = topic("orders")
    monkeypatch.setenv(STATE_DIR, str(tmp_path / "state"))
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(cell.format(topic=name, bootstrap=bootstrap)) for cell in CELLS]
    book.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(book, tmp_path / "orders.ipynb")
    found = export_file(tmp_path / "orders.ipynb", tmp_path / "worker.py")
    assert found.parameters == ("topic", "least", "size")
    assert f"{name}-orders" not in groups(bootstrap)
    return name, Worker(tmp_path)


def test_a_worker_goes_on_where_it_was_and_gives_the_batch_answer(exported: tuple[str, Worker], bootstrap: str) -> None:
    topic, worker = exported
    made = orders(0, 30_000)
    write(bootstrap, topic, made[:10_000])
    for wanted in ("records=10,000", "records=0"):
        code, log = worker.run("run", "--until", "latest")
        assert (code, wanted in log) == (0, True), log
    write(bootstrap, topic, made[10_000:20_000])
    code, log = worker.run_until(lambda line: " records=" in line and " records=0 " not in line, signal.SIGTERM)
    assert code == 143, log
    assert "stopped by SIGTERM, state committed" in log
    write(bootstrap, topic, made[20_000:])
    code, log = worker.run_until(lambda line: "started" in line, signal.SIGINT)
    assert code == 130, log
    code, log = worker.run("check")
    assert (code, "FAIL" in log, "of this plan" in log) == (0, False, True), log
    far = {**made[0], "placed": "2030-01-01T00:00:00.000Z"}
    write(bootstrap, topic, [far] * 4)
    code, log = worker.run("run", "--until", "latest")
    assert code == 0, log

    expected = batch_answer(made)
    rows = [json.loads(message.value() or b"null") for message in consume_all(bootstrap, f"{topic}-spreads")]
    found = pl.DataFrame(rows).with_columns(pl.col("window_start").str.to_datetime(time_unit="ms", time_zone="UTC"))
    assert_frame_equal(found.select(expected.columns).sort("country", "window_start"), expected)
    kept = (
        sl.open_table(f"{topic}-orders", "spreads")
        .frame()
        .select(pl.col(name).cast(t) for name, t in expected.schema.items())
    )
    assert_frame_equal(kept.sort("country", "window_start"), expected)
    assert_settled(bootstrap, f"{topic}-orders", topic)


def test_a_changed_plan_is_one_line_and_another_name_begins_anew(exported: tuple[str, Worker], bootstrap: str) -> None:
    topic, worker = exported
    write(bootstrap, topic, orders(0, 100))
    assert worker.run("run", "--until", "latest")[0] == 0
    code, log = worker.run("run", "--until", "latest", "--least", "3")
    assert code == 1
    assert f"PlanChangedError: The plan of pipeline '{topic}-orders' has changed" in log.splitlines()[-1]
    assert "Go on with --reset" in log.splitlines()[-1]
    code, log = worker.run("run", "--until", "latest", "--least", "3", "--name", f"{topic}-other")
    assert (code, "records=100 " in log) == (0, True), log


def test_check_finds_a_broken_promise_of_keys_and_records_that_do_not_fit(
    exported: tuple[str, Worker], bootstrap: str
) -> None:
    topic, worker = exported
    text = worker.path.read_text()
    worker.path.write_text(text.replace('event_time="placed",', 'event_time="placed", key="placed",'))
    same = orders(0, 1) * 8
    write(bootstrap, topic, same)
    send(bootstrap, topic, [Sent(b'{"placed": "soon"}')])
    code, log = worker.run("check")
    assert code == 1
    assert "1 of the newest 9 records do not fit the schema" in log
    assert f"FAIL  topic '{topic}': key='placed'" in log
    assert "is in partitions [0, 1, 2, 3]" in log
    code, log = worker.run("check", "--topic", f"{topic}x")
    assert (code, f"Did you mean '{topic}'?" in log) == (1, True)
