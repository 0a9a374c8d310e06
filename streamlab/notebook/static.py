"""What remains: the same panel as a picture in HTML, for readers with no kernel, no network and no script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from streamlab.notebook import console, reading, svg, view
from streamlab.notebook.markup import text

if TYPE_CHECKING:
    from streamlab.notebook.view import View

LARGEST = 500_000
"""Bytes of a picture at most."""


@cache
def style() -> str:
    """Return the panel's style sheet."""
    return files(__package__).joinpath("panel.css").read_text("utf-8")


def bundle(seen: View, identity: str) -> dict[str, str]:
    """Return the picture by MIME type: HTML, and plain text for where there is none."""
    return {"text/html": _html(seen, identity), "text/plain": console.text(seen.now)}


def _html(seen: View, identity: str) -> str:
    parts = view.regions(seen)
    whole = view.page(seen.now.name, f"saved-{identity}", parts, (_results(seen), _latency(seen)))
    picture = f'<div data-streamlab="{identity}"><style>{style()}</style>{whole}</div>'
    if len(picture.encode()) > LARGEST:  # rows of a hundred columns: the figures are what matters
        parts |= dict.fromkeys(("rows", "late", "dead"), '<p class="sl-quiet">too large to be saved</p>')
        whole = view.page(seen.now.name, f"saved-{identity}", parts, (_results(seen), _latency(seen)))
        picture = f'<div data-streamlab="{identity}"><style>{style()}</style>{whole}</div>'
    return picture


def _results(seen: View) -> str:
    chart = seen.chart
    if chart is None:
        return ""
    lines = chart.lines(seen.now.rows)
    xs = [x for line in lines for x in line.x]
    span = max(xs, default=0.0) - min(xs, default=0.0)

    def across(x: float) -> str:
        if not chart.is_time:
            return f"{x:,g}"
        at = reading.moment(int(x))
        return f"{at:%H:%M:%S}" if span < 300_000 else f"{at:%H:%M}" if span < 172_800_000 else f"{at:%d %b}"  # noqa: PLR2004  # as fine as one can read

    return svg.chart(lines, f"{chart.title} over {text(chart.x)}", across, kind=chart.kind)


def _latency(seen: View) -> str:
    lines = view.latency_lines(seen.history)
    return svg.chart(lines, "processing latency over the last minute", lambda x: "now" if x == 0 else f"{x:.0f} s")
