"""The drawing of each page about an operator, made of the rows and results that the page itself shows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.notebook.chart import COLOURS
from streamlab.plan.windows import Session
from tests.notebooks.drawing import Bar, Dot, Link, Track, svg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Page = Mapping[str, Any]

FIVE = timedelta(minutes=5)


def drawing(name: str, page: Page) -> str:
    """Return the drawing of a page that was run, as SVG."""
    return DRAWINGS[name](page)


def _windows(page: Page, ends: str) -> str:
    """Draw rows and the windows that they made, a track for each user."""
    rows, results, late = _numbered(page["rows"]), page["totals"].collect(), page["totals"].late.collect()
    window = page["totals"].node.window
    waits = timedelta(milliseconds=window.grace + (window.gap if isinstance(window, Session) else 0))
    tracks = []
    for user, colour in zip(_users(rows), COLOURS, strict=False):
        mine, missed = results.filter(user=user), late.filter(user=user)
        bars = [
            Bar(start, end, f"total {total}", ends, end + waits if waits else None)
            for start, end, total in mine.sort("window_start", "window_end").select(
                "window_start", "window_end", "total"
            ).iter_rows()
        ]  # fmt: skip
        dots = [_dot(row, mine, missed, ends) for row in rows.filter(user=user).iter_rows(named=True)]
        tracks.append(Track(user, dots, bars, colour))
    return svg(tracks, every=FIVE)


def _dot(row: Mapping[str, Any], windows: pl.DataFrame, late: pl.DataFrame, ends: str) -> Dot:
    at, number, amount = row["time"], str(row["number"]), row["amount"]
    missed = late.filter(time=at, amount=amount).select("window_start", "window_end")
    before_end = pl.col("window_end") >= at if ends.endswith("]") else pl.col("window_end") > at
    covers = windows.filter(pl.col("window_start") <= at, before_end).select("window_start", "window_end")
    counts = covers.join(missed, on=["window_start", "window_end"], how="anti").height
    is_lone = missed.height == 1 and missed["window_start"][0] == missed["window_end"][0]  # a session that never was
    if missed.is_empty():
        return Dot(at, number, str(amount))
    if is_lone or not counts:
        return Dot(at, number, f"{amount} late", is_out=True)
    return Dot(at, number, f"{amount} late for {missed.height}")


def _custom_state(page: Page) -> str:
    """Draw rows and what is kept of each until the next; those that the function returned are marked."""
    rows = _numbered(page["rows"])
    found = set(page["found"].collect().select("user", "time").rows())
    tracks = []
    for user, colour in zip(_users(rows), COLOURS, strict=False):
        mine = rows.filter(user=user).rows(named=True)
        dots = [
            Dot(r["time"], str(r["number"]), f"{r['amount']}{' found' if (user, r['time']) in found else ''}")
            for r in mine
        ]
        tracks.append(Track(user, dots, _held((r["time"], f"last {r['amount']}") for r in mine), colour))
    return svg(tracks, every=FIVE)


def _stream_table_join(page: Page) -> str:
    """Draw the records of a stream and the versions of a table's row, and which of them belong together."""
    arrivals = [(n, topic, _at(time), value) for n, (topic, time, value) in enumerate(page["arrivals"], 1)]
    orders = [Dot(at, str(n), str(value["amount"])) for n, topic, at, value in arrivals if topic == "orders"]
    users = [(at, value and value["city"]) for _, topic, at, value in arrivals if topic == "users"]
    bars = _held(users)
    matched = [dot.at for dot in orders if any(b.start <= dot.at and (b.end is None or dot.at < b.end) for b in bars)]
    tracks = [Track("orders", orders), Track("users", (), bars, COLOURS[1])]
    return svg(tracks, [Link((0, 1), (at, at)) for at in matched], every=FIVE)


def _table_aggregation(page: Page) -> str:
    """Draw the rows of a table as they hold one after the other, and the groups."""
    rows: dict[str, list[tuple[datetime, str | None]]] = {}
    for time, user, value in page["arrivals"]:
        rows.setdefault(user, []).append((_at(time), value and f"{value['city']} {value['spent']}"))
    groups: dict[str, list[tuple[datetime, str | None]]] = {}
    for time, city, users in page["changes"]:
        groups.setdefault(city, []).append((_at(time), f"{users} user{'' if users == 1 else 's'}"))
    above = [Track(user, (), _held(held)) for user, held in rows.items()]
    below = [Track(city, (), _held(held), COLOURS[1]) for city, held in groups.items()]
    return svg([*above, *below], every=FIVE)


def _held(changes: Iterable[tuple[datetime, str | None]]) -> list[Bar]:
    """Return a bar for each value, until the next; None is none."""
    given = list(changes)
    ends = [at for at, _ in given[1:]] + [None]
    bars = [Bar(at, end, text, "[ " if end is None else "[)") for (at, text), end in zip(given, ends, strict=True) if text]
    return [bar for bar in bars if bar.start != bar.end]


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_row_index("number", 1)


def _users(rows: pl.DataFrame) -> list[str]:
    return rows["user"].unique(maintain_order=True).to_list()


def _at(time: str) -> datetime:
    return datetime.fromisoformat(f"2024-03-01T{time}Z")


DRAWINGS: dict[str, Callable[[Page], str]] = {
    "tumbling": lambda page: _windows(page, "[)"),
    "hopping": lambda page: _windows(page, "[)"),
    "sliding": lambda page: _windows(page, "[]"),
    "session": lambda page: _windows(page, "[]"),
    "custom-state": _custom_state,
    "stream-table-join": _stream_table_join,
    "table-aggregation": _table_aggregation,
}
"""How a page's drawing is made."""
