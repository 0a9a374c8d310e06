"""The first minute: `sl.demo()` and the tour, as a person sees them in JupyterLab."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from streamlab.demo import notebook

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.page import NotebookPage

PANEL = 9  # the tour's cell with the panel


def panel_of(page: NotebookPage, cell: int) -> Locator:
    return page.cell(cell).locator(".sl").filter(visible=True)


def test_the_demo_moves(lab: NotebookPage) -> None:
    lab.open(["import streamlab as sl\ndemo = sl.demo()", "demo.stop()"])
    lab.run_cell(0)
    panel = panel_of(lab, 0)
    expect(panel.locator("[data-region=rows] tbody")).to_contain_text("JFK")
    lab.assert_moves("demo", panel)
    for tile in ("late", "dead"):
        expect(panel.locator(f"[data-region=tile-{tile}] strong")).not_to_have_text("0")
    lab.run_cell(1)
    expect(panel_of(lab, 0).locator(".sl-state")).to_contain_text("stopped")
    lab.assert_healthy()


@pytest.mark.parametrize("width", [900, 1400])
def test_the_tour_moves_and_its_answer_remains(lab: NotebookPage, width: int) -> None:
    lab.open(notebook("01-tour"))
    lab.resize(width, 1_000)
    lab.run_all()
    chart = lab.cell(PANEL).locator(".sl:not([data-streamlab] *) [data-chart=results]")
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".bk-Figure")).to_be_visible()
    lab.assert_moves(f"tour-chart-{width}", chart)
    lab.screenshot(f"tour-live-{width}")
    lab.wait_idle()
    panel = panel_of(lab, PANEL)
    expect(panel.locator(".sl-state")).to_have_text(re.compile("^stopped"))
    expect(panel.locator("[data-region=tile-rate]")).to_contain_text(re.compile(r"27,00\d in all"))
    lab.assert_healthy()
    lab.reopen_without_kernel(trusted=True)
    expect(panel_of(lab, PANEL).locator(".sl-state")).to_have_text(re.compile("^stopped"))
    expect(panel_of(lab, PANEL).locator("[data-region=rows] tbody")).to_contain_text("JFK")
    lab.resize(width, 1_000)
    panel_of(lab, PANEL).scroll_into_view_if_needed()
    lab.screenshot(f"tour-no-kernel-{width}")
    assert lab.path.stat().st_size < 500_000
    lab.assert_healthy()
