"""Runs programs one after the other on one topic and says how fast each was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kafka.broker import Broker, UnavailableError, admin_of, create_topic
from tests.kafka.broker.jars import cache_folder, digest, jars, java, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARTITIONS = 4
TIME_LIMIT = 1800


@dataclass(frozen=True, slots=True)
class Program:
    """Something to measure.

    Parameters
    ----------
    name
        Its name in the table.
    command
        Prepares what it needs and returns how to start it; BOOTSTRAP TOPIC RESULTS RECORDS are appended. It prints a
        line of JSON with `records` and `seconds`, first record to last.
    most_records
        A slower program reads no more than this of the topic.
    """

    name: str
    command: Callable[[], Sequence[str]]
    most_records: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What one program did."""

    name: str
    records_per_s: int
    records: int
    seconds: float


class ProgramError(RuntimeError):
    """A program failed, or said nothing that could be read."""


def python_module(name: str, *arguments: str) -> Callable[[], Sequence[str]]:
    """Return the command of a module of this project."""
    return lambda: [sys.executable, "-m", name, *arguments]


def java_class(project: Path, name: str) -> Callable[[], Sequence[str]]:
    """Return the command of a Java class in a Maven project, built when it is not yet."""
    return lambda: [java(), "-cp", f"{jars(project)}/*", name]


def python_script(folder: Path, name: str) -> Callable[[], Sequence[str]]:
    """Return the command of a script with its own environment, made from the folder's requirements.txt."""
    return lambda: [str(_environment(folder) / "bin" / "python"), str(folder / name)]


def measure(programs: Iterable[Program], records: int) -> Iterator[Row | ProgramError]:
    """Load one topic and run each program over it, alone."""
    with _broker() as bootstrap:
        topic = create_topic(bootstrap, "bench", PARTITIONS)
        try:
            _say(f"loading {records:,} records")
            said_by([sys.executable, "-m", "tests.bench.programs.load", bootstrap, topic, str(records)])
            _say("reading it once, so that the first program is not the one that warms the broker")
            said_by([*python_module("tests.bench.programs.bare_loop")(), bootstrap, topic, "-", str(records)])
            for program in programs:
                try:
                    yield _measured(program, bootstrap, topic, records)
                except (ProgramError, UnavailableError) as error:
                    yield ProgramError(f"{program.name}: {error}")
        finally:
            _delete_topics(bootstrap, topic)


def table(rows: Sequence[Row], relative_to: str) -> str:
    """Return the rows as text."""
    base = next((row.records_per_s for row in rows if row.name == relative_to), None)
    lines = [f"{'program':<16}{'records':>12}{'seconds':>10}{'records/s':>12}{'x ' + relative_to:>18}"]
    lines += [
        f"{row.name:<16}{row.records:>12,}{row.seconds:>10.2f}{row.records_per_s:>12,}"
        f"{f'{row.records_per_s / base:.2f}' if base else '-':>18}"
        for row in rows
    ]
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows as a JSON document."""
    return json.dumps({"rows": [asdict(row) for row in rows]}, indent=2) + "\n"


def _measured(program: Program, bootstrap: str, topic: str, records: int) -> Row:
    wanted = min(records, program.most_records or records)
    command = [*program.command()]
    results = create_topic(bootstrap, f"{topic}-{program.name}", PARTITIONS)
    _say(f"{program.name}: {wanted:,} records")
    said = said_by([*command, bootstrap, topic, results, str(wanted)])
    try:
        answer = json.loads(said.splitlines()[-1])
        count, seconds = int(answer["records"]), float(answer["seconds"])
    except (IndexError, KeyError, ValueError) as error:
        raise ProgramError(f"its last line is no JSON object with records and seconds; it said {said!r}") from error
    if count < wanted or seconds <= 0:
        raise ProgramError(f"{count:,} records in {seconds} s, where {wanted:,} records were to be read")
    return Row(program.name, round(count / seconds), count, seconds)


def said_by(command: Sequence[str]) -> str:
    """Run a command and return what it printed.

    Raises
    ------
    ProgramError
        It failed, or took too long.
    """
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"not done after {TIME_LIMIT} s, killed") from None
    if done.returncode:
        raise ProgramError(f"exit code {done.returncode}; it said:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _broker() -> Iterator[str]:
    if given := os.environ.get("STREAMLAB_TEST_BOOTSTRAP"):
        yield given
    else:
        with Broker() as broker:
            yield broker.bootstrap


def _environment(folder: Path) -> Path:
    """Return a virtual environment in the cache; the file `complete` tells that it is."""
    requirements = folder / "requirements.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    where = cache_folder() / f"{folder.name}-py{version}-{digest(requirements)}"
    complete = where / "complete"
    where.parent.mkdir(parents=True, exist_ok=True)
    with locked(where.with_name(f"{where.name}.lock")):
        if not complete.exists():
            _say(f"installing {requirements.read_text().strip()} into {where}")
            venv.create(where, clear=True, with_pip=True)
            try:
                said_by([str(where / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(requirements)])
            except ProgramError as error:
                raise UnavailableError(f"pip could not install {requirements}: {error}") from error
            complete.touch()
    return where


def _delete_topics(bootstrap: str, prefix: str) -> None:
    admin = admin_of(bootstrap)
    made = [name for name in admin.list_topics(timeout=60).topics if name.startswith(prefix)]
    for deleted in admin.delete_topics(made).values():
        deleted.result()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
