"""Every error that streamlab raises on purpose.

StreamlabError
├── PlanError                 the pipeline as written cannot run (raised while it is written)
│   ├── UnknownColumnError    a step names a column that its input lacks
│   ├── UnsafeExpressionError an expression needs more than one row where each row must stand alone
│   └── DurationError         a text that is no duration
├── RunError                  a pipeline cannot go on (raised while it runs)
│   ├── StepError             a step failed on data
│   └── BadRecordError        a record cannot be decoded and `on_error="raise"`
├── BrokerError               a broker cannot be reached or refuses
│   └── UnknownTopicError     a topic that the broker does not have
└── StateError                state on disk cannot be used
    ├── StateLockedError      another process holds it
    ├── StateDamagedError     a blob or file is not what was written
    └── PlanChangedError      it belongs to another plan
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class StreamlabError(Exception):
    """Base class: catch this to catch everything."""


class PlanError(StreamlabError, ValueError):
    """The pipeline as written cannot run."""


class UnknownColumnError(PlanError):
    """A step names a column that its input lacks."""

    def __init__(self, step: str, column: str, available: Sequence[str]) -> None:
        self.step, self.column, self.available = step, column, tuple(available)
        super().__init__(
            f"{step}: no column {column!r}; the stream has {list(available)}." + did_you_mean(column, available)
        )


class UnsafeExpressionError(PlanError):
    """An expression looks at more than one row in a step where every row must stand alone."""


class DurationError(PlanError):
    """A text that is no duration."""


class RunError(StreamlabError, RuntimeError):
    """A running pipeline cannot go on."""


class StepError(RunError):
    """A step failed on data."""


class BadRecordError(RunError):
    """A record cannot be decoded and the source says `on_error="raise"`."""


class BrokerError(StreamlabError, ConnectionError):
    """A broker cannot be reached, or refuses."""


class UnknownTopicError(BrokerError):
    """A topic that the broker does not have."""

    def __init__(self, topic: str, available: Sequence[str], where: str) -> None:
        self.topic, self.available = topic, tuple(available)
        listed = f"it has {sorted(available)}" if available else "it has no topics"
        super().__init__(f"no topic {topic!r} at {where}; {listed}." + did_you_mean(topic, available))


class StateError(StreamlabError, RuntimeError):
    """State on disk cannot be used."""


class StateLockedError(StateError):
    """Another process, or another query of this one, holds the state."""


class StateDamagedError(StateError):
    """A blob or a file is not what was written."""


class PlanChangedError(StateError):
    """State belongs to another plan."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a sentence naming the nearest choice, or nothing.

    Examples
    --------
    >>> did_you_mean("carier", ["carrier", "dest"])
    " Did you mean 'carrier'?"
    >>> did_you_mean("zzz", ["carrier", "dest"])
    ''
    """
    near = get_close_matches(word, list(choices), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
