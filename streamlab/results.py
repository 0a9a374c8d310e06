"""What streams and tables have in common: a schema, a plan, late rows, sinks, and ways to look at results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError
from streamlab.pipeline import Pipeline, Sink
from streamlab.plan import explain
from streamlab.plan.sinks import Sink as SinkNode
from streamlab.plan.sinks import nearest_stateful
from streamlab.plan.stateful import Late
from streamlab.runtime import bounded, define, inspection
from streamlab.runtime import query as queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    import polars as pl

    from streamlab.frame import StreamFrame
    from streamlab.kafka import Kafka
    from streamlab.plan.nodes import Node
    from streamlab.runtime.query import Query


class Results:
    """A plan as a person holds it: its node, and what can be asked of any."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def schema(self) -> pl.Schema:
        """Columns and types of the results, known without data."""
        return self.node.schema

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.node.schema.names()

    def explain(self, key: Any = None) -> str:
        """Return the plan as a tree, results first, with step names and what each costs.

        With a key and a query that runs it: what the steps behind hold of that key now, which windows are open, when they close, and
        which partition they wait for.

        Parameters
        ----------
        key
            The value of the grouping column, a tuple of several, or a dict of values by column; a null alone is ``(None,)``.

        Raises
        ------
        PlanError
            If there is a key, but no query that runs, no step with state, or none with such a key.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> print(counts.explain())
        tumbling 1m -> final by user: len().alias("n") [counts]
           one task over all partitions
        └─ frame 'events' (frame), event time ts, never idle, errors: raise
        """
        if key is None:
            return explain.tree(self.node)
        if define.active():
            return define.not_run("explain(key)")  # type: ignore[no-any-return]  # stands in for a text
        steps = inspection.stateful_behind(self.node)
        if not steps:
            raise PlanError(f"explain({key!r}): no step with state is behind this stream, so nothing is held of a key.")
        running = [query for query in queries.running() if inspection.runs(query.plan, steps[0])]
        if not running:
            names = [query.name for query in queries.running()]
            raise PlanError(
                f"explain({key!r}): no query runs step {steps[0].name!r}; start one with .show(), or sl.Pipeline([...]).start(), and ask "
                f"again. Running: {names or 'none'}."
            )
        return max(running, key=lambda query: query.started).explain(key, steps=steps)

    def __repr__(self) -> str:
        """Say what it is; touches no broker."""
        columns = ", ".join(f"{name}: {dtype}" for name, dtype in self.schema.items())
        keys = self.node.keys
        by = f" by {', '.join(keys)}" if self.node.is_table and keys else ""
        return f"{type(self).__name__}[{columns}]{by}\n{self.explain()}"

    def pipe(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return ``function(self, *args, **kwargs)``, for steps kept in functions."""
        return function(self, *args, **kwargs)

    @property
    def late(self) -> StreamFrame:
        """The rows that came too late for the windowed step behind these results.

        They carry the step's input columns, the bounds of the window they missed and the watermark they missed it by.

        Raises
        ------
        PlanError
            If there is no windowed step behind the results.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> counts.late.select("user", "ts", "window_end").collect().rows()[0][:2]
        ('a', 2)
        """
        from streamlab.frame import StreamFrame  # noqa: PLC0415  # a frame is one of the results

        step = nearest_stateful(self.node)
        if step is None:
            raise PlanError(
                "late: no windowed step is behind this stream; .late belongs to the result of .window(...).agg(...)."
            )
        return StreamFrame(Late(step))

    def sink_kafka(self, topic: str, *, key: str | Sequence[str] | None = None, kafka: Kafka | None = None) -> Sink:
        """Send results to a topic as JSON, keyed, in the partition that a Java client would choose; a deletion as a tombstone.

        Parameters
        ----------
        topic
            Made if it is not there, with as many partitions as the source's: kept for ever for events (a broker deletes by record
            timestamp, and results carry event times), compacted for tables.
        key
            Column or columns of the record key: the text of one, a JSON object of several. Default: what identifies a row.
        kafka
            The cluster; default: that of the source.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> counts.sink_kafka("counts")
        sink_kafka 'counts' by user
        """
        by = _names(key) if key is not None else self.node.record_key
        origin = None if kafka is None else kafka.cluster
        return Sink(SinkNode(self.node, "kafka", topic, by, origin=origin))

    def sink_table(self, name: str, *, key: str | Sequence[str] | None = None) -> Sink:
        """Keep the newest row of every key as a table in the pipeline's state, committed with the offsets.

        Read it with ``query.table(name)``, or from any process with ``sl.open_table(pipeline, name)``.

        Parameters
        ----------
        name
            The table's name.
        key
            Column or columns that identify a row. Default: grouping columns and window bounds.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> counts.sink_table("counts")
        sink_table 'counts' by user, window_start, window_end
        """
        return Sink(SinkNode(self.node, "table", name, _names(key) if key is not None else self.node.keys))

    def sink_parquet(self, path: str | Path) -> Sink:
        """Write results to a folder as Parquet files, one per commit that has results; a commit done again overwrites its file.

        Of a table every update is a row. Where rows of it may be deleted there is one more column, `_deleted`: true for a deletion, of
        which only the key is told. The last row of each key counts.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> counts.sink_parquet("results")
        sink_parquet 'results'
        """
        return Sink(SinkNode(self.node, "parquet", str(path)))

    def sink_frame(self, function: Callable[[pl.DataFrame], object], *, name: str | None = None) -> Sink:
        """Call a function with each micro-batch of results, in the thread of the query; after a crash it may see rows again.

        Of a table these are updates; where rows of it may be deleted there is one more column, `_deleted`, as in `sink_parquet`.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> seen = []
        >>> sl.Pipeline([counts.sink_frame(seen.append)]).run().results
        1
        >>> seen[0]["n"].to_list()
        [2]
        """
        if not callable(function):
            raise PlanError(f"sink_frame: {function!r} is no function; it must take a polars DataFrame.")
        return Sink(
            SinkNode(self.node, "frame", name or str(getattr(function, "__name__", "function")), function=function)
        )

    def preview(self, n: int = 10, *, last: Duration | None = None) -> pl.DataFrame:
        """Return the first results of a bounded look at the stream: joins no group, commits nothing.

        Parameters
        ----------
        n
            Rows at most.
        last
            How far back to look, counted from the newest record, such as ``"10m"``. Default: the newest 10,000 records.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> counts.preview(1)["n"].to_list()
        [2]
        """
        if define.active():
            return define.not_run("preview()")  # type: ignore[no-any-return]  # stands in for a frame
        back = None if last is None else milliseconds(last, "preview: last", positive=True)
        return bounded.preview(self.node, n, back)

    def collect(self, *, until: str = "latest") -> pl.DataFrame:
        """Run over all records there are now, in memory, and return the results; every window closes at the end.

        Joins no group, commits nothing. A table gives its last row of every key.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> counts.collect().select("user", "n").rows()
        [('a', 2), ('b', 1)]
        """
        if define.active():
            return define.not_run("collect()")  # type: ignore[no-any-return]  # stands in for a frame
        return bounded.collect(self.node, until)

    def show(self, name: str | None = None) -> Query:
        """Start an unnamed query for exploring: temporary state, joins no group, commits nothing; shown again it replaces itself.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> rows = pl.DataFrame({"user": ["a", "a", "b", "a"], "ts": [0, 1, 60_000, 2]})
        >>> events = sl.from_frame(rows, event_time="ts", topic="events")
        >>> counts = events.group_by("user").window(sl.tumbling("1m"), name="counts").agg(pl.len().alias("n"))
        >>> query = counts.show()
        >>> query.status
        'running'
        >>> query.stop()
        """
        from streamlab.notebook import shell  # noqa: PLC0415  # a worker runs without it

        if define.active():
            return define.not_run("show()")  # type: ignore[no-any-return]  # stands in for a query
        sink = Sink(SinkNode(self.node, "memory", name or "results"))
        query = Pipeline([sink]).start()
        if shell() is not None:
            query.show()
        return query

    def __copy__(self) -> Self:
        """Plans never change: a copy is the same."""
        return self


def _names(key: str | Sequence[str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)
