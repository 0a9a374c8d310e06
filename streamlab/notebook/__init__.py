"""Jupyter: a live panel for every query, and the picture of it that a saved notebook keeps.

========  ====================================================================
snapshot  what is read of a query, once
history   the last minute of its figures
chart     what the chart shows, guessed or told
view      the panel as regions of HTML; tiles, reading, markup, svg: what they are made of
page      where each region stands
static    what a saved notebook keeps; picture: where it is not trusted; console: the same as text
figures   Bokeh figures
panel     the widget, its thread and its buttons; panel.js, panel.css
========  ====================================================================

Only `panel` and `figures` need Jupyter's packages (extra ``notebook``).
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from streamlab.errors import PlanError
from streamlab.notebook import console, snapshot

if TYPE_CHECKING:
    from streamlab.notebook.panel import Panel as _Panel
    from streamlab.runtime.query import Query

_shown: weakref.WeakKeyDictionary[Query, int] = weakref.WeakKeyDictionary()  # by which run of a cell
# of queries without a name: the cell that shows it
_cells: weakref.WeakKeyDictionary[Query, str] = weakref.WeakKeyDictionary()


class Text:
    """The panel of a console: text, as of when it is looked at."""

    def __init__(self, query: Query, sink: str | None) -> None:
        self._query, self._sink = query, sink

    def close(self) -> None:
        """Do nothing: text leaves nothing behind."""

    def __repr__(self) -> str:
        """Return the panel as text."""
        return console.text(snapshot.take(self._query, self._sink))


Panel = Any  # a Panel in a notebook, a Text elsewhere


def shell() -> Any:
    """Return the shell of the notebook that this runs in; None: it is no notebook."""
    if "IPython" not in sys.modules:
        return None
    found = sys.modules["IPython"].get_ipython()
    return found if found is not None and getattr(found, "kernel", None) is not None else None


def show(query: Query, sink: str | None = None) -> Panel:
    """Show a query: one panel each; shown again, it moves to the new place."""
    if sink is not None:
        query.frame(0, sink=sink)  # names the valid ones
    notebook = shell()
    if notebook is None:
        return Text(query, sink)
    if query.plan.name is None:
        _replace(query, notebook)
    panel = _made(query, sink)
    _shown[query] = notebook.execution_count
    panel.open()
    return panel


def _replace(query: Query, notebook: Any) -> None:
    """Stop the queries without a name that an earlier run of the same cell has shown: its text may have changed, and so their plan."""
    cell = notebook.kernel.get_parent("shell").get("metadata", {}).get("cellId")
    if cell is None:
        return
    for other, place in list(_cells.items()):
        if place == cell and other is not query and _shown.get(other) != notebook.execution_count:
            other.stop()
            del _cells[other]
    _cells[query] = cell


def _made(query: Query, sink: str | None) -> _Panel:
    try:
        from streamlab.notebook.panel import Panel as Live  # noqa: PLC0415  # a console needs none of its packages
    except ImportError as error:
        raise PlanError(
            f'show: the panel needs {error.name}; install it with: pip install "streamlab[notebook]".'
        ) from error
    if query.panel is not None:
        query.panel.close()
    query.panel = panel = Live(query, sink)
    return panel


def plot(query: Query, x: str | None, y: str | None, by: str | None, kind: str | None) -> Panel:
    """Set what the chart of a query's panel shows; it is shown if it is not yet."""
    if shell() is None:
        return Text(query, None)
    panel = query.panel
    if panel is None or not panel.is_open:
        panel = _made(query, None)
        panel.plot(x, y, by, kind)
        _shown[query] = shell().execution_count
        panel.open()
    else:
        panel.plot(x, y, by, kind)
    return panel


def display(query: Query) -> None:
    """Show a query that is the last line of a cell, unless that cell has shown it already."""
    notebook = shell()
    if notebook is None:
        print(repr(query))  # noqa: T201  # what a console shows of it
    elif _shown.get(query) != notebook.execution_count:
        show(query)
