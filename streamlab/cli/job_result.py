"""What a job left: `result.json`, and the lines that its queries wrote."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from streamlab.connect.settings import HIDDEN, redact, scrub
from streamlab.runtime.job import COUNTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Outcome = Literal["done", "nothing", "failed", "interrupted", "terminated", "timeout"]

EXIT_CODES: Mapping[Outcome, int] = {
    "done": 0,
    "nothing": 0,
    "failed": 1,
    "timeout": 1,
    "interrupted": 130,
    "terminated": 143,
}
"""What the process exits with; "nothing" becomes NOTHING_NEW where it was asked to fail."""

NOTHING_NEW = 3

_SHOWN = ("name", "fingerprint", *COUNTS, "seconds", "status", "error")
_ENDED = ("stopped", "failed")


@dataclass(frozen=True, slots=True)
class Error:
    """What ended a job early: its type and message, and the number of the code cell, as in `In [3]`; None: none was running."""

    type: str
    message: str
    cell: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """What `result.json` holds, in this order; times in UTC, parameters without secrets."""

    outcome: Outcome
    exit_code: int
    notebook: str
    output: str
    parameters: Mapping[str, Any]
    started: str
    seconds: float
    pipelines: Sequence[Mapping[str, Any]]
    error: Error | None

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        whole = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            whole.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n", encoding="utf-8")
            whole.replace(path)
        finally:
            whole.unlink(missing_ok=True)


class Runs:
    """The runs of pipelines in a job, from the lines that the kernel writes.

    Parameters
    ----------
    path
        The file; it need not be there yet.
    parameters
        Of the notebook, whose secrets are kept out of what is told.
    """

    def __init__(self, path: Path, parameters: Mapping[str, Any]) -> None:
        self._path, self._parameters = path, parameters
        self._read = 0
        self._last: dict[int, dict[str, Any]] = {}

    def all(self) -> list[dict[str, Any]]:
        """Return the last line of every run, in the order in which they began."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]  # a kernel that is killed may leave half a line
            self._read += len(whole)
            for line in whole.splitlines():
                run = json.loads(line)
                self._last[run["run"]] = run
        return [self._last[run] for run in sorted(self._last)]

    @property
    def records(self) -> int:
        """Records read so far."""
        return sum(run["records"] for run in self.all())

    def told(self) -> list[dict[str, Any]]:
        """Return what `result.json` says of each run; one that did not end was killed, and what it had not committed was not done."""
        return [{key: self._value(run, key) for key in _SHOWN} for run in self.all()]

    def _value(self, run: Mapping[str, Any], key: str) -> Any:
        value = run[key]
        if key == "status" and value not in _ENDED:
            return "killed"
        if key == "error" and value is not None:
            return {**value, "message": hide(value["message"], self._parameters)}
        return value

    def failed(self) -> dict[str, Any] | None:
        """Return the first pipeline whose last run failed; a run that failed and was run again with success is no failure."""
        last = {run["name"] or run["fingerprint"]: run for run in self.all()}
        return next((run for run in last.values() if run["status"] == "failed"), None)

    def counted(self) -> list[dict[str, Any]]:
        """Return the runs that a job is about: those of named pipelines, or all where none is named."""
        return [run for run in self.all() if run["name"]] or self.all()


def shown(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as they may be shown: those named like a secret (password, secret, token, key, ...) as `***`.

    Examples
    --------
    >>> shown({"date": "2013-01-05", "api_token": "hunter2", "carriers": ["AA"]})
    {'date': '2013-01-05', 'api_token': '***', 'carriers': ['AA']}
    """
    return {name: HIDDEN if _is_secret(name) else _shown(value) for name, value in parameters.items()}


def _is_secret(name: str) -> bool:
    return bool(redact({name: 0})[name] == HIDDEN)


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return shown(value) if isinstance(value, dict) else redact({"": value})[""]


def hide(text: str, parameters: Mapping[str, Any]) -> str:
    """Return a text without the secrets among the parameters.

    Examples
    --------
    >>> hide("hunter2 is refused", {"password": "hunter2"})
    '*** is refused'
    """
    return scrub(text, parameters)
