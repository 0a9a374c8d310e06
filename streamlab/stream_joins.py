"""What StreamFrame has of joins with other streams, and de-duplication."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import polars as pl

from streamlab.durations import Duration, milliseconds
from streamlab.errors import PlanError
from streamlab.plan.asof import asof_join
from streamlab.plan.join_interval import IntervalJoin
from streamlab.plan.join_keys import join_keys
from streamlab.plan.unique import Unique
from streamlab.results import Results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlab.frame import StreamFrame


class StreamJoins(Results):
    """Steps that hold rows of a stream until others come that belong to them, or are the same."""

    def join_interval(
        self,
        right: StreamFrame,
        on: str | Sequence[str] | None = None,
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        before: Duration | None = None,
        after: Duration | None = None,
        how: str = "inner",
        grace: Duration = "0s",
        suffix: str = "_right",
        name: str | None = None,
    ) -> Self:
        """Join each row with the rows of another stream that have its key and an event time not far from its own.

        A pair matches when ``left.t - before <= right.t <= left.t + after``, and is emitted at once; its event time is the later of the
        two. A row stays joinable until the watermark, the smallest of both streams, is past its time + before + after + grace; one that is
        older than that when it comes is late. A null key never matches.

        Parameters
        ----------
        right
            The other stream; it may be this one.
        on, left_on, right_on
            The columns that must be equal, by their names on both sides or on each.
        before, after
            How far a right row's event time may be before and after that of the left row, bounds included; one that is not given is zero.
        how
            ``"inner"``: matches alone; ``"left"``: left rows without a match too, with nulls, once the watermark is past their time +
            after + grace; ``"outer"`` (or ``"full"``): right rows as well, once it is past their time + before + grace.
        grace
            How much longer rows wait for rows that come out of order.
        suffix
            What is put behind the name of a column of the right stream that the left one has too.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        PlanError
            If there is no common key, types differ, or a side is a table.
        DurationError
            If a length is no duration, or is negative.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> orders = sl.from_frame(pl.DataFrame({"id": [1, 2], "ts": [0, 10_000]}), event_time="ts", topic="orders")
        >>> paid = sl.from_frame(pl.DataFrame({"id": [1], "paid": [9.5], "ts": [4_000]}), event_time="ts", topic="paid")
        >>> orders.join_interval(paid, on="id", after="5s", how="left").collect().select("id", "paid").rows()
        [(1, 9.5), (2, None)]
        """
        _require_stream("join_interval", right)
        keys = join_keys("join_interval", on, left_on, right_on, (self.columns, ()))
        if before is None and after is None:
            raise PlanError(
                'join_interval: how far apart may the rows be? Give before=, after= or both, such as before="1m", after="5m".'
            )
        back = milliseconds("0s" if before is None else before, "join_interval: before")
        ahead = milliseconds("0s" if after is None else after, "join_interval: after")
        wait = milliseconds(grace, "join_interval: grace")
        how = "outer" if how == "full" else how
        return type(self)(IntervalJoin(self.node, right.node, keys, back, ahead, how, wait, suffix, name))

    def join_asof(
        self,
        right: StreamFrame | pl.DataFrame,
        *,
        on: str | None = None,
        left_on: str | None = None,
        right_on: str | None = None,
        by: str | Sequence[str] | None = None,
        by_left: str | Sequence[str] | None = None,
        by_right: str | Sequence[str] | None = None,
        tolerance: Duration | None = None,
        strategy: str = "backward",
        grace: Duration | None = None,
        suffix: str = "_right",
        name: str | None = None,
    ) -> Self:
        """Join each row with the newest row of another stream, or of a frame, that has its key and is not newer than itself.

        A row waits until the watermark, the smallest of both streams, is past its time + grace, so that the right rows up to its time are
        there; then rows come in the order of time, those without a match with nulls. Of right rows of one time the last that came counts.
        A row that comes when the watermark is past its time + grace already is late, and so is a right row that is older than the
        watermark by more than tolerance + grace. A null key never matches. With a frame on the right, sorted or not, no row waits, and
        none is late.

        Parameters
        ----------
        right
            The other stream, or a polars frame with a column of times.
        on, left_on, right_on
            The event-time columns by their name on both sides or on each: the result has the left one alone. Rows are joined by event time
            whether they are named or not.
        by, by_left, by_right
            The columns that must be equal, by their names on both sides or on each.
        tolerance
            How much older than the left row a right row may be, bounds included, such as ``"1h"``; only with a frame may it be left out.
        strategy
            ``"backward"``: the only one, as later rows have not come yet.
        grace
            How much longer rows wait for rows that come out of order; zero if it is not given.
        suffix
            What is put behind the name of a column of the right stream that the left one has too.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        PlanError
            If there is no common key, types differ, a named column is not the event time, or a side is a table.
        DurationError
            If a length is no duration, or `tolerance` is not more than zero.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> trades = sl.from_frame(pl.DataFrame({"id": [1, 1], "ts": [5_000, 9_000]}), event_time="ts", topic="trades")
        >>> quotes = sl.from_frame(pl.DataFrame({"id": [1, 1], "price": [2.5, 2.6], "ts": [1_000, 6_000]}), event_time="ts", topic="quotes")
        >>> trades.join_asof(quotes, on="ts", by="id", tolerance="1h").collect().rows()
        [(1, 5000, 2.5), (1, 9000, 2.6)]
        """
        if not isinstance(right, pl.DataFrame):
            _require_stream("join_asof", right)
        return type(self)(
            asof_join(
                self.node,
                right if isinstance(right, pl.DataFrame) else right.node,
                {
                    "on": on,
                    "left_on": left_on,
                    "right_on": right_on,
                    "by": by,
                    "by_left": by_left,
                    "by_right": by_right,
                },
                tolerance,
                strategy,
                grace=grace,
                suffix=suffix,
                name=name,
            )
        )

    def unique(self, *subset: str | Sequence[str], within: Duration | None = None, name: str | None = None) -> Self:
        """Let of several rows with one key only the first to arrive pass, unchanged.

        A row is a duplicate if a row of its key that passed is at most `within` before or after it in event time. A row that passed is
        remembered until the watermark is past its time + within, so one that comes later than that passes again; a row that was dropped is
        not remembered, and so keeps no other out. A row with a null in its key always passes.

        Parameters
        ----------
        subset
            The columns that make the key; all of them if none is named.
        within
            How near in event time a duplicate is, such as ``"10m"``, bounds included. Not given: any row of a key that has come before,
            which costs state for every key, for ever.
        name
            The step's identity: its state is found by it.

        Raises
        ------
        UnknownColumnError
            If a column is not there.
        DurationError
            If `within` is no duration, or negative.

        Examples
        --------
        >>> import polars as pl, streamlab as sl
        >>> events = sl.from_frame(pl.DataFrame({"id": [7, 7, 7], "ts": [0, 60_000, 700_000]}), event_time="ts", topic="events")
        >>> events.unique("id", within="10m").collect()["ts"].to_list()
        [0, 700000]
        """
        near = None if within is None else milliseconds(within, "unique: within")
        return type(self)(
            Unique(
                self.node,
                tuple(name for given in subset for name in ([given] if isinstance(given, str) else given))
                or tuple(self.columns),
                near,
                name,
            )
        )


def _require_stream(step: str, right: object) -> None:
    if not isinstance(right, StreamJoins):
        raise PlanError(
            f"{step}: the right side is a {type(right).__name__}, not a StreamFrame. "
            "A stream is joined with a table by .join(table, on=...)."
        )
