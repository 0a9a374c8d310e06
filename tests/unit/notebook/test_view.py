"""The panel as HTML: what it says, and that nothing from outside gets out of its place."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import polars as pl
import pytest

from streamlab.notebook import console, figures, static, svg, view
from streamlab.notebook.chart import Chart, guessed
from streamlab.notebook.history import History
from streamlab.notebook.page import page
from streamlab.notebook.snapshot import Partition, Snapshot
from streamlab.plan.schema import TIME
from streamlab.runtime.metrics import Metrics

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
ROWS = pl.DataFrame(
    {
        "carrier": ["AA", EVIL, "AA", None],
        "window_start": [0, 0, 60_000, 60_000],
        "window_end": [60_000, 60_000, 120_000, 120_000],
        "flights": [3, 1, 2, 1],
        "delay": [1.25, None, 2.5, float("nan")],
    },
    schema_overrides={"window_start": TIME, "window_end": TIME},
)
METRICS = Metrics(
    records=27_004, processed=26_990, results=4, late=2, late_rows=3, dead_letters=1, skipped=0, rate=10_400.0,
    latency_p50=2.2, latency_p95=5.0, latency_p99=7.9, delay_p50=41_000.0, delay_p95=50_000.0, delay_p99=60_000.0,
    state_bytes=1_200_000, state_rows=10, checkpoints=3, seconds=192.0,
)  # fmt: skip
LETTERS = pl.DataFrame(
    {
        "topic": [EVIL], "partition": [0], "offset": [7], "timestamp": [None], "key": [EVIL.encode()],
        "value": [b"<b>\xff</b>"], "step": ["json"], "error": [EVIL],
    }
)  # fmt: skip


class Found(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.sources = set(), set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources |= {value for name, value in attrs if name in ("src", "href")}


def snapshot(**changes):
    now = Snapshot(
        name="carrier-delays", status="running", error=None, kept="", seconds=192.0, at=datetime(2026, 1, 1, 14, 32, tzinfo=UTC),
        sources=("flights",), sinks=("delays",), sink="delays", keys=("carrier", "window_start", "window_end"), plan=f"filter {EVIL}",
        metrics=METRICS,
        partitions=(
            Partition("flights", 0, 8_112, 41, 90_000, idle=False, holds=False),
            Partition("flights", 1, 7_004, 271, 60_000, idle=False, holds=True),
            Partition("flights", 2, 0, 0, None, idle=True, holds=False),
        ),
        watermark=60_000, since_checkpoint=400.0, rows=ROWS, late=ROWS.head(1), dead_letters=LETTERS,
    )  # fmt: skip
    return replace(now, **changes)


def seen(*, live=True, **changes):
    now = snapshot(**changes)
    history = History()
    for second in range(5):
        history.add(replace(now, seconds=float(second)))
    return view.View(now, history, guessed(now.rows.schema, now.keys), live=live)


def words(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_the_first_line_says_what_runs_and_how():
    parts = view.regions(seen())
    assert words(parts["state"]) == "running"
    assert words(parts["about"]) == "flights → delays, 3 partitions · state 1.20 MB · checkpoint 400 ms ago"
    assert re.findall(r'data-do="(\w+)"', parts["controls"]) == ["pause", "stop"]


def test_a_paused_query_can_be_resumed_and_one_that_ended_has_no_buttons():
    assert re.findall(r'data-do="(\w+)"', view.regions(seen(status="paused"))["controls"]) == ["resume", "stop"]
    assert view.regions(seen(status="stopped"))["controls"] == ""


def test_tiles_say_rate_lag_latency_and_delay_with_a_line_of_context():
    parts = view.regions(seen())
    assert words(parts["tile-rate"]) == "10.4 k 27,004 in all"
    assert words(parts["tile-lag"]) == "312 p1: 271, gone in 30 ms"
    assert words(parts["tile-latency"]) == "7.9 ms p50 2.2 ms"
    assert words(parts["tile-delay"]) == "41 s watermark 00:01:00"
    assert words(parts["tile-late"]) == "3"
    assert words(parts["tile-dead"]) == "1"


def test_the_rate_of_a_query_that_ended_is_its_average():
    assert words(view.regions(seen(status="stopped"))["tile-rate"]) == "141 27,004 in all, on average"


def test_one_partition_holds_the_watermark_and_an_idle_one_says_so():
    rows = view.regions(seen())["partitions"].split("<tr")[2:]
    assert [words("<tr" + row) for row in rows] == [
        "p0 00:01:30 8,112 41",
        "p1 00:01:00 7,004 271 holds the watermark",
        "p2 \N{EN DASH} 0 0 idle",
    ]


def test_of_many_partitions_those_that_matter_are_beside_the_results_and_all_behind_their_tab():
    many = tuple(Partition("t", n, 10, n, 1_000, idle=False, holds=n == 3) for n in range(20))
    parts = view.regions(seen(partitions=many))
    assert "p3 " in words(parts["holder"])
    assert "and 13 more" in words(parts["holder"])
    assert all(f"p{n} " in words(parts["partitions"]) for n in range(20))


def test_results_stand_newest_first_window_first_rounded_and_the_place_of_missing_ones_is_kept():
    table = view.regions(seen())["rows"]
    assert words(table).startswith("window_start carrier flights delay 1970-01-01 00:01 null 1 nan")
    assert table.count("<tr>") == 1 + view.NEWEST


def test_new_rows_are_tinted_in_a_live_panel_only():
    assert view.regions(replace(seen(), fresh=2))["rows"].count("sl-fresh") == 2
    assert "sl-fresh" not in view.regions(replace(seen(live=False), fresh=2))["rows"]


def test_an_error_is_said_first():
    parts = view.regions(seen(status="failed", error=f"StepError: {EVIL}"))
    assert "StepError" in words(parts["alerts"])
    assert "<script" not in parts["alerts"]


@pytest.mark.parametrize("live", [True, False])
def test_nothing_from_outside_is_markup(live):
    found = seen(live=live, name=EVIL, sources=(EVIL,), sinks=(EVIL,), sink=EVIL, kept=EVIL, error=EVIL, seconds=1.0,
                 partitions=(Partition(EVIL, 0, 1, 1, 1, idle=False, holds=True),))  # fmt: skip
    html = static.bundle(found, "abc")["text/html"] if not live else page(EVIL, "abc", view.regions(found))
    found = Found()
    found.feed(html)
    assert found.tags <= {
        "b", "button", "div", "em", "figcaption", "figure", "header", "i", "img", "input", "label", "path", "pre",
        "section", "span", "strong", "style", "svg", "table", "tbody", "td", "th", "thead", "tr", "p", "details", "summary",
    }  # fmt: skip
    assert not [name for name in found.attributes if name.startswith("on")]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in found.sources)


def test_the_saved_picture_is_small_has_no_buttons_and_no_script_and_its_charts_are_images():
    bundle = static.bundle(seen(live=False, status="stopped"), "abc")
    html = bundle["text/html"]
    assert len(html) < 60_000
    assert "<button" not in html
    assert html.count("data:image/svg+xml") == 7
    assert "stopped 14:32 UTC after 3 m 12 s" in words(html)
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert bundle["text/plain"].startswith("carrier-delays  stopped after 3 m 12 s  flights -> delays")


def test_a_picture_of_huge_values_stays_within_its_limit():
    wide = pl.DataFrame({f"column {n} {'x' * 2_000}": ["y" * 10_000] * 100 for n in range(30)})
    huge = seen(live=False, rows=wide, late=wide, plan="z" * 2_000_000)
    html = static.bundle(huge, "abc")["text/html"]
    assert len(html.encode()) < static.LARGEST
    assert "too large to be saved" in html


def test_the_text_of_a_console_has_the_counts_and_the_newest_rows():
    text = console.text(snapshot())
    assert "records 27,004 (10.4 k/s)   results 4   lag 312   late 3   dead letters 1" in text
    assert "window_start" in text


def test_a_line_chart_names_its_lines_at_their_ends_apart_from_each_other():
    lines = Chart("window_start", "flights", "carrier", "line", is_time=True).lines(ROWS)
    drawn = svg.chart(lines, "flights", str)
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" font-size="11"', drawn)]
    assert len(heights) == 3
    assert min(abs(a - b) for a in heights for b in heights if a is not b) >= 11.9


@pytest.mark.parametrize("kind", ["line", "bar", "scatter"])
def test_live_figures_carry_every_point_and_no_code_of_ours(kind):
    chart = Chart("window_start", "flights", "carrier", kind, is_time=True)
    data = figures.data(chart.lines(ROWS), dots=True)
    assert sorted(data["points"]["y"]) == [1, 1, 2, 3]
    assert data["ends"]["text"] == [svg.short(EVIL), "AA", "null"]
    assert '"results"' in figures.described(chart, "abc")


def test_figures_without_data_have_bounds():
    assert figures.data(())["bounds"]["high"][0] > 0


def test_history_keeps_a_minute():
    history = History()
    for half in range(1_000):
        history.add(snapshot(seconds=half / 2))
    assert len(history.samples) == 120
    ages, _ = history.over_time("p99")
    assert (ages[0], ages[-1]) == (-59.5, 0.0)
