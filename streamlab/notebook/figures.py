"""The live charts: Bokeh figures whose data are replaced whole with each message."""

from __future__ import annotations

import functools
import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bokeh
from bokeh.document import Document
from bokeh.embed.util import standalone_docs_json_and_render_items
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    DatetimeTicker,
    HoverTool,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.models.formatters import DatetimeTickFormatter
from bokeh.plotting import figure

from streamlab.notebook.chart import apart, ticks
from streamlab.notebook.svg import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.notebook.chart import Chart, Line

VERSION: str = bokeh.__version__
HEIGHT = 176
_NAMES = 0.2
"""Share of the width that is kept for the lines' names."""

Columns = dict[str, list[Any]]


@functools.cache
def bokehjs() -> bytes:
    """Return BokehJS, compressed: a panel carries it, so that no network is needed."""
    path = Path(bokeh.__file__).parent / "server/static/js/bokeh.min.js"
    return gzip.compress(path.read_bytes(), 6)


def described(chart: Chart | None, identity: str) -> str:
    """Return both figures as JSON: by place, a Bokeh document, its root and a label for screen readers.

    Parameters
    ----------
    identity
        Letters and digits that no other panel of the page has: every model's name begins with them.
    """
    is_time = chart is not None and chart.is_time
    label = "results" if chart is None else f"live chart of {chart.title} over {chart.x}"
    figures = _both("line" if chart is None else chart.kind, is_time=is_time)
    made = json.loads(re.sub(r'"p(\d{4,})"', rf'"{identity}-\1"', figures))
    made["results"]["label"] = label
    return json.dumps(made)


@functools.cache
def _both(kind: str, *, is_time: bool) -> str:
    """Return both figures; to make them takes Bokeh a tenth of a second."""
    return json.dumps(
        {
            "results": _item(_figure(kind, is_time=is_time), "results"),
            "latency": _item(_figure("line", is_time=False, ago=True), "live chart of processing latency, last minute"),
        }
    )


def _item(plot: Any, label: str) -> dict[str, Any]:
    Document().add_root(plot)
    documents, (render,) = standalone_docs_json_and_render_items([plot], suppress_callback_warning=True)
    (document,) = documents.values()
    (root,) = render.to_json()["roots"]
    return {"doc": document, "root": root, "label": label}


def _figure(kind: str, *, is_time: bool, ago: bool = False) -> Any:
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", toolbar_location=None, tools="", min_border_left=44, min_border_right=0,
        min_border_top=6, min_border_bottom=22, background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None,
        x_range=Range1d(start=0, end=1, name="along"), y_range=Range1d(start=0, end=1, name="heights"), output_backend="canvas",
    )  # fmt: skip
    lines = ColumnDataSource({"xs": [], "ys": [], "colour": [], "name": []}, name="lines")
    points = ColumnDataSource({"x": [], "y": [], "colour": [], "name": []}, name="points")
    ends = ColumnDataSource({"x": [], "y": [], "text": [], "colour": []}, name="ends")
    bars = ColumnDataSource({"x": [], "y": [], "floor": [], "colour": [], "name": []}, name="bars")
    if kind == "line":
        plot.multi_line("xs", "ys", source=lines, line_color="colour", line_width=1.8, line_join="round")
    if kind == "bar":
        plot.segment("x", "floor", "x", "y", source=bars, line_color="colour", line_width=3, line_alpha=0.75)
    dots = plot.scatter("x", "y", source=points, color="colour", size=4.5 if kind == "scatter" else 3)
    plot.text("x", "y", text="text", source=ends, text_color="colour", text_font_size="11px", text_font_style="bold",
              text_baseline="middle", x_offset=6)  # fmt: skip
    across = "@x{%F %H:%M:%S}" if is_time else "@x{0.0} s" if ago else "@x"
    hover = HoverTool(renderers=[dots], tooltips=[("", "@name"), ("", "@y{0,0.[00]}"), ("", across)], mode="mouse")
    if is_time:
        hover.formatters = {"@x": "datetime"}
    plot.add_tools(hover)
    _axes(plot, is_time=is_time, ago=ago)
    return plot


def _axes(plot: Any, *, is_time: bool, ago: bool) -> None:
    plot.xgrid.visible = False
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = plot.axis.minor_tick_line_color = None
    plot.axis.major_label_text_font_size = "10px"
    plot.axis.major_label_standoff = 4
    plot.xaxis.ticker.desired_num_ticks = 5
    plot.yaxis.ticker.desired_num_ticks = 4
    plot.yaxis.ticker.num_minor_ticks = plot.xaxis.ticker.num_minor_ticks = 0
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
    if is_time:
        plot.xaxis.ticker = DatetimeTicker(desired_num_ticks=5, num_minor_ticks=0)
        plot.xaxis.formatter = DatetimeTickFormatter(
            milliseconds="%H:%M:%S",
            seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b",
            months="%b %Y", years="%Y",
        )  # fmt: skip
    elif ago:
        plot.xaxis.formatter = CustomJSTickFormatter(code="return tick === 0 ? 'now' : tick + ' s'")
        plot.xaxis.ticker.mantissas = [1, 1.5, 2, 3, 6]


def data(
    lines: Sequence[Line], *, left: float | None = None, right: float | None = None, dots: bool = False
) -> dict[str, Columns]:
    """Return the columns of every source of a figure, and its bounds.

    Parameters
    ----------
    left, right
        Bounds along the axis; those of the points by default.
    dots
        Whether points are drawn too.
    """
    xs, ys = [x for line in lines for x in line.x], [y for line in lines for y in line.y]
    marks = ticks(min(0.0, *ys), max(ys)) if ys else [0.0, 1.0]
    low, high = marks[0], marks[-1]
    first = (min(xs) if xs else 0.0) if left is None else left
    last = (max(xs) if xs else 1.0) if right is None else right
    span = (last - first) or 1.0
    rim = (high - low) * 0.04  # room for what stands on the outermost grid lines
    gap = (high - low) * 12 / (HEIGHT - 28)
    heights = apart([line.y[-1] for line in lines], gap, low, high)
    each = [(x, y, line) for line in lines for x, y in zip(line.x, line.y, strict=True)]
    drawn = each if dots else [(line.x[-1], line.y[-1], line) for line in lines]
    columns: Columns = {
        "x": [x for x, _, _ in drawn], "y": [y for _, y, _ in drawn],
        "colour": [line.colour for _, _, line in drawn], "name": [line.name for _, _, line in drawn],
    }  # fmt: skip
    return {
        "lines": {
            "xs": [list(line.x) for line in lines], "ys": [list(line.y) for line in lines],
            "colour": [line.colour for line in lines], "name": [line.name for line in lines],
        },
        "points": columns,
        "bars": {
            "x": [x for x, _, _ in each], "y": [y for _, y, _ in each], "floor": [max(low, 0.0)] * len(each),
            "colour": [line.colour for _, _, line in each], "name": [line.name for _, _, line in each],
        },
        "ends": {
            "x": [last] * len(lines), "y": heights, "text": [short(line.name) for line in lines],
            "colour": [line.colour for line in lines],
        },
        "bounds": {
            "low": [low - rim], "high": [high + rim], "left": [first - span * 0.01], "right": [last + span * _NAMES],
        },
    }  # fmt: skip
