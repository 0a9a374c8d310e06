"""HTML, made in one place so that everything from outside is escaped there."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from streamlab.notebook import reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

_COLUMNS = 14


def text(thing: object) -> str:
    """Return any text with HTML's characters escaped, so that it shows and does nothing else."""
    return escape(str(thing), quote=True)


def region(name: str, content: str, tag: str = "span", classes: str = "") -> str:
    """Return a part of the panel that is replaced by name when it changes."""
    styled = f' class="{classes}"' if classes else ""
    return f'<{tag} data-region="{name}"{styled}>{content}</{tag}>'


def table(frame: pl.DataFrame, *, fresh: int = 0, least: int = 0) -> str:
    """Return a frame as a table, first row first; numbers to the right, the first `fresh` rows tinted.

    Parameters
    ----------
    least
        Rows at least: empty ones are added, so that nothing below moves when the first results come.
    """
    shown = frame.select(frame.columns[:_COLUMNS])
    right = [dtype.is_numeric() for dtype in shown.dtypes]
    rows = zip(*(reading.values(column) for column in shown), strict=True)
    head = "".join(f"<th{_side(r)}>{text(name)}</th>" for name, r in zip(shown.columns, right, strict=True))
    body = "".join(_row(row, right, fresh=number < fresh) for number, row in enumerate(rows))
    body += f'<tr><td colspan="{max(1, shown.width)}">&nbsp;</td></tr>' * max(0, least - shown.height)
    return f'<table class="sl-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _row(row: Iterable[str], right: list[bool], *, fresh: bool) -> str:
    cells = "".join(f"<td{_side(r)}>{text(v)}</td>" for v, r in zip(row, right, strict=True))
    return f'<tr class="sl-fresh">{cells}</tr>' if fresh else f"<tr>{cells}</tr>"


def _side(right: bool) -> str:
    return ' class="sl-n" style="text-align:right"' if right else ' style="text-align:left"'
