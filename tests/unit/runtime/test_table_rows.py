"""Records of a table as rows: what sets one, what deletes one, and what is neither."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

import streamlab as sl
from streamlab.errors import BadRecordError, PlanError
from streamlab.testing import Record, StreamTester

SCHEMA = {"carrier": pl.String, "seats": pl.Int64}


def airlines(**options: Any) -> Any:
    return sl.Kafka("localhost:9092").table("airlines", **{"key": "carrier", "schema": SCHEMA, **options})


def test_a_record_sets_its_row_and_one_without_a_payload_deletes_it() -> None:
    with StreamTester(airlines()) as t:
        t.send("airlines", {"carrier": "AA", "seats": 1}, key="AA", timestamp=5)
        t.send("airlines", None, key="AA", timestamp=7)
        assert t.read() == [Record("AA", {"carrier": "AA", "seats": 1}, 5), Record("AA", None, 7)]


def test_a_key_that_the_value_lacks_is_taken_from_the_record_key() -> None:
    with StreamTester(airlines()) as t:
        t.send("airlines", {"seats": 1}, key="AA", timestamp=0)
        t.send("airlines", {"seats": 2}, key={"carrier": "UA"}, timestamp=0)
        t.send("airlines", {"carrier": "DL", "seats": 3}, key="other", timestamp=0)
        assert [record.key for record in t.read()] == ["AA", "UA", "DL"]


def test_records_without_a_key_are_skipped_and_counted() -> None:
    with StreamTester(airlines()) as t:
        t.send("airlines", None, timestamp=0)
        t.send("airlines", {"seats": 1}, timestamp=0)
        t.send("airlines", None, key={"carrier": None}, timestamp=0)
        assert t.read() == []
        assert (t.metrics().skipped, t.metrics().dead_letters, t.metrics().processed) == (3, 0, 0)


def test_in_one_batch_rows_and_deletions_keep_their_order() -> None:
    rows = [("AA", 1), ("AA", None), (None, None), ("UA", 2), ("AA", 3), ("UA", None)]
    given = [
        {"value": None if seats is None else {"seats": seats}, "key": key, "timestamp": place}
        for place, (key, seats) in enumerate(rows)
    ]
    with StreamTester(airlines()) as t:
        t.send_batch("airlines", given, wrapped=True)
        told = [(record.key, record.value and record.value["seats"], record.timestamp) for record in t.read()]
    assert told == [("AA", 1, 0), ("AA", None, 1), ("UA", 2, 3), ("AA", 3, 4), ("UA", None, 5)]


def test_a_record_key_that_cannot_be_read_is_a_bad_record() -> None:
    table = airlines(key=["carrier", "seats"])
    with StreamTester(table) as t:
        t.send("airlines", None, key=("AA", 1), timestamp=0)
        t.send("airlines", None, key=("AA", "one"), timestamp=0)
        t.send("airlines", None, key="plain", timestamp=0)
        t.send("airlines", None, key={"carrier": "AA"}, timestamp=0)
        assert [record.key for record in t.read()] == [("AA", 1)]
        errors = t.dead_letters()["error"].to_list()
    assert "found 'one', expected a whole number" in errors[0]
    assert errors[1].startswith("the record key b'plain'")
    assert "lacks column 'seats' of the table's key ['carrier', 'seats']" in errors[2]


@pytest.mark.parametrize(("on_error", "skipped"), [("skip", 1), ("dead_letter", 0)])
def test_bad_keys_go_where_the_table_says(on_error: str, skipped: int) -> None:
    with StreamTester(airlines(key="seats", on_error=on_error)) as t:
        t.send("airlines", None, key="many", timestamp=0)
        assert t.metrics().skipped == skipped


def test_a_bad_key_stops_a_table_that_raises() -> None:
    with StreamTester(airlines(key="seats", on_error="raise")) as t, pytest.raises(BadRecordError, match="many"):
        t.send("airlines", None, key="many", timestamp=0)


def test_a_deletion_has_the_time_of_its_record_where_rows_have_one_of_their_own() -> None:
    table = airlines(schema={**SCHEMA, "at": pl.Int64}, event_time="at")
    with StreamTester(table) as t:
        t.send("airlines", {"carrier": "AA", "at": 50}, timestamp=1_000)
        t.send("airlines", None, key="AA", timestamp=2_000)
        assert [(record.timestamp, record.value is None) for record in t.read()] == [(50, False), (2_000, True)]
        t.send("airlines", {"carrier": "AA"}, timestamp=1_000)
        assert t.dead_letters().height == 1


def test_a_table_reads_back_what_a_table_writes() -> None:
    moment = datetime(2013, 1, 1, tzinfo=UTC)
    schema = {"carrier": pl.String, "hour": pl.Datetime("ms", "UTC"), "n": pl.Int64}
    table = sl.Kafka("localhost:9092").table("out", key=["carrier", "hour"], schema=schema)
    with StreamTester(table) as t:
        t.send("out", None, key=("AA", moment), timestamp=0)
        assert [(record.key, record.value) for record in t.read()] == [(("AA", moment), None)]


def test_static_tables_of_the_tester_are_sent_first_to_the_partition_of_their_key() -> None:
    frame = pl.DataFrame({"carrier": ["AA", "UA"], "seats": [1, 2]})
    with StreamTester(airlines(), tables={"airlines": frame.to_pandas()}, partitions=4) as t:
        assert [(record.key, record.timestamp) for record in t.read()] == [("AA", 0), ("UA", 0)]
        t.restart()
        assert t.read() == []
    with pytest.raises(PlanError, match="no column 'carrier'"):
        StreamTester(airlines(), tables={"airlines": frame.drop("carrier")})
    with pytest.raises(PlanError, match="Did you mean 'airlines'"):
        StreamTester(airlines(), tables={"airline": frame})


def test_a_table_says_what_it_is() -> None:
    table = airlines(history="1h")
    assert "table by carrier, versions of 1h, event time record timestamp" in table.explain()
    assert (table.node.key, table.node.keys, table.node.record_key) == ("carrier", ("carrier",), ("carrier",))
    assert airlines(key=["carrier", "seats"]).node.key is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "carier"}, "Did you mean 'carrier'"),
        ({"key": []}, "key is empty"),
        ({"key": ["carrier", "carrier"]}, "names a column twice"),
        ({"history": "0s"}, "history"),
        ({"format": "jason"}, "Did you mean 'json'"),
        ({"on_error": "ignore"}, "valid are"),
    ],
)
def test_a_table_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said) as caught:
        airlines(**options)
    assert "table 'airlines'" in str(caught.value)
