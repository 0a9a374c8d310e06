"""Time lines say what the rows and windows say."""

from __future__ import annotations

import re
import struct
import zlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from tests.notebooks import drawings
from tests.notebooks.drawing import LEFT, RIGHT, WIDTH, Bar, Dot, Link, Scale, Track, pack, svg
from tests.notebooks.png import source_of, with_source

NS = "{http://www.w3.org/2000/svg}"


def at(minute: float) -> datetime:
    return datetime(2024, 3, 1, 9, tzinfo=UTC) + timedelta(minutes=minute)


def texts(drawn: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(drawn).iter(f"{NS}text")]  # noqa: S314  # our own


def test_a_row_is_a_dot_at_its_time_with_its_number_and_its_note() -> None:
    drawn = svg([Track("ann", [Dot(at(0), "1", "5"), Dot(at(5), "2", "7"), Dot(at(10), "3", "1")])])
    xs = [float(circle.get("cx", "")) for circle in ET.fromstring(drawn).iter(f"{NS}circle")]  # noqa: S314  # our own
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    assert {"ann", "1", "2", "3", "5", "7"} <= set(texts(drawn))


def test_a_row_that_counts_for_nothing_is_hollow() -> None:
    drawn = svg([Track("ann", [Dot(at(0), "1"), Dot(at(5), "2", "late", is_out=True)])])
    assert drawn.count('fill="none" stroke="#d1495b"') == 1


def test_brackets_are_square_where_the_end_belongs_to_a_window_and_round_where_it_does_not() -> None:
    def curves(ends: str) -> tuple[int, int]:
        paths = re.findall(r'<path d="([^"]+)"', svg([Track("ann", [], [Bar(at(0), at(5), "", ends)])]))
        return sum("V" in path for path in paths), sum("Q" in path for path in paths)

    assert [curves("[)"), curves("[]"), curves("()"), curves("[ ")] == [(1, 1), (2, 0), (0, 2), (1, 0)]


def test_bars_that_overlap_lie_in_rows_of_their_own() -> None:
    bars = [Bar(at(0), at(5)), Bar(at(2), at(7)), Bar(at(5), at(9)), Bar(at(9), None)]
    scale = Scale.over([Track("ann", [], bars)])
    assert [[bar.start for bar in row] for row in pack(bars, scale)] == [[at(0), at(5), at(9)], [at(2)]]


def test_a_grace_takes_room_and_so_does_a_text_that_has_none_in_its_bar() -> None:
    waiting = [Bar(at(0), at(5), waits=at(6)), Bar(at(5), at(10))]
    wordy = [Bar(at(0), at(0.1), "total 12"), Bar(at(0.5), at(10))]
    for bars in (waiting, wordy):
        assert len(pack(bars, Scale.over([Track("ann", [], bars)]))) == 2


def test_everything_lies_within_the_drawing() -> None:
    scale = Scale.over([Track("ann", [Dot(at(0))], [Bar(at(3), at(8), waits=at(60))])])
    assert scale.x(at(0)) > LEFT
    assert scale.x(at(60)) < WIDTH - RIGHT


@pytest.mark.parametrize(("minutes", "step"), [(1, 5), (10, 60), (60, 300), (170, 900)])
def test_ticks_are_round_times_within_the_scale(minutes: int, step: int) -> None:
    ticks = Scale(at(0), at(minutes)).ticks()
    assert ticks[0] == at(0)
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(ticks)} == {step}
    assert ticks[-1] <= at(minutes)


def test_a_match_is_a_line_from_one_track_to_the_other() -> None:
    drawn = svg([Track("left", [Dot(at(1))]), Track("right", [Dot(at(9))])], [Link((0, 1), (at(1), at(9)))])
    [line] = [element for element in ET.fromstring(drawn).iter(f"{NS}line") if element.get("stroke-width") == "2"]  # noqa: S314
    circles = list(ET.fromstring(drawn).iter(f"{NS}circle"))  # noqa: S314  # our own
    assert [(line.get("x1"), line.get("y1")), (line.get("x2"), line.get("y2"))] == [
        (c.get("cx"), c.get("cy")) for c in circles
    ]


def test_names_are_text_and_not_markup() -> None:
    assert "<b>" in texts(svg([Track("<b>", [Dot(at(0), "&", '"')])]))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_picture_carries_the_drawing_that_it_was_made_from() -> None:
    head, pixel = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), zlib.compress(b"\0\0")
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    drawn = svg([Track("ann · bob", [Dot(at(0), "1")])])
    text = zlib.compress(drawn.encode())
    carries = picture.removesuffix(chunk(b"IEND", b"")) + chunk(b"iTXt", b"svg\0\1\0\0\0" + text) + chunk(b"IEND", b"")
    assert with_source(picture, drawn) == carries
    assert source_of(carries) == drawn
    assert source_of(picture) is None


def windows(*bounds: tuple[float, float]) -> pl.DataFrame:
    return pl.DataFrame({"window_start": [at(s) for s, _ in bounds], "window_end": [at(e) for _, e in bounds]})


def late(row: dict[str, Any], watermark: float, *bounds: tuple[float, float]) -> pl.DataFrame:
    return windows(*bounds).with_columns(time=row["time"], amount=row["amount"], watermark=at(watermark))


ROW = {"time": at(8), "number": 5, "amount": 1}


@pytest.mark.parametrize(
    ("ends", "watermark", "grace", "note", "is_out"),
    [
        ("[)", 11, 0, "1 late for 1", False),  # [5, 15) is open
        ("[)", 15, 0, "1 late", True),
        ("[)", 15, 1, "1 late for 1", False),
        ("[]", 15, 0, "1 late for 1", False),
        ("[]", 16, 0, "1 late", True),
    ],
)
def test_a_late_row_is_hollow_if_every_window_of_it_is_closed(
    ends: str, watermark: float, grace: float, note: str, is_out: bool
) -> None:
    made = windows((0, 10), (5, 15), (10, 20))
    found = drawings._dot(ROW, made, late(ROW, watermark, (0, 10)), ends, timedelta(minutes=grace))
    assert found == Dot(at(8), "5", note, is_out)


def test_a_row_that_is_not_late_has_its_amount_for_a_note() -> None:
    other = ROW | {"amount": 2}
    assert drawings._dot(ROW, windows((0, 10)), late(other, 11, (0, 10)), "[)", timedelta()) == Dot(at(8), "5", "1")


def test_a_value_holds_until_the_next_and_none_is_no_bar() -> None:
    bars = drawings._held([(at(0), "a"), (at(2), None), (at(5), "b"), (at(5), "c")])
    assert bars == [Bar(at(0), at(2), "a"), Bar(at(5), None, "c", "[ ")]
