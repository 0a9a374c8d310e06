"""The panel as HTML. Pure: a snapshot and the last minute in, named regions out; live and saved panels are made of the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamlab.notebook import reading, svg
from streamlab.notebook.chart import Chart, Line
from streamlab.notebook.markup import table, text
from streamlab.notebook.tiles import BLUE, ORANGE, RED, Tile, tiles
from streamlab.plan.schema import WINDOW_END, WINDOW_START

if TYPE_CHECKING:
    import polars as pl

    from streamlab.notebook.history import History
    from streamlab.notebook.snapshot import Partition, Snapshot

NEWEST, ASIDE = 8, 20
"""Rows of the result table; of late rows and dead letters."""

_DAY = 86_400_000

Regions = dict[str, str]


@dataclass(frozen=True, slots=True)
class View:
    """What is seen: a snapshot, the last minute, the chart, and how many of the newest rows have just come."""

    now: Snapshot
    history: History
    chart: Chart | None
    fresh: int = 0
    live: bool = True


def regions(view: View) -> Regions:
    """Return every part of the panel that changes, by name."""
    now = view.now
    return {
        "state": _state(now, live=view.live),
        "about": _about(now),
        "controls": _controls(now) if view.live else '<span class="sl-quiet">saved picture</span>',
        "alerts": _alerts(now),
        **_tiles(view),
        "late-count": _counted(now.metrics.late_rows),
        "dead-count": _counted(now.metrics.dead_letters),
        "chart-title": _chart_title(view),
        "rows-title": _rows_title(now),
        "rows": table(_newest(now), fresh=view.fresh if view.live else 0, least=NEWEST),
        "holder": partitions(now, short=True),
        "partitions": partitions(now),
        "late": _late(now),
        "dead": _dead(now),
        "plan": f'<pre class="sl-plan">{text(now.plan)}</pre>',
    }


# --- the first line ---


def _state(now: Snapshot, *, live: bool) -> str:
    return f'<b class="sl-dot sl-{text(now.status)}"></b>{text(status(now, live=live))}'


def status(now: Snapshot, *, live: bool) -> str:
    """Return what it does, or did and when."""
    after = f"{now.at:%H:%M} UTC after {reading.length(now.seconds * 1000)}"
    if now.is_live:
        return now.status if live else f"{now.status} at {after}"
    return f"{now.status} {after}"


def about(now: Snapshot) -> str:
    """Return what it reads and makes, and how much it holds."""
    count = len(now.partitions)
    parts = [
        f"{', '.join(now.sources)} → {', '.join(now.sinks)}, {count} partition{'' if count == 1 else 's'}",
        f"state {reading.size(now.metrics.state_bytes)}",
    ]
    if now.since_checkpoint is not None and now.is_live:
        parts.append(f"checkpoint {reading.length(round(now.since_checkpoint, -2))} ago")
    return " · ".join(parts)


def _about(now: Snapshot) -> str:
    told = text(about(now))
    return f'<span title="{told}">{told}</span>'


def _controls(now: Snapshot) -> str:
    if now.status == "running":
        return _button("pause", "Pause") + _button("stop", "Stop")
    if now.status == "paused":
        return _button("resume", "Resume") + _button("stop", "Stop")
    return ""


def _button(what: str, label: str) -> str:
    return f'<button type="button" data-do="{what}">{label}</button>'


def _alerts(now: Snapshot) -> str:
    found = ""
    if now.error is not None:
        found += f'<div class="sl-alert sl-bad" role="alert">{text(now.error)}</div>'
    if now.kept and now.seconds < 60:  # noqa: PLR2004  # news for a minute
        found += f'<div class="sl-alert sl-note">{text(now.kept)}</div>'
    return found


# --- the tiles ---


def _tiles(view: View) -> Regions:
    return {f"tile-{tile.name}": _tile(tile, live=view.live) for tile in tiles(view.now, view.history)}


def _tile(tile: Tile, *, live: bool) -> str:
    red = ' class="sl-red"' if tile.bad else ""
    number = f"<strong{red}>{text(tile.number)}</strong>"
    if not tile.colour:
        return number
    drawn, note = svg.spark(tile.values, tile.colour), text(tile.note)
    return f'{number}<em title="{note}">{note}</em>{drawn if live else svg.image(drawn)}'


def _counted(number: int) -> str:
    return f" {reading.count(number)}" if number else ""


# --- the panes ---


def _chart_title(view: View) -> str:
    if view.chart is None:
        return 'results <span class="sl-quiet">nothing to draw: no time and number</span>'
    more = view.chart.left_out(view.now.rows)
    rest = f", {more} more not drawn" if more else ""
    return f'{text(view.chart.title)} <span class="sl-quiet">{text(view.chart.unit + rest)}</span>'


def _rows_title(now: Snapshot) -> str:
    return f'{text(now.sink)}, newest first <span class="sl-quiet">{now.metrics.results:,} results</span>'


def _newest(now: Snapshot) -> pl.DataFrame:
    """Return the newest results: the window first, without its end, which says nothing new."""
    shown = now.rows.tail(NEWEST).reverse()
    if WINDOW_START not in shown.columns:
        return shown
    return shown.select(WINDOW_START, *[name for name in shown.columns if name not in (WINDOW_START, WINDOW_END)])


def partitions(now: Snapshot, *, short: bool = False) -> str:
    """Return a row for each partition: its event time, where it stands, how far it is behind, and which one holds the watermark."""
    shown = _foremost(now.partitions) if short else now.partitions
    times = [p.event_time for p in now.partitions if p.event_time is not None]
    first, last = min(times, default=0), max(times, default=0)
    told = reading.clock if last - first < _DAY else reading.day
    rows = "".join(_partition(p, first, last, told(p.event_time), topic=len(now.sources) > 1) for p in shown)
    left = len(now.partitions) - len(shown)
    rest = f'<tr><td colspan="6" class="sl-quiet">and {left} more: see Partitions</td></tr>' if left > 0 else ""
    head = "".join(
        f"<th{' class=sl-n' if right else ''}>{name}</th>"
        for name, right in (("", 0), ("event time, UTC", 0), ("", 0), ("offset", 1), ("lag", 1), ("", 0))
    )
    return f'<table class="sl-table"><thead><tr>{head}</tr></thead><tbody>{rows}{rest}</tbody></table>'


def _foremost(found: tuple[Partition, ...]) -> tuple[Partition, ...]:
    """Return as many partitions as there is room for: all, or those that matter most."""
    if len(found) <= NEWEST:
        return found
    matter = sorted(found, key=lambda p: (not p.holds, -p.lag))[: NEWEST - 1]
    return tuple(p for p in found if p in matter)


def _partition(part: Partition, first: int, last: int, time: str, *, topic: bool) -> str:
    name = f"{part.topic} p{part.number}" if topic else f"p{part.number}"
    why = "holds the watermark" if part.holds else "idle" if part.idle else ""
    # the slowest has a bar of half the width: how far the others are ahead is what one wants to see
    width = 0 if part.event_time is None else 50 + 50 * (part.event_time - first) / max(1, last - first)
    return (
        f'<tr class="{"sl-holds" if part.holds else "sl-idle" if part.idle else ""}"><td>{text(name)}</td>'
        f'<td class="sl-bar"><i style="width:{width:.0f}%"></i></td><td title="{reading.day(part.event_time)} UTC">{time}</td>'
        f'<td class="sl-n">{part.position:,}</td><td class="sl-n">{part.lag:,}</td><td class="sl-why">{why}</td></tr>'
    )


def _late(now: Snapshot) -> str:
    if not now.late.height:
        return '<p class="sl-quiet">No row came too late.</p>'
    shown = now.late.tail(ASIDE).reverse()
    bounds = [name for name in ("window_start", "window_end", "watermark") if name in shown.columns]
    first = shown.select(*bounds, *[name for name in shown.columns if name not in bounds])
    return _titled("late rows, newest first", f"{now.metrics.late_rows:,} in all; query.late has them") + table(first)


def _dead(now: Snapshot) -> str:
    if not now.dead_letters.height:
        return '<p class="sl-quiet">No record had to be set aside.</p>'
    shown = (
        now.dead_letters.tail(ASIDE).reverse().select("topic", "partition", "offset", "key", "value", "step", "error")
    )
    note = f"{now.metrics.dead_letters:,} in all; query.dead_letters has them"
    return _titled("dead letters, newest first", note) + table(shown)


def _titled(title: str, note: str) -> str:
    return f'<div class="sl-title">{title} <span class="sl-quiet">{note}</span></div>'


# --- charts ---


def latency_lines(history: History) -> tuple[Line, ...]:
    """Return p50, p95 and p99 of the processing latency over the last minute, in milliseconds."""
    lines = []
    for figure, colour in (("p99", RED), ("p95", ORANGE), ("p50", BLUE)):
        x, y = history.over_time(figure)
        if y:
            lines.append(Line(figure, tuple(x), tuple(y), colour))
    return tuple(lines)
