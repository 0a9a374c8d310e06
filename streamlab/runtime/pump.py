"""Fetching and decoding in threads of their own, with bounded queues between: memory stays bounded however far behind.

One thread owns the feed and makes every call on it; others hand it requests. It does not fetch while the queue is full.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.connect.source import Feed, Fetched
    from streamlab.runtime.decoding import Arrivals, Decoder

_QUEUE_BYTES = 16 << 20
_BUSY, _QUIET = 0.02, 0.1  # seconds a fetch waits: short while records come, longer on a quiet topic
_ROW_BYTES = 50  # of what travels beside a record

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """A queue bounded in bytes: `put` waits while it is full, and one item always fits."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size, self._items = limit, 0, deque[tuple[T, int]]()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T, size: int, wait: float) -> bool:
        """Add an item; return False where there was no room within `wait` seconds."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._closed or not self._items or self._size + size <= self._limit, wait
            ):
                return False
            self._items.append((item, size))
            self._size += size
            self._changed.notify_all()
            return True

    def get(self, wait: float) -> T | None:
        """Return the next item, or None where none came within `wait` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items) or self._closed, wait) or not self._items:
                return None
            item, size = self._items.popleft()
            self._size -= size
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Wake everyone who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Pump:
    """Two threads from a feed to decoded arrivals.

    Parameters
    ----------
    open_feed
        Makes the feed; called on the thread that will own it.
    decoder
        Makes rows of what was fetched.
    """

    def __init__(self, open_feed: Callable[[], Feed], decoder: Decoder, name: str) -> None:
        self._open, self._decoder = open_feed, decoder
        self._requests: SimpleQueue[tuple[Callable[[Feed], Any], Future[Any]]] = SimpleQueue()
        self._fetched: BoundedQueue[Fetched | BaseException] = BoundedQueue(_QUEUE_BYTES)
        self._arrived: BoundedQueue[Arrivals | BaseException] = BoundedQueue(_QUEUE_BYTES)
        self._flowing, self._stopped = threading.Event(), threading.Event()
        self._opened: Future[None] = Future()
        self._threads = [
            threading.Thread(target=self._fetching, name=f"{name}-fetch", daemon=True),
            threading.Thread(target=self._decoding, name=f"{name}-decode", daemon=True),
        ]

    def open(self) -> None:
        """Open the feed; what is wrong with the sources is raised here."""
        for thread in self._threads:
            thread.start()
        self._opened.result()

    def call(self, request: Callable[[Feed], T]) -> T:
        """Run a request on the feed's thread and return what it gives."""
        done: Future[T] = Future()
        self._requests.put((request, done))
        return done.result()

    def tell(self, request: Callable[[Feed], object]) -> None:
        """Run a request on the feed's thread some time soon."""
        self._requests.put((request, Future()))

    def flow(self) -> None:
        """Begin to fetch."""
        self._flowing.set()

    def get(self, wait: float) -> Arrivals | None:
        """Return the next arrivals, or None where none came in time; what failed in a thread is raised here."""
        item = self._arrived.get(wait)
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop the threads and close the feed."""
        self._stopped.set()
        self._flowing.set()
        self._fetched.close()
        self._arrived.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _fetching(self) -> None:
        try:
            feed = self._open()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that opened
            self._opened.set_exception(error)
            self._stopped.set()
            return
        self._opened.set_result(None)
        try:
            self._fetch_all(feed)
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that processes
            while not self._stopped.is_set() and not self._fetched.put(error, 0, _QUIET):
                self._serve(feed)  # what waits for an answer may be what would make room
        finally:
            self._serve_until_stopped(feed)
            feed.close()

    def _fetch_all(self, feed: Feed) -> None:
        waiting: Fetched | None = None
        wait = _QUIET
        while not self._stopped.is_set():
            self._serve(feed)
            if not self._flowing.is_set():
                self._serve_one(feed, _QUIET)
                continue
            if waiting is None:
                waiting = feed.fetch(wait)
                wait = _BUSY if waiting.records else min(_QUIET, wait + _BUSY)
            if self._fetched.put(waiting, waiting.size + _ROW_BYTES * waiting.count, _BUSY):
                finished, waiting = waiting.finished, None
                if finished:
                    return

    def _serve(self, feed: Feed) -> None:
        while not self._requests.empty():
            self._serve_one(feed, 0)

    def _serve_one(self, feed: Feed, wait: float) -> None:
        try:
            request, done = self._requests.get(timeout=wait) if wait else self._requests.get_nowait()
        except Empty:
            return
        try:
            done.set_result(request(feed))
        except BaseException as error:  # noqa: BLE001  # raised again where the request came from
            done.set_exception(error)

    def _serve_until_stopped(self, feed: Feed) -> None:
        while not self._stopped.is_set():
            self._serve_one(feed, _QUIET)
        self._serve(feed)

    def _decoding(self) -> None:
        while not self._stopped.is_set():
            item = self._fetched.get(_QUIET)
            if item is None:
                continue
            try:
                arrivals = item if isinstance(item, BaseException) else self._decoder.decode(item)
            except BaseException as error:  # noqa: BLE001  # raised again in the thread that processes
                arrivals = error
            size = 0 if isinstance(arrivals, BaseException) else arrivals.size + _ROW_BYTES * arrivals.records
            while not self._stopped.is_set() and not self._arrived.put(arrivals, size, _QUIET):
                pass
