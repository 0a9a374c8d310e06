from __future__ import annotations

import datetime as dt
import gzip
import json
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from streamlab.connect.formats import json_lines, json_repair
from streamlab.connect.formats.json import Json
from streamlab.errors import PlanError

if TYPE_CHECKING:
    from streamlab.connect.formats import Decoded, Format

JSON: Format = Json()
INTEGERS = pl.Schema({"a": pl.Int64()})
UTC = pl.Datetime("ms", "UTC")
FIVE = dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC)
NAIVE = dt.datetime(2013, 1, 1, 5)  # noqa: DTZ001 - naive on purpose
COLORS = pl.Enum(["red", "green"])
REFUSED = object()


def decode(schema: dict[str, Any] | pl.Schema, *payloads: bytes | str) -> Decoded:
    return JSON.decode([p if isinstance(p, bytes) else p.encode() for p in payloads], pl.Schema(schema))


def value(dtype: Any, text: str) -> Any:
    """Return what a column holds after reading `text` in it, alone and beside a bad and a good neighbour."""
    schema = {"a": dtype}
    payload = f'{{"a": {text}}}'
    alone = decode(schema, payload)
    amid = decode(schema, '{"a": null}', payload, "no JSON")
    assert repr(amid.rows.rows()[1:]) == repr(alone.rows.rows())
    assert alone.rows.schema == pl.Schema(schema)
    return alone.rows["a"][0] if alone.rows.height else REFUSED


def error(schema: dict[str, Any] | pl.Schema, payload: bytes | str) -> str:
    (bad,) = decode(schema, payload).bad
    return bad.error


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        (pl.Int64, "-9223372036854775808", -(2**63)),
        (pl.Int8, "-128", -128),
        (pl.UInt8, "255", 255),
        (pl.UInt64, "18446744073709551615", 2**64 - 1),
        (pl.Int128, str(-(2**127)), -(2**127)),
        (pl.UInt128, str(2**128 - 1), 2**128 - 1),
        (pl.Int32, "-0", 0),
        (pl.Float64, "3", 3.0),
        (pl.Float64, "1e2", 100.0),
        (pl.Float64, "1e-400", 0.0),
        (pl.Float64, "123456789012345678901234567890", 1.2345678901234568e29),
        (pl.Float64, "1" + "0" * 60, 1e60),
        (pl.Float32, "0.5", 0.5),
        (pl.Boolean, "true", True),
        (pl.String, r'"\ud83d\ude00 \u00e9\u0000"', "😀 é\0"),
        (pl.String, '"{\\"b\\": 1}"', '{"b": 1}'),
        (pl.String, "true", "true"),
        (pl.String, "12", "12"),
        (pl.String, "1.50", "1.50"),
        (pl.String, "1e2", "1e2"),
        (pl.String, "-0", "-0"),
        (pl.String, "1" + "0" * 60, "1" + "0" * 60),
        (pl.Categorical(), "1.0", "1.0"),
        (COLORS, '"green"', "green"),
        (pl.Date, '"2013-01-01"', dt.date(2013, 1, 1)),
        (pl.Date, "15706", dt.date(2013, 1, 1)),
        (UTC, '"2013-01-01T00:00:00-05:00"', FIVE),
        (UTC, '"2013-01-01 05:00"', FIVE),
        (UTC, "1357016400000", FIVE),
        (pl.Datetime("us"), '"2013-01-01T06:00:00+01:00"', NAIVE),
        (pl.Datetime("ns"), "1357016400000000000", NAIVE),
        (pl.Datetime("ms", "Europe/Berlin"), '"2013-01-01T05:00:00"', FIVE),
        (UTC, '"2013-01-01T05:00:00.0009Z"', FIVE),
        (pl.Time, '"05:00:00.000001"', dt.time(5, 0, 0, 1)),
        (pl.Time, "18000000001000", dt.time(5, 0, 0, 1)),
        (pl.Duration("ms"), '"PT1M"', dt.timedelta(minutes=1)),
        (pl.Duration("ms"), "-60000", dt.timedelta(minutes=-1)),
        (pl.Decimal(10, 2), "1.50", Decimal("1.50")),
        (pl.Decimal(10, 2), '"-1.500"', Decimal("-1.50")),
        (pl.Decimal(10, 2), "1.5e3", Decimal("1500.00")),
        (pl.Decimal(38, 20), "123456789.12345678901234567891", Decimal("123456789.12345678901234567891")),
        (pl.Decimal(10, 2), "0e99999999999999999999", Decimal("0.00")),
        (pl.Binary, '"/+8="', b"\xff\xef"),
        (pl.List(pl.Int8), "[1, null, -5]", [1, None, -5]),
        (pl.List(pl.String), '["1.50", 1.50, true, null]', ["1.50", "1.50", "true", None]),
        (pl.List(UTC), '["2013-01-01T05:00:00Z", 1357016400000]', [FIVE, FIVE]),
        (pl.Struct({"x": pl.Int8, "y": pl.Date}), '{"y": "2013-01-01", "z": 1}', {"x": None, "y": dt.date(2013, 1, 1)}),
        (
            pl.List(pl.Struct({"x": pl.List(pl.Binary)})),
            '[{"x": ["YQ=="]}, {}, null]',
            [{"x": [b"a"]}, {"x": None}, None],
        ),
    ],
)
def test_a_value_that_fits_its_type_is_read_exactly(dtype: Any, text: str, expected: Any) -> None:
    found = value(dtype, text)
    assert (found.to_list() if isinstance(found, pl.Series) else found) == expected


@pytest.mark.parametrize(
    ("dtype", "texts"),
    [
        (pl.Int64, ["1.0", "1.7", "1e2", '"1"', "true", "[]", "{}", "9223372036854775808", "-9223372036854775809"]),
        (pl.Int64, ["9" * 5000, "NaN", "01", "+1", "0x1", "1.", "-"]),
        (pl.Int8, ["128", "-129", "1.0", '"1"']),
        (pl.UInt8, ["-1", "256"]),
        (pl.UInt64, ["-1", "18446744073709551616"]),
        (pl.UInt128, ["-1", str(2**128), "1.0", '"1"', "true"]),
        (pl.Float64, ['"1.5"', "true", "NaN", "Infinity", "-Infinity", "1e309", "9" * 400, "[1.5]"]),
        (pl.Float32, ["3.5e38", "-1e39"]),
        (pl.Boolean, ["1", "0", '"true"', "[]"]),
        (pl.String, ["[1]", "{}", '{"b": 1}', r'"\ud800"', r'"\ud83dx"', r'"\udc00"', '"a\tb"', '"a\nb"', r'"\x"']),
        (COLORS, ['"blue"', "1", "true"]),
        (pl.Date, ['"garbage"', '"2013-02-30"', '"2013-01-01T00:00:00"', '"15706"', "1.0", "true", "99999999"]),
        (UTC, ['"garbage"', '""', '"01/02/2013"', '"2013-1-1"', '"1357016400000"', "1357016400000.0", "true", "[]"]),
        (UTC, ["253402300800000", "-62135596800001", "99999999999999999999", '"2013-01-01T05:00:60Z"']),
        (pl.Datetime("ns"), ['"9999-01-01T00:00:00Z"']),
        (pl.Time, ['"24:00"', "86400000000000", "-1", '"05:00Z"', "1.5"]),
        (pl.Duration("ms"), ['"P1Y"', '"1h"', "1.5", '"60000"', str(2**63 - 1)]),
        (pl.Decimal(5, 2), ["1.239", '"1.239"', "1000", '"x"', '"1e2"', "true", "1e999999999", "1e-400", "[]"]),
        (pl.Decimal(5, 2), ["0.1000000000000000000001", "9e99999999999999999999"]),
        (pl.Binary, ['"YWJ"', '"a b"', '"-_8="', "1234", "true", "[]"]),
        (pl.List(pl.Int8), ["1", "[128]", "[1.0]", "[[1]]", '{"x": 1}', '"[1]"']),
        (pl.List(pl.String), ["[[1]]", "[{}]", '"x"']),
        (pl.List(UTC), ['["2013-01-01T05:00:00Z", "x"]']),
        (pl.Struct({"x": pl.Int8, "y": pl.String}), ["[]", "1", '{"x": 300}', '{"y": []}', '{"x": "1"}']),
    ],
)
def test_a_value_that_does_not_fit_makes_its_record_a_bad_one(dtype: Any, texts: list[str]) -> None:
    assert [text for text in texts if value(dtype, text) is not REFUSED] == []


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "empty payload"),
        (b" \r\n\t", "empty payload"),
        (b"[1]", "found an array of 1, expected one JSON object"),
        (b'[{"a": 1}]', "found an array of 1"),
        (b"12.50", "found 12.50, expected one JSON object"),
        (b"null", "expected one JSON object"),
        (b'"x"', "found 'x'"),
        (b'{"a": 1}{"a": 2}', "text after the end at character 8"),
        (b'{"a": 1}\n{"a": 2}', "text after the end"),
        (b'{"a": 1} x', "text after the end"),
        (b'{"a": 1}\x00', "text after the end"),
        (b'{"a": 1', "not one JSON object"),
        (b'{"a": 1,}', "not one JSON object"),
        (b"{'a': 1}", "not one JSON object"),
        (b'{"a": 1, "x": 01}', "not one JSON object"),
        (b'{"a": 1, "x": NaN}', "NaN is no JSON number"),
        (b'{"a": 1, "x": "\xff"}', "not UTF-8: byte 0xff at position 15"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"a": 1}', "not one JSON object"),
        (b'\xff\xfe{\x00"\x00a\x00"\x00:\x001\x00}\x00', "not UTF-8: byte 0xff"),
        (gzip.compress(b'{"a": 1}', mtime=0), "not UTF-8"),
        (b"\x0c{}", "not one JSON object"),
        (b'{"x": ' + b"[" * 1024 + b"]" * 1024 + b"}", "nested deeper than 1024 levels"),
        (b"[" * 500_000, "nested deeper"),
    ],
)
def test_a_payload_that_is_not_one_json_object_is_bad_and_its_neighbours_are_not(payload: bytes, message: str) -> None:
    assert message in error(INTEGERS, payload)
    decoded = decode(INTEGERS, payload, '{"a": 1}', payload, '{"a": 2}', payload)
    assert decoded.rows.rows() == [(1,), (2,)]
    assert decoded.kept is not None
    assert decoded.kept.dtype == np.dtype(np.int64)
    assert decoded.kept.tolist() == [1, 3]
    assert [bad.index for bad in decoded.bad] == [0, 2, 4]


@pytest.mark.parametrize(
    "payload",
    [
        b' \t\r{"a":\r1}\r ',
        b'{\n  "a": 1\n}\n',
        b'\r\n{"a":\r\n1}\r\n',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "a": "x"}',
        b'{"\\u0061": 1, "a": 2}',
        b'{"a": 1, %s, "a": 2}' % ", ".join(f'"k{n}": {n}' for n in range(100)).encode(),
        b'{"a": 1, "x": 1e999}',
        b'{"a": 1, "x": %s}' % (b"9" * 5000),
        b'{"a": 1, "x": "\\ud800", "\\udc00": 0}',
        b'{"a": 1, "x": {"a": 2}, "y": [{"a": "z"}]}',
        b'{"x": ' + b"[" * 1023 + b"]" * 1023 + b', "a": 1}',
        b'{"x": ' + b"[" * 1023 + b"]" * 1023 + b', "y": 1e999, "a": 1}',
        b'{"a": 1, "x": "%s"}' % ("[" * 3000 + "é").encode(),
    ],
)
def test_white_space_unknown_fields_and_repeated_fields_do_no_harm(payload: bytes) -> None:
    for payloads in ([payload], [payload, b"", payload], [payload, b'{"a": 1}']):
        decoded = decode(INTEGERS, *payloads)
        assert [row for (row,) in decoded.rows.rows()] == [1] * sum(map(bool, payloads))


def test_a_deep_payload_leaves_the_recursion_limit_alone() -> None:
    before = sys.getrecursionlimit()
    decode(INTEGERS, b'{"x": ' + b"[" * 1000 + b"]" * 1000 + b', "y": 1e999, "a": 1}')
    assert sys.getrecursionlimit() == before


def test_a_zero_has_the_same_sign_whichever_way_it_is_read() -> None:
    for payloads in (['{"a": -0}', '{"a": -0.0}'], ['{"a": -0, "x": 1e999}', '{"a": -0.0, "x": 1e999}']):
        assert repr(decode({"a": pl.Float64}, *payloads).rows["a"].to_list()) == "[0.0, -0.0]"


def test_a_name_may_be_written_with_escapes() -> None:
    schema = {"a": pl.String, "b": pl.Binary, "c": pl.Decimal(30, 20)}
    decoded = decode(
        schema, r'{"\u0061": 1.50, "\u0063": 0.12345678901234567891}', r'{"\u0062": 1234}', r'{"\u0061": []}'
    )
    assert decoded.rows.rows() == [("1.50", None, Decimal("0.12345678901234567891"))]
    assert [bad.error[:11] for bad in decoded.bad] == ["column 'b':", "column 'a':"]


def test_of_a_repeated_field_the_first_counts_even_if_it_is_wrong() -> None:
    assert error(INTEGERS, '{"a": "x", "a": 1}') == "column 'a': found 'x', expected a whole number (Int64)"


def test_two_halves_of_an_object_in_two_payloads_are_two_bad_records() -> None:
    decoded = decode({"a": pl.String}, '{"a": "x', 'y"}', '{"a":', '"z"}', '{"a": "w"}')
    assert (decoded.rows.rows(), [bad.index for bad in decoded.bad]) == ([("w",)], [0, 1, 2, 3])


def test_two_objects_in_one_payload_do_not_make_up_for_an_empty_one() -> None:
    decoded = decode(INTEGERS, '{"a": 1}\n{"a": 2}', " ", '{"a": 3}')
    assert (decoded.rows.rows(), [bad.index for bad in decoded.bad]) == ([(3,)], [0, 1])


def test_absent_and_null_are_null_and_an_empty_object_is_a_row() -> None:
    schema = {"a": pl.Int64, "b": pl.Struct({"x": pl.Date}), "c": pl.List(pl.Date), "d": UTC}
    decoded = decode(schema, "{}", '{"a": null, "b": null, "c": null, "d": null}', '{"b": {}, "c": []}')
    assert decoded.rows.rows() == [(None,) * 4, (None,) * 4, (None, {"x": None}, [], None)]
    assert (decoded.kept, decoded.bad) == (None, ())


def test_no_payloads_are_no_rows() -> None:
    decoded = decode({"a": UTC, "b": COLORS})
    assert decoded.rows.schema == pl.Schema({"a": UTC, "b": COLORS})
    assert (decoded.rows.height, decoded.kept, decoded.bad) == (0, None, ())


def test_a_batch_of_nothing_but_bad_payloads_has_no_rows() -> None:
    decoded = decode(INTEGERS, "x", "", '{"a": 1.5}')
    assert decoded.rows.schema == INTEGERS
    assert decoded.kept is not None
    assert (decoded.rows.height, decoded.kept.tolist(), len(decoded.bad)) == (0, [], 3)


def test_names_of_columns_may_be_anything() -> None:
    names = ["", " ", "a.b", 'q"', "\\", "é", "\n", "select", "$x", "field_0"]
    rows = [dict.fromkeys(names, "1.50"), dict.fromkeys(names, 1.50), {name: [] for name in names}]
    payloads = [json.dumps(row, ensure_ascii=ascii_only) for row in rows for ascii_only in (True, False)]
    decoded = decode(dict.fromkeys(names, pl.String()), *payloads)
    assert decoded.rows.rows() == [("1.50",) * len(names)] * 2 + [("1.5",) * len(names)] * 2
    assert [bad.index for bad in decoded.bad] == [4, 5]
    schema = {"outer": pl.Struct(dict.fromkeys(names, pl.Date()))}
    row = {"outer": dict.fromkeys(names, "2013-01-01")}
    assert decode(schema, json.dumps(row), "x").rows["outer"][0] == dict.fromkeys(names, dt.date(2013, 1, 1))


def test_text_and_numbers_may_be_mixed_in_a_column_of_moments_in_any_proportion() -> None:
    text, number = '{"t": "2013-01-01T05:00:00Z"}', '{"t": 1357016400000}'
    for payloads in ([text, number], [number] * 9 + [text], [text] * 9 + [number], [number, text] * 50):
        decoded = decode({"t": UTC}, *payloads)
        assert decoded.rows["t"].to_list() == [FIVE] * len(payloads)


def test_rows_stay_in_the_order_of_their_payloads() -> None:
    payloads = [b'{"a": %d}' % n if n % 7 else b"{" for n in range(5000)]
    payloads[10] = b'{"a":\n10}'
    payloads[20] = b'{"a": 20, "x": 1e999}'
    decoded = decode(INTEGERS, *payloads)
    good = [n for n in range(5000) if n % 7]
    assert decoded.rows["a"].to_list() == good
    assert decoded.kept is not None
    assert decoded.kept.tolist() == good
    assert [bad.index for bad in decoded.bad] == [n for n in range(5000) if not n % 7]


@pytest.mark.parametrize(
    ("schema", "payload", "message"),
    [
        ({"a": pl.Int8}, '{"a": 300}', "column 'a': found 300, expected a whole number (Int8)"),
        ({"a": pl.Boolean}, '{"a": 1}', "column 'a': found 1, expected true or false"),
        (
            {"a": pl.String},
            '{"a": {"x": 1}}',
            "column 'a': found an object with the fields ['x'], expected text (String)",
        ),
        ({"a": COLORS}, '{"a": "blue"}', "column 'a': found 'blue', expected one of ['red', 'green']"),
        ({"a": pl.Decimal(5, 2)}, '{"a": 1.239}', "found 1.239, expected a number, or text such as"),
        ({"a": pl.Float32}, '{"a": 1e39}', "column 'a': found 1e+39, expected a number (Float32)"),
        ({"a": UTC}, '{"a": "soon"}', "column 'a': found 'soon', expected an ISO 8601 date and time"),
        ({"a": UTC}, '{"a": "a\\nb"}', r"column 'a': found 'a\nb', expected"),
        ({"a": pl.List(pl.Int64)}, '{"a": [1, "x"]}', "column 'a[]': found 'x', expected a whole number (Int64)"),
        ({"a": pl.List(pl.Date)}, '{"a": [1, "x"]}', "column 'a[]': found 'x', expected an ISO 8601 date"),
        ({"a": pl.Struct({"b": pl.Struct({"c": pl.Time})})}, '{"a": {"b": {"c": "x"}}}', "column 'a.b.c': found 'x'"),
    ],
)
def test_an_error_names_the_column_what_was_found_and_what_is_expected(
    schema: dict[str, Any], payload: str, message: str
) -> None:
    assert message in error(schema, payload)


@pytest.mark.parametrize("long", ['"' + "x" * 10_000 + '"', "9" * 10_000, "[" + "1," * 5000 + "1]", '"\u2028\\n\x85"'])
@pytest.mark.parametrize("dtype", [pl.Boolean, UTC, pl.List(pl.Boolean), pl.Struct({"x": pl.Int8})])
def test_an_error_is_one_short_line(dtype: Any, long: str) -> None:
    message = error({"a": dtype}, f'{{"a": {long}}}')
    assert len(message.splitlines()) == 1
    assert len(message) < 450


def test_what_the_fast_reader_refuses_for_no_known_reason_is_a_bad_record(monkeypatch: pytest.MonkeyPatch) -> None:

    def moody(payloads: Any, *args: Any, **options: Any) -> Any:
        return None if any(b"13" in payload for payload in payloads) else json_lines.read(payloads, *args, **options)

    monkeypatch.setattr(json_repair, "read", moody)
    decoded = decode(INTEGERS, *(f'{{"a": {n}}}' for n in range(20)), "x")
    assert decoded.rows["a"].to_list() == [n for n in range(20) if n != 13]
    assert decoded.bad[0].error.startswith("the reader refuses it")


def test_clean_batches_never_take_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "a": [1, None],
        "b": ["1", "x"],
        "c": ["2013-01-01T05:00:00Z", "2013-01-01 05:00"],
        "d": [1.5, 2],
        "e": [["1.50", "7"], []],
        "f": [{"x": "PT1S"}, None],
        "g": ["{}", "\\u"],
        "h": [1357016400000, None],
    }
    frame = pl.Struct({"x": pl.Duration("ms")})
    schema = {"a": pl.Int8, "b": pl.String, "c": UTC, "d": pl.Float32, "e": pl.List(pl.String), "f": frame}
    schema |= {"g": pl.String, "h": UTC}
    payloads = [json.dumps(dict(zip(rows, row, strict=True))) for row in zip(*rows.values(), strict=True)]
    monkeypatch.setattr(json_repair._Batch, "settle", None)
    assert decode(schema, *payloads).rows.height == 2


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (pl.Object(), "column 'a' is of type Object; JSON can be read as integers, floats, Boolean"),
        (pl.Null(), "column 'a' is of type Null"),
        (pl.List(pl.Object()), "column 'a[]' is of type Object"),
        (pl.Struct({"x": pl.List(pl.Null())}), "column 'a.x[]' is of type Null"),
        (pl.Struct({}), "column 'a' is of type Struct"),
        (pl.Array(pl.Int8, 2), "Try pl.List for it."),
    ],
)
def test_a_type_that_json_cannot_fill_is_refused_by_name(dtype: pl.DataType, said: str) -> None:
    with pytest.raises(PlanError) as refused:
        JSON.check(pl.Schema({"fine": pl.Int8(), "a": dtype}))
    assert said in str(refused.value)


def test_a_schema_without_columns_is_refused() -> None:
    with pytest.raises(PlanError, match="the schema has no columns"):
        JSON.check(pl.Schema())


def test_every_type_that_json_can_fill_passes() -> None:
    dtypes = [pl.Int8(), pl.UInt128(), pl.Float32(), pl.Boolean(), pl.String(), pl.Date(), UTC, pl.Time()]
    dtypes += [pl.Duration(), pl.Decimal(), pl.Binary(), pl.Categorical(), COLORS, pl.List(pl.Struct({"x": UTC}))]
    JSON.check(pl.Schema({str(place): dtype for place, dtype in enumerate(dtypes)}))
