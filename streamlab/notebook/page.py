"""The page of the panel: where each region stands. Tabs are radio buttons, so that they work without a kernel or a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlab.notebook.markup import region, text
from streamlab.notebook.tiles import LABELS

if TYPE_CHECKING:
    from streamlab.notebook.view import Regions

_BEHIND = {"late": "the rows", "dead": "them"}
"""Tiles with more behind a tab."""

_TABS = (
    ("results", "Results", ""),
    ("partitions", "Partitions", ""),
    ("late", "Late", "late-count"),
    ("dead", "Dead letters", "dead-count"),
    ("plan", "Plan", ""),
)


def page(name: str, identity: str, parts: Regions, charts: tuple[str, str] = ("", "")) -> str:
    """Return the panel with its regions in place.

    Parameters
    ----------
    name
        Of the query.
    identity
        Letters and digits that no other panel of the page has: what ties its tabs together.
    charts
        What stands in the places of the two charts: pictures, or nothing where a live panel draws.
    """
    tabs = "".join(
        f'<input type="radio" class="sl-tab sl-at-{tab}" name="sl-{identity}" id="sl-{identity}-{tab}"{" checked" if not n else ""}/>'
        f'<label for="sl-{identity}-{tab}">{label}{region(counted, parts[counted]) if counted else ""}</label>'
        for n, (tab, label, counted) in enumerate(_TABS)
    )
    tops = "".join(_top(tile, label, identity, parts) for tile, label in LABELS.items())
    return f"""<section class="sl" aria-label="streamlab query {text(name)}">
<header class="sl-head"><span class="sl-who">{text(name)}</span>{region("state", parts["state"], classes="sl-state")}\
{region("about", parts["about"], classes="sl-quiet sl-about")}{region("controls", parts["controls"], classes="sl-controls")}</header>
{region("alerts", parts["alerts"], "div")}
<div class="sl-tiles">{tops}</div>
<div class="sl-tabs">{tabs}
<div class="sl-pane sl-in-results"><div class="sl-charts">
{_chart("results", region("chart-title", parts["chart-title"]), charts[0])}
{_chart("latency", 'processing latency <span class="sl-quiet">ms per batch, last minute</span>', charts[1])}</div>
<div class="sl-split"><div>{region("rows-title", parts["rows-title"], "div", "sl-title")}{_scroll("rows", parts)}</div>
<div><div class="sl-title">partitions</div>{_scroll("holder", parts)}</div></div></div>
<div class="sl-pane sl-in-partitions">{_scroll("partitions", parts)}</div>
<div class="sl-pane sl-in-late">{_scroll("late", parts)}</div>
<div class="sl-pane sl-in-dead">{_scroll("dead", parts)}</div>
<div class="sl-pane sl-in-plan">{_scroll("plan", parts)}</div>
</div></section>"""


def _top(tile: str, label: str, identity: str, parts: Regions) -> str:
    named = f'<div class="sl-quiet sl-name">{label}</div>{region(f"tile-{tile}", parts[f"tile-{tile}"], "div")}'
    if tile not in _BEHIND:
        return f'<div class="sl-tile">{named}</div>'
    link = f'<label class="sl-link" for="sl-{identity}-{tile}">see {_BEHIND[tile]}</label>'
    return f'<div class="sl-tile">{named}{link}</div>'


def _chart(name: str, title: str, picture: str) -> str:
    return f'<figure><figcaption>{title}</figcaption><div class="sl-chart" data-chart="{name}">{picture}</div></figure>'


def _scroll(name: str, parts: Regions) -> str:
    return region(name, parts[name], "div", "sl-scroll")
