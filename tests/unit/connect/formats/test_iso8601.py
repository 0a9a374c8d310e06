from __future__ import annotations

import datetime as dt
import random

import polars as pl
import pytest

from streamlab.connect.formats import iso8601

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NOT_READ = [
    "", "2013", "2013-01", "20130101", "2013-1-1", "01-02-2013", "2013/01/02", "2013-001", "2013-W01-1", "2013-02-29",
    "2013-13-01", "2013-00-01", "2013-01-00", "0000-01-01", "12345-01-01", "2013-01-01T", "2013-01-01T05",
    "2013-01-01T5:00", "2013-01-01T24:00:00Z", "2013-01-01T05:60:00Z", "2013-01-01T05:00:60Z", "2013-01-01T05:00:00.Z",
    "2013-01-01T05:00:00,5Z", "2013-01-01T05:00:00+24:00", "2013-01-01T05:00:00+05:60", "2013-01-01T05:00:00+5",
    "2013-01-01T05:00:00 UTC", "2013-01-01X05:00:00Z", " 2013-01-01T05:00:00Z", "2013-01-01T05:00:00Z ",
    "2013-01-01T05:00:00Z\n", "2013-01-01T05:00-05:00Z", "\uff12013-01-01", "1356998400", "tomorrow", "9" * 100,
    "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
]  # fmt: skip


def milliseconds(moment: dt.datetime) -> int:
    return (moment - EPOCH) // dt.timedelta(milliseconds=1)


@pytest.mark.parametrize("text", NOT_READ)
def test_a_text_that_is_no_moment_is_not_read(text: str) -> None:
    assert iso8601.datetimes(pl.Series([text]), "ms")[1].tolist() == [False]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2013-01-01", "2013-01-01T00:00:00+00:00"),
        ("2013-01-01 05:00", "2013-01-01T05:00:00+00:00"),
        ("2013-01-01t05:00:00z", "2013-01-01T05:00:00+00:00"),
        ("2013-01-01T05:00:00", "2013-01-01T05:00:00+00:00"),
        ("2013-01-01T05:00:00-05:00", "2013-01-01T10:00:00+00:00"),
        ("2013-01-01T05:00:00+0530", "2012-12-31T23:30:00+00:00"),
        ("2013-01-01T05:00+05", "2013-01-01T00:00:00+00:00"),
        ("2013-01-01T05:00:00.5Z", "2013-01-01T05:00:00.500000+00:00"),
        ("2013-01-01T05:00:00.123456789123-00:30", "2013-01-01T05:30:00.123000+00:00"),
        ("1960-01-01T00:00:00.9999Z", "1960-01-01T00:00:00.999000+00:00"),
        ("2012-02-29T00:00:00Z", "2012-02-29T00:00:00+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999000+00:00"),
    ],
)
def test_every_way_to_write_a_moment_is_read(text: str, same: str) -> None:
    numbers, read = iso8601.datetimes(pl.Series([text]), "ms")
    assert read.tolist() == [True]
    assert numbers.tolist() == [milliseconds(dt.datetime.fromisoformat(same))]


def test_texts_of_all_lengths_and_forms_are_read_side_by_side() -> None:
    choose = random.Random(7)  # noqa: S311 - nothing secret
    zones = [dt.UTC, *(dt.timezone(dt.timedelta(minutes=m)) for m in (-720, -330, 45, 840))]
    moments = [
        EPOCH + dt.timedelta(seconds=choose.randrange(-(10**9), 10**10), microseconds=choose.choice([0, 1, 120_000]))
        for _ in range(500)
    ]
    written = [moment.astimezone(choose.choice(zones)).isoformat() for moment in moments]
    texts = [*written, *(text for text in NOT_READ), None]
    choose.shuffle(texts)
    numbers, read = iso8601.datetimes(pl.Series(texts, dtype=pl.String), "us")
    whole = dt.timedelta(microseconds=1)
    known = {text: (moment - EPOCH) // whole for text, moment in zip(written, moments, strict=True)}
    found = dict(zip(texts, zip(numbers.tolist(), read.tolist(), strict=True), strict=True))
    assert {text: number for text, (number, right) in found.items() if right} == known


def test_moments_beyond_64_bits_of_nanoseconds_are_not_read() -> None:
    texts = ["1677-09-21T00:12:43.145224191Z", "1677-09-21T00:12:43.145224192Z"]
    texts += ["2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775808Z", "9999-01-01"]
    numbers, read = iso8601.datetimes(pl.Series(texts), "ns")
    assert read.tolist() == [False, True, True, False, False]
    assert numbers[read].tolist() == [-(2**63), 2**63 - 1]


def test_every_day_from_year_1_to_9999_is_the_day_that_python_says() -> None:
    days = [dt.date.fromordinal(day) for day in range(1, dt.date.max.toordinal() + 1, 97)]
    numbers, read = iso8601.dates(pl.Series([day.isoformat() for day in days]))
    assert read.all()
    assert numbers.tolist() == [day.toordinal() - EPOCH.toordinal() for day in days]


@pytest.mark.parametrize("text", ["2013-01-01T00:00:00", "2013-01-01Z", "2013-02-30", "2013.01.01", "2013-01-1 "])
def test_a_text_with_more_or_less_than_a_date_is_no_date(text: str) -> None:
    assert iso8601.dates(pl.Series([text]))[1].tolist() == [False]


@pytest.mark.parametrize(
    ("text", "number"),
    [("00:00", 0), ("05:00:01", 18_001 * 10**9), ("23:59:59.9999999999", 86_400 * 10**9 - 1), ("24:00", None)]
    + [(text, None) for text in ("5:00", "05:00Z", "05:00:00.", "05:00:0", "05-00", "05:00:61", "")],
)
def test_times_of_day_are_read_in_nanoseconds(text: str, number: int | None) -> None:
    numbers, read = iso8601.times(pl.Series([text]))
    assert (numbers[0] if read[0] else None) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("PT0S", 0),
        ("P1DT2H3M4.005S", 93_784_005),
        ("-PT0.001S", -1),
        ("+PT1M", 60_000),
        ("P2W", 14 * 86_400_000),
        ("PT0.0019S", 1),
        ("PT9223372036854775.807S", 2**63 - 1),
        ("PT9223372036854775.808S", None),
        ("P9999999999999999999D", None),
    ]
    + [(text, None) for text in ("P", "PT", "P1DT", "P1Y", "P1M", "PT1", "1H", "PT-1H", "P1W1D", "PT1H30", "pt1h", "")],
)
def test_durations_are_read_in_their_unit(text: str, number: int | None) -> None:
    numbers, read = iso8601.durations(pl.Series([text]), "ms")
    assert (numbers[0] if read[0] else None) == number


@pytest.mark.parametrize("read", [iso8601.dates, iso8601.times])
def test_nothing_and_nulls_are_read_as_nothing(read: object) -> None:
    assert callable(read)
    for texts in ([], [None], [None, None]):
        numbers, right = read(pl.Series(texts, dtype=pl.String))
        assert (len(numbers), right.any()) == (len(texts), False)


def test_a_slice_of_a_column_is_read_like_a_column() -> None:
    text = pl.Series(["2013-01-01", "2014-01-01", None, "2015-01-01"])[1:]
    numbers, read = iso8601.dates(text)
    assert (numbers[read].tolist(), read.tolist()) == ([16_071, 16_436], [True, False, True])


def test_bounds_are_what_python_can_hold() -> None:
    low, high = iso8601.bounds(pl.Duration("ms"))
    assert pl.Series([low, high]).cast(pl.Duration("ms")).to_list()[0] == dt.timedelta.min
    low, high = iso8601.bounds(pl.Datetime("ms"))
    assert pl.Series([low, high]).cast(pl.Datetime("ms")).dt.year().to_list() == [1, 9999]


def test_only_temporal_types_have_bounds() -> None:
    with pytest.raises(TypeError):
        iso8601.bounds(pl.Int64())
