"""A feed that reads tables to their end before it reads anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamlab.connect.source import OutageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streamlab.connect.source import Decision, Feed, Fetched, Offsets


class TablesFirst:
    """Another feed, of which some topics come first.

    Parameters
    ----------
    feed
        Reads the topics of a plan.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.decides = feed.decides
        self._first: Offsets = {}
        self._rest: tuple[Offsets, Offsets | None] | None = None  # what to read when the tables are read

    def load(self, first: Offsets) -> None:
        """Say up to where topics are to be read before the others, at the next `start`."""
        self._first = first

    def start(self, offsets: Offsets, until: Offsets | None) -> None:
        """Read from `offsets`, first the topics that are to be loaded; with `until`, never at or past those."""
        if not self._first:
            self._feed.start(offsets, until)
            return
        self._rest = offsets, until
        self._feed.start({topic: offsets[topic] for topic in self._first}, self._first)

    def fetch(self, timeout: float) -> Fetched:
        """Return what comes within `timeout` seconds; when the tables have all come, the others begin."""
        fetched = self._feed.fetch(timeout)
        if self._rest is None or not fetched.finished:
            return fetched
        offsets, until = self._rest
        reached = {topic: {**offsets[topic], **at} for topic, at in fetched.positions.items()}
        try:
            self._feed.start({**offsets, **reached}, until)
        except OutageError:  # tried again after the next fetch, which has nothing more to give
            return replace(fetched, finished=False)
        self._rest, self._first = None, {}
        return replace(fetched, finished=False)

    def partitions(self) -> Mapping[str, int]:
        """Return how many partitions each topic has."""
        return self._feed.partitions()

    def bounds(self) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        """Return the first and the next offset of every partition."""
        return self._feed.bounds()

    def committed(self) -> Decision:
        """Return the last commit."""
        return self._feed.committed()

    def hold(self, partitions: Collection[tuple[str, int]]) -> None:
        """Hand out no records of these partitions until told otherwise."""
        self._feed.hold(partitions)

    def commit(self, offsets: Offsets, checkpoint: str) -> None:
        """Commit offsets with the id of the checkpoint they belong to."""
        self._feed.commit(offsets, checkpoint)

    def close(self) -> None:
        """Let go of everything."""
        self._feed.close()
