"""Pictures without a script: sparks, and the charts of a saved notebook.

They have no style sheet: as images they stand for themselves, so their greys are chosen for light and dark grounds.
"""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from streamlab.notebook.chart import apart, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamlab.notebook.chart import Line

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 450, 176, 44, 86, 10, 20


XMLNS = 'xmlns="http://www.w3.org/2000/svg"'
GREY = "#808997"
_TICK = f'font-size="10" fill="{GREY}"'
FONT = "Inter, system-ui, sans-serif"


def image(svg: str, label: str = "") -> str:
    """Return a drawing as an image: front ends that do not trust a notebook take inline drawings out, and leave images."""
    return f'<img alt="{escape(label)}" src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"/>'


def spark(values: Sequence[float], colour: str) -> str:
    """Return a small line with a tint below it; one point or none: an empty one of the same size."""
    width, height, pad = 120.0, 26.0, 2.0
    if len(values) < 2:  # noqa: PLR2004  # a line has two points
        return f'<svg {XMLNS} viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" aria-hidden="true"></svg>'
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = [
        f"{i * width / (len(values) - 1):.1f},{height - pad - (v - low) / span * (height - 2 * pad):.1f}"
        for i, v in enumerate(values)
    ]
    line = "M" + " L".join(points)
    return (
        f'<svg {XMLNS} viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{line} L{width:g},{height:g} L0,{height:g} Z" fill="{colour}" opacity=".14"/>'
        f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.6" vector-effect="non-scaling-stroke"/></svg>'
    )


def chart(lines: Sequence[Line], label: str, across: Callable[[float], str], *, kind: str = "line") -> str:
    """Return lines with a grid, and each line's name at its end.

    Parameters
    ----------
    across
        Makes the text of a tick along the axis.
    """
    xs, ys = [x for line in lines for x in line.x], [y for line in lines for y in line.y]
    if not xs:
        return f'<svg {XMLNS} viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}: no data"></svg>'
    marks = ticks(min(0.0, *ys), max(ys))
    low, high, left, right = marks[0], marks[-1], min(xs), max(xs)
    deep, wide = _HEIGHT - _BOTTOM - _TOP, _WIDTH - _LEFT - _RIGHT

    def down(y: float) -> float:
        return _TOP + deep * (1 - (y - low) / (high - low))

    def along(x: float) -> float:
        return _LEFT + wide * ((x - left) / (right - left) if right > left else 0.5)

    grid = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT + 8}" y1="{down(t):.1f}" y2="{down(t):.1f}" stroke="{GREY}" stroke-opacity=".28"/>'
        f'<text x="{_LEFT - 6}" y="{down(t) + 3.5:.1f}" {_TICK} text-anchor="end">{t:,g}</text>'
        for t in marks
    )
    stops = [left + (right - left) * i / 4 for i in range(5)] if right > left else [left]
    said = {across(x): x for x in reversed(stops)}  # two stops may round to one text
    axis = "".join(
        f'<text x="{along(x):.1f}" y="{_HEIGHT - 4}" {_TICK} text-anchor="middle">{escape(name)}</text>'
        for name, x in said.items()
    )
    ends = apart([down(line.y[-1]) for line in lines], 12.0, _TOP, _TOP + deep)
    drawn = "".join(_drawn(line, along, down, kind, down(max(low, 0.0))) for line in lines)
    bold = 'font-size="11" font-weight="600"'
    names = "".join(
        f'<text x="{_WIDTH - _RIGHT + 12}" y="{y + 4:.1f}" {bold} fill="{line.colour}">{escape(short(line.name))}</text>'
        for line, y in zip(lines, ends, strict=True)
    )
    frame = f'{XMLNS} viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" font-family="{FONT}"'
    return f'<svg {frame} role="img" aria-label="{escape(label)}">{grid}{axis}{drawn}{names}</svg>'


def _drawn(line: Line, along: Callable[[float], float], down: Callable[[float], float], kind: str, floor: float) -> str:
    points = [(along(x), down(y)) for x, y in zip(line.x, line.y, strict=True)]
    if kind == "bar":
        return "".join(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{floor:.1f}" stroke="{line.colour}" stroke-width="3" opacity=".75"/>'
            for x, y in points
        )
    if kind == "scatter" or len(points) == 1:
        return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{line.colour}"/>' for x, y in points)
    path = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8" stroke-linejoin="round"/>'


def short(name: str, limit: int = 10) -> str:
    """Return a name that fits at the end of a line."""
    return name if len(name) <= limit else name[: limit - 1] + "…"
