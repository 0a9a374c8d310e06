from __future__ import annotations

import functools
from typing import Any

import polars as pl

import streamlab as sl
from streamlab.plan import fingerprint

FACTOR = 2


def doubled(frame: Any) -> Any:
    return frame.with_columns(pl.col("x") * FACTOR)


def scaled(factor: Any, more: Any = 0) -> Any:
    def apply(frame: Any) -> Any:
        return frame.with_columns(pl.col("x") * factor + more)

    return apply


def nested(limit: Any) -> Any:
    def apply(frame: Any) -> Any:
        def inner(value: Any) -> Any:
            return value > 7

        return frame.filter([inner(value) and value < limit for value in frame["x"]])

    return apply


def with_default(frame: Any, factor: Any = 2) -> Any:
    return frame.with_columns(pl.col("x") * factor)


def with_other_default(frame: Any, factor: Any = 3) -> Any:
    return frame.with_columns(pl.col("x") * factor)


def with_keyword(frame: Any, *, factor: Any = 2) -> Any:
    return frame.with_columns(pl.col("x") * factor)


def with_other_keyword(frame: Any, *, factor: Any = 3) -> Any:
    return frame.with_columns(pl.col("x") * factor)


class Doubler:
    def __call__(self, frame: Any) -> Any:
        return frame


def test_a_function_is_its_code_its_defaults_and_the_values_it_closes_over() -> None:
    of = fingerprint.of_function
    assert of(doubled) == of(doubled)
    assert of(scaled(2)) == of(scaled(2))
    assert of(scaled(2)) != of(scaled(3))
    assert of(scaled(2)) != of(scaled(2, more=1))
    assert of(nested(1)) == of(nested(1))
    assert of(with_default)[1] != of(with_other_default)[1]
    assert of(with_keyword)[1] != of(with_other_keyword)[1]
    assert of(lambda frame: frame + 1) != of(lambda frame: frame + 2)


def test_a_function_is_the_same_wherever_in_a_file_it_stands() -> None:
    text = "def f(frame):\n    return frame.head(3)\n"
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    exec(compile(text, "one.py", "exec"), one)  # noqa: S102  # the same text at two places
    exec(compile("\n\n\n" + text, "other.py", "exec"), other)  # noqa: S102  # the same text at two places
    assert fingerprint.of_function(one["f"]) == fingerprint.of_function(other["f"])


def test_what_has_no_code_of_its_own_is_known_by_name() -> None:
    assert fingerprint.of_function(Doubler()) == ["Doubler"]
    assert fingerprint.of_function(functools.partial(doubled)) == ["partial"]
    assert fingerprint.of_function(len) == ["len"]


def stream() -> Any:
    return sl.Kafka("localhost:9092").stream("events", schema={"k": pl.String, "x": pl.Int64})


def test_a_node_and_all_that_feeds_it_is_a_node() -> None:
    plain, filtered = stream().select("x").node, stream().filter(pl.col("x") > 0).select("x").node
    assert fingerprint.of_node(plain) == fingerprint.of_node(stream().select("x").node)
    assert fingerprint.of_node(plain) != fingerprint.of_node(filtered)


def test_a_step_alone_is_the_same_whatever_feeds_it_if_the_columns_are() -> None:
    def counted(events: Any) -> Any:
        return events.group_by("k").window(sl.tumbling("1m")).agg(pl.len()).node

    one, other = counted(stream()), counted(stream().filter(pl.col("x") > 0))
    assert fingerprint.of_step(one) == fingerprint.of_step(other)
    assert fingerprint.of_node(one) != fingerprint.of_node(other)
    assert fingerprint.of_step(one) != fingerprint.of_step(counted(stream().cast({"x": pl.Int8})))


def test_the_order_of_several_nodes_does_not_matter() -> None:
    one, other = stream().select("x").node, stream().select("k").node
    assert fingerprint.of_nodes((one, other)) == fingerprint.of_nodes((other, one))
    assert fingerprint.of_nodes((one, other)) != fingerprint.of_nodes((one,))
