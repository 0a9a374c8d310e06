"""The kinds of windows, and how they are written.

Lengths are in milliseconds inside. A window is open until the watermark has passed its end, and its grace; the rules are those of Kafka
Streams (https://kafka.apache.org/documentation/streams/developer-guide/dsl-api.html, "Windowing"), but for what the semantics say.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, ClassVar

from streamlab.durations import Duration, milliseconds, text
from streamlab.errors import DurationError, PlanError

LONGEST = 1 << 53
"""Milliseconds: far beyond every event time, and with room to add several."""


@dataclass(frozen=True, slots=True)
class Window:
    """What all windows have: a kind, a grace, and a name made of their lengths."""

    kind: ClassVar[str]

    @property
    def grace(self) -> int:
        """How long after its end a window still takes rows."""
        raise NotImplementedError

    @property
    def lengths(self) -> tuple[int, ...]:
        """What tells windows of one kind apart, the grace left out."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What a step with such windows is called by default."""
        return "-".join([self.kind, *map(text, self.lengths)])

    def identity(self) -> list[Any]:
        """Return what distinguishes it, as JSON values."""
        return [self.kind, *astuple(self)]


@dataclass(frozen=True, slots=True)
class Tumbling(Window):
    """Windows [start, start + size), one after the other without overlap.

    Examples
    --------
    >>> str(tumbling("1h", grace="10m"))
    'tumbling 1h, grace 10m'
    """

    kind: ClassVar[str] = "tumbling"

    size: int
    grace: int = 0
    offset: int = 0

    @property
    def every(self) -> int:
        """How far apart windows start."""
        return self.size

    @property
    def lengths(self) -> tuple[int, ...]:
        return (self.size,)

    def __str__(self) -> str:
        return f"tumbling {text(self.size)}{_more(self.grace, self.offset)}"


@dataclass(frozen=True, slots=True)
class Hopping(Window):
    """Windows [start, start + size) that start every so often, and overlap.

    Examples
    --------
    >>> str(hopping("5m", every="1m"))
    'hopping 5m every 1m'
    """

    kind: ClassVar[str] = "hopping"

    size: int
    every: int
    grace: int = 0
    offset: int = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        return (self.size, self.every)

    def __str__(self) -> str:
        return f"hopping {text(self.size)} every {text(self.every)}{_more(self.grace, self.offset)}"


@dataclass(frozen=True, slots=True)
class Sliding(Window):
    """Windows [end - size, end], both inclusive: one for each distinct set of rows that are at most `size` apart.

    Examples
    --------
    >>> str(sliding("5m", grace="1m"))
    'sliding 5m, grace 1m'
    """

    kind: ClassVar[str] = "sliding"

    size: int
    grace: int = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        return (self.size,)

    def __str__(self) -> str:
        return f"sliding {text(self.size)}{_more(self.grace)}"


@dataclass(frozen=True, slots=True)
class Session(Window):
    """Windows [first, last] of rows that are at most `gap` apart, both inclusive.

    Examples
    --------
    >>> str(session("30m"))
    'session 30m'
    """

    kind: ClassVar[str] = "session"

    gap: int
    grace: int = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        return (self.gap,)

    def __str__(self) -> str:
        return f"session {text(self.gap)}{_more(self.grace)}"


def tumbling(size: Duration, *, grace: Duration = "0s", offset: Duration = "0s") -> Tumbling:
    """Return windows of one size that follow each other without gap or overlap.

    Parameters
    ----------
    size
        Length of a window, such as ``"5m"``.
    grace
        How long after its end a window still takes rows that come out of order.
    offset
        Shifts the bounds, which are multiples of `size` since 1970-01-01 UTC without it; less than `size`.

    Raises
    ------
    DurationError
        If a length is no duration, or `size` is zero.

    Examples
    --------
    >>> tumbling("1h", grace="10m")
    Tumbling(size=3600000, grace=600000, offset=0)
    """
    length = _length(size, "tumbling: size", positive=True)
    return Tumbling(length, _length(grace, "tumbling: grace"), _offset("tumbling", offset, "the size", length))


def hopping(size: Duration, *, every: Duration, grace: Duration = "0s", offset: Duration = "0s") -> Hopping:
    """Return windows of one size that start every so often: a row is in each of those that cover its event time.

    Parameters
    ----------
    size
        Length of a window, such as ``"5m"``.
    every
        How far apart windows start, such as ``"1m"``; at most `size`.
    grace
        How long after its end a window still takes rows that come out of order.
    offset
        Shifts the bounds: windows start at multiples of `every` since 1970-01-01 UTC without it; less than `every`.

    Raises
    ------
    DurationError
        If a length is no duration, or `size` or `every` is zero.
    PlanError
        If `every` is longer than `size`: rows between two windows would be in none.

    Examples
    --------
    >>> hopping("5m", every="1m")
    Hopping(size=300000, every=60000, grace=0, offset=0)
    >>> hopping("1m", every="5m")
    Traceback (most recent call last):
    ...
    streamlab.errors.PlanError: hopping: every 5m is longer than the size, 1m: rows between two windows would be in none. \
Did you mean hopping("5m", every="1m")?
    """
    length, step = _length(size, "hopping: size", positive=True), _length(every, "hopping: every", positive=True)
    if step > length:
        raise PlanError(
            f"hopping: every {text(step)} is longer than the size, {text(length)}: rows between two windows would be in none. "
            f'Did you mean hopping("{text(step)}", every="{text(length)}")?'
        )
    return Hopping(length, step, _length(grace, "hopping: grace"), _offset("hopping", offset, "every", step))


def sliding(size: Duration, *, grace: Duration = "0s") -> Sliding:
    """Return windows that slide with the rows: one for each distinct set of rows that are at most `size` apart.

    For a row at t these are [t - size, t] and, where it is not empty, [t + 1 ms, t + 1 ms + size], both inclusive: sliding windows in
    the sense of Kafka Streams (KIP-450).

    Parameters
    ----------
    size
        How far apart rows of one window are at most, such as ``"5m"``.
    grace
        How long after its end a window still takes rows that come out of order.

    Raises
    ------
    DurationError
        If a length is no duration, or `size` is zero.

    Examples
    --------
    >>> sliding("5m")
    Sliding(size=300000, grace=0)
    """
    return Sliding(_length(size, "sliding: size", positive=True), _length(grace, "sliding: grace"))


def session(gap: Duration, *, grace: Duration = "0s") -> Session:
    """Return windows of activity: rows at most `gap` apart are together, a longer silence ends the session.

    Parameters
    ----------
    gap
        The longest silence within a session, such as ``"30m"``; two rows exactly that far apart are together.
    grace
        How long a session waits, beyond its gap, for rows that come out of order.

    Raises
    ------
    DurationError
        If a length is no duration, or `gap` is zero.

    Examples
    --------
    >>> session("30m")
    Session(gap=1800000, grace=0)
    """
    return Session(_length(gap, "session: gap", positive=True), _length(grace, "session: grace"))


def _length(given: Duration, what: str, *, positive: bool = False) -> int:
    length = milliseconds(given, what, positive=positive)
    if length > LONGEST:
        raise DurationError(f"{what} {text(length)} is longer than event times reach; at most {text(LONGEST)}.")
    return length


def _offset(kind: str, given: Duration, than: str, length: int) -> int:
    shift = _length(given, f"{kind}: offset")
    if shift >= length:
        raise PlanError(f"{kind}: offset {text(shift)} must be less than {than}, {text(length)}.")
    return shift


def _more(grace: int, offset: int = 0) -> str:
    return (f", grace {text(grace)}" if grace else "") + (f", offset {text(offset)}" if offset else "")
