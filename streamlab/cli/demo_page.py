"""A notebook as a page: one file of HTML that needs no kernel, no network and no script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from streamlab.export.executing import read

if TYPE_CHECKING:
    from pathlib import Path

# JupyterLab's look, without the scripts that come with it; the policy keeps back those that a result may bring along
_PAGE = """
{%- extends "lab/index.html.j2" -%}
{%- block html_head_js -%}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:">
{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block data_javascript -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
@media (prefers-color-scheme: dark) { {% include "lab/static/theme-dark.css" %} }
:root { color-scheme: light dark; }
main { max-width: 1080px; margin: auto; }
</style>
{%- endblock -%}
"""


def write(notebook: Path, page: Path) -> None:
    """Write an executed notebook as a page.

    Examples
    --------
    >>> import nbformat, tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Delays <script>")])
    >>> nbformat.write(book, folder / "a.ipynb")
    >>> write(folder / "a.ipynb", folder / "a.html")
    >>> "Delays &lt;script&gt;</h1>" in (folder / "a.html").read_text()
    True
    """
    book = read(notebook)
    book.metadata.pop("widgets", None)  # the state of panels, of use to scripts alone
    exporter = HTMLExporter(raw_template=_PAGE, filters={"markdown2html": _rendered})
    text, _ = exporter.from_notebook_node(book, {"metadata": {"name": notebook.stem}})
    page.write_text(text, "utf-8")


def _rendered(markdown: str) -> str:
    """Return a cell's text as HTML; HTML in it is shown as it was written."""
    renderer = IPythonRenderer(escape=True, allow_harmful_protocols=False, exclude_anchor_links=True)
    return MarkdownWithMath(renderer=renderer).render(markdown)
