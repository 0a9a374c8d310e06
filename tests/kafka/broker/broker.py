"""One real Apache Kafka: a single KRaft node on loopback, data in a temporary folder."""

from __future__ import annotations

import atexit
import base64
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException

from tests.kafka.broker import guard
from tests.kafka.broker.client import admin_of, serves
from tests.kafka.broker.jars import LOG_LINES, jars, java

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from confluent_kafka.admin import AdminClient

HERE = Path(__file__).parent
HOST = "127.0.0.1"
START_TIMEOUT, STOP_TIMEOUT = 120.0, 60.0
# below the ports that systems hand to clients: none of them can sit on the broker's port while it is down
PORTS = range(20_000, 32_000)
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",  # a misspelt topic is an error
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "2000",  # back 4 s after a kill -9, not 12
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",
}


class BrokerDiedError(RuntimeError):
    """The broker ended, or did not come up in time; the message ends with its log."""


class Broker:
    """Apache Kafka on a free port of loopback.

    Parameters
    ----------
    port
        Where it listens; by default a free port.
    settings
        Broker settings over those that the tests need.

    Raises
    ------
    UnavailableError
        No Java, or the jar files are neither cached nor to be had.

    Notes
    -----
    Use it as a context manager, or `start()` it and `close()` it. `start()` after `stop()` or `kill()` has the same
    port and the same data. It ends with this process, also when that is killed.
    """

    def __init__(self, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        given = os.environ.get("STREAMLAB_KAFKA_JARS")
        self._java = [java(), "-Xmx1G", "-cp", f"{jars(HERE, Path(given) if given else None)}/*"]
        self.port = _free_port() if port is None else port
        self.bootstrap = f"{HOST}:{self.port}"
        # a leading "-" would be read as an option
        self.cluster_id = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._resources = ExitStack()
        self.folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="streamlab-kafka-")))
        # a killed JVM leaves the libraries that it unpacked: they go with the folder
        self._java += [f"-Djava.io.tmpdir={self.folder}", f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}"]
        atexit.register(self.close)
        self._format()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return when it serves its topics."""
        if self.running:
            raise RuntimeError(f"the broker at {self.bootstrap} is running; stop() or kill() it before start()")
        self._let_go()
        with (self.folder / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, *self._java, "kafka.Kafka", self.folder / "server.properties"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the starter, which then ends the broker in order
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """End it in order (SIGTERM); data stays."""
        self._end(guard.STOP)

    def kill(self) -> None:
        """End it at once (SIGKILL); data stays as the disk has it."""
        self._end(guard.KILL)

    def close(self) -> None:
        """End it and delete its data."""
        atexit.unregister(self.close)
        if self.running:
            self.kill()
        self._let_go()
        self._resources.close()

    def wait(self) -> None:
        """Return when it has ended."""
        if self._process is not None:
            self._process.wait()

    def log(self, lines: int = LOG_LINES) -> str:
        """Return the end of the broker's log."""
        path = self.folder / "kafka.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Broker({self.bootstrap}, {'running' if self.running else 'not running'})"

    def _format(self) -> None:
        controller = _free_port(besides=self.port)
        settings = SETTINGS | {
            "controller.quorum.bootstrap.servers": f"{HOST}:{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self.folder / "data"),
        }
        config = self.folder / "server.properties"
        config.write_text("".join(f"{name}={value}\n" for name, value in (settings | self._settings).items()))
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", self.cluster_id, "-c", str(config)]
        done = subprocess.run([*self._java, *tool], capture_output=True, text=True, check=False)
        if done.returncode:
            self.close()
            raise BrokerDiedError(f"Kafka could not format its storage; it said:\n{done.stdout}{done.stderr}")

    def _wait_until_ready(self) -> None:
        """Wait until it says that it is this very broker, and serves its topics: an open port is too early."""
        deadline = time.monotonic() + START_TIMEOUT
        admin = admin_of(self.bootstrap, **{"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200})
        while not self._is_ready(admin):
            if not self.running:
                raise BrokerDiedError(f"the broker at {self.bootstrap} ended while starting; its log:\n{self.log()}")
            if time.monotonic() > deadline:
                self.kill()
                raise BrokerDiedError(
                    f"the broker at {self.bootstrap} was not ready after {START_TIMEOUT:g} s; its log:\n{self.log()}"
                )
            time.sleep(0.05)

    def _is_ready(self, admin: AdminClient) -> bool:
        try:
            metadata = admin.list_topics(timeout=1)
        except KafkaException:
            return False
        return (
            metadata.cluster_id == self.cluster_id
            and self.port in {broker.port for broker in metadata.brokers.values()}
            and serves(admin, {name: len(topic.partitions) for name, topic in metadata.topics.items()})
        )

    def _end(self, command: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None or not self.running:
            raise BrokerDiedError(f"the broker at {self.bootstrap} is not running; the end of its log:\n{self.log()}")
        process.stdin.write(command)
        process.stdin.flush()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise BrokerDiedError(
                f"the broker at {self.bootstrap} did not stop within {STOP_TIMEOUT:g} s and was killed; its log:\n"
                f"{self.log()}"
            ) from None
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Close the life line, which kills what is still there, and wait for the end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


def _free_port(besides: int | None = None) -> int:
    while True:
        port = secrets.choice(PORTS)  # not `random`: a seeded test run would send two runs to the same ports
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
        if port != besides:
            return port
