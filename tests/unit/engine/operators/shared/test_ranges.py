"""Overlapping ranges put together from ends and beginnings of blocks."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from streamlab.engine.operators.shared.ranges import put_together

MERGES: list[int] = []


def merged(earlier: pl.DataFrame, later: pl.DataFrame, where: np.ndarray) -> pl.DataFrame:
    MERGES.append(later.height)
    both = [a + b if there else b for a, b, there in zip(earlier["x"], later["x"], where, strict=True)]
    return pl.DataFrame({"x": both}, schema={"x": pl.String})


@st.composite
def ranges(draw):
    """Draw numbers on a line, and ranges of one length on it; blocks are as long as a range."""
    length = draw(st.integers(1, 6))
    line = sorted(draw(st.sets(st.integers(0, 30), min_size=1)))
    starts = sorted(draw(st.lists(st.integers(0, 30), min_size=1)))
    bounds = [np.searchsorted(line, [start, start + length]).tolist() for start in starts]
    return line, length, draw(st.integers(0, 6)), [bound for bound in bounds if bound[0] < bound[1]]


@given(drawn=ranges())
def test_each_range_is_its_rows_in_order(drawn):
    line, length, ahead, bounds = drawn
    if not bounds:
        return
    parts = pl.DataFrame({"x": [chr(97 + at) for at in line]})
    first, last = np.array(bounds).T
    found = put_together(parts, (np.array(line) - ahead) // length, first, last, merged)
    assert found["x"].to_list() == ["".join(parts["x"][low:high]) for low, high in bounds]


def test_the_work_does_not_grow_with_the_length_of_a_range():
    line = np.arange(1_000)
    first = np.arange(900)
    MERGES.clear()
    put_together(pl.DataFrame({"x": ["a"] * 1_000}), line // 100, first, first + 100, merged)
    assert sum(MERGES) < 3 * len(line)
