"""What remains: the same panel as a picture in HTML, for readers with no kernel, no network and no script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from streamlab.notebook import console, reading, svg, view
from streamlab.notebook.page import page
from streamlab.notebook.picture import plain

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
    picture = _whole(seen, identity, parts)
    if len(picture.encode()) > LARGEST:  # rows of very long texts: the figures are what matters
        parts |= dict.fromkeys(("rows", "late", "dead", "plan"), '<p class="sl-quiet">too large to be saved</p>')
        picture = _whole(seen, identity, parts)
    return picture


def _whole(seen: View, identity: str, parts: view.Regions) -> str:
    charts = _results(seen), _latency(seen)
    images = svg.image(charts[0], "the results"), svg.image(charts[1], "processing latency over the last minute")
    rich = page(seen.now.name, f"saved-{identity}", parts, images)
    mine = f'[data-streamlab="{identity}"]'
    # where the live panel cannot be, its place says so; the picture is enough
    alone = f".jp-OutputArea-child:not(:has(.sl)):has(+ .jp-OutputArea-child {mine}) {{ display: none; }}"
    # style sheets are taken out of what is not trusted: then the plain form is what one sees
    either = ".sl-plain { display: none; } .sl-rich { display: block !important; }"
    return (
        f'<div data-streamlab="{identity}"><style>{style()}{alone}{either}</style>'
        f'<div class="sl-rich" style="display:none">{rich}</div><div class="sl-plain">{plain(seen, parts, charts)}</div></div>'
    )


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

    return svg.chart(lines, f"{chart.title} over {chart.x}", across, kind=chart.kind)


def _latency(seen: View) -> str:
    label = "processing latency over the last minute"
    return svg.chart(view.latency_lines(seen.history), label, lambda x: "now" if round(x) == 0 else f"{x:.0f} s")
