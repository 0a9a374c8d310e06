from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError
from streamlab.plan.copartition import check_partitions

kafka = sl.Kafka("localhost:9092")
SCHEMA = {"k": pl.String, "j": pl.Int64, "x": pl.Int64}


def stream(**settings: Any) -> Any:
    return kafka.stream("s", schema=SCHEMA, **settings)


def table(topic: Any = "t", key: Any = "k", **settings: Any) -> Any:
    return kafka.table(topic, key=key, schema=SCHEMA, **settings)


@pytest.mark.parametrize(
    ("join", "message"),
    [
        (lambda: stream().join(table()), r"join: no key; .* Did you mean on='k'\?"),
        (lambda: stream().rename({"k": "id"}).join(table()), r"The key of the right side is \['k'\]"),
        (lambda: stream().join(table(), on="j"), r"the key of the right table is \['k'\], .* joined by \['j'\]"),
        (lambda: stream().join(table(key=["k", "j"]), on="k"), r"key of the right table is \['k', 'j'\]"),
        (lambda: stream().join(table(), on="kk"), r"left side: no column 'kk'"),
        (lambda: stream().join(table(), left_on="x", right_on="k"), r"'x' is Int64 on the left and 'k' is String on"),
        (lambda: stream().join(table(), on="k", left_on="k"), r"on= and left_on=, right_on= exclude each other"),
        (lambda: stream().join(table(), left_on="k"), r"right_on= is missing"),
        (lambda: stream().join(table(), left_on=["k", "j"], right_on="k"), r"must have equally many columns"),
        (lambda: stream().join(table(), on=["k", "k"]), r"names key 'k' twice"),
        (lambda: stream().join(table(), on=pl.col("k")), r"no column name and no list of such"),
        (lambda: stream().join(table(), on="k", how="lef"), r"how='lef'; valid are .* Did you mean 'left'\?"),
        (lambda: stream().join(stream(), on="k"), r"the right side is a StreamFrame, not a table"),
        (
            lambda: stream().join(table(), on="k", grace="1s"),
            r"grace='1s' .* keep versions: kafka.table\(\.\.\., history",
        ),
        (lambda: stream().join(table(history="1h"), on="k", grace="-1s"), r"grace"),
        (lambda: stream().with_columns(x_right=1).join(table(), on="k"), r"'x_right' is there already"),
        (lambda: table().join(stream(), on="k"), r"the right side is a StreamFrame, not a table"),
        (lambda: table().join(table("u"), on="j"), r"the key of the left table is \['k'\]"),
        (lambda: table().join(table("u", key="j"), left_on="k", right_on="j"), r"'k' is String on the left"),
        (lambda: table().join(table("u"), on="k", how="ful"), r"Did you mean 'full'\?"),
        (lambda: stream().group_by().agg(n=pl.len()).join(table(), on="k"), r"the left table has no key"),
    ],
)
def test_what_cannot_be_joined_is_refused_when_it_is_written(join: Any, message: Any) -> None:
    with pytest.raises(PlanError, match=message):
        join()


def test_explain_says_what_a_join_keeps_and_what_its_results_depend_on() -> None:
    assert "outside the replay law" in stream().join(table(), on="k").explain()
    versions = stream().join(table(history="1h"), on="k", grace="5s").explain()
    assert "keeps versions of the table's rows for 1h" in versions
    assert "wait until both sides have passed their time by 5s" in versions
    assert "reads the whole table" in stream().join(table(), on="k").explain()
    assert "reads the whole table" not in stream(key="k").join(table(), on="k").explain()


def test_versions_are_found_through_steps_on_the_table() -> None:
    changed = table(history="1h").filter(pl.col("x") > 0).rename({"k": "id"})
    assert stream().join(changed, left_on="k", right_on="id").node.history == 3_600_000


def test_the_key_stays_promised_where_partitions_stay_apart() -> None:
    assert stream(key="k").join(table(), on="k").node.key == "k"
    assert stream(key="j").join(table(), on="k").node.key == "j"  # each partition asks the whole table
    assert stream(key="j").join(table(history="1h"), on="k").node.key is None


def test_names_of_steps_tell_joins_of_several_tables_apart() -> None:
    both = stream().join(table(), on="k").join(table("u"), on="k", suffix="_u")
    assert both.node.name == "join-u-by-k"
    sl.Pipeline([both.sink_parquet("x")])


def test_topics_with_different_numbers_of_partitions_are_refused_where_partitions_are_put_together() -> None:
    def plan(joined: Any) -> Any:
        return sl.Pipeline([joined.sink_parquet("x")]).plan

    shared = plan(stream(key="k").join(table(), on="k"))
    check_partitions(shared, {"s": 3, "t": 3})
    with pytest.raises(PlanError, match=r"join \[join-t-by-k\]: .* 's' with 3 and 't' with 4\. .* leave out key="):
        check_partitions(shared, {"s": 3, "t": 4})
    check_partitions(plan(stream().join(table(), on="k")), {"s": 3, "t": 4})
    with pytest.raises(PlanError, match="different numbers of partitions"):
        check_partitions(plan(table().join(table("u"), on="k")), {"t": 1, "u": 2})
