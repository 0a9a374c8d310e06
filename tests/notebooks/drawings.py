"""The drawing of each page about an operator, made of the rows and results that the page itself shows."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import polars as pl

from streamlab.notebook.chart import COLOURS
from streamlab.plan.windows import Session
from tests.notebooks.drawing import Bar, Dot, Link, Track, svg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Page = Mapping[str, Any]

FIVE = timedelta(minutes=5)


def drawing(name: str, page: Page) -> str:
    """Return the drawing of a page that was run, as SVG."""
    return DRAWINGS[name](page)


def _windows(page: Page, ends: str) -> str:
    """Draw rows and the windows that they made, a track for each user."""
    results, late = page["totals"].collect().sort("window_start", "window_end"), page["totals"].late.collect()
    window = page["totals"].node.window
    waits = timedelta(milliseconds=window.grace + (window.gap if isinstance(window, Session) else 0))
    tracks = []
    for user, colour, rows in _by_user(page["rows"]):
        mine, missed = results.filter(user=user), late.filter(user=user)
        bounds = mine.select("window_start", "window_end", "total").rows()
        bars = [Bar(at, end, f"total {total}", ends, end + waits if waits else None) for at, end, total in bounds]
        tracks.append(Track(user, [_dot(row, mine, missed, ends, waits) for row in rows], bars, colour))
    return svg(tracks, every=FIVE)


def _dot(row: Mapping[str, Any], windows: pl.DataFrame, late: pl.DataFrame, ends: str, waits: timedelta) -> Dot:
    at, number, amount = row["time"], str(row["number"]), row["amount"]
    missed = late.filter(time=at, amount=amount)
    if missed.is_empty():
        return Dot(at, number, str(amount))
    watermark, is_closed = missed["watermark"][0], ends.endswith("]")
    start, end = pl.col("window_start"), pl.col("window_end")
    covers = windows.filter(start <= at, (end >= at) if is_closed else (end > at))
    still = covers.filter(end + waits >= watermark if is_closed else end + waits > watermark)
    if still.is_empty():
        return Dot(at, number, f"{amount} late", is_out=True)
    return Dot(at, number, f"{amount} late for {missed.height}")


def _custom_state(page: Page) -> str:
    """Draw rows and what is kept of each until the next; those that the function returned are marked."""
    found = set(page["found"].collect().select("user", "time").rows())
    tracks = []
    for user, colour, rows in _by_user(page["rows"]):
        notes = [f"{r['amount']}{' found' if (user, r['time']) in found else ''}" for r in rows]
        dots = [Dot(r["time"], str(r["number"]), note) for r, note in zip(rows, notes, strict=True)]
        tracks.append(Track(user, dots, _held((r["time"], f"last {r['amount']}") for r in rows), colour))
    return svg(tracks, every=FIVE)


def _keyed_state(page: Page) -> str:
    """Draw rows, and the row of the table that holds after each."""
    tracks = []
    for user, colour, rows in _by_user(page["rows"]):
        dots = [Dot(r["time"], str(r["number"]), str(r["amount"])) for r in rows]
        totals = accumulate(r["amount"] for r in rows)
        newest = accumulate((r["time"] for r in rows), max)
        tracks.append(
            Track(user, dots, _held((at, f"total {total}") for at, total in zip(newest, totals, strict=True)), colour)
        )
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
    rows = [(user, _at(time), value and f"{value['city']} {value['spent']}") for time, user, value in page["arrivals"]]
    groups = [
        (row["city"], _at(time), f"{row['users']} user{'' if row['users'] == 1 else 's'}, {row['spent']}")
        for time, row in page["changes"]
    ]
    return svg([*_holding(rows, COLOURS[0]), *_holding(groups, COLOURS[1])], every=FIVE)


def _table_table_join(page: Page) -> str:
    """Draw the rows of two tables, and the joined row."""
    sides = [(topic, _at(time), value and str(value[topic])) for topic, time, value in page["arrivals"]]
    joined = [("joined", _at(time), None if text == "deleted" else text) for time, text in page["changes"]]
    return svg([*_holding(sides, COLOURS[0]), *_holding(joined, COLOURS[1])], every=FIVE)


def _tables(page: Page) -> str:
    """Draw the rows of a table as they hold one after the other, and those that pass the filter."""
    rows = [(user, _at(time), value and value["status"]) for time, user, value in page["arrivals"]]
    passed = [
        (f"{user}, filtered", _at(time), None if status == "deleted" else status)
        for time, user, status in page["changes"]
    ]
    return svg([*_holding(rows, COLOURS[0]), *_holding(passed, COLOURS[1])], every=FIVE)


def _interval_join(page: Page) -> str:
    """Draw rows of two streams, how far each of the left reaches, and which pairs match."""
    node, joined = page["joined"].node, page["joined"].collect()
    pairs = joined.drop_nulls("time_right").select("time", "time_right").rows()
    before, after = (timedelta(milliseconds=length) for length in (node.before, node.after))
    left, right = page["ordered"].rows(named=True), page["paid"].rows(named=True)
    matched = [{row[side] for row in pairs} for side in (0, 1)]
    above = [Dot(row["time"], row["id"], "" if row["time"] in matched[0] else "no match") for row in left]
    below = [_kept(row["time"], row["id"], "no match", row["time"] in matched[1]) for row in right]
    reach = [Bar(row["time"] - before, row["time"] + after, row["id"], "[]", is_faint=True) for row in left]
    links = [Link((0, 1), pair) for pair in pairs]
    return svg([Track("orders", above, reach), Track("payments", below, (), COLOURS[1])], links, every=FIVE)


def _as_of_join(page: Page) -> str:
    """Draw rows of two streams, how long each of the right is the newest within the tolerance, and what is joined with what."""
    tolerance = timedelta(milliseconds=page["priced"].node.tolerance)
    numbers = {(topic, row["time"]): str(n) for n, (topic, row) in enumerate(page["arrivals"], 1)}
    quotes = page["quoted"].sort("time").rows(named=True)
    nexts = [row["time"] for row in quotes[1:]] + [None]
    bars = []
    for row, later in zip(quotes, nexts, strict=True):
        end = row["time"] + tolerance
        is_replaced = later is not None and later <= end
        bars.append(Bar(row["time"], later if is_replaced else end, str(row["price"]), "[)" if is_replaced else "[]"))
    trades = page["priced"].collect().rows(named=True)
    prices = [f"{r['shares']} at {r['price']}" if r["price"] else f"{r['shares']}, no price" for r in trades]
    above = [Dot(r["time"], numbers["trades", r["time"]], price) for r, price in zip(trades, prices, strict=True)]
    below = [Dot(row["time"], numbers["quotes", row["time"]]) for row in quotes]
    found = page["traded"].join_asof(page["quoted"].with_columns(quote=pl.col("time")), on="time", tolerance=tolerance)
    links = [Link((0, 1), pair) for pair in found.drop_nulls("quote").select("time", "quote").rows()]
    return svg([Track("trades", above), Track("quotes", below, bars, COLOURS[1])], links, every=FIVE)


def _deduplication(page: Page) -> str:
    """Draw rows, and how far around each that passed another one is a duplicate."""
    passed, within = set(page["once"].collect()["time"]), timedelta(milliseconds=page["once"].node.within)
    tracks = []
    for key, colour, rows in _by_user(page["rows"], "id"):
        dots = [_kept(r["time"], str(r["number"]), "duplicate", r["time"] in passed) for r in rows]
        reach = [] if key is None else [r["time"] for r in rows if r["time"] in passed]
        bars = [Bar(at - within, at + within, "", "[]", is_faint=True) for at in reach]
        tracks.append(Track(key or "null", dots, bars, colour))
    return svg(tracks, every=FIVE)


def _enrichment(page: Page) -> str:
    """Draw records, the row of one of them in the database, and what is remembered of it."""
    orders = [(n, _at(time), user) for n, (time, user) in enumerate(page["arrivals"], 1) if user != "move"]
    [moves] = [_at(time) for time, user in page["arrivals"] if user == "move"]
    first = orders[0][1]
    database = [Bar(first - timedelta(minutes=1), moves, "Oslo"), Bar(moves, None, "Rome", "[ ")]
    known = [(_at(time), city if user == "ann" else None) for time, user, city in page["used"]]
    remembered = _held((at, city) for n, (at, city) in enumerate(known) if n == 0 or city != known[n - 1][1])
    tracks = [
        Track("orders", [Dot(at, str(n), user) for n, (_, at, user) in enumerate(orders, 1)]),
        Track("remembered", (), remembered, COLOURS[2]),
        Track("database", (), database, COLOURS[1]),
    ]
    return svg(tracks, [Link((0, 1), (at, at)) for _, at, user in orders if user == "ann"], every=FIVE)


def _approximate(page: Page) -> str:
    """Draw clicks and the windows with their number of users."""
    rows = page["rows"].with_row_index("number", 1).rows(named=True)
    windows = page["summary"].collect().select("window_start", "window_end", "users").rows()
    bars = [Bar(start, end, f"{users} user{'' if users == 1 else 's'}") for start, end, users in windows]
    return svg([Track("clicks", [Dot(r["time"], str(r["number"]), r["user"]) for r in rows], bars)], every=FIVE)


def _kept(at: datetime, text: str, otherwise: str, is_kept: bool) -> Dot:
    """Return a row that counts, or one that does not and says why."""
    return Dot(at, text) if is_kept else Dot(at, text, otherwise, is_out=True)


def _holding(changes: Iterable[tuple[str, datetime, str | None]], colour: str) -> list[Track]:
    """Return a track for each key, with what it holds."""
    held: dict[str, list[tuple[datetime, str | None]]] = {}
    for key, at, text in changes:
        held.setdefault(key, []).append((at, text))
    return [Track(key, (), _held(values), colour) for key, values in held.items()]


def _held(changes: Iterable[tuple[datetime, str | None]]) -> list[Bar]:
    """Return a bar for each value, until the next; None is none."""
    given = list(changes)
    ends = [at for at, _ in given[1:]] + [None]
    bars = [
        Bar(at, end, text, "[ " if end is None else "[)") for (at, text), end in zip(given, ends, strict=True) if text
    ]
    return [bar for bar in bars if bar.start != bar.end]


def _by_user(rows: pl.DataFrame, column: str = "user") -> Iterator[tuple[Any, str, list[dict[str, Any]]]]:
    """Yield each user with a colour and rows, which have their place in the order of arrival."""
    users = rows.with_row_index("number", 1).partition_by(column, maintain_order=True)
    for colour, mine in zip(COLOURS, users, strict=False):
        yield mine[column][0], colour, mine.rows(named=True)


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
    "table-table-join": _table_table_join,
    "interval-join": _interval_join,
    "as-of-join": _as_of_join,
    "deduplication": _deduplication,
    "keyed-state": _keyed_state,
    "tables": _tables,
    "enrichment": _enrichment,
    "approximate": _approximate,
}
"""How a page's drawing is made."""
