"""A dozen plans, each built anew by a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

import streamlab as sl

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.frame import StreamFrame

SCHEMA: dict[str, Any] = {
    "carrier": pl.String,
    "dest": pl.String,
    "delay": pl.Float64,
    "seats": pl.Int64,
    "tags": pl.List(pl.String),
    "time_hour": pl.Datetime("ms", "UTC"),
}


def flights(topic: str = "flights", **settings: Any) -> StreamFrame:
    return sl.Kafka("localhost:9092").stream(topic, schema=SCHEMA, **{"event_time": "time_hour", **settings})


def counts(**settings: Any) -> Any:
    return flights().group_by("carrier").window(sl.tumbling("1h", grace="10m"), **settings).agg(pl.len().alias("n"))


def marked(frame: pl.DataFrame) -> pl.DataFrame:
    major = [carrier in {"AA", "DL", "UA", "WN", "B6"} for carrier in frame["carrier"]]
    return frame.select("carrier", major=pl.Series(major, dtype=pl.Boolean))


def tidied() -> Any:
    return (
        flights(on_error="skip", idle_timeout=None)
        .rename({"delay": "late_by"})
        .drop("dest")
        .cast({"seats": pl.Float64})
        .explode("tags")
        .filter(pl.col("late_by") > 0, carrier="AA")
        .select("carrier", "tags", hours=pl.col("late_by") / 60)
    )


def two_topics() -> Any:
    both = sl.concat([flights("north"), flights("south").with_event_time(pl.col("time_hour").dt.offset_by("1h"))])
    return both.group_by("carrier", "dest").window(sl.tumbling("5m")).agg(pl.col("delay").mean())


def windows_over_windows() -> Any:
    most = counts().group_by().window(sl.tumbling("1d", offset="6h"), name="days")
    return most.agg(pl.col("n").max().alias("most"), pl.col("n").sum())


def kept_rows() -> Any:
    groups = flights().group_by("carrier").window(sl.tumbling("1m"))
    return groups.agg(pl.col("delay").median(), pl.col("delay").last().alias("last"), pl.col("dest").implode())


def approximate() -> Any:
    delay = sl.approx_quantile(pl.col("delay").abs(), 0.99, error=0.02).alias("p99")
    groups = flights().group_by("carrier").window(sl.session("30m"), emit="updates")
    return groups.agg(sl.approx_n_unique("dest"), delay, sl.top_k("dest", 3).alias("top"))


def running(rows: pl.DataFrame, state: Any) -> tuple[pl.DataFrame, Any]:
    rows = rows.select("carrier", total=pl.col("delay").cum_sum() + state["total"])
    return rows, {"total": rows["total"][-1]}


def custom_state() -> Any:
    schema = {"carrier": pl.String, "total": pl.Float64}
    return flights(key="carrier").group_by("carrier").apply_state(running, schema=schema, state={"total": 0.0})


def pipeline() -> Any:
    delays = counts(name="delays")
    sinks = [delays.sink_kafka("delays", key="carrier"), delays.sink_table("delays"), delays.late.sink_parquet("late")]
    return sl.Pipeline(sinks, name="carrier-delays")


PLANS: dict[str, Callable[[], Any]] = {
    "source": flights,
    "source_with_options": lambda: flights(event_time=None, key="carrier", metadata=True, start="1h"),
    "stateless_steps": tidied,
    "mapped": lambda: flights().map_batches(marked, schema={"carrier": pl.String, "major": pl.Boolean}),
    "tumbling_final": counts,
    "tumbling_updates": lambda: counts(emit="updates", name="delays"),
    "one_task_a_partition": lambda: flights(key="carrier").group_by("carrier").window(sl.tumbling("1h")).agg(pl.len()),
    "table": lambda: flights().group_by("carrier", pl.col("dest").str.to_lowercase()).agg(pl.col("delay").sum()),
    "kept_rows": kept_rows,
    "kept_rows_for_ever": lambda: flights().group_by("carrier").agg(pl.col("dest").n_unique()),
    "late": lambda: counts().late,
    "two_topics": two_topics,
    "windows_over_windows": windows_over_windows,
    "approximate": approximate,
    "custom_state": custom_state,
    "pipeline": pipeline,
}


def fingerprints() -> dict[str, str]:
    """Return the fingerprint of every plan, as it is in this process."""
    found = {}
    for name, build in PLANS.items():
        made = build()
        whole = made if isinstance(made, sl.Pipeline) else sl.Pipeline([made.sink_parquet("results")])
        found[name] = whole.fingerprint
    return found
