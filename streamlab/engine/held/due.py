"""What is due when: numbers put with a time each, and taken off once that has passed.

Runs sorted by time, each at most half as long as the one before, so that neither a put nor a take depends on how many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from streamlab.engine.batch import Ints


class Due:
    """Numbers by time.

    Examples
    --------
    >>> due = Due()
    >>> due.put(np.array([30, 10, 20]), np.array([3, 1, 2]))
    >>> times, numbers = due.take(30)
    >>> times.tolist(), numbers.tolist(), len(due)
    ([10, 20], [1, 2], 1)
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Ints, Ints]] = []

    def __len__(self) -> int:
        return sum(len(times) for times, _ in self._runs)

    def put(self, times: Ints, numbers: Ints) -> None:
        """Let each number be due once its time has passed."""
        order = np.argsort(times)
        times, numbers = times[order], numbers[order]
        while self._runs and 2 * len(times) > len(self._runs[-1][0]):
            longer = self._runs.pop()
            times, numbers = np.concatenate([longer[0], times]), np.concatenate([longer[1], numbers])
            order = np.argsort(times, kind="stable")  # it finds the two runs, and merges them
            times, numbers = times[order], numbers[order]
        if len(times):
            self._runs.append((times, numbers))

    def take(self, before: int) -> tuple[Ints, Ints]:
        """Take off what is due before a time: times and numbers."""
        none = np.empty(0, np.int64)
        taken, kept = [(none, none)], []
        for times, numbers in self._runs:
            passed = int(np.searchsorted(times, before))
            taken.append((times[:passed], numbers[:passed]))
            if passed < len(times):
                kept.append((_rest(times, passed), _rest(numbers, passed)))
        self._runs = kept
        times, numbers = (np.concatenate(parts) for parts in zip(*taken, strict=True))
        return times, numbers

    def estimated_size(self) -> int:
        """Return about how many bytes are held."""
        return sum(times.nbytes + numbers.nbytes for times, numbers in self._runs)


def _rest(values: Ints, start: int) -> Ints:
    """Return what is left: a copy where a slice would keep more than twice that in memory."""
    rest = values[start:]
    return rest.copy() if rest.base is not None and 2 * len(rest) < len(rest.base) else rest
