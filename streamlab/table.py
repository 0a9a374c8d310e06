"""StreamTable: the newest row of every key, changed by every update."""

from __future__ import annotations

from streamlab.results import Results


class StreamTable(Results):
    """A table that changes: an update replaces the row of its key.

    Made by aggregations with ``emit="updates"`` and by those without a window.

    Examples
    --------
    >>> import polars as pl, streamlab as sl
    >>> events = sl.from_frame(pl.DataFrame({"user": ["a", "a"], "ts": [0, 1]}), event_time="ts", topic="events")
    >>> events.group_by("user").agg(pl.len().alias("n"))
    StreamTable[user: String, n: UInt32] by user
    updates by user: len().alias("n") [group-by-user]
       one task over all partitions
    └─ frame 'events' (frame), event time ts, never idle, errors: raise
    """
