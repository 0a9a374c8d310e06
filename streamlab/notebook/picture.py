"""The panel as one drawing, and plain tables below it: for front ends that take style sheets out of what they do not trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.notebook import svg, view
from streamlab.notebook.markup import text
from streamlab.notebook.svg import GREY, XMLNS
from streamlab.notebook.tiles import Tile, tiles

if TYPE_CHECKING:
    from streamlab.notebook.view import Regions, View

_WIDTH, _TILE, _GAP = 960, 112, 8
_INK = "#6b7686"
"""Readable on light and dark grounds alike: an image does not know which it is on."""

_WIDE, _NARROW = 178, 108
_DOTS = {"running": "#3a9d6e", "paused": "#e0a339", "failed": "#d1495b"}


def drawing(seen: View, charts: tuple[str, str]) -> str:
    """Return header, tiles and charts as one image.

    Parameters
    ----------
    charts
        The two charts as drawings.
    """
    now, height = seen.now, 400
    head = (
        _text(now.name, 0, 20, 15, bold=True)
        + f'<circle cx="{_across(now.name) + 20}" cy="15" r="4" fill="{_DOTS.get(now.status, "#8a94a3")}"/>'
        + _text(f"{view.status(now, live=False)}   {view.about(now)}", _across(now.name) + 32, 20, 13)
    )
    places, x = [], 0
    for tile in tiles(now, seen.history):
        width = _WIDE if tile.colour else _NARROW
        places.append(_tile(tile, x, 36, width))
        x += width + _GAP
    titles = _text(_said(seen), 0, 172, 13, bold=True) + _text(
        "processing latency, ms per batch, last minute", 488, 172, 13, bold=True
    )
    drawn = "".join(_within(chart, x, 184, 450, 176) for chart, x in zip(charts, (0, 488), strict=True))
    body = head + "".join(places) + titles + drawn
    frame = f'{XMLNS} viewBox="0 0 {_WIDTH} {height - 36}" width="{_WIDTH}" height="{height - 36}"'
    return svg.image(
        f'<svg {frame} font-family="{svg.FONT}">{body}</svg>', f"{now.name}, {view.status(now, live=False)}"
    )


def _said(seen: View) -> str:
    return f"{seen.chart.title}, {seen.chart.unit}" if seen.chart else "results"


def _across(name: str) -> int:
    return 9 * min(len(name), 40)


def _tile(tile: Tile, x: int, y: int, width: int) -> str:
    ground = f'<rect x="{x}" y="{y}" width="{width}" height="{_TILE}" rx="4" fill="{GREY}" fill-opacity=".09"/>'
    said = _text(tile.label, x + 10, y + 20, 11) + _text(tile.number, x + 10, y + 45, 19, bold=True, red=tile.bad)
    if not tile.colour:
        return ground + said
    spark = _within(svg.spark(tile.values, tile.colour), x, y + _TILE - 32, width, 28)
    return ground + said + _text(tile.note, x + 10, y + 66, 11) + spark


def _within(drawn: str, x: int, y: int, width: int, height: int) -> str:
    """Return a drawing as a part of another."""
    return f'<svg x="{x}" y="{y}" width="{width}" height="{height}">{drawn}</svg>'


def _text(words: str, x: int, y: int, size: int, *, bold: bool = False, red: bool = False) -> str:
    weight, colour = ' font-weight="600"' if bold else "", "#d1495b" if red else _INK
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{weight}>{text(words)}</text>'


def plain(seen: View, parts: Regions, charts: tuple[str, str]) -> str:
    """Return the drawing, and behind it what is a table: results, partitions, late rows, dead letters, the plan."""
    more = "".join(
        f"<details><summary>{title}{parts[counted] if counted else ''}</summary>{parts[name]}</details>"
        for title, name, counted in (
            ("partitions", "partitions", ""), ("late rows", "late", "late-count"),
            ("dead letters", "dead", "dead-count"), ("plan", "plan", ""),
        )
    )  # fmt: skip
    return f"{drawing(seen, charts)}{parts['alerts']}<p><b>{parts['rows-title']}</b></p>{parts['rows']}{more}"
