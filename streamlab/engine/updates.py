"""Groups that emit their current row each time it changes: for ever, or in tumbling or hopping windows.

A key has a slot, found once a batch; slot and window together have a row of partial results, changed in place. A window that closes is
dropped whole, in memory and on disk: what is kept on disk is runs of changed rows by window, the newest counts, and a run that outgrows
half of the one before takes that one in, like the levels of an LSM tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from streamlab.engine.aggregates import LANE, TIME, compile_aggregates
from streamlab.engine.batch import MADE, Rows, empty
from streamlab.engine.covering import Fixed, Judged, bounds, closed_by, judge, none_late, spread
from streamlab.engine.key_index import KeyIndex, distinct
from streamlab.engine.operator import Changes, Holding, Output, of_keys
from streamlab.engine.pair_index import PairIndex, cuts, pairs_of, parts_of
from streamlab.engine.row_store import RowStore
from streamlab.engine.slot_frame import Slots, grown, own_texts
from streamlab.plan.aggregations import EARLIER
from streamlab.plan.schema import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamlab.engine.batch import Ints
    from streamlab.engine.watermark import Laned, Merged
    from streamlab.plan.aggregate import Aggregate

_ROW, _GROUP, _FIRST, _FOUND = (f"{RESERVED}{name}" for name in ("row", "group", "first_row", "found"))


@dataclass(slots=True)
class _Window:
    """One window of one lane: the rows in it, and which of them are in which frame on disk."""

    lane: int
    start: int
    rows: list[Slots] = field(default_factory=list)
    runs: list[tuple[str, Slots]] = field(default_factory=list)


class Updates:
    """The operator: the current row of each group that a micro-batch changed."""

    def __init__(self, step: Aggregate, *, laned: bool) -> None:
        if not isinstance(step.window, Fixed | None):
            raise TypeError(f"{step.window} is neither tumbling nor hopping")
        self.name, self.window, self.laned = step.name, step.window, laned
        self.delay = step.window.grace if step.window else 0
        self._step, self._aggregates = step, compile_aggregates(step, step.by)
        # where rows are kept and only the grouping columns are read, something must still say how many there are
        self._kept = (self._aggregates.columns or (_ROW,)) if self._aggregates.keeps_rows else ()
        read = {name for e in step.expanded for name in e.meta.root_names()}
        self._read = [*self._aggregates.columns, *(name for name in step.by if name in read)]
        lead = {LANE: pl.Int64()} if laned or not step.by else {}
        self._index = KeyIndex(pl.Schema({**lead, **{name: step.input.schema[name] for name in step.by}}))
        self._uses = np.zeros(1024, np.int32)  # by slot: in how many windows its key is
        self._groups = PairIndex()  # window and slot -> row
        self._store = RowStore(self._partial_schema())
        self._merge = tuple(
            pl.when(_FOUND).then(e).otherwise(pl.col(n)).cast(self._store.schema[n]).alias(n)
            for n, e in self._merges().items()
        )
        self._changed = np.zeros(1024, np.bool_)  # by row, since the last checkpoint
        self._windows: dict[int, _Window] = {}
        self._numbers: dict[tuple[int, int], int] = {}  # of windows, by lane and start; never used twice
        self._next, self._sequence = 0, 0
        self._dropped: list[str] = []
        self._no_late = none_late(step.input.schema, self.window) if self.window else empty(step.input.schema)

    def _partial_schema(self) -> pl.Schema:
        schema = {**self._step.input.schema, _ROW: pl.Int8(), TIME: pl.Int64(), _GROUP: pl.Int64()}
        return self._partials(pl.DataFrame(schema=schema)).drop(_GROUP, _FIRST).schema

    def _partials(self, rows: pl.DataFrame) -> pl.DataFrame:
        """One row a group in order of first appearance; where rows are kept, their columns as lists."""
        parts = [pl.col(name) for name in self._kept] or self._aggregates.start
        numbered = rows.with_row_index(_FIRST)
        return numbered.group_by(_GROUP, maintain_order=True).agg(*parts, pl.col(TIME).max(), pl.col(_FIRST).first())

    def _merges(self) -> dict[str, pl.Expr]:
        """Return how an earlier and a later partial result are put together, by column."""
        made = [pl.concat_list(name + EARLIER, name).alias(name) for name in self._kept] or self._aggregates.merge
        made = [*made, pl.max_horizontal(TIME + EARLIER, TIME).alias(TIME)]
        return {expr.meta.output_name(): expr for expr in made}

    def step(self, inputs: Sequence[Rows], watermarks: Merged | Laned) -> Output:
        (rows,) = inputs
        if not rows.height:
            self._close(watermarks.after)
            return Output(empty(self._step.schema), self._no_late, rows.index)
        lane = rows.partition if self.laned else np.zeros(rows.height, np.int64)
        judged = judge(rows, lane, self.window, watermarks) if self.window else _for_ever(rows, self._no_late)
        keep = judged.in_time
        emitted = empty(self._step.schema)
        if keep.any():
            emitted = self._update(rows.filter(keep), lane[keep], judged.since[keep], judged.last[keep])
        self._close(watermarks.after)
        return Output(emitted, judged.late, judged.reached)

    def _update(self, rows: Rows, lane: Ints, since: Ints, last: Ints) -> Rows:
        lead = [pl.Series(LANE, lane)] if LANE in self._index.schema else []
        keys = pl.DataFrame([*lead, *(rows.data[name] for name in self._step.by)])
        slots = self._index.slots(keys, insert=True)
        every = self.window.every if self.window else 1
        if (
            since.min() == since.max() and last.min() == last.max()
        ):  # all in the same windows: one group a key is enough
            fresh = self._split(rows, np.arange(rows.height), slots)
            of_key, first = fresh[_GROUP].to_numpy(), fresh[_FIRST].to_numpy().astype(np.int64)
            which, starts = spread(np.full(len(of_key), since[0]), np.full(len(of_key), last[0]), every)
            pairs = pairs_of(self._number(lane[first[which]], starts, every), of_key[which])
            fresh, first = fresh if len(which) == fresh.height else fresh[which], first[which]
        else:
            which, starts = spread(since, last, every)
            fresh = self._split(rows, which, pairs_of(self._number(lane[which], starts, every), slots[which]))
            pairs, first = fresh[_GROUP].to_numpy(), which[fresh[_FIRST].to_numpy()]
        fresh = fresh.drop(_GROUP, _FIRST)
        at = self._groups.find(pairs)
        found = at >= 0
        if found.any():
            held = self._store.take(at).rename(lambda name: name + EARLIER)
            both = fresh.hstack(held).with_columns(pl.Series(_FOUND, found))
            fresh = both.select(self._merge)
        new = np.flatnonzero(~found)
        if len(new):
            at[new] = self._insert(pairs[new])
        self._store.put(at, fresh)
        self._changed[at] = True
        return self._values(fresh, rows.data[first] if self._step.by else None, pairs)

    def _split(self, rows: Rows, which: Ints, group: Ints) -> pl.DataFrame:
        lead = [
            pl.Series(_GROUP, group),
            pl.Series(TIME, rows.time[which]),
            pl.Series(_ROW, np.zeros(len(which), np.int8)),
        ]
        columns = rows.data.select(self._read)
        if not columns.width:
            return self._partials(pl.DataFrame(lead))
        return own_texts(self._partials((columns if len(which) == rows.height else columns[which]).hstack(lead)))

    def _number(self, lane: Ints, starts: Ints, every: int) -> Slots:
        """Return the numbers of windows, which are told apart by lane and start."""
        low, lanes = int(starts.min()), int(lane.max()) + 1
        code = (starts - low) // every * lanes + lane
        kinds = distinct(code)
        found = [self._window(int(c % lanes), low + int(c // lanes) * every) for c in kinds]
        return np.array(found, np.int64)[np.searchsorted(kinds, code)]

    def _window(self, lane: int, start: int) -> int:
        if (lane, start) not in self._numbers:
            self._numbers[lane, start] = self._next
            self._windows[self._next] = _Window(lane, start)
            self._next += 1
        return self._numbers[lane, start]

    def _insert(self, pairs: Slots) -> Slots:
        """Give new groups rows."""
        at = self._groups.insert(pairs)
        numbers, slots = parts_of(pairs)
        self._uses = grown(self._uses, int(slots.max()) + 1, 0)
        np.add.at(self._uses, slots, 1)
        self._changed = grown(self._changed, int(at.max()) + 1, 0)
        for number, rows in _by_window(numbers, at):
            self._windows[number].rows.append(rows)
        return at

    def _values(self, partials: pl.DataFrame, given: pl.DataFrame | None, pairs: Slots) -> Rows:
        """Return the current rows of groups; `given` has their grouping columns."""
        data = partials
        if self._kept:
            numbered = partials.select(self._kept).with_row_index(_GROUP)
            numbered = numbered if given is None else numbered.hstack(given.select(self._step.by))
            long = numbered.explode(list(self._kept), empty_as_null=False)
            data = long.group_by(_GROUP, maintain_order=True).agg(self._aggregates.values)
        else:
            data = data.select(self._aggregates.values)
        if given is not None:
            data = data.hstack(given.select(self._step.by))
        windows = {number: self._windows[number] for number in distinct(pairs >> np.int64(32)).tolist()}
        numbers, _ = parts_of(pairs)
        kinds = np.array(list(windows), np.int64)
        back = np.searchsorted(kinds, numbers)
        starts, lane = (
            np.array([getattr(w, name) for w in windows.values()], np.int64)[back] for name in ("start", "lane")
        )
        if self.window:
            data = data.with_columns(bounds(starts, self.window))
        made = np.full(len(pairs), MADE, np.int64)
        return Rows(data.select(self._step.schema.names()), partials[TIME].to_numpy(), lane, made, made)

    def _close(self, after: Ints) -> None:
        """Drop the windows that the watermark has passed."""
        if not self.window or not self._windows:
            return
        closed = closed_by(after, self.window)
        passed = [n for n, w in self._windows.items() if w.lane < len(closed) and w.start <= closed[w.lane]]
        if not passed:
            return
        gone = [self._windows.pop(number) for number in passed]
        for window in gone:
            del self._numbers[window.lane, window.start]
            self._dropped += [name for name, _ in window.runs]
        rows = np.concatenate([part for window in gone for part in window.rows])
        _, slots = parts_of(self._groups.pairs(rows))
        self._store.drop(rows)
        self._groups.release(rows)
        self._changed[rows] = False
        np.subtract.at(self._uses, slots, 1)
        slots = distinct(slots[self._uses[slots] == 0])
        if slots.size:
            self._index.release(slots)

    def close(self) -> Rows:
        return empty(self._step.schema)

    def changes(self) -> Changes:
        changed = np.flatnonzero(self._changed)
        self._changed[changed] = False
        numbers, _ = parts_of(self._groups.pairs(changed))
        put = dict(self._run(self._windows[number], rows) for number, rows in _by_window(numbers, changed))
        drop, self._dropped = self._dropped, []
        return Changes(put, drop)

    def _run(self, window: _Window, rows: Slots) -> tuple[str, pl.DataFrame]:
        while window.runs and 2 * len(rows) > len(window.runs[-1][1]):
            name, older = window.runs.pop()
            self._dropped.append(name)
            rows = distinct(np.append(rows, older))
        self._sequence += 1
        name = f"{window.lane:05d}/{window.start:015d}/{self._sequence:012d}"
        window.runs.append((name, rows))
        _, slots = parts_of(self._groups.pairs(rows))
        return name, self._index.keys(slots).hstack(self._store.take(rows))

    def progress(self) -> Any:
        return {"sequence": self._sequence}

    def load(self, frames: Iterable[tuple[str, pl.DataFrame]], progress: Any) -> None:
        self._sequence = progress["sequence"]
        for name, frame in frames:
            lane, start, _ = name.split("/")
            number = self._window(int(lane), int(start))
            slots = self._index.slots(frame.select(self._index.schema.names()), insert=True)
            pairs = pairs_of(np.full(len(slots), number), slots)
            at = self._groups.find(pairs)
            new = np.flatnonzero(at < 0)
            if len(new):
                at[new] = self._insert(pairs[new])
            self._store.put(at, frame.select(self._store.schema.names()))
            runs = self._windows[number].runs
            if runs and runs[-1][0] == name:
                runs[-1] = name, np.append(runs[-1][1], at)
            else:
                runs.append((name, at))

    def held(self, key: pl.DataFrame | None) -> pl.DataFrame:
        windows = [window.rows for window in self._windows.values()]
        at = np.concatenate([np.empty(0, np.int64), *(rows for of_one in windows for rows in of_one)])
        _, slots = parts_of(self._groups.pairs(at))
        keys = self._index.keys(slots).with_columns(pl.Series(_ROW, at))
        at = np.sort(of_keys(keys, key)[_ROW].to_numpy())
        if not len(at):
            return empty(self._step.schema).data.with_columns(pl.lit(0, pl.Int64).alias(LANE))
        pairs = self._groups.pairs(at)
        _, slots = parts_of(pairs)
        rows = self._values(self._store.take(at), self._index.keys(slots) if self._step.by else None, pairs)
        return rows.data.with_columns(pl.Series(LANE, rows.partition))

    def holding(self) -> Holding:
        size = self._index.estimated_size() + self._groups.estimated_size() + self._store.estimated_size()
        oldest = min((window.start for window in self._windows.values()), default=None)
        windows = len(self._windows) if self.window else 0
        return Holding(len(self._groups), size, windows, oldest if self.window else None)


def _for_ever(rows: Rows, late: Rows) -> Judged:
    """Return that no row is late where there is no window."""
    none = np.zeros(rows.height, np.int64)
    return Judged(none, none, late, rows.index, none[:0])


def _by_window(numbers: Slots, rows: Slots) -> Iterator[tuple[int, Slots]]:
    """Yield rows by the number of their window."""
    if not len(numbers):
        return
    if numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
        yield int(numbers[0]), rows
        return
    order = np.argsort(numbers, kind="stable")
    for number, begin, end in cuts(numbers[order]):
        yield number, rows[order[begin:end]]
