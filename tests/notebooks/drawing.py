"""Time lines: rows as dots, windows and versions as bars, matches as lines between tracks. Pure: values in, SVG out.

A drawing has no ground of its own: its colours are legible on white and on black.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from streamlab.notebook.chart import COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH = 880
LEFT = 104
RIGHT = 18
GREY = "#7d828b"
OUT = "#d1495b"
_RADIUS, _BAR, _ROW, _GAP, _LINKED = 10, 24, 30, 12, 24
_NEAR, _FAR = 15.0, 27.0  # how far above a dot's middle notes stand
_STEPS = tuple(
    timedelta(seconds=s) for s in (1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
)
_TICKS = 12
_BEYOND = 0.14


@dataclass(frozen=True, slots=True)
class Dot:
    """A row: a number in it, a note above it; hollow if it counts for nothing."""

    at: datetime
    text: str = ""
    note: str = ""
    is_out: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time. `ends` are a bracket each, "[)" for a window; no end: for ever.

    Until `waits` it still takes rows that come out of order.
    """

    start: datetime
    end: datetime | None
    text: str = ""
    ends: str = "[)"
    waits: datetime | None = None
    is_faint: bool = False


@dataclass(frozen=True, slots=True)
class Track:
    """What happens to one key, or in one stream: dots on a line, bars below them."""

    name: str
    dots: Sequence[Dot] = ()
    bars: Sequence[Bar] = ()
    colour: str = COLOURS[0]


@dataclass(frozen=True, slots=True)
class Link:
    """A match: from a time of one track to a time of another, tracks counted from the top."""

    tracks: tuple[int, int]
    times: tuple[datetime, datetime]


def svg(tracks: Sequence[Track], links: Sequence[Link] = (), *, every: timedelta | None = None) -> str:
    """Return a drawing of tracks, one below the other, over one axis of time; `every` says how far apart its ticks are."""
    scale = Scale.over(tracks, every)
    packed = [pack(track.bars, scale) for track in tracks]
    gap = _LINKED if links else _GAP
    above = [_note_room(track, scale) for track in tracks]
    heights = [_height(track, room, rows) + gap for track, room, rows in zip(tracks, above, packed, strict=True)]
    tops = [0, *accumulate(heights)]
    deep = tops[-1]
    lines = [_grid(scale, deep)]
    levels = [_line(track, room, top) for track, room, top in zip(tracks, above, tops, strict=False)]
    lines += [_link(link, levels, scale) for link in links]
    for track, y, rows in zip(tracks, levels, packed, strict=True):
        lines += _track(track, y, rows, scale)
    if not links:
        lines += [
            f'<line x1="0" x2="{WIDTH}" y1="{top - gap / 2:g}" y2="{top - gap / 2:g}" stroke="{GREY}" stroke-opacity=".3"/>'
            for top in tops[1:-1]
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {deep + 22}" width="{WIDTH}" height="{deep + 22}" '
        f'font-family="Inter, system-ui, sans-serif" font-size="12">{"".join(lines)}</svg>'
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a time is, from left to right."""

    start: datetime
    end: datetime
    every: timedelta | None = None

    @classmethod
    def over(cls, tracks: Sequence[Track], every: timedelta | None = None) -> Scale:
        """Return a scale that has room for all that tracks show."""
        times = [t for track in tracks for t in _times(track)]
        start, end = min(times), max(times)
        if any(bar.end is None for track in tracks for bar in track.bars):
            end += (end - start) * _BEYOND  # room for what goes on
        edge = max((end - start) * 0.03, timedelta(milliseconds=1))
        return cls(start - edge, end + edge, every)

    def x(self, at: datetime) -> float:
        """Return the place of a time."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * ((at - self.start) / (self.end - self.start)), 1)

    def ticks(self) -> list[datetime]:
        """Return round times."""
        step = self.every or next((s for s in _STEPS if (self.end - self.start) / s <= _TICKS), _STEPS[-1])
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        first = -((epoch - self.start) // step)
        return [epoch + n * step for n in range(first, (self.end - epoch) // step + 1)]


def _times(track: Track) -> Iterator[datetime]:
    yield from (dot.at for dot in track.dots)
    for bar in track.bars:
        yield from (at for at in (bar.start, bar.end, bar.waits) if at is not None)


def pack(bars: Sequence[Bar], scale: Scale) -> list[list[Bar]]:
    """Return bars in rows, so that none lies over another."""
    rows: list[tuple[list[Bar], float]] = []
    for bar in bars:
        left, right = _extent(bar, scale)
        place = next((n for n, (_, taken) in enumerate(rows) if taken <= left + 0.5), len(rows))
        if place == len(rows):
            rows.append(([], 0.0))
        rows[place] = ([*rows[place][0], bar], right)
    return [row for row, _ in rows]


def _extent(bar: Bar, scale: Scale) -> tuple[float, float]:
    left = scale.x(bar.start)
    right = scale.x(bar.waits or bar.end or scale.end)
    beside = 7 * len(bar.text) + 12 if _is_beside(bar, scale) else 0
    return left, right + beside


def _is_beside(bar: Bar, scale: Scale) -> bool:
    """Whether a bar's text has no room in it."""
    return scale.x(bar.end or scale.end) - scale.x(bar.start) < 6.6 * len(bar.text) + 14


def _note_room(track: Track, scale: Scale) -> int:
    """Return the room above a track's dots: that of its notes, on one level or two."""
    return max((round(level) for level in _raised(track.dots, scale)), default=0) + 9 - _RADIUS


def _height(track: Track, room: int, rows: Sequence[object]) -> int:
    return (room + 2 * _RADIUS if track.dots else 6) + _ROW * len(rows) + (6 if track.dots and rows else 2)


def _line(track: Track, room: int, top: float) -> float:
    """Return how far down a track's dots are, or its bars if it has no dots."""
    return top + (room + _RADIUS if track.dots else 6)


def _grid(scale: Scale, deep: float) -> str:
    return "".join(
        f'<line x1="{scale.x(t)}" x2="{scale.x(t)}" y1="4" y2="{deep}" stroke="{GREY}" stroke-opacity=".22"/>'
        f'<text x="{scale.x(t)}" y="{deep + 16}" text-anchor="middle" fill="{GREY}">{_clock(t, scale)}</text>'
        for t in scale.ticks()
    )


def _clock(at: datetime, scale: Scale) -> str:
    return f"{at:%H:%M:%S}" if scale.end - scale.start < timedelta(minutes=3) else f"{at:%H:%M}"


def _link(link: Link, levels: Sequence[float], scale: Scale) -> str:
    (x1, y1), (x2, y2) = ((scale.x(at), levels[n]) for n, at in zip(link.tracks, link.times, strict=True))
    return f'<line x1="{x1}" y1="{y1:g}" x2="{x2}" y2="{y2:g}" stroke="{GREY}" stroke-width="2"/>'


def _track(track: Track, y: float, rows: Sequence[Sequence[Bar]], scale: Scale) -> Iterator[str]:
    yield f'<text x="2" y="{y + (4 if track.dots else 16):g}" font-weight="600" fill="{track.colour}">{escape(track.name)}</text>'
    if track.dots:
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:g}" y2="{y:g}" stroke="{GREY}" stroke-opacity=".45"/>'
    for note, dot in zip(_raised(track.dots, scale), track.dots, strict=True):
        yield from _dot(dot, y, note, track.colour, scale)
    below = y + (_RADIUS + 6 if track.dots else 0)
    for n, row in enumerate(rows):
        for bar in row:
            yield from _bar(bar, below + n * _ROW, track.colour, scale)


def _raised(dots: Sequence[Dot], scale: Scale) -> list[float]:
    """Return how far above the line each note stands: neighbours that would touch stand on two levels."""
    order = sorted(range(len(dots)), key=lambda n: dots[n].at)
    levels = dict.fromkeys(order, _NEAR)
    for one, other in pairwise(order):
        room = scale.x(dots[other].at) - scale.x(dots[one].at)
        touches = room < 3.2 * (len(dots[one].note) + len(dots[other].note)) + 6
        if touches and dots[one].note and dots[other].note and levels[one] == _NEAR:
            levels[other] = _FAR
    return [levels[n] for n in range(len(dots))]


def _dot(dot: Dot, y: float, raised: float, colour: str, scale: Scale) -> Iterator[str]:
    x = scale.x(dot.at)
    ring = f'fill="none" stroke="{OUT}" stroke-width="2" stroke-dasharray="3 2"' if dot.is_out else f'fill="{colour}"'
    ink = OUT if dot.is_out else "#ffffff"
    yield f'<circle cx="{x}" cy="{y:g}" r="{_RADIUS}" {ring}/>'
    yield f'<text x="{x}" y="{y + 4:g}" text-anchor="middle" font-weight="600" fill="{ink}">{escape(dot.text)}</text>'
    if dot.note:
        ink = OUT if dot.is_out else GREY
        yield f'<text x="{x}" y="{y - raised:g}" text-anchor="middle" font-size="11" fill="{ink}">{escape(dot.note)}</text>'


def _bar(bar: Bar, y: float, colour: str, scale: Scale) -> Iterator[str]:
    left, right = scale.x(bar.start), scale.x(bar.end or scale.end)
    wide, middle = max(right - left, 0), y + _BAR / 2 + 4
    shade = ".07" if bar.is_faint else ".16"
    yield f'<rect x="{left}" y="{y:g}" width="{wide:g}" height="{_BAR}" fill="{colour}" fill-opacity="{shade}"/>'
    if bar.waits is not None and bar.end is not None:
        waits = scale.x(bar.waits)
        yield (
            f'<path d="M{right},{y + 1:g} H{waits} V{y + _BAR - 1:g} H{right}" fill="none" stroke="{colour}" '
            f'stroke-opacity=".7" stroke-dasharray="4 3"/>'
        )
    thick = 1.4 if bar.is_faint else 2.2
    for x, end in zip((left, right), bar.ends, strict=False):
        if shape := _end(end, x, y):
            yield f'<path d="{shape}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'
    if _is_beside(bar, scale):
        yield f'<text x="{right + 9}" y="{middle:g}" font-weight="600" fill="{colour}">{escape(bar.text)}</text>'
    else:
        centre = (left + right) / 2
        yield f'<text x="{centre:g}" y="{middle:g}" text-anchor="middle" font-weight="600" fill="{colour}">{escape(bar.text)}</text>'


def _end(bracket: str, x: float, y: float) -> str:
    """Return the path of a bracket: square where the end belongs to it, round where it does not."""
    low = y + _BAR
    return {
        "[": f"M{x + 6:g},{y:g} H{x:g} V{low:g} H{x + 6:g}",
        "]": f"M{x - 6:g},{y:g} H{x:g} V{low:g} H{x - 6:g}",
        "(": f"M{x + 6:g},{y:g} Q{x - 4:g},{y + _BAR / 2:g} {x + 6:g},{low:g}",
        ")": f"M{x - 7:g},{y:g} Q{x + 4:g},{y + _BAR / 2:g} {x - 7:g},{low:g}",
    }.get(bracket, "")
