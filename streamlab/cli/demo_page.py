"""A notebook as a page: one file of HTML that needs no kernel, no network and no script."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LIGHT, _DARK = "default", "github-dark"

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1f2328; --quiet: #656d76; --box: #f6f8fa; --rule: #d8dee4; }
@media (prefers-color-scheme: dark) {
  :root { --page: #111316; --ink: #e6e8eb; --quiet: #9aa2ab; --box: #1b1f24; --rule: #31363d;
    --jp-layout-color0: #111316; --jp-layout-color1: #111316; --jp-layout-color2: #1b1f24; --jp-border-color2: #31363d;
    --jp-ui-font-color0: #fff; --jp-ui-font-color1: #e6e8eb; --jp-ui-font-color2: #9aa2ab; --jp-ui-font-color3: #767e87; }
}
body { margin: 0 auto; padding: 32px 24px 64px; max-width: 980px; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 12px; } h2 { font-size: 20px; margin: 40px 0 8px; }
p, ul { margin: 8px 0 12px; max-width: 74ch; } a { color: #2f76d2; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
p code, li code { background: var(--box); padding: 1px 4px; border-radius: 4px; }
.code { background: var(--box); border-radius: 6px; padding: 10px 14px; margin: 12px 0 8px; overflow-x: auto; }
.code pre { margin: 0; background: none; }
.out { margin: 8px 0 16px; overflow-x: auto; } .out pre { margin: 0; }
.out .error { color: #c4314b; }
.out table.dataframe, .out table.dataframe th, .out table.dataframe td { border: 0; }
.out table.dataframe { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.out table.dataframe th, .out table.dataframe td { border-bottom: 1px solid var(--rule); padding: 3px 12px 3px 0; text-align: left; }
.out table.dataframe thead tr:last-child td { color: var(--quiet); }
.out small { color: var(--quiet); }
"""


def write(notebook: Path, page: Path) -> None:
    """Write an executed notebook as a page.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> cell = {"cell_type": "markdown", "source": ["# Delays"]}
    >>> _ = (folder / "a.ipynb").write_text(json.dumps({"cells": [cell]}))
    >>> write(folder / "a.ipynb", folder / "a.html")
    >>> "<h1>Delays</h1>" in (folder / "a.html").read_text()
    True
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    body = "\n".join(part for cell in cells for part in _cell(cell))
    dark = HtmlFormatter(style=_DARK).get_style_defs(".code")
    style = f"{_STYLE}{HtmlFormatter(style=_LIGHT).get_style_defs('.code')}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    head = f'<meta charset="utf-8"><title>{html.escape(notebook.stem)}</title><style>{style}\n.code {{ background: var(--box); }}</style>'
    page.write_text(f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n', "utf-8")


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield MarkdownIt("commonmark", {"html": False}).enable("table").render(source)
    elif cell["cell_type"] == "code" and source.strip():
        yield f'<div class="code">{highlight(source, PythonLexer(), HtmlFormatter())}</div>'
        yield from (f'<div class="out">{shown}</div>' for output in cell["outputs"] if (shown := _output(output)))


def _output(output: Mapping[str, Any]) -> str:
    kind, data = output["output_type"], output.get("data", {})
    if kind == "error":
        return f'<pre class="error">{html.escape(output["ename"])}: {html.escape(output["evalue"])}</pre>'
    if kind == "stream":
        return f"<pre>{html.escape(''.join(output['text']))}</pre>"
    if "text/html" in data:
        return "".join(data["text/html"])
    text = "".join(data.get("text/plain", ""))
    return f"<pre>{html.escape(text)}</pre>" if text else ""
