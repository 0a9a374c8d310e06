"""Time lines say what the rows and windows say."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from tests.notebooks.drawing import LEFT, RIGHT, WIDTH, Bar, Dot, Link, Scale, Track, pack, svg
from tests.notebooks.png import png, source_of

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


def test_a_picture_carries_the_drawing_that_it_was_made_from() -> None:
    drawn = svg([Track("ann · bob", [Dot(at(0), "1")])])
    assert source_of(png(drawn)) == drawn
