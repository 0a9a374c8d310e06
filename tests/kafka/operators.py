"""Every operator once, over topics of four partitions, and what each must give: worked out by polars, or naively, over the whole input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import streamlab as sl
from tests.kafka.support import TIME, Sent, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARTITIONS, KEYS = 4, 20
EVENTS, ANSWERS = 6_000, 3_000
START = 1_700_000_000_000 // 60_000 * 60_000
DISORDER = 2_000
"""Milliseconds that a record is out of order at most; every step waits longer."""
GRACE = "5s"
WITHIN = 3_000
FAR_AHEAD = START + 86_400_000

EVENT = {"id": pl.Int64, "key": pl.String, "value": pl.Int64, "ts": TIME}
NAME = {"key": pl.String, "name": pl.String, "team": pl.String}


@cache
def events(count: int = EVENTS, seed: int = 1, length: int = 600_000) -> pl.DataFrame:
    """Return events in order of arrival."""
    drawn = np.random.default_rng(seed)
    ts = START + DISORDER + np.arange(count) * length // count - drawn.integers(0, DISORDER, count)
    keys = [f"k{key}" for key in drawn.integers(0, KEYS, count)]
    return pl.DataFrame({"id": range(count), "key": keys, "value": drawn.integers(0, 9, count), "ts": ts}).cast(EVENT)


def answers() -> pl.DataFrame:
    """Return the other stream."""
    return events(ANSWERS, seed=2)


def names() -> list[tuple[str, dict[str, str] | None]]:
    """Return the records of the table's topic: some rows change, one goes."""
    first = [(f"k{n}", {"key": f"k{n}", "name": f"old {n}", "team": f"t{n % 3}"}) for n in range(KEYS)]
    changed = [(f"k{n}", {"key": f"k{n}", "name": f"new {n}", "team": f"t{n % 2}"}) for n in range(0, KEYS, 3)]
    return [*first, *changed, ("k7", None)]


def names_now() -> pl.DataFrame:
    """Return the table as it stands at the end."""
    rows = {key: row for key, row in dict(names()).items() if row is not None}
    return pl.DataFrame(list(rows.values()), schema=NAME)


def write(bootstrap: str, first: str, second: str, third: str) -> None:
    """Send the events, the answers and the names, and what closes the windows."""
    for topic, frame in ((first, events()), (second, answers())):
        rows = zip(frame["key"], frame.with_columns(pl.col("ts").dt.epoch("ms")).rows(named=True), strict=True)
        ends = [
            Sent(_json({"id": -1, "key": f"end {p}", "value": 0, "ts": FAR_AHEAD}), b"end", p)
            for p in range(PARTITIONS)
        ]
        sent = [Sent(_json(row), key.encode(), int(key[1:]) % PARTITIONS) for key, row in rows]
        send(bootstrap, topic, [*sent, *ends])
    table = [Sent(None if row is None else _json(row), k.encode(), int(k[1:]) % PARTITIONS) for k, row in names()]
    send(bootstrap, third, table)


def _json(row: Any) -> bytes:
    return json.dumps(row).encode()


# --- the operators ---


@dataclass(frozen=True)
class Operator:
    """A step over the topics, and what it must give."""

    build: Callable[[Any, Any, Any], Any]
    answer: Callable[[], pl.DataFrame]


def _windows(window: Any, emit: str) -> Callable[[Any, Any, Any], Any]:
    made = (pl.len().cast(pl.Int64).alias("n"), pl.col("value").sum().alias("total"))
    return lambda left, _right, _table: (
        left.group_by("key").window(window, emit=emit, name=f"{window.kind}-{emit}").agg(*made)
    )


def _in_windows(bounds: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Count in windows: `bounds` gives (window_start, window_end) of each window, with the key."""
    pairs = events().join(bounds(events()), on="key")
    inside = pairs.filter(pl.col("ts") >= pl.col("window_start"), pl.col("ts") <= pl.col("last"))
    groups = inside.group_by("key", "window_start", "window_end")
    return groups.agg(pl.len().cast(pl.Int64).alias("n"), pl.col("value").sum().alias("total"))


def _fixed(size: int, every: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def bounds(frame: pl.DataFrame) -> pl.DataFrame:
        at = pl.col("ts").dt.epoch("ms")
        first = (at // every * every).alias("start")
        starts = frame.select("key", first).unique()
        all_of = pl.concat([starts.with_columns(pl.col("start") - back) for back in range(0, size, every)]).unique()
        return all_of.select(
            "key", *_times(window_start="start", window_end=pl.col("start") + size, last=pl.col("start") + size - 1)
        )

    return bounds


def _sliding(size: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def bounds(frame: pl.DataFrame) -> pl.DataFrame:
        at = frame.select("key", start=pl.col("ts").dt.epoch("ms"))
        both = pl.concat([at.with_columns(pl.col("start") - size), at.with_columns(pl.col("start") + 1)]).unique()
        return both.select(
            "key", *_times(window_start="start", window_end=pl.col("start") + size, last=pl.col("start") + size)
        )

    return bounds


def _sessions(gap: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def bounds(frame: pl.DataFrame) -> pl.DataFrame:
        at = frame.sort("key", "ts").select("key", "ts", t=pl.col("ts").dt.epoch("ms"))
        cut = at.with_columns(s=(pl.col("t").diff().over("key") > gap).fill_null(value=True).cum_sum())
        found = cut.group_by("key", "s").agg(window_start=pl.col("ts").min(), window_end=pl.col("ts").max())
        return found.select("key", "window_start", "window_end", last="window_end")

    return bounds


def _times(**columns: Any) -> list[pl.Expr]:
    return [(pl.col(e) if isinstance(e, str) else e).cast(TIME).alias(name) for name, e in columns.items()]


def _interval() -> pl.DataFrame:
    right = answers().select("key", id_right="id", value_right="value", ts_right="ts")
    pairs = events().join(right, on="key")
    apart = pl.col("ts_right") - pl.col("ts")
    matched = pairs.filter(apart.is_between(pl.duration(seconds=-1), pl.duration(seconds=2)))
    return pl.concat([matched, events().join(matched, on="id", how="anti")], how="diagonal")


def _as_of() -> pl.DataFrame:
    """Join as of the time; of answers with equal times the last to arrive counts."""
    left, right = (frame.sort("ts", maintain_order=True).set_sorted("ts") for frame in (events(), answers()))
    found = left.join_asof(right, on="ts", by="key", tolerance="10s", check_sortedness=False)
    return found.select("id", "key", "id_right")


def _unique() -> pl.DataFrame:
    """Pass what is no duplicate of a row that passed before; one is remembered until its partition is `within` past it."""
    passed: dict[str, list[int]] = {}
    reached = [0] * PARTITIONS
    kept = []
    for row, at in zip(events().rows(named=True), events()["ts"].dt.epoch("ms"), strict=True):
        home, mine = int(row["key"][1:]) % PARTITIONS, passed.setdefault(row["key"], [])
        reached[home] = max(reached[home], at)
        mine[:] = [other for other in mine if other + WITHIN >= reached[home]]
        if all(abs(at - other) > WITHIN for other in mine):
            mine.append(at)
            kept.append(row)
    return pl.DataFrame(kept, schema=EVENT)


def running(rows: pl.DataFrame, total: int) -> tuple[pl.DataFrame, int]:
    """Return the running total of a key."""
    sums = rows["value"].cum_sum() + total
    return rows.select("key", "id", total=sums), int(sums[-1])


def _totals() -> pl.DataFrame:
    return events().group_by("key").agg(pl.len().cast(pl.Int64).alias("n"), pl.col("value").sum().alias("total"))


def _counted(stream: Any) -> Any:
    return stream.group_by("key").agg(
        pl.len().cast(pl.Int64).alias("n"), pl.col("value").sum().alias("total"), name="totals"
    )


MINUTE, THIRD = 60_000, 20_000
OPERATORS: dict[str, Operator] = {
    "tumbling": Operator(
        _windows(sl.tumbling("1m", grace=GRACE), "final"), lambda: _in_windows(_fixed(MINUTE, MINUTE))
    ),
    "tumbling updates": Operator(
        _windows(sl.tumbling("1m", grace=GRACE), "updates"), lambda: _in_windows(_fixed(MINUTE, MINUTE))
    ),
    "hopping": Operator(
        _windows(sl.hopping("1m", every="20s", grace=GRACE), "final"), lambda: _in_windows(_fixed(MINUTE, THIRD))
    ),
    "hopping updates": Operator(
        _windows(sl.hopping("1m", every="20s", grace=GRACE), "updates"), lambda: _in_windows(_fixed(MINUTE, THIRD))
    ),
    "sliding": Operator(_windows(sl.sliding("3s", grace=GRACE), "final"), lambda: _in_windows(_sliding(3_000))),
    "sliding updates": Operator(
        _windows(sl.sliding("3s", grace=GRACE), "updates"), lambda: _in_windows(_sliding(3_000))
    ),
    "session": Operator(_windows(sl.session("2s", grace=GRACE), "final"), lambda: _in_windows(_sessions(2_000))),
    "session updates": Operator(
        _windows(sl.session("2s", grace=GRACE), "updates"), lambda: _in_windows(_sessions(2_000))
    ),
    "groups for ever": Operator(lambda left, _right, _table: _counted(left), _totals),
    "table aggregation": Operator(
        lambda _left, _right, table: table.group_by("team").agg(pl.len().cast(pl.Int64).alias("n")),
        lambda: names_now().group_by("team").agg(pl.len().cast(pl.Int64).alias("n")),
    ),
    "stream-table join": Operator(
        lambda left, _right, table: left.join(table, on="key", how="left"),
        lambda: events().join(names_now(), on="key", how="left"),
    ),
    "table-table join": Operator(
        lambda left, _right, table: _counted(left).join(table, on="key"), lambda: _totals().join(names_now(), on="key")
    ),
    "interval join": Operator(
        lambda left, right, _table: left.join_interval(
            right, on="key", before="1s", after="2s", how="left", grace=GRACE
        ),
        _interval,
    ),
    "as-of join": Operator(
        lambda left, right, _table: left.join_asof(right, on="ts", by="key", tolerance="10s", grace=GRACE).select(
            "id", "key", "id_right"
        ),
        _as_of,
    ),
    "de-duplication": Operator(
        lambda left, _right, _table: left.unique("key", within=timedelta(milliseconds=WITHIN)), _unique
    ),
    "custom state": Operator(
        lambda left, _right, _table: left.group_by("key").apply_state(
            running, schema={"key": pl.String, "id": pl.Int64, "total": pl.Int64}, state=0
        ),
        lambda: events().select("key", "id", total=pl.col("value").cum_sum().over("key")),
    ),
}


def pipeline_of(bootstrap: str, topics: str, folder: Path) -> sl.Pipeline:
    """Return all operators in one pipeline: streams go to Parquet files below `folder`, tables to tables.

    `topics` are those of the events, the answers and the names, with commas in between.
    """
    kafka = sl.Kafka(bootstrap)
    first, second, third = topics.split(",")
    streams = [kafka.stream(name, schema=EVENT, event_time="ts", key="key") for name in (first, second)]
    table = kafka.table(third, schema=NAME, key="key")
    sinks = []
    for name, operator in OPERATORS.items():
        made = operator.build(*streams, table)
        if isinstance(made, sl.StreamTable):
            sinks.append(made.sink_table(name))
        else:
            sinks.append(made.sink_parquet(folder / name))
    return sl.Pipeline(sinks, name=f"all-{first}")


def found(name: str, pipeline: str, folder: Path) -> pl.DataFrame:
    """Return what an operator gave, without what only closed the windows."""
    streamed = (folder / name).is_dir()
    frame = pl.read_parquet(folder / name / "*.parquet") if streamed else sl.open_table(pipeline, name).frame()
    return frame.filter(~pl.col("key").str.starts_with("end")) if "key" in frame.columns else frame


def comparable(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows in an order of their own, columns by name."""
    columns = sorted(frame.columns)
    return frame.select(columns).sort(columns)
