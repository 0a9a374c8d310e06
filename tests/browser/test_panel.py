"""The panel in JupyterLab and Notebook 7: it moves, its buttons act, nothing jumps, it stays inert, and its answer remains."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.page import NotebookPage

EVIL = "<script>window.streamlabHurt = 1</script><img src=x onerror='window.streamlabHurt = 1'>"

# endless: in time, then one record that came too late and one that is no JSON, every other second
PRODUCE = f"""
import random, threading, time
import polars as pl
import streamlab as sl
from streamlab.connect.formats.json import encode
from streamlab.connect.kafka_sink import KafkaWriter
from streamlab.connect.settings import producer_settings

EVIL = {EVIL!r}
kafka = sl.Kafka.embedded({{"flights": 4}})

def produce():
    chance, number = random.Random(1), 0
    writer = KafkaWriter(producer_settings(kafka.cluster.settings))
    while True:
        now = time.time_ns() // 1_000_000
        carriers = chance.choices(["AA", "B6", "UA", EVIL], k=20)
        rows = pl.DataFrame({{"carrier": carriers, "dep_delay": [chance.gauss(12, 8) for _ in carriers],
                             "t": [now - chance.randrange(500) for _ in carriers]}})
        payloads = encode(rows)
        if number % 20 == 10:
            payloads[0] = (EVIL + "no JSON").encode()
            payloads[1] = encode(rows.head(1).with_columns(t=pl.lit(now - 60_000)))[0]
        writer.send("flights", payloads, [carrier.encode() for carrier in carriers], [now] * len(carriers))
        writer.flush()
        number += 1
        time.sleep(0.1)

threading.Thread(target=produce, daemon=True).start()
"""
DEFINE = """
flights = kafka.stream("flights", schema={"carrier": pl.String, "dep_delay": pl.Float64, "t": pl.Int64}, event_time="t",
                       idle_timeout="2s")
delays = (
    flights.group_by("carrier").window(sl.tumbling("1s", grace="1s"), name="delays")
    .agg(pl.len().alias("flights"), pl.col("dep_delay").mean().alias("mean_delay"))
)
query = sl.Pipeline([delays.sink_frame(len, name=EVIL)], name="carrier-delays").start()
query.show()
"""
BUSY = "time.sleep(600)"
QUERIES = "from streamlab.runtime.query import running\nprint(len(running()), query in running())"


def live(page: NotebookPage) -> Locator:
    """Return the live panel of the second cell; its saved picture stands hidden in the next output."""
    return page.cell(1).locator(".sl:not([data-streamlab] *)")


def seen(page: NotebookPage) -> Locator:
    """Return the panels of the second cell that one can see."""
    return page.cell(1).locator(".sl").filter(visible=True)


def started(page: NotebookPage, *more: str, width: int = 1_280) -> None:
    """Open a notebook with a live panel in its second cell, with results in it."""
    page.open([PRODUCE, DEFINE, *more])
    page.resize(width, 1_200)
    page.run_cell(0)
    page.run_cell(1)
    expect(live(page).locator("[data-region=rows] tbody")).to_contain_text("UA")
    page.page.wait_for_function("() => document.querySelectorAll('.sl-chart .bk-Figure').length >= 2")


def state(page: NotebookPage) -> str:
    return live(page).locator(".sl-state").inner_text().strip()


def test_it_moves_in_both_front_ends(jupyter: NotebookPage) -> None:
    started(jupyter)
    panel = live(jupyter)
    expect(panel).to_have_count(1)
    expect(panel.locator("[data-region=tile-dead] strong")).not_to_have_text("0")
    for place in ("results", "latency"):
        jupyter.assert_moves(f"chart-{place}", panel.locator(f"[data-chart={place}]"))
    jupyter.assert_moves("panel", panel)
    chart = panel.locator("[data-chart=results]")
    expect(chart).to_have_attribute("role", "img")
    expect(chart).to_have_attribute("aria-label", re.compile("mean_delay by carrier"))
    jupyter.assert_healthy()


def test_its_buttons_act_also_while_a_cell_is_busy(lab: NotebookPage) -> None:
    started(lab, BUSY)
    lab.run_cell(2)
    controls = live(lab).locator(".sl-controls")
    controls.get_by_role("button", name="Pause").click()
    expect(live(lab).locator(".sl-state")).to_have_text("paused")
    controls.get_by_role("button", name="Resume").click()
    expect(live(lab).locator(".sl-state")).to_have_text("running")
    controls.get_by_role("button", name="Stop").click()
    expect(seen(lab).locator(".sl-state")).to_have_text(re.compile(r"^stopped \d\d:\d\d UTC after"))
    expect(seen(lab)).to_have_count(1)
    expect(lab.cell(1).get_by_role("button", name="Stop")).to_have_count(0)
    lab.screenshot("stopped")
    lab.assert_healthy()


def test_what_went_wrong_is_one_click_away_and_inert(lab: NotebookPage) -> None:
    started(lab)
    panel = live(lab)
    expect(panel.locator("[data-region=tile-late] strong")).not_to_have_text("0")
    panel.get_by_text("see the rows").click()
    expect(panel.locator(".sl-in-late")).to_be_visible()
    expect(panel.locator(".sl-in-late thead")).to_contain_text("watermark")
    expect(panel.locator(".sl-in-results")).to_be_hidden()
    lab.screenshot("late", panel)
    panel.get_by_text("see them").click()
    expect(panel.locator(".sl-in-dead tbody")).to_contain_text("<script>window.streamlabHurt")
    lab.screenshot("dead-letters", panel)
    panel.get_by_text("Plan", exact=True).click()
    expect(panel.locator(".sl-in-plan")).to_contain_text("tumbling 1s, grace 1s -> final by carrier")
    panel.get_by_text("Partitions", exact=True).click()
    expect(panel.locator(".sl-in-partitions tbody tr")).to_have_count(4)
    expect(panel.locator(".sl-in-partitions")).to_contain_text("holds the watermark")
    panel.get_by_text("Results", exact=True).click()
    expect(panel.locator("[data-region=rows]")).to_contain_text("onerror='window.streamlabHurt = 1'>")
    assert lab.page.evaluate("() => window.streamlabHurt") is None
    lab.assert_healthy()


@pytest.mark.parametrize("width", [900, 1400])
def test_nothing_jumps_while_values_change(lab: NotebookPage, width: int) -> None:
    started(lab, width=width)
    panel = live(lab)
    title = panel.locator("[data-region=rows-title]")
    lab.forget_jumps()
    for _ in range(3):  # windows
        said = title.inner_text()
        expect(title).not_to_have_text(said)
    rows = ("TD", "TH", "TR", "sl-n", "I ", "sl-fresh")  # of tables: their columns fit what they hold
    assert [jump for jump in lab.jumps(panel) if not jump.startswith(rows)] == []
    lab.screenshot(f"panel-{width}", panel)
    lab.assert_healthy()


def test_it_takes_the_colours_of_the_theme_while_it_runs(lab: NotebookPage) -> None:
    started(lab)
    panel = live(lab)
    light = panel.evaluate("panel => getComputedStyle(panel).color")
    lab.set_theme("dark")
    assert panel.evaluate("panel => getComputedStyle(panel).color") != light
    lab.assert_moves("panel-dark", panel)
    lab.assert_healthy()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_saved_notebook_shows_its_answer_without_a_kernel(lab: NotebookPage, *, trusted: bool) -> None:
    started(lab, "query.stop()")
    lab.run_cell(2)
    lab.wait_idle()
    expect(seen(lab).locator(".sl-state")).to_contain_text("stopped")
    lab.reopen_without_kernel(trusted=trusted)
    shown = lab.cell(1).locator(".sl-rich" if trusted else ".sl-plain").filter(visible=True)
    expect(shown).to_have_count(1)
    expect(lab.cell(1).locator(".sl-plain" if trusted else ".sl-rich")).to_be_hidden()
    expect(shown.locator("tbody").first).to_contain_text("UA")
    pictures = shown.locator(".sl-chart img" if trusted else "img").filter(visible=True)
    expect(pictures).to_have_count(2 if trusted else 1)
    assert all(pictures.evaluate_all("found => found.map(one => one.complete && one.naturalWidth > 0)"))
    expect(pictures.first).to_have_attribute("alt", re.compile("results" if trusted else "carrier-delays, stopped"))
    assert lab.page.evaluate("() => window.streamlabHurt") is None
    shown.scroll_into_view_if_needed()
    lab.screenshot(f"no-kernel-{'trusted' if trusted else 'untrusted'}", shown)
    assert lab.path.stat().st_size < 500_000
    lab.assert_healthy()


def test_one_that_was_saved_while_it_ran_shows_what_was_known_then(lab: NotebookPage) -> None:
    started(lab)
    lab.reopen_without_kernel(trusted=True)
    panel = seen(lab)
    expect(panel).to_have_count(1)
    expect(panel.locator(".sl-state")).to_contain_text("running at")
    expect(lab.page.get_by_text("Error displaying widget").filter(visible=True)).to_have_count(0)


def test_a_cell_that_is_run_again_has_one_panel(lab: NotebookPage) -> None:
    started(lab)
    lab.wait_idle()
    lab.run_cell(1)
    lab.wait_idle()
    expect(live(lab).filter(visible=True)).to_have_count(1)
    expect(live(lab).locator("[data-region=alerts]")).to_contain_text("goes on from checkpoint")
    assert state(lab) == "running"
    lab.assert_healthy()


def test_a_cell_that_is_edited_and_run_again_leaves_no_query_of_its_old_text(lab: NotebookPage) -> None:
    explore = "chance = random.random()\nquery = flights.filter(pl.col('dep_delay') > chance).show()"
    lab.open([PRODUCE, DEFINE.partition("delays = ")[0], explore, QUERIES])
    for cell in (0, 1, 2, 2, 3):  # by chance, the second time it is another plan
        lab.run_cell(cell)
    lab.wait_idle()
    expect(lab.output(3)).to_have_text("1 True")
    lab.assert_healthy()


def test_it_draws_beside_a_bokeh_of_another_version(lab: NotebookPage) -> None:
    lab.open([PRODUCE, DEFINE])
    lab.page.evaluate("() => { window.Bokeh = { __bokeh__: true, version: '2.4.3' }; }")
    lab.run_all()
    expect(live(lab).locator("[data-chart=results] .bk-Figure")).to_be_visible()
    assert lab.page.evaluate("() => window.Bokeh.version") == "2.4.3"
    lab.assert_healthy()
