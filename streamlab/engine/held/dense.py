"""Dense numbers: those that are taken back are given again before new ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Numbers = npt.NDArray[np.int64]


class Dense:
    """Gives out numbers from 0 on.

    Examples
    --------
    >>> dense = Dense()
    >>> dense.give(3).tolist()
    [0, 1, 2]
    >>> dense.take_back(np.array([1]))
    >>> dense.give(2).tolist(), dense.ever, len(dense)
    ([1, 3], 4, 4)
    """

    def __init__(self) -> None:
        self._free: list[_Numbers] = []
        self._live = 0
        self.ever = 0
        """How many were ever given, the free ones too: all numbers are below it."""

    def __len__(self) -> int:
        return self._live

    def give(self, count: int) -> _Numbers:
        """Return numbers that nobody has."""
        parts, missing = [], count
        while missing and self._free:
            free, rest = np.split(self._free.pop(), [missing])
            self._free += [rest] if rest.size else []
            parts.append(free)
            missing -= len(free)
        numbers = np.concatenate([*parts, np.arange(self.ever, self.ever + missing)])
        self.ever += missing
        self._live += count
        return numbers

    def take_back(self, numbers: _Numbers) -> None:
        """Take numbers back; none may repeat, nor be free."""
        self._free.append(numbers)
        self._live -= len(numbers)

    @property
    def nbytes(self) -> int:
        """How many bytes are held."""
        return sum(numbers.nbytes for numbers in self._free)
