"""Records of partitions that run ahead, kept until the others have caught up.

Pausing a partition makes the client throw away what it has fetched ahead, so records are kept here first, and only a partition with a
lot of them is paused.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

import numpy as np

from streamlab.connect.source import Records

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

Place = tuple[str, int]
"""Topic and partition."""

MOST_BYTES = 32 << 20
"""Of one partition; with more it is paused."""


class HeldBack:
    """What was fetched of partitions that are held, in order of arrival.

    Examples
    --------
    >>> def records(*offsets):
    ...     n = len(offsets)
    ...     places = np.array(offsets)
    ...     return Records("t", [b"x"] * n, None, np.zeros(n, int), places, np.arange(n), None, [None] * n, [None] * n)
    >>> held = HeldBack()
    >>> held.hold({("t", 0)})
    >>> held.sort_out([records(0, 1)], 100)
    ()
    >>> held.hold(())
    >>> [part.offset.tolist() for part in held.sort_out([records(2)], 100)]
    [[0, 1, 2]]
    """

    def __init__(self) -> None:
        self._held: frozenset[Place] = frozenset()
        self._kept: dict[Place, deque[Records]] = defaultdict(deque)
        self._bytes: dict[Place, int] = defaultdict(int)

    @property
    def resting(self) -> bool:
        """Whether nothing is held and nothing kept."""
        return not self._held and not self._kept

    @property
    def kept(self) -> Collection[Place]:
        """Partitions of which records are kept."""
        return self._kept.keys()

    def hold(self, places: Collection[Place]) -> None:
        """Hold these partitions, and no others any more."""
        self._held = frozenset(places)

    def full(self) -> set[Place]:
        """Return the partitions of which so much is kept that they should not be fetched."""
        return {place for place, size in self._bytes.items() if size > MOST_BYTES}

    def sort_out(self, fetched: Sequence[Records], most: int) -> tuple[Records, ...]:
        """Keep what is held back, and return the rest after what is held no longer, about `most` records of that at once."""
        ready: dict[str, list[Records]] = defaultdict(list)
        for part in self._released(most):
            ready[part.topic].append(part)
        for part in fetched:
            back = self._back(part)
            if back.any():
                self._keep(part.take(np.flatnonzero(back)))
                part = part.take(np.flatnonzero(~back))  # noqa: PLW2901  # the rest of it
            if len(part.offset):
                ready[part.topic].append(part)
        return _numbered([_joined(parts) for parts in ready.values()])

    def _back(self, part: Records) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which records are held, or must wait for earlier ones that are kept."""
        waiting = self._held | self._kept.keys()
        numbers = [number for topic, number in waiting if topic == part.topic]
        return np.isin(part.partition, numbers)

    def _keep(self, part: Records) -> None:
        for number in np.unique(part.partition).tolist():
            place, mine = (part.topic, number), part.take(np.flatnonzero(part.partition == number))
            self._kept[place].append(mine)
            self._bytes[place] += _size(mine)

    def _released(self, most: int) -> Iterator[Records]:
        count = 0
        for place in [place for place in self._kept if place not in self._held]:
            parts = self._kept[place]
            while parts and count < most:
                part = parts.popleft()
                count += len(part.offset)
                self._bytes[place] -= _size(part)
                yield part
            if not parts:
                del self._kept[place], self._bytes[place]


def _size(part: Records) -> int:
    return sum(map(len, filter(None, part.values)))


def _joined(parts: Sequence[Records]) -> Records:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    partition, offset, index = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("partition", "offset", "index")
    )
    stamps = [part.timestamp for part in parts if part.timestamp is not None]
    values, keys, headers = ([x for part in parts for x in getattr(part, n)] for n in ("values", "keys", "headers"))
    return Records(
        first.topic, values, None, partition, offset, index, np.concatenate(stamps) if stamps else None, keys, headers
    )


def _numbered(parts: Sequence[Records]) -> tuple[Records, ...]:
    """Return the records numbered anew in an order of arrival: topic by topic."""
    begin = 0
    for part in parts:
        part.index[:] = np.arange(begin, begin + len(part.offset))
        begin += len(part.offset)
    return tuple(parts)
