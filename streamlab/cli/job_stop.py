"""Requests to stop a job: Ctrl-C, SIGTERM, the time limit."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Reason = Literal["interrupted", "terminated", "timeout"]

_SIGNALS: Mapping[int, Reason] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@dataclass
class Stop:
    """Why a job is to stop, and whether it may take its time.

    Parameters
    ----------
    reason
        The first request; None: it may go on.
    forced
        Whether a second signal has come.
    tell
        Is called with every request.

    Examples
    --------
    >>> stop = Stop()
    >>> stop.ask("terminated")
    >>> stop.ask("timeout")
    >>> stop.reason, stop.forced
    ('terminated', False)
    >>> stop.ask("interrupted")
    >>> stop.reason, stop.forced
    ('terminated', True)
    """

    reason: Reason | None = None
    forced: bool = False
    tell: Callable[[], object] | None = None

    def ask(self, reason: Reason) -> None:
        """Ask to stop; the second signal asks to stop at once."""
        if self.reason is None:
            self.reason = reason
        elif reason != "timeout":
            self.forced = True
        if self.tell is not None:
            self.tell()


@contextmanager
def listening(stop: Stop) -> Iterator[None]:
    """Take SIGINT and SIGTERM as requests to stop. Threads other than the main one cannot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda n, _: stop.ask(_SIGNALS[n])) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
