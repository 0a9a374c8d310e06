"""Groups that are dropped when no record has touched them for long, so that state without windows need not grow for ever.

A group lives as long as the watermark has not passed the newest event time of its records by more than `ttl`. It is judged record by
record: one that comes when its group's time is over finds it gone, also where both happen inside a batch, and begins it anew. A record
that is itself so old makes no group.

The groups to look at are found by time, not by looking at all: each stands in a bucket of time, once. When the watermark reaches a bucket,
the groups that were touched since move on to a later one, and the others go.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, TIME, compile_aggregates
from streamlab.engine.batch import MADE, Rows, concat, empty
from streamlab.engine.held.keyed_rows import KeyedRows
from streamlab.engine.held.runs import named
from streamlab.engine.held.slot_frame import grown
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.stream_time import NEVER
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamlab.engine.batch import Bools, Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate

_ROW, _SLOT = f"{RESERVED}row", f"{RESERVED}slot"
_BUCKETS = 64  # in the time that a group lives untouched
_NOWHERE = -1


class Wheel:
    """Slots by time, each in one bucket of its lane.

    Examples
    --------
    >>> wheel = Wheel(640)
    >>> wheel.put(np.array([0, 1]), np.array([5, 1_000]), lane=0)
    >>> [slots.tolist() for slots in wheel.due(0, 100)], [slots.tolist() for slots in wheel.due(0, 100)]
    ([[0]], [])
    """

    def __init__(self, span: int) -> None:
        self._width = max(1, span // _BUCKETS)
        self._buckets: dict[tuple[int, int], list[Ints]] = {}
        self._due: dict[int, list[int]] = {}  # by lane
        self._of = np.full(1, _NOWHERE, np.int64)  # by slot: its bucket

    def put(self, slots: Ints, times: Ints, *, lane: int) -> None:
        """Put slots of one lane where their time is, unless they stand somewhere."""
        self._of = grown(self._of, int(slots.max(initial=0)) + 1, _NOWHERE)
        outside = self._of[slots] == _NOWHERE
        slots, buckets = slots[outside], times[outside] // self._width
        self._of[slots] = buckets
        for bucket in np.unique(buckets).tolist():
            if (lane, bucket) not in self._buckets:
                heappush(self._due.setdefault(lane, []), bucket)
            self._buckets.setdefault((lane, bucket), []).append(slots[buckets == bucket])

    def due(self, lane: int, before: int) -> Iterator[Ints]:
        """Take out the slots of all buckets that begin before a time."""
        due = self._due.get(lane, [])
        while due and due[0] * self._width < before:
            bucket = heappop(due)
            slots = np.unique(np.concatenate(self._buckets.pop((lane, bucket))))
            slots = slots[self._of[slots] == bucket]  # others left meanwhile
            self._of[slots] = _NOWHERE
            yield slots

    def drop(self, slots: Ints) -> None:
        """Forget slots."""
        self._of = grown(self._of, int(slots.max(initial=0)) + 1, _NOWHERE)
        self._of[slots] = _NOWHERE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a batch does to the lives of groups.

    Parameters
    ----------
    keep
        Which records count in the end.
    anew
        Slots of groups that begin anew within the batch.
    over
        Slots of groups whose time is over at its end.
    told
        Which of those had a result that is to be deleted.
    newest
        Of those: the newest event time while they lived.
    """

    keep: Bools
    anew: Ints
    over: Ints
    told: Bools
    newest: Ints


class ExpiringGroups:
    """The operator: the current row of each group that a micro-batch changed, and deletions of those whose time is over."""

    delay = 0

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if step.ttl is None:
            raise TypeError(f"{step.name} has no ttl")
        self.name, self.laned, self._step, self._ttl = step.name, laned, step, step.ttl
        keys = pl.Schema({LANE: pl.Int64(), **{name: step.input.schema[name] for name in step.by}})
        self._aggregates = compile_aggregates(step, keys.names())
        # where rows are kept and only the grouping columns are read, something must still say how many there are
        self._kept = self._aggregates.columns or (_ROW,)
        self._lists = tuple(pl.col(name).explode(empty_as_null=False) for name in self._kept)
        sample = pl.DataFrame(schema={**keys, **step.input.schema, _ROW: pl.Int8(), TIME: pl.Int64()})
        self._rows = KeyedRows(keys, self._partials(sample).drop(keys.names()).schema)
        self._newest = np.full(1, NEVER, np.int64)  # by slot
        self._wheel = Wheel(self._ttl)
        self._none = empty(step.schema)

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        gone, updated = self._none, self._none
        if rows.height:
            lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
            keys = rows.data.select(self._step.by).with_columns(pl.Series(LANE, lane))
            slot = self._rows.slots_of(keys, insert=True)
            self._newest = grown(self._newest, int(slot.max()) + 1, NEVER)
            verdict = self._judge(rows, lane, slot, watermarks)
            if verdict.keep.any():
                updated = self._update(rows, keys, slot, verdict)
            gone = self._deleted(verdict.over, verdict.newest, verdict.told)
        expired = [self._expire(one, int(after)) for one, after in enumerate(watermarks.after)]
        return Output(concat([gone, *expired, updated], self._step.schema), self._none)

    # --- whose time is over ---

    def _judge(self, rows: Rows, lane: Ints, slot: Ints, watermarks: Merged | Laned) -> Verdict:
        """Judge the records of a batch; a group's time can only be over within it if it could be at its end, so few are looked at."""
        first = np.empty(len(self._newest), np.int64)
        first[slot[::-1]] = rows.time[::-1]  # of several the first is written last
        held = self._newest[slot]
        known = np.where(held != NEVER, held, first[slot])
        suspects = np.flatnonzero(known + self._ttl < watermarks.after[lane])
        keep, none = np.ones(rows.height, np.bool_), np.empty(0, np.int64)
        if not len(suspects):
            return Verdict(keep, none, none, none.astype(np.bool_), none)
        reached = watermarks.at(rows.take(suspects), lane[suspects])
        judged = self._lives(slot[suspects], rows.time[suspects], held[suspects], reached)
        judged = judged.with_columns(pl.Series("after", watermarks.after[lane[suspects]]))
        groups = judged.group_by("slot", maintain_order=True).agg(
            pl.col("begins").any(),
            told=(pl.col("held").first() != NEVER) | pl.col("alive").any(),
            newest=pl.max_horizontal(pl.col("held").first(), pl.col("upto").filter("alive").max()),
            last=pl.max_horizontal(pl.col("held").first(), pl.col("upto").last()),
            after=pl.col("after").first(),
        )
        over = groups["last"] + self._ttl < groups["after"]
        counts = judged["counts"] & ~judged["slot"].is_in(groups.filter(over)["slot"].implode())
        keep[suspects] = counts.to_numpy()
        gone = groups.filter(over)
        anew = groups.filter(~over & groups["begins"])["slot"].to_numpy()
        return Verdict(keep, anew, gone["slot"].to_numpy(), gone["told"].to_numpy(), gone["newest"].to_numpy())

    def _lives(self, slot: Ints, time: Ints, held: Ints, reached: Ints) -> pl.DataFrame:
        """Return which records begin a life of their group, which find or make it alive, and which belong to its last one."""
        frame = pl.DataFrame({"slot": slot, "time": time, "held": held, "reached": reached})
        upto = pl.max_horizontal("held", pl.col("time").cum_max().over("slot"))
        before = pl.max_horizontal("held", pl.col("time").cum_max().shift().over("slot"))
        # what an earlier life reached cannot matter: it was over by a watermark that is no later
        over = (pl.col("before") != NEVER) & (pl.col("before") + self._ttl < pl.col("reached"))
        alive = ((pl.col("before") != NEVER) & ~pl.col("begins")) | (pl.col("time") + self._ttl >= pl.col("reached"))
        return (
            frame.with_columns(upto=upto, before=before.fill_null(NEVER))
            .with_columns(begins=over)
            .with_columns(alive=alive, lives=pl.col("begins").cast(pl.Int64).cum_sum().over("slot"))
            .with_columns(counts=pl.col("lives") == pl.col("lives").max().over("slot"))
        )

    def _expire(self, lane: int, after: int) -> Rows:
        """Drop the groups that nothing has touched."""
        due = list(self._wheel.due(lane, after - self._ttl))
        if not due:
            return self._none
        slots = np.concatenate(due)
        over = self._newest[slots] + self._ttl < after
        self._wheel.put(slots[~over], self._newest[slots[~over]], lane=lane)
        gone = slots[over]
        return self._deleted(gone, self._newest[gone], np.ones(len(gone), np.bool_))

    def _deleted(self, slots: Ints, newest: Ints, told: Bools) -> Rows:
        """Forget groups, and return the deletions of those that had a result."""
        if not len(slots):
            return self._none
        keys = self._rows.key_frame(slots)
        self._rows.delete(keys)
        self._newest[slots] = NEVER
        self._wheel.drop(slots)
        gone = keys.filter(pl.Series(told))
        columns = [
            gone[name] if name in self._step.by else pl.lit(None, dtype).alias(name)
            for name, dtype in self._step.schema.items()
        ]
        made = np.full(gone.height, MADE, np.int64)
        data = gone.select(columns)
        return Rows(data, newest[told] + self._ttl, gone[LANE].to_numpy(), made, made, np.ones(gone.height, np.bool_))

    # --- partial results ---

    def _update(self, rows: Rows, keys: pl.DataFrame, slot: Ints, verdict: Verdict) -> Rows:
        keep = verdict.keep
        lead = [
            pl.Series(TIME, rows.time),
            pl.Series(_ROW, np.zeros(rows.height, np.int8)),
            pl.Series(_SLOT, slot),
        ]
        columns = keys.with_columns([*(rows.data[name] for name in self._aggregates.columns), *lead])
        columns = columns if keep.all() else columns.filter(pl.Series(keep))
        fresh = self._partials(columns, pl.col(_SLOT).first())
        slots, fresh = fresh[_SLOT].to_numpy(), fresh.drop(_SLOT)
        found = self._rows.has(slots) & ~np.isin(slots, verdict.anew)
        if found.any():
            known = pl.concat(
                [self._rows.key_frame(slots[found]), self._rows.get_slots(slots[found])], how="horizontal"
            )
            fresh = self._combined([known, fresh.select(known.columns)], fresh.select(self._aggregates.keys))
        self._rows.put_slots(slots, fresh)
        self._newest[slots] = fresh[TIME].to_numpy()
        self._track(slots, fresh[LANE].to_numpy())
        return self._values(fresh)

    def _track(self, slots: Ints, lane: Ints) -> None:
        for one in np.unique(lane).tolist():
            mine = slots[lane == one]
            self._wheel.put(mine, self._newest[mine], lane=one)

    def _partials(self, rows: pl.DataFrame, *more: pl.Expr) -> pl.DataFrame:
        """One row a group in order of first appearance; where rows are kept, their columns as lists."""
        aggregates = self._aggregates
        parts = aggregates.start if not aggregates.keeps_rows else [pl.col(name) for name in self._kept]
        return rows.group_by(aggregates.keys, maintain_order=True).agg(*parts, pl.col(TIME).max(), *more)

    def _combined(self, parts: Sequence[pl.DataFrame], order: pl.DataFrame) -> pl.DataFrame:
        aggregates = self._aggregates
        together = aggregates.together if not aggregates.keeps_rows else self._lists
        whole = pl.concat(parts).group_by(aggregates.keys).agg(*together, pl.col(TIME).max())
        return order.join(whole, on=aggregates.keys, how="left", nulls_equal=True, maintain_order="left")

    def _values(self, partials: pl.DataFrame) -> Rows:
        aggregates, data = self._aggregates, partials
        if aggregates.keeps_rows:
            long = partials.explode(list(self._kept), empty_as_null=False)
            values = long.group_by(aggregates.keys, maintain_order=True).agg(aggregates.values)
            data = partials.select(aggregates.keys).hstack(values.drop(aggregates.keys))
        else:
            data = aggregates.finish(partials)
        made = np.full(partials.height, MADE, np.int64)
        lane = partials[LANE].to_numpy()
        return Rows(data.select(self._step.schema.names()), partials[TIME].to_numpy(), lane, made, made)

    def close(self) -> Rows:
        return self._none

    def changes(self) -> Changes:
        return named(self._rows)

    def progress(self) -> Any:
        return {}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:  # noqa: ARG002  # all of it is in the frames
        self._rows.load((int(name), frame) for name, frame in frames)
        rows = self._rows.frame()
        slots = self._rows.slots_of(rows, insert=False)
        self._newest = grown(self._newest, int(slots.max(initial=0)) + 1, NEVER)
        self._newest[slots] = rows[TIME].to_numpy()
        self._track(slots, rows[LANE].to_numpy())

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        rows = self._values(of_keys(self._rows.frame(), key))
        return rows.data.with_columns(pl.Series(LANE, rows.partition))

    def holding(self) -> Holding:
        return Holding(len(self._rows), self._rows.estimated_size() + self._newest.nbytes)
