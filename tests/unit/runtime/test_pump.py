"""Bounded queues and the threads between a feed and the engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from streamlab.connect.source import Decision, Fetched
from streamlab.runtime.pump import BoundedQueue, Pump

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_a_full_queue_takes_nothing_more_until_there_is_room() -> None:
    queue: BoundedQueue[str] = BoundedQueue(10)
    assert queue.put("a", 6, 0)
    assert not queue.put("b", 6, 0)
    assert queue.get(0) == "a"
    assert queue.put("b", 6, 0)


def test_one_item_always_fits() -> None:
    queue: BoundedQueue[str] = BoundedQueue(10)
    assert queue.put("large", 1_000, 0)
    assert queue.get(0) == "large"
    assert queue.get(0) is None


def test_closing_wakes_who_waits() -> None:
    queue: BoundedQueue[str] = BoundedQueue(10)
    got: list[str | None] = []
    waiting = threading.Thread(target=lambda: got.append(queue.get(60)))
    waiting.start()
    queue.close()
    waiting.join(10)
    assert got == [None]


class Feed:
    """Fetches numbers, and remembers which thread called it."""

    decides = False

    def __init__(self, fail_at: int | None = None) -> None:
        self.threads: set[str] = set()
        self.fetched = 0
        self.closed = False
        self._fail_at = fail_at

    def partitions(self) -> Mapping[str, int]:
        return {}

    def bounds(self) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        self.threads.add(threading.current_thread().name)
        return {}

    def committed(self) -> Decision:
        return Decision({}, None)

    def start(self, offsets: Any, until: Any) -> None:
        self.threads.add(threading.current_thread().name)

    def fetch(self, timeout: float) -> Fetched:
        self.threads.add(threading.current_thread().name)
        if self.fetched == self._fail_at:
            raise ConnectionError("gone")
        self.fetched += 1
        return Fetched((), {}, {}, self.fetched, 32 << 20)

    def commit(self, offsets: Any, checkpoint: str) -> None:
        self.threads.add(threading.current_thread().name)

    def close(self) -> None:
        self.closed = True


class Decoder:
    def decode(self, fetched: Fetched) -> Any:
        return fetched  # anything with size and records

    records = 0


def pump_of(feed: Feed) -> Pump:
    class Decoded(Decoder):
        def decode(self, fetched: Fetched) -> Any:
            return type("Arrived", (), {"size": fetched.size, "records": 0, "at": fetched.at})()

    return Pump(lambda: feed, Decoded(), "test")  # type: ignore[arg-type]


def test_all_calls_on_a_feed_come_from_one_thread() -> None:
    feed = Feed()
    pump = pump_of(feed)
    pump.open()
    pump.call(lambda f: f.bounds())
    pump.flow()
    assert pump.get(10) is not None
    pump.call(lambda f: f.commit({}, "id"))
    pump.close()
    assert feed.threads == {"test-fetch"}
    assert feed.closed


def test_fetching_stops_while_nobody_takes() -> None:
    feed = Feed()
    pump = pump_of(feed)
    pump.open()
    pump.flow()
    assert pump.get(10) is not None
    pump.call(lambda f: f.bounds())  # requests are served while the queues are full
    taken = feed.fetched
    for _ in range(20):
        pump.call(lambda f: f.bounds())
    assert feed.fetched <= max(taken, 7)  # two queues of 64 MB, items of 32 MB, and those in hand
    pump.close()


def test_what_fails_in_a_thread_is_raised_where_it_is_taken() -> None:
    pump = pump_of(Feed(fail_at=2))
    pump.open()
    pump.flow()
    assert [pump.get(10) is not None for _ in range(2)] == [True, True]
    with pytest.raises(ConnectionError, match="gone"):
        pump.get(10)
    pump.close()


def test_what_fails_when_it_opens_is_raised_there() -> None:
    def fail() -> Feed:
        raise ConnectionError("nobody there")

    pump = Pump(fail, Decoder(), "test")  # type: ignore[arg-type]
    with pytest.raises(ConnectionError, match="nobody there"):
        pump.open()
    pump.close()


def test_a_failing_request_fails_where_it_came_from() -> None:
    pump = pump_of(Feed())
    pump.open()
    with pytest.raises(ZeroDivisionError):
        pump.call(lambda _: 1 / 0)
    pump.close()
