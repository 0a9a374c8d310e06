"""Row-by-row steps of a table: deletions go through them, and a row that no longer passes becomes one."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import PlanError
from streamlab.testing import StreamTester

SCHEMA = {"k": pl.String, "x": pl.Int64, "s": pl.String}


def rows(**more: Any) -> Any:
    return sl.Kafka("x:1").table("rows", key="k", schema=SCHEMA, **more)


def told(table: Any, *given: tuple[str, int | None], together: bool = False) -> list[Any]:
    """Return (key, row) of what comes of setting x of keys; None deletes."""
    records = [
        {"value": None if x is None else {"k": key, "x": x, "s": str(x)}, "key": key, "timestamp": 0}
        for key, x in given
    ]
    with StreamTester(table) as t:
        for part in [records] if together else [[record] for record in records]:
            t.send_batch("rows", part, wrapped=True)
        return [(record.key, record.value and tuple(record.value.values())) for record in t.read()]


GIVEN = (("a", 1), ("b", 7), ("a", None), ("b", 2), ("c", 9), ("c", None), ("b", 8))


@pytest.mark.parametrize("together", [False, True])
def test_a_row_that_no_longer_passes_a_filter_is_deleted_and_deletions_stay(together: bool) -> None:
    found = told(rows().filter(pl.col("x") > 5), *GIVEN, together=together)
    values = [None, ("b", 7, "7"), None, None, ("c", 9, "9"), None, ("b", 8, "8")]
    assert found == [(key, value) for (key, _), value in zip(GIVEN, values, strict=True)]


@pytest.mark.parametrize("together", [False, True])
def test_columns_are_made_of_rows_and_not_of_deletions(together: bool) -> None:
    strict = rows().with_columns(n=pl.col("s").fill_null("none").str.to_integer()).rename({"k": "key"}).drop("s")
    found = told(strict, ("a", 1), ("b", None), ("b", 7), together=together)
    assert found == [("a", ("a", 1, 1)), ("b", None), ("b", ("b", 7, 7))]


def test_a_selection_may_give_the_key_another_name_and_place() -> None:
    made = rows().select(double=pl.col("x") * 2, id="k")
    assert made.node.keys == made.node.record_key == ("id",)
    assert told(made, ("a", 1), ("a", None)) == [("a", (2, "a")), ("a", None)]


def test_a_copy_of_the_key_leaves_the_key_where_it_was() -> None:
    assert rows().with_columns(again="k").node.keys == ("k",)


def test_a_cast_of_another_column_goes_through() -> None:
    assert told(rows().cast({"x": pl.Float64, "k": pl.String}).drop("s"), ("a", 1), ("a", None)) == [
        ("a", ("a", 1.0)),
        ("a", None),
    ]


@pytest.mark.parametrize(
    ("write", "step"),
    [
        (lambda t: t.select("x"), "select"),
        (lambda t: t.select(pl.col("k").str.to_lowercase(), "x"), "select"),
        (lambda t: t.with_columns(k="s"), "with_columns"),
        (lambda t: t.drop("k"), "drop"),
        (lambda t: t.cast({"k": pl.Categorical}), "cast"),
    ],
)
def test_a_step_that_changes_the_key_is_refused(write: Any, step: str) -> None:
    with pytest.raises(PlanError, match=rf"^{step}: the key of the table is \['k'\].*'k' would be gone or another"):
        write(rows())


def test_a_filtered_table_forgets_rows_in_its_sink() -> None:
    with StreamTester(sl.Pipeline([rows().filter(pl.col("x") > 5).sink_table("big")])) as t:
        for key, x in (("a", 7), ("b", 8), ("a", 1)):
            t.send("rows", {"k": key, "x": x, "s": ""}, timestamp=0)
        t.send("rows", None, key="none", timestamp=0)
        assert t.table("big")["k"].to_list() == ["b"]


def test_sinks_of_rows_mark_deletions_where_there_may_be_such() -> None:
    static = sl.table_from_frame(pl.DataFrame({"k": [1, 2], "x": [1, 9]}), key="k").filter(pl.col("x") > 5)
    seen: list[pl.DataFrame] = []
    sl.Pipeline([static.sink_frame(seen.append)]).run()
    assert pl.concat(seen).sort("k").rows() == [(1, None, True), (2, 9, False)]
    counts: list[pl.DataFrame] = []
    sl.Pipeline([static.group_by("x").agg(pl.len().alias("n")).sink_frame(counts.append)]).run()
    assert pl.concat(counts).rows() == [(9, 1)]
    marked = sl.table_from_frame(pl.DataFrame({"k": [1], "_deleted": [1]}), key="k")
    with pytest.raises(PlanError, match="column '_deleted' that marks them"):
        marked.sink_parquet("out")


def test_deletions_are_marked_in_parquet_files(tmp_path: Any) -> None:
    static = sl.table_from_frame(pl.DataFrame({"k": [1, 2], "x": [1, 9]}), key="k").filter(pl.col("x") > 5)
    sl.Pipeline([static.sink_parquet(tmp_path / "out")]).run()
    assert pl.read_parquet(tmp_path / "out/*.parquet").sort("k").rows() == [(1, None, True), (2, 9, False)]


def test_collected_tables_are_without_what_was_deleted() -> None:
    static = sl.table_from_frame(pl.DataFrame({"k": [1, 2], "x": [1, 9]}), key="k")
    assert static.filter(pl.col("x") > 5).collect().rows() == [(2, 9)]
    assert static.filter(pl.col("x") > 5).preview().rows() == [(2, 9)]
