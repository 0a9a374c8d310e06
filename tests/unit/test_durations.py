from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.durations import milliseconds, text
from streamlab.errors import DurationError, PlanError


@pytest.mark.parametrize(
    ("written", "length"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("1h30m", 5_400_000),
        ("1m1ms", 60_001),
        ("90m", 5_400_000),
        ("0s", 0),
        ("007s", 7_000),
        (timedelta(0), 0),
        (timedelta(milliseconds=1), 1),
        (timedelta(days=2, seconds=3), 172_803_000),
    ],
)
def test_lengths_of_time_are_read_in_milliseconds(written: Any, length: Any) -> None:
    assert milliseconds(written) == length


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "5",
        "s",
        "5 m",
        "5m ",
        "1.5h",
        "+5s",
        "5mo",
        "5y",
        "5us",
        "5min",
        "1h-30m",
        "five",
        5,
        5.0,
        None,
        b"5m",
    ],
)
def test_what_is_no_duration_is_refused_with_the_valid_forms(written: Any) -> None:
    with pytest.raises(DurationError) as raised:
        milliseconds(written, "grace")
    assert f"grace: {written!r} is no duration" in str(raised.value)
    assert '"5m"' in str(raised.value)
    assert isinstance(raised.value, PlanError)


def test_a_timedelta_finer_than_a_millisecond_is_refused() -> None:
    with pytest.raises(DurationError, match="finer than a millisecond"):
        milliseconds(timedelta(microseconds=1_500))


@pytest.mark.parametrize("written", ["-5s", "-1h30m", timedelta(seconds=-1), timedelta(milliseconds=-1)])
def test_a_negative_length_is_refused(written: Any) -> None:
    with pytest.raises(DurationError, match="at least zero"):
        milliseconds(written)


@pytest.mark.parametrize("written", ["0s", "0m0ms", timedelta(0)])
def test_zero_is_refused_where_it_makes_no_sense(written: Any) -> None:
    with pytest.raises(DurationError, match=r"size: .* must be more than zero"):
        milliseconds(written, "size", positive=True)


@given(st.integers(0, 10**14))
def test_the_text_of_a_length_reads_back_as_the_length(length: Any) -> None:
    assert milliseconds(text(length)) == length


@pytest.mark.parametrize(
    ("length", "written"), [(0, "0s"), (1, "1ms"), (60_000, "1m"), (5_400_000, "1h30m"), (694_861_001, "1w1d1h1m1s1ms")]
)
def test_the_text_of_a_length_is_the_shortest(length: Any, written: Any) -> None:
    assert text(length) == written
