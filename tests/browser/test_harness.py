"""The harness itself: it sees what moves, what is broken, what remains, and what the console says."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.page import NotebookPage
    from tests.browser.server import JupyterServer

COUNTER = """
import threading, time
import anywidget, traitlets

class Counter(anywidget.AnyWidget):
    _esm = '''
    function render({ model, el }) {
        el.innerHTML = "<p class='count'></p><p class='below'>below</p>";
        const show = () => {
            const n = model.get("n");
            el.querySelector(".count").textContent = `count ${n}`;
            el.querySelector(".count").style.height = model.get("grows") && n % 2 ? "40px" : "20px";
        };
        model.on("change:n", show);
        show();
    }
    export default { render };
    '''
    n = traitlets.Int().tag(sync=True)
    grows = traitlets.Bool().tag(sync=True)

stopped = threading.Event()

def count(counter):
    while not stopped.wait(0.05):
        counter.n += 1

counter = Counter()
threading.Thread(target=count, args=(counter,), daemon=True).start()
counter
"""
WIDGET_OF_NO_MODULE = """
import ipywidgets, traitlets

class Unknown(ipywidgets.DOMWidget):
    _view_name = traitlets.Unicode("NoView").tag(sync=True)
    _model_name = traitlets.Unicode("NoModel").tag(sync=True)
    _model_module = traitlets.Unicode("no-such-module").tag(sync=True)

Unknown()
"""
WIDGET_THAT_THROWS = """
import anywidget

class Throws(anywidget.AnyWidget):
    _esm = "export default { render() { throw new Error('thrown on purpose') } }"

Throws()
"""
BUNDLE = """
from IPython.display import display

view = {"model_id": "of-a-kernel-that-is-gone", "version_major": 2, "version_minor": 0}
display({"application/vnd.jupyter.widget-view+json": view, "text/html": "<b>what remains</b>"}, raw=True)
"""
WAIT_FOR_GO = """
import pathlib, time

while not pathlib.Path("go").exists():
    time.sleep(0.01)
"""
TELL_ENVIRONMENT = """
import json, os, sys

print(json.dumps([sys.prefix, os.getcwd(), os.environ["IPYTHONDIR"], os.environ["STREAMLAB_STATE_DIR"]]))
"""


def javascript(code: str) -> str:
    return f"from IPython.display import Javascript\nJavascript({code!r})"


def test_what_a_thread_drives_is_seen_to_move_until_it_stops(jupyter: NotebookPage) -> None:
    jupyter.open([COUNTER, "stopped.set()"])
    jupyter.run_cell(0)
    count = jupyter.output(0).locator(".count")
    expect(count).to_contain_text("count")
    jupyter.forget_jumps()
    jupyter.assert_moves("counter", count)
    jupyter.run_cell(1)
    jupyter.wait_idle()
    assert jupyter.screenshot("counter-stopped", count) == jupyter.screenshot("counter-stopped", count)
    assert jupyter.jumps(jupyter.output(0)) == []
    jupyter.assert_healthy()


def test_what_changes_its_place_is_seen_to_jump(lab: NotebookPage) -> None:
    lab.open([COUNTER, "counter.grows = True"])
    lab.run_all()
    below = lab.output(0).locator(".below")
    expect(below).to_be_visible()
    lab.wait_idle()
    lab.page.wait_for_function("() => window.streamlabJumps.some(({ node }) => node?.className === 'below')")
    assert any(jump.startswith("below from") for jump in lab.jumps(lab.output(0)))


def test_what_is_broken_is_seen(lab: NotebookPage) -> None:
    lab.open([WIDGET_OF_NO_MODULE, WIDGET_THAT_THROWS, javascript("console.error('said on purpose')"), "1 / 0"])
    lab.assert_healthy()
    lab.run_cell(0)
    expect(lab.page.locator(".jupyter-widgets-error-widget")).to_be_visible()
    assert len(lab.widget_errors) == 1
    for index, said in ((1, "uncaught: Error: thrown on purpose"), (2, "said on purpose")):
        with lab.page.expect_event("pageerror" if "uncaught" in said else "console"):
            lab.run_cell(index)
        assert any(message.startswith(said) for message in lab.console_errors)
    lab.run_cell(3)
    lab.wait_idle()
    assert lab.cell_errors == ["ZeroDivisionError: division by zero"]
    with pytest.raises(AssertionError, match=r"errors of cells: .*\nerrors of widgets: .*\nerrors in the console: "):
        lab.assert_healthy()


def test_nothing_comes_from_outside_and_who_asks_is_seen(lab: NotebookPage) -> None:
    lab.open(["from IPython.display import HTML\nHTML('<img src=\"https://outside.example/picture.png\">')"])
    assert lab.outside == []
    with lab.page.expect_event("requestfailed"):
        lab.run_all()
    assert set(lab.outside) == {"https://outside.example/picture.png"}


def test_without_a_kernel_untrusted_outputs_show_html_and_trusted_ones_wait_for_a_widget(lab: NotebookPage) -> None:
    lab.open([BUNDLE])
    lab.run_all()
    lab.wait_idle()
    lab.reopen_without_kernel(trusted=False)
    expect(lab.output(0).get_by_text("what remains")).to_be_visible()
    lab.screenshot("bundle-untrusted")
    lab.assert_healthy()
    lab.reopen_without_kernel(trusted=True)
    expect(lab.output(0)).to_have_text("Loading widget...")
    lab.screenshot("bundle-trusted")


def test_cells_run_while_the_test_looks_on(lab: NotebookPage) -> None:
    lab.open([WAIT_FOR_GO, "print(6 * 7)"])
    lab.run_all()
    expect(lab.cell(0).locator(".jp-InputPrompt")).to_have_text("[*]:")
    assert lab.output(1).count() == 0
    (lab.path.parent / "go").touch()
    lab.wait_idle()
    expect(lab.output(1)).to_have_text("42")
    assert lab.save().cells[1].outputs[0].text == "42\n"


def test_kernels_are_this_environment_in_folders_of_their_own(lab: NotebookPage) -> None:
    lab.open([TELL_ENVIRONMENT])
    lab.run_all()
    lab.wait_idle()
    prefix, *folders = json.loads(lab.output(0).inner_text())
    assert prefix == sys.prefix
    home = str(lab.path.parent.parent)
    assert all(folder.startswith(home) for folder in folders)


def test_a_dark_page_leaves_the_next_one_light(lab: NotebookPage, lab_server: JupyterServer) -> None:
    background = "() => getComputedStyle(document.body).getPropertyValue('--jp-layout-color1').trim()"
    lab.open(["1"])
    assert lab.page.evaluate(background) == "white"
    with lab.page.expect_response(lambda response: "/settings" in response.url and response.request.method == "PUT"):
        lab.set_theme("dark")
    assert lab.page.evaluate(background) != "white"
    lab.screenshot("dark")
    lab_server.quieten()
    lab.reopen()
    assert lab.page.evaluate(background) == "white"
