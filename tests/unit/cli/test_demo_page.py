"""The demo's page, whatever the notebook brings along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbformat import v4

from streamlab.cli import demo_page
from streamlab.errors import PlanError

if TYPE_CHECKING:
    from pathlib import Path

BAD = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;"


def page(folder: Path, *cells: Any, **metadata: Any) -> str:
    nbformat.write(v4.new_notebook(cells=list(cells), metadata=metadata), folder / "a.ipynb")
    demo_page.write(folder / "a.ipynb", folder / "a.html")
    return (folder / "a.html").read_text("utf-8")


def body(text: str) -> str:
    return text[text.index("<main>") :]


@pytest.mark.parametrize(
    "cell",
    [
        v4.new_markdown_cell(f"# Delays {BAD}"),
        v4.new_markdown_cell(f"Delays\n\n{BAD}\n"),
        v4.new_code_cell(f"x = '{BAD}'"),
        v4.new_code_cell("x", outputs=[v4.new_output("stream", text=BAD)]),
        v4.new_code_cell("x", outputs=[v4.new_output("error", ename="E", evalue=BAD, traceback=[BAD])]),
        v4.new_code_cell("x", outputs=[v4.new_output("display_data", data={"text/plain": BAD})]),
    ],
    ids=["heading", "paragraph", "code", "stream", "error", "text"],
)
def test_html_in_what_is_no_html_is_shown_as_it_was_written(tmp_path, cell):
    assert ESCAPED in body(page(tmp_path, cell))
    assert "<script" not in page(tmp_path, cell)


def test_scripts_and_widgets_are_left_out_and_their_text_is_shown(tmp_path):
    view, state = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
    outputs = [
        v4.new_output("display_data", data={"application/javascript": "alert(1)"}),
        v4.new_output("display_data", data={view: {"model_id": "abc"}, "text/plain": "a saved panel"}),
    ]
    text = page(tmp_path, v4.new_code_cell("x", outputs=outputs), widgets={state: {"state": {"abc": {}}}})
    assert "a saved panel" in text
    assert "alert(1)" not in text
    assert "<script" not in text


def test_a_link_that_would_run_a_script_leads_nowhere(tmp_path):
    assert "javascript:" not in body(page(tmp_path, v4.new_markdown_cell("[x](javascript:alert(1))")))


def test_what_a_result_shows_as_html_stays_and_the_browser_is_told_to_run_and_fetch_nothing(tmp_path):
    output = v4.new_output("display_data", data={"text/html": "<b>154</b>", "text/plain": "154"})
    text = page(tmp_path, v4.new_code_cell("x", outputs=[output]))
    assert "<b>154</b>" in text
    policy = re.search(r"""<meta content="([^"]*)" http-equiv="Content-Security-Policy\"""", text)
    assert policy is not None
    assert policy[1].split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "font-src data:",
    ]
    assert text.index("Content-Security-Policy") < text.index("<style")


def test_it_asks_for_no_file(tmp_path):
    text = page(tmp_path, v4.new_markdown_cell("# Delays"))
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|url\((?!["']?data:)""", text)


def test_what_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "a.ipynb").write_text("no notebook")
    with pytest.raises(PlanError, match=r"a\.ipynb' is no Jupyter notebook: "):
        demo_page.write(tmp_path / "a.ipynb", tmp_path / "a.html")
