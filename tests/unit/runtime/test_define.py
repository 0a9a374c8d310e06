from __future__ import annotations

import os
import subprocess
import sys

import polars as pl
import pytest

import streamlab as sl
from streamlab.runtime.define import DEFINE, NotRun, active, pipelines


@pytest.mark.parametrize("value", ["", "0"])
def test_it_is_off_unless_told(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEFINE, value)
    assert not active()


def test_nothing_runs_and_named_pipelines_are_remembered() -> None:
    code = """
import polars as pl, streamlab as sl
from streamlab.runtime.define import NotRun, pipelines
events = sl.Kafka("127.0.0.1:1").stream("t", schema={"k": pl.String})
one = sl.Pipeline([events.sink_table("t", key="k")], name="one")
results = [one.start(), one.run(), one.export("worker.py"), events.show(), events.preview(), events.collect()]
assert all(isinstance(result, NotRun) for result in results), results
assert pipelines() == [one]
"""
    env = {**os.environ, DEFINE: "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_outside_of_it_no_pipeline_is_remembered() -> None:
    events = sl.from_frame(pl.DataFrame({"k": ["a"], "ts": [0]}), event_time="ts")
    sl.Pipeline([events.sink_table("t", key="k")], name="forgotten")
    assert pipelines() == []


def test_what_stands_in_goes_along_with_whatever_is_done_with_a_query_or_a_report() -> None:
    query = NotRun("start()")
    with query as entered:
        assert entered is query
    assert query.status == "stopped"
    assert query.wait(5) is True
    assert query.stop() is not None
    assert f"{query.report.seconds:.1f} {query.report.records:,}" == "(not run) (not run)"
    assert list(query.frame(5).iter_rows()) == []
    assert (len(query.late), int(query.report.late), float(query.report.seconds)) == (0, 0, 0.0)
    assert "a" not in query.frame().columns
    query.frame()["x"] = 1
    assert isinstance(1 + query.report.records * 2 - query.lag()["lag"].sum(), NotRun)
    assert repr(query) == "(not run: start() is turned off while the notebook is read)"


def test_loops_and_conditions_that_wait_for_a_query_end() -> None:
    query = NotRun("start()")
    while query.report.records < 100 or query.status == "running" or query.frame().height == 0 or query.error:
        pytest.fail("it would wait for ever")


def test_what_jupyter_and_copy_look_for_is_not_there() -> None:
    with pytest.raises(AttributeError, match="_repr_html_"):
        _ = NotRun("run()")._repr_html_
