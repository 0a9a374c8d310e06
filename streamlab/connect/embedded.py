"""A Kafka broker inside this process: librdkafka's mock cluster, for demos, notebooks and quick tests.

It speaks Kafka over a port of loopback, so every client works with it unchanged, but it is a mock. What it lacks is in
`LIMITS`, and what would mislead is refused. Found by running librdkafka 2.16, with the
reasons in the source of its mock (`rdkafka_mock.c`):

- A partition keeps `CAPACITY` bytes of batches as they were sent (so compressed ones hold more); what comes beyond drops the
  oldest batches without a word. Nothing else ever moves its first offset: a first offset of `n` says that `n` records are gone.
- A batch of more than `CAPACITY` bytes takes all before it along and cannot be read itself.
- A reader that finds nothing waits out `fetch.wait.max.ms` although records come meanwhile, and a fetch brings one batch of
  each partition. Hence `CLIENT_SETTINGS`: 10 ms make 15 ms of latency (p99), where 500 make 500.
- A group waits `group.initial.rebalance.delay.ms` for members, 3 s unless told otherwise; here 0.
- Once a group has had a member, it takes commits from members only. Assigning without joining may always commit.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import threading
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from streamlab.connect.librdkafka import library, quiet_handle
from streamlab.errors import BrokerError, PlanError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

AUTO_PARTITIONS = 4
"""Partitions of a topic that a client makes by writing to it or asking for it by name."""

CAPACITY = 5 * 1024 * 1024
"""Bytes of a partition; the oldest batches beyond it are dropped. The newest batch always stays."""

EVICTION = (
    f"the embedded broker keeps {CAPACITY >> 20} MiB of each partition, as sent, and drops the oldest. "
    "More partitions hold more, an Apache Kafka holds all"
)
"""What to say where records are missing."""

CLIENT_SETTINGS: Mapping[str, Any] = MappingProxyType({"fetch.wait.max.ms": 10, "check.crcs": False})
"""What a client of this broker needs over its own defaults. The mock's transaction markers have no checksum."""

LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "exactly-once": "it accepts transactions but keeps none of their promises: aborted and unfinished records are seen by "
        "everyone, offsets sent with a transaction are lost, and a second producer of the same id shuts out nobody",
        "another process": "it lives in the memory of this process and ends with it",
        "a restart": "it lives in the memory of this process and ends with it",
        "topic settings": "it has no retention, no compaction and no other setting of a topic",
        "more partitions": "a topic keeps the partitions that it was made with",
    }
)
"""What it cannot do, and why."""

_TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}\Z")
_TOPIC_EXISTS = 36
_PATIENCE = 0.01

_RUNNING: weakref.WeakValueDictionary[str, EmbeddedBroker] = weakref.WeakValueDictionary()
_LOCK = threading.RLock()


class EmbeddedBroker:
    """A broker inside this process.

    Parameters
    ----------
    topics
        Topics to make, with their numbers of partitions.

    Raises
    ------
    BrokerError
        If librdkafka is not found or cannot start it.
    PlanError
        For a topic that cannot be made.

    Notes
    -----
    It ends with `close()`, when nothing refers to it any more, or with the process.

    Examples
    --------
    >>> with EmbeddedBroker({"flights": 2}) as broker:
    ...     dict(broker.topics)
    {'flights': 2}
    """

    _shared: ClassVar[EmbeddedBroker | None] = None

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        calls = library()
        handle = quiet_handle()
        cluster = calls.rd_kafka_mock_cluster_new(handle, 1)
        if not cluster:
            calls.rd_kafka_destroy(handle)
            raise BrokerError("the embedded broker could not be started: no port of 127.0.0.1 could be opened.")
        calls.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
        self.bootstrap: str = calls.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        self._cluster: int | None = cluster
        self._topics: dict[str, int] = {}
        self._folder: Path | None = None
        self._process = os.getpid()
        self._end = weakref.finalize(self, _destroy, handle, cluster, self._process)
        self._end.atexit = False  # the process's end ends it; stopping it first would make its clients complain
        with _LOCK:
            _RUNNING[self.bootstrap] = self
        for name, partitions in (topics or {}).items():
            self.create_topic(name, partitions)

    @classmethod
    def shared(cls) -> EmbeddedBroker:
        """Return the one broker of this process; it is started on first use and lives as long as the process.

        Examples
        --------
        >>> EmbeddedBroker.shared() is EmbeddedBroker.shared()
        True
        """
        with _LOCK:
            found = cls._shared
            if found is None or not found.running:  # a forked process inherits the object, but not the broker's threads
                found = cls._shared = cls()
            return found

    @classmethod
    def at(cls, bootstrap: str) -> EmbeddedBroker | None:
        """Return the broker of this process that has this address, if there is one."""
        with _LOCK:
            found = _RUNNING.get(bootstrap)
        return found if found is not None and found.running else None

    @property
    def running(self) -> bool:
        """Whether it can be used: not closed, and started by this very process."""
        return self._cluster is not None and self._process == os.getpid()

    @property
    def topics(self) -> Mapping[str, int]:
        """Topics made with `create_topic`, with their numbers of partitions; those that clients made are in the metadata."""
        return MappingProxyType(dict(self._topics))

    @property
    def state_folder(self) -> Path:
        """A temporary folder for the state of pipelines that read here; deleted with the broker."""
        with _LOCK:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="streamlab-embedded-"))
                weakref.finalize(self, _remove, self._folder, self._process)
            return self._folder

    def create_topic(self, name: str, partitions: int = AUTO_PARTITIONS) -> None:
        """Make a topic; one that is there with as many partitions stays as it is.

        Raises
        ------
        PlanError
            If the name or the number is not valid, or the topic has another number of partitions.
        BrokerError
            If the broker has been closed.
        """
        if not _TOPIC.match(name):
            raise PlanError(
                f"topic {name!r}: a name has 1 to 249 letters, digits, '.', '_' or '-' of ASCII, and is not '.' or '..'."
            )
        if partitions < 1:
            raise PlanError(f"topic {name!r}: {partitions} partitions; a topic has at least 1.")
        with _LOCK:
            if not self.running:
                raise BrokerError(f"the embedded broker at {self.bootstrap} is closed; topic {name!r} cannot be made.")
            with _attentive(self.bootstrap):
                code = library().rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
            there = partitions if code == 0 else self._topics.get(name, AUTO_PARTITIONS)
            if code not in (0, _TOPIC_EXISTS):
                raise BrokerError(f"the embedded broker did not make topic {name!r}: librdkafka's error {code}.")
            if there != partitions:
                raise PlanError(
                    f"topic {name!r}: {partitions} partitions are asked for, but it has {there}; {LIMITS['more partitions']}. "
                    f"Use {there}, or another name."
                )
            self._topics[name] = there

    def refuse(self, what: str) -> NoReturn:
        """Raise the error for something that this broker cannot do.

        Parameters
        ----------
        what
            A key of `LIMITS`.

        Examples
        --------
        >>> EmbeddedBroker.shared().refuse("more partitions")
        Traceback (most recent call last):
        streamlab.errors.PlanError: the embedded broker cannot do more partitions: a topic keeps ...
        """
        if what not in LIMITS:
            raise PlanError(
                f"the embedded broker has no limit {what!r}; its limits are {list(LIMITS)}.{did_you_mean(what, LIMITS)}"
            )
        raise PlanError(
            f"the embedded broker cannot do {what}: {LIMITS[what]}. Use an Apache Kafka for it: "
            'sl.Kafka("localhost:9092"), or any other address.'
        )

    def close(self) -> None:
        """End it; its records are gone."""
        with _LOCK:
            _RUNNING.pop(self.bootstrap, None)
            if self.running:
                with _attentive(self.bootstrap):
                    self._end()
            self._cluster = None
            if self._folder is not None:
                _remove(self._folder, self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EmbeddedBroker({self.bootstrap!r}{'' if self.running else ', closed'})"


def _destroy(handle: int, cluster: int, process: int) -> None:
    # a forked process has a copy of the memory, but none of the threads that would be joined
    if os.getpid() == process:
        library().rd_kafka_mock_cluster_destroy(cluster)
        library().rd_kafka_destroy(handle)


@contextmanager
def _attentive(bootstrap: str) -> Iterator[None]:
    """Wake the broker's thread if it sleeps through a request of this block: it misses one in twenty, for a second each."""
    host, _, port = bootstrap.partition(":")

    def knock() -> None:
        with suppress(OSError):  # it has ended by now, which is all that was wanted
            socket.create_connection((host, int(port)), 1).close()

    timer = threading.Timer(_PATIENCE, knock)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
