"""JSON: the batch law, an oracle built on Python's own decoder, and the way there and back."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.connect.formats import Decoded, iso8601
from streamlab.connect.formats.json import Json, encode
from streamlab.connect.formats.nested import items_of, with_items

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = Json()
UTC = pl.Datetime("ms", "UTC")
SCHEMAS = [
    pl.Schema(schema)
    for schema in (
        {"a": pl.Int64(), "b": pl.String(), "c": pl.Boolean()},
        {"a": pl.Int8(), "b": pl.UInt8(), "c": pl.Float64()},
        {"a": UTC, "b": pl.Date(), "c": pl.Time()},
        {"a": pl.Datetime("ns"), "b": pl.Duration("ms"), "c": pl.Datetime("us", "Europe/Berlin")},
        {"a": pl.Decimal(10, 2), "b": pl.Binary(), "c": pl.Enum(["red", "1.50"])},
        {"a": pl.Float32(), "b": pl.UInt128(), "c": pl.Categorical()},
        {"a": pl.List(pl.Int64()), "b": pl.List(pl.String()), "c": pl.Struct({"a": pl.Int64(), "b": pl.String()})},
        {"a": pl.List(pl.Struct({"a": UTC, "b": pl.Int8()})), "b": pl.Struct({"a": pl.List(pl.Decimal(5, 1))})},
        {'q"': pl.String(), "é": pl.Int64(), "": pl.List(pl.Binary())},
    )
]
ORACLE_SCHEMA = pl.Schema(
    {
        "int": pl.Int64(),
        "tiny": pl.Int8(),
        "byte": pl.UInt8(),
        "real": pl.Float64(),
        "flag": pl.Boolean(),
        "text": pl.String(),
        "at": UTC,
        "list": pl.List(pl.Int64()),
        "more": pl.Struct({"int": pl.Int64(), "text": pl.String()}),
    }
)
NUMBERS = [
    *("0", "1", "-0", "-0.0", "1.0", "1.50", "1e2", "1E+2", "127", "128", "-129", "255", "256", "2.675", "3.5e38"),
    *("9223372036854775807", "9223372036854775808", "340282366920938463463374607431768211456", "1e308", "1e309"),
    *("1e-400", "0.10000000000000000000001", "0e99999999999999999999", "1700000000000", "86400000000000"),
    *("-62135596800001", "253402300800000", "01", "1.", ".5", "+1", "-", "1e", "NaN", "Infinity", "-Infinity"),
]
TEXTS = [
    *("", "1", "1.50", "true", "[1]", '{"a":1}', "{", "red", "ä😀", "\u2028", "YWJj", "YWJ", "x" * 300, '\t"\\'),
    *("2013-01-01", "2013-02-30", "2013-01-01T05:00:00Z", "2013-01-01 05:00", "2013-01-01T05:00:00.1234567-05:00"),
    *("05:00:00", "24:00", "PT1H", "-P1DT0.5S", "P1Y", "1700000000000", "0001-01-01T00:00:00+01:00", "9999-12-31"),
]
ESCAPES = [r"\u0061", r"\ud83d\ude00", r"\ud83d", r"\ude00", r"\u0000", r"\x", r"\n", r"\/", "\t", "\n", "\x7f"]
PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"0",
    b" ",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3",
    b"e",
    b"-",
    b"\\",
]
GARBAGE = [b"", b" ", b"\n", b"[]", b"1", b"null", b'"x"', b"{", b'{"a":"x', b'y"}', b"[" * 1100, b"\x1f\x8b\x08"]


def texts() -> st.SearchStrategy[str]:
    plain = (st.sampled_from(TEXTS) | st.text(max_size=5)).flatmap(
        lambda text: st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False)])
    )
    return plain | st.lists(st.sampled_from([*ESCAPES, "a"]), max_size=3).map(lambda parts: f'"{"".join(parts)}"')


def numbers() -> st.SearchStrategy[str]:
    integers = st.integers(-(2**70), 2**70).map(str)
    return st.sampled_from(NUMBERS) | integers | st.floats(allow_nan=False, allow_infinity=False).map(repr)


SPACES = st.sampled_from(["", "", "", " ", "\t", "\n", "\r\n", "\x0c"])
SCALARS = numbers() | texts() | st.sampled_from(["true", "false", "null"])


def arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda parts, space: f"[{f',{space}'.join(parts)}]", st.lists(items, max_size=3), SPACES)


def objects(fields: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[str]:
    def write(pairs: list[tuple[str, str]], before: str, after: str) -> str:
        inside = f"{before},".join(f"{key}{before}:{after}{value}" for key, value in pairs)
        return f"{{{after}{inside}{before}}}"

    return st.builds(write, st.lists(fields, max_size=5), SPACES, SPACES)


def keys(names: list[str]) -> st.SearchStrategy[str]:
    known = st.sampled_from([*names, "a", "b", "unknown"]).map(json.dumps)
    return known | known | st.just(r'"\u0061"') | texts()


def values(names: list[str]) -> st.SearchStrategy[str]:
    return st.recursive(SCALARS, lambda inner: arrays(inner) | objects(st.tuples(keys(names), inner)), max_leaves=5)


def fitting(dtype: Any) -> st.SearchStrategy[str]:
    """Write values that mostly fit a type, so that many records are good."""
    if isinstance(dtype, pl.List):
        return arrays(fitting(dtype.inner) | st.just("null"))
    if isinstance(dtype, pl.Struct):
        pairs = [st.tuples(st.just(json.dumps(field.name)), fitting(field.dtype)) for field in dtype.fields]
        return objects(st.one_of(pairs))
    if dtype.is_temporal():
        moments = [json.dumps(text) for text in TEXTS if re.search("[0P]", text)]
        return st.sampled_from(moments) | st.integers(-(10**12), 10**13).map(str)
    if dtype.is_integer():
        return st.integers(-3, 130).map(str)
    if dtype == pl.Boolean:
        return st.sampled_from(["true", "false"])
    some = ["1", "1.5", "-2.25", "1e2"] if dtype.is_numeric() else ['"red"', '"1.50"', '"YWJj"', "1.50", "12", '"12"']
    return st.sampled_from(some) | (numbers() if dtype.is_numeric() else texts())


def payloads(schema: pl.Schema) -> st.SearchStrategy[bytes]:
    names = list(schema)
    good = st.one_of([st.tuples(st.just(json.dumps(name)), fitting(dtype)) for name, dtype in schema.items()])
    anything = st.tuples(keys(names), values(names))
    written = objects(good) | objects(good) | objects(good | good | anything)
    whole = st.builds(lambda a, text, b: f"{a}{text}{b}".encode("utf-8", "surrogatepass"), SPACES, written, SPACES)

    @st.composite
    def damaged(draw: st.DrawFn) -> bytes:
        payload = draw(whole)
        start = draw(st.integers(0, len(payload)))
        return payload[:start] + draw(st.sampled_from([b"", *PIECES])) + payload[start + draw(st.integers(0, 2)) :]

    twice = st.builds(lambda payload, between: payload + between + payload, whole, st.sampled_from([b"", b"\n", b","]))
    marked = st.builds(lambda marks, payload: b"\xef\xbb\xbf" * marks + payload, st.integers(1, 2), whole)
    return whole | whole | whole | damaged() | twice | marked | st.sampled_from(GARBAGE)


def physical(dtype: Any) -> Any:
    """Return the type with numbers for moments, of which Python cannot show all in every time zone."""
    if isinstance(dtype, pl.List):
        return pl.List(physical(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: physical(field.dtype) for field in dtype.fields})
    return pl.Int64() if dtype.is_temporal() else dtype


def bits(decoded: Decoded) -> Any:
    """Everything that a batch has come to, down to the sign of a zero."""
    rows = decoded.rows.cast({name: physical(dtype) for name, dtype in decoded.rows.schema.items()})
    return repr(rows.rows()), [(bad.index, bad.error) for bad in decoded.bad]


def together(parts: list[tuple[int, Decoded]], schema: pl.Schema) -> Decoded:
    bad = tuple(type(b)(start + b.index, b.error) for start, part in parts for b in part.bad)
    return Decoded(pl.concat([schema.to_frame(), *(part.rows for _, part in parts)]), None, bad)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_and_verdicts_are_the_same_for_every_way_of_cutting_payloads_into_batches(
    schema: pl.Schema, data: st.DataObject
) -> None:
    batch = data.draw(st.lists(payloads(schema), min_size=1, max_size=8))
    decoded = JSON.decode(batch, schema)
    assert (decoded.kept is None) == (not decoded.bad)
    kept = list(range(len(batch))) if decoded.kept is None else decoded.kept.tolist()
    assert decoded.rows.schema == schema
    assert decoded.rows.height == len(kept)
    assert sorted([*kept, *(bad.index for bad in decoded.bad)]) == list(range(len(batch)))
    assert all(len(bad.error.splitlines()) == 1 for bad in decoded.bad)
    one_by_one = [(place, JSON.decode([payload], schema)) for place, payload in enumerate(batch)]
    assert bits(decoded) == bits(together(one_by_one, schema))
    cut = data.draw(st.integers(0, len(batch)))
    halves = [(0, JSON.decode(batch[:cut], schema)), (cut, JSON.decode(batch[cut:], schema))]
    assert bits(decoded) == bits(together(halves, schema))


class Unreadable(Exception):  # noqa: N818 - a verdict, not an error
    """What the oracle says of a bad record."""


def refuse(_: Any) -> Any:
    raise Unreadable


def need(condition: object) -> None:
    if not condition:
        raise Unreadable


class Digits(str):
    """The text of a number."""

    __slots__ = ()


MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ Tt](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)?)?", re.ASCII
)


def oracle_moment(value: Any) -> int:
    if type(value) is Digits:
        need(re.fullmatch(r"-?\d+", value))
        number = int(value)
    else:
        need(type(value) is str)
        parts = MOMENT.fullmatch(value)
        need(parts)
        assert parts is not None
        year, month, day, hour, minute, second, fraction, sign, east, minutes = parts.groups()
        try:
            moment = dt.datetime(*(int(part or 0) for part in (year, month, day, hour, minute, second)), tzinfo=dt.UTC)  # type: ignore[misc, arg-type]  # six numbers
            need(int(east or 0) < 24 and int(minutes or 0) < 60)
            ahead = dt.timedelta(hours=int(east or 0), minutes=int(minutes or 0))
            moment += ahead if sign == "-" else -ahead
        except (ValueError, OverflowError):
            raise Unreadable from None
        seconds = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(seconds=1)
        number = seconds * 1000 + int(((fraction or "") + "000")[:3])
    need(-62_135_596_800_000 <= number < 253_402_300_800_000)
    return number


def oracle_integer(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        need(type(value) is Digits and re.fullmatch(r"-?\d+", value) and low <= int(value) <= high)
        return int(value)

    return read


def oracle_real(value: Any) -> float:
    need(type(value) is Digits and math.isfinite(float(value)))
    return float(int(value)) if re.fullmatch(r"-?\d+", value) else float(value)


def oracle_text(value: Any) -> str:
    need(type(value) in (str, Digits, bool))
    text = str(value).lower() if type(value) is bool else str(value)
    need(not re.search("[\ud800-\udfff]", text))
    return text


def oracle_flag(value: Any) -> bool:
    need(type(value) is bool)
    return bool(value)


def oracle_list(value: Any) -> list[int | None]:
    need(type(value) is list)
    return [None if item is None else ORACLE["int"](item) for item in value]


def oracle_struct(value: Any) -> dict[str, Any]:
    need(type(value) is dict)
    return {name: None if value.get(name) is None else ORACLE[name](value[name]) for name in ("int", "text")}


ORACLE: dict[str, Callable[[Any], Any]] = {
    "int": oracle_integer(-(2**63), 2**63 - 1),
    "tiny": oracle_integer(-128, 127),
    "byte": oracle_integer(0, 255),
    "real": oracle_real,
    "flag": oracle_flag,
    "text": oracle_text,
    "at": oracle_moment,
    "list": oracle_list,
    "more": oracle_struct,
}


def oracle(payload: bytes) -> dict[str, Any] | None:
    """Return the row of a payload by the letter of the contract, None for a bad one."""
    try:
        value = json.loads(
            payload.decode().removeprefix("\ufeff"),
            object_pairs_hook=lambda pairs: dict(reversed(pairs)),
            parse_int=Digits,
            parse_float=Digits,
            parse_constant=refuse,
        )
        need(type(value) is dict)
        return {name: None if value.get(name) is None else read(value[name]) for name, read in ORACLE.items()}
    except (ValueError, RecursionError, Unreadable):
        return None


@settings(max_examples=300, deadline=None)
@given(st.lists(payloads(ORACLE_SCHEMA), min_size=1, max_size=12))
def test_rows_and_verdicts_are_what_pythons_decoder_and_the_contract_say(batch: list[bytes]) -> None:
    decoded = JSON.decode(batch, ORACLE_SCHEMA)
    rows = decoded.rows.with_columns(pl.col("at").to_physical()).to_dicts()
    expected = [oracle(payload) for payload in batch]
    assert [bad.index for bad in decoded.bad] == [place for place, row in enumerate(expected) if row is None]
    assert [repr(row) for row in rows] == [repr(row) for row in expected if row is not None]


def within(dtype: pl.DataType) -> st.SearchStrategy[int]:
    low, high = iso8601.bounds(dtype)
    return st.integers(low, high) | st.integers(max(low, -(10**6)), min(high, 10**6))


def columns() -> dict[str, tuple[Any, st.SearchStrategy[Any]]]:
    """Every type that is both written and read, with its values (numbers for temporal types)."""
    found: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {}
    for bits_ in (8, 16, 32, 64, 128):
        top = 2 ** (bits_ - 1)
        found[f"Int{bits_}"] = (getattr(pl, f"Int{bits_}"), st.integers(-top, top - 1))
        found[f"UInt{bits_}"] = (getattr(pl, f"UInt{bits_}"), st.integers(0, 2 * top - 1))
    for width in (32, 64):
        floats = st.floats(width=width, allow_nan=False, allow_infinity=False)
        found[f"Float{width}"] = (getattr(pl, f"Float{width}"), floats)
    characters = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(TEXTS)
    found |= {"String": (pl.String, characters), "Categorical": (pl.Categorical, characters)}
    found["Enum"] = (pl.Enum(["1.50", "[", ""]), st.sampled_from(["1.50", "[", ""]))
    found |= {"Boolean": (pl.Boolean, st.booleans()), "Binary": (pl.Binary, st.binary(max_size=8))}
    found["Decimal"] = (pl.Decimal(38, 10), st.decimals(-(10**27), 10**27, places=10))
    temporals: list[pl.DataType] = [pl.Date(), pl.Time()]
    for unit in ("ms", "us", "ns"):
        temporals += [pl.Duration(unit), pl.Datetime(unit), pl.Datetime(unit, "UTC"), pl.Datetime(unit, "Asia/Tokyo")]
    found |= {str(dtype): (dtype, within(dtype)) for dtype in temporals}
    return found


def series(dtype: Any, values: list[Any]) -> pl.Series:
    if pl.Series(dtype=dtype).dtype.is_temporal():
        return pl.Series(values, dtype=pl.Int64).cast(dtype)
    return pl.Series(values, dtype=dtype)


COLUMNS = columns()


@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back_alone_and_inside_of_lists_and_structs(name: str, data: st.DataObject) -> None:
    dtype, some = COLUMNS[name]
    flat = series(dtype, data.draw(st.lists(st.none() | some, min_size=1, max_size=6)))
    shape = data.draw(st.lists(st.none() | st.integers(0, 3), min_size=len(flat), max_size=len(flat)))
    places = pl.Series([None if n is None else range(n) for n in shape], dtype=pl.List(pl.Int64))
    rows = pl.DataFrame({"flat": flat, "lists": with_items(places, flat.gather(items_of(places) % len(flat)))})
    whole = pl.struct(x="flat", y="lists")
    rows = rows.with_columns(structs=pl.when(pl.col("lists").is_not_null()).then(whole))
    decoded = JSON.decode(encode(rows), rows.schema)
    assert decoded.bad == ()
    assert decoded.rows.schema == rows.schema
    assert bits(decoded) == bits(Decoded(rows, None, ()))


def test_base64_is_what_python_writes() -> None:
    raw = [bytes(range(size)) for size in range(64)]
    rows = pl.DataFrame({"raw": raw})
    assert [json.loads(payload)["raw"] for payload in encode(rows)] == [base64.b64encode(b).decode() for b in raw]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=3))
def test_numbers_are_read_to_the_last_bit(seeds: list[int]) -> None:
    generator = np.random.default_rng(seeds)
    doubles = generator.integers(-(2**63), 2**63 - 1, 200).view(np.float64)
    doubles = doubles[np.isfinite(doubles)]
    written = [f"{value:.{digits}e}" for value, digits in zip(doubles, generator.integers(0, 30, 200), strict=False)]
    written = [text for text in written if math.isfinite(float(text))]
    decoded = JSON.decode([f'{{"a": {text}}}'.encode() for text in written], pl.Schema({"a": pl.Float64()}))
    assert decoded.rows["a"].to_list() == [float(text) for text in written]
