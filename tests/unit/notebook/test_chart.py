"""What the chart shows: guessed, or told."""

from __future__ import annotations

import polars as pl
import pytest

from streamlab.errors import PlanError, UnknownColumnError
from streamlab.notebook.chart import COLOURS, POINTS, Chart, apart, guessed, ticks, told
from streamlab.plan.schema import TIME

WINDOWS = pl.Schema(
    {"carrier": pl.String(), "window_start": TIME, "window_end": TIME, "flights": pl.UInt32(), "delay": pl.Float64()}
)
KEYS = ("carrier", "window_start", "window_end")


def test_the_first_real_measure_over_windows_by_the_first_key_is_guessed():
    assert guessed(WINDOWS, KEYS) == Chart("window_start", "delay", "carrier", "line", is_time=True)


def test_without_a_real_measure_one_that_is_no_count_goes_first():
    schema = pl.Schema({"window_start": TIME, "len": pl.UInt32(), "worst": pl.Int64()})
    assert guessed(schema, ("window_start",)) == Chart("window_start", "worst", "", "line", is_time=True)


def test_rows_without_time_or_measure_have_no_chart():
    assert guessed(pl.Schema({"a": pl.String(), "b": pl.String()})) is None
    assert guessed(pl.Schema({"t": TIME, "b": pl.String()})) is None


def test_what_is_not_said_is_guessed():
    assert told(WINDOWS, KEYS, None, "flights", None, "bar") == Chart(
        "window_start", "flights", "carrier", "bar", is_time=True
    )


@pytest.mark.parametrize(
    ("x", "y", "by", "error", "says"),
    [
        (None, "dealy", None, UnknownColumnError, "Did you mean 'delay'"),
        (None, "carrier", None, PlanError, "not a number; there are \\['flights', 'delay'\\]"),
        ("carrier", "delay", None, PlanError, "must be a time or a number"),
        (None, None, "carier", UnknownColumnError, "Did you mean 'carrier'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_what_can(x, y, by, error, says):
    with pytest.raises(error, match=says):
        told(WINDOWS, KEYS, x, y, by, None)


def test_an_update_of_a_window_replaces_its_point():
    rows = pl.DataFrame({"t": [1, 2, 1], "v": [1.0, 2.0, 3.0]})
    (line,) = Chart("t", "v", "", "line", is_time=False).lines(rows)
    assert (line.x, line.y) == ((1.0, 2.0), (3.0, 2.0))


def test_lines_and_points_are_bounded_and_what_is_left_out_is_counted():
    rows = pl.DataFrame({"t": list(range(1_000)) * 10, "k": [n for n in range(10) for _ in range(1_000)], "v": 1.0})
    chart = Chart("t", "v", "k", "line", is_time=False)
    lines = chart.lines(rows)
    assert len(lines) == len(COLOURS)
    assert {len(line.x) for line in lines} == {POINTS}
    assert chart.left_out(rows) == 10 - len(COLOURS)


def test_values_that_are_no_numbers_are_no_points():
    rows = pl.DataFrame({"t": [1, 2, 3, None], "v": [float("nan"), None, float("inf"), 1.0]})
    assert Chart("t", "v", "", "line", is_time=False).lines(rows) == ()


@pytest.mark.parametrize("bounds", [(0, 1e-9), (-5, 5), (0, 7), (0, 99_999), (1e6, 1e6 + 1)])
def test_ticks_are_few_and_enclose_the_range(bounds):
    found = ticks(*bounds)
    assert 2 <= len(found) <= 8
    assert found[0] <= bounds[0]
    assert found[-1] >= bounds[1] * (1 - 1e-12)


def test_labels_are_apart_where_there_is_room():
    placed = apart([5.0, 5.0, 5.0], 2.0, 0.0, 10.0)
    assert sorted(placed) == [5.0, 7.0, 9.0]
