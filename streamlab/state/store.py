"""What a checkpoint holds, and what every store of state promises."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from streamlab.errors import StateDamagedError, StateError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

FORMAT = 1
"""The version of what this module writes."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much a store holds: `bytes` in `entries` segments."""

    bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point that a pipeline can go on from: what its state stands for.

    Parameters
    ----------
    id
        A random text, unique over all hosts: two hosts may both prepare their number 8.
    parent
        The id of the checkpoint before it; None for the first.
    number
        One more than the parent's, from 1: for people.
    plan
        The fingerprint of the plan that the state belongs to.
    offsets
        Topic -> partition -> next offset to read.
    progress
        What else has to go on where it was, as JSON values: watermarks, clocks, counters.
    steps
        Name of a stateful step -> what it does, to show what changed under a name.
    version
        The version of this format.

    Raises
    ------
    StateError
        A field is not of the type that it has to be.

    Examples
    --------
    >>> first = Checkpoint.after(None, plan="a1b2", offsets={"flights": {0: 17}})
    >>> second = Checkpoint.after(first, plan="a1b2", offsets={"flights": {0: 20}})
    >>> second.number, second.parent == first.id
    (2, True)
    >>> Checkpoint.from_json(second.to_json()) == second
    True
    """

    id: str
    parent: str | None
    number: int
    plan: str
    offsets: Mapping[str, Mapping[int, int]]
    progress: Mapping[str, Any]
    steps: Mapping[str, str]
    version: int = FORMAT

    def __post_init__(self) -> None:
        """Fail where a checkpoint is made, not after it was written."""
        texts = [("id", self.id), ("plan", self.plan), *((f"steps[{name!r}]", self.steps[name]) for name in self.steps)]
        numbers: list[tuple[str, Any]] = [("number", self.number)]
        for topic, partitions in self.offsets.items():
            texts.append(("a topic", topic))
            for partition, offset in partitions.items():
                numbers += [(f"a partition of {topic!r}", partition), (f"the offset of {topic!r}", offset)]
        texts += [] if self.parent is None else [("parent", self.parent)]
        for name, value in texts:
            if not isinstance(value, str) or not value:
                raise StateError(f"checkpoint: {name} is {value!r}, not a text.")
        for name, value in numbers:
            if type(value) is not int or value < 0:
                raise StateError(f"checkpoint: {name} is {value!r}, not a whole number from 0.")

    @classmethod
    def after(
        cls,
        parent: Checkpoint | None,
        *,
        plan: str,
        offsets: Mapping[str, Mapping[int, int]],
        progress: Mapping[str, Any] | None = None,
        steps: Mapping[str, str] | None = None,
    ) -> Checkpoint:
        """Return a new checkpoint that follows `parent`."""
        ancestor, number = (None, 1) if parent is None else (parent.id, parent.number + 1)
        return cls(uuid4().hex, ancestor, number, plan, offsets, progress or {}, steps or {})

    def to_record(self) -> dict[str, Any]:
        """Return the fields as values that JSON has."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        record["offsets"] = {topic: {str(p): at for p, at in parts.items()} for topic, parts in self.offsets.items()}
        return record | {"progress": dict(self.progress), "steps": dict(self.steps)}

    @classmethod
    def from_record(cls, record: Any) -> Checkpoint:
        """Return the checkpoint of `to_record`.

        Raises
        ------
        StateDamagedError
            The record is not one of a checkpoint.
        StateError
            It was written by a newer version.
        """
        try:
            newer = record["version"] > FORMAT
        except (TypeError, LookupError) as error:
            raise StateDamagedError(f"checkpoint: not a record of one: {error!r}.") from error
        if newer:
            raise StateError(
                f"checkpoint: format {record['version']} is newer than {FORMAT}, the newest that is read here. "
                "Run the version of streamlab that wrote it, or a newer one."
            )
        try:
            offsets = {topic: {int(p): at for p, at in parts.items()} for topic, parts in record["offsets"].items()}
            return cls(**{**record, "offsets": offsets})
        except (ValueError, TypeError, LookupError, AttributeError, StateError) as error:
            raise StateDamagedError(f"checkpoint: not a record of one: {error!r}.") from error

    def to_json(self) -> str:
        """Return the checkpoint as JSON, the same text for the same checkpoint.

        Raises
        ------
        StateError
            `progress` holds a value that JSON has not, or that it would give back as another one.
        """
        return to_json(self.to_record(), f"checkpoint #{self.number}")

    @classmethod
    def from_json(cls, text: str | bytes) -> Checkpoint:
        """Return the checkpoint of `to_json`; errors as in `from_record`."""
        return cls.from_record(from_json(text, "checkpoint"))


class Store(Protocol):
    """State that changes in two steps, stage and promote, with Kafka's commit between them.

    The head is the state that counts. A staged checkpoint is on disk and out of sight, for as long as it takes to learn
    whether Kafka committed: then it becomes the head, or is discarded.
    """

    @property
    def head(self) -> Checkpoint | None:
        """The checkpoint that the state stands for; None before the first."""
        ...

    @property
    def prepared(self) -> Checkpoint | None:
        """The checkpoint that is staged and neither promoted nor discarded."""
        ...

    def segments(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield the head's segments whose key begins with `prefix`, by key in the order of its bytes."""
        ...

    def stage(self, checkpoint: Checkpoint, put: Mapping[str, bytes], delete: Collection[str]) -> None:
        """Write new segments and the checkpoint that they belong to, in one transaction."""
        ...

    def promote(self) -> None:
        """Make the prepared checkpoint the head and delete the segments that it replaced, in one transaction."""
        ...

    def discard(self) -> None:
        """Forget the prepared checkpoint, if any, and its segments."""
        ...

    def clear(self) -> None:
        """Forget everything: for a reset, and before a rebuild from the changelog."""
        ...

    def size(self) -> Size:
        """Return how much the head holds, without looking through it."""
        ...

    def close(self) -> None:
        """Let go of the state; it can be opened again."""
        ...


def to_json(value: Any, what: str) -> str:
    """Return a value as JSON that reads back as the same value, or raise a StateError naming `what`."""
    try:
        text = json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StateError(
            f"{what}: {error}. Only what JSON has can be kept: text, finite numbers, lists, dicts."
        ) from error
    if json.loads(text) != value:
        raise StateError(f"{what}: {value!r} would read back as {text}. Write tuples as lists, and keys as text.")
    return text


def from_json(text: str | bytes, what: str) -> Any:
    """Return the value of a JSON text, or raise a StateDamagedError naming `what`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StateDamagedError(f"{what}: not JSON: {error}.") from error
