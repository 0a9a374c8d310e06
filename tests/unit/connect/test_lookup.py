"""Rows of a database by key, and what is remembered of them."""

from __future__ import annotations

import sqlite3
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

import streamlab as sl
from streamlab.connect.lookup import Lookup, Query, paramstyle
from streamlab.errors import PlanError, StepError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "house of planes.db"
    with sqlite3.connect(path) as connection:
        connection.execute('CREATE TABLE planes (tail TEXT, "built in" INT, day TEXT, seats INT)')
        rows = [("N1", 1999, "2013-01-01", 55), ("N2", 2004, "2013-01-02", None), ("N3", 2004, "2013-01-03", 200)]
        connection.executemany("INSERT INTO planes VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return path


COLUMNS = pl.Schema({"tail": pl.String(), "seats": pl.Int64()})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def seats(file: Path, **options: object) -> Lookup:
    query = Query("seats", lambda: sqlite3.connect(file), "SELECT tail, seats FROM planes")
    return Lookup(query, ("tail",), COLUMNS, **options)


def asked(lookup: Lookup, *tails: str | None) -> list[tuple[object, ...]]:
    return sorted(lookup.lookup(pl.DataFrame({"tail": tails}, schema={"tail": pl.String})).rows())


def test_keys_give_their_rows_and_those_that_have_none_are_left_out(file: Path) -> None:
    assert asked(seats(file), "N1", "N9", None, "N1", "N2") == [("N1", 55), ("N2", None)]


def test_what_was_asked_is_not_asked_again_also_where_there_was_nothing(file: Path) -> None:
    lookup = seats(file)
    for _ in range(3):
        asked(lookup, "N1", "N9")
    assert lookup.fetched == 2


def test_a_row_is_fetched_again_when_it_is_older_than_refresh(file: Path) -> None:
    clock = Clock()
    lookup = seats(file, refresh=5_000, now=clock)
    assert asked(lookup, "N1") == [("N1", 55)]
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE planes SET seats = 56 WHERE tail = 'N1'")
    connection.close()
    clock.now = 4.9
    assert asked(lookup, "N1") == [("N1", 55)]
    clock.now = 5.1
    assert asked(lookup, "N1") == [("N1", 56)]


def test_of_a_full_cache_the_keys_go_that_were_asked_for_longest_ago(file: Path) -> None:
    lookup = seats(file, limit=2)
    for tails in (["N1"], ["N2"], ["N1"], ["N3"]):
        asked(lookup, *tails)
    assert set(lookup._known) == {("N1",), ("N3",)}
    assert asked(lookup, "N1", "N2", "N3") == [("N1", 55), ("N2", None), ("N3", 200)]  # one batch may be larger
    assert len(lookup._known) == 2


def test_more_keys_than_one_query_takes_are_asked_in_several(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.executemany("INSERT INTO planes (tail, seats) VALUES (?, ?)", [(f"M{n}", n) for n in range(1_000)])
    connection.close()
    assert asked(seats(file), *(f"M{n}" for n in range(1_000))) == sorted((f"M{n}", n) for n in range(1_000))


def test_several_key_columns_are_compared_together(file: Path) -> None:
    table = sl.table_from_sqlite(file, "planes", key=["tail", "built in"])
    keys = pl.DataFrame({"tail": ["N1", "N2", "N3"], "built in": [1999, 1999, 2004]})
    assert sorted(table.node.origin.lookup(keys)["tail"]) == ["N1", "N3"]
    assert table.schema == {"tail": pl.String, "built in": pl.Int64, "day": pl.String, "seats": pl.Int64}


def test_times_are_asked_for_as_text(file: Path) -> None:
    table = sl.table_from_sqlite(file, "planes", key="day", schema={"day": pl.String, "tail": pl.String})
    assert table.node.origin.lookup(pl.DataFrame({"day": ["2013-01-02"]})).rows() == [("2013-01-02", "N2")]
    query = Query("days", lambda: sqlite3.connect(file), "SELECT * FROM planes")
    with sqlite3.connect(file) as connection:
        found = list(query.rows(connection, pl.DataFrame({"day": [date(2013, 1, 1)]}), pl.Schema({"tail": pl.String})))
    connection.close()
    assert found[0]["tail"].to_list() == ["N1"]


def test_a_value_that_does_not_fit_its_type_fails_with_the_table_named(file: Path) -> None:
    query = Query("days", lambda: sqlite3.connect(file), "SELECT tail, day FROM planes")
    wrong = Lookup(query, ("tail",), pl.Schema({"tail": pl.String(), "day": pl.Int64()}))
    with pytest.raises(StepError, match=r"days: .*conversion.*promised as"):
        asked(wrong, "N1")


def test_a_database_that_goes_away_fails_the_step(file: Path) -> None:
    table = sl.table_from_sqlite(file, "SELECT * FROM planes;", key="tail")
    file.unlink()
    with pytest.raises(StepError, match=r"table_from_sqlite 'house of planes\.db': OperationalError"):
        table.node.origin.lookup(pl.DataFrame({"tail": ["N1"]}))


def test_what_cannot_be_asked_is_refused_where_it_is_written(file: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no file"):
        sl.table_from_sqlite(tmp_path / "none.db", "planes", key="tail")
    with pytest.raises(PlanError, match="no such table: plane"):
        sl.table_from_sqlite(file, "plane", key="tail")
    with pytest.raises(PlanError, match=r"no column 'tial'.*Did you mean 'tail'"):
        sl.table_from_sqlite(file, "planes", key="tial")
    with pytest.raises(PlanError, match="cache=0; at least one row"):
        sl.table_from_sqlite(file, "planes", key="tail", cache=0)
    with pytest.raises(PlanError, match="no function that opens a connection"):
        sl.table_from_sql("sqlite:///x.db", "SELECT 1", key="a")
    with pytest.raises(PlanError, match="no connection of the Python database API"):
        paramstyle(object())


def test_a_query_of_any_driver_is_asked_the_way_that_driver_wants(file: Path) -> None:
    table = sl.table_from_sql(lambda: sqlite3.connect(file), "SELECT tail, seats FROM planes", key="tail", refresh="5m")
    assert table.node.origin.lookup(pl.DataFrame({"tail": ["N3"]})).rows() == [("N3", 200)]
    assert "at most 100,000 rows cached, fetched again after 5m" in table.explain()
    named = Query("named", lambda: sqlite3.connect(file), "SELECT tail, seats FROM planes", ":p{n}")
    with sqlite3.connect(file) as connection:
        keys = pl.DataFrame({"tail": ["N1", "N3"]})
        found = pl.concat(named.rows(connection, keys, COLUMNS))
    connection.close()
    assert sorted(found["seats"]) == [55, 200]


@pytest.mark.parametrize("use", ["collect", "filter", "group_by", "sink"])
def test_a_lookup_table_is_only_the_right_side_of_a_join(file: Path, use: str) -> None:
    table = sl.table_from_sqlite(file, "planes", key="tail")
    uses = {
        "collect": table.collect,
        "filter": lambda: table.filter(pl.col("seats") > 1),
        "group_by": lambda: table.group_by("seats").agg(pl.len()),
        "sink": lambda: table.sink_table("t"),
    }
    with pytest.raises(PlanError, match="can only be the right side of a join"):
        uses[use]()
