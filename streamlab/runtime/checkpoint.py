"""The commit, and what is done with it on start.

Kafka holds the decision, the state store is the participant that stays prepared until it knows it:

1. **Stage**: one transaction of the store writes the changed segments and the prepared checkpoint, with a fresh id.
2. **Send and commit**: results are flushed; then the source offsets are committed with the checkpoint's id as metadata. A replay of frames
   or files has no place of commit but the store.
3. **Promote**: the prepared checkpoint becomes the head; what it replaced is deleted.

On start the committed id says which one counts: the prepared one is promoted, or it is discarded.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from streamlab.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from streamlab.connect.source import Decision, Offsets
    from streamlab.runtime.tasks import Task
    from streamlab.state.store import Store

STEPS = ("staged", "flushed", "committed", "promoted")
"""Points that a commit passes, in order."""


def reached(step: str) -> None:
    """Be called at each of `STEPS`: the place for a fault to be put in."""


def commit(
    task: Task,
    flush: Callable[[int], None],
    decide: Callable[[Offsets, str], None] | None,
    lock: AbstractContextManager[object] | None = None,
) -> None:
    """Commit what a task has done.

    Parameters
    ----------
    task
        Holds the state.
    flush
        Makes the results of a checkpoint, by its number, safe.
    decide
        Commits offsets under a checkpoint's id; None: the store decides.
    lock
        Held while the task is touched, and not while a broker is waited for.
    """
    with lock or nullcontext():
        checkpoint = task.stage()  # 1
    reached("staged")
    flush(checkpoint.number)  # 2
    reached("flushed")
    if decide is not None:
        decide({topic: dict(at) for topic, at in checkpoint.offsets.items()}, checkpoint.id)
    reached("committed")
    with lock or nullcontext():
        task.promote(checkpoint)  # 3
    reached("promoted")


def recover(store: Store, decision: Decision | None, group: str | None) -> None:
    """Settle what a stop left prepared, by what was decided; None: the store decides alone.

    Raises
    ------
    StateError
        If the state on disk and the committed offsets do not belong together.
    """
    head, prepared = store.head, store.prepared
    if decision is None:
        store.discard()
    elif decision.checkpoint is not None and prepared is not None and prepared.id == decision.checkpoint:
        store.promote()
    elif (head.id if head else None) == decision.checkpoint and (head is not None or not decision.offsets):
        store.discard()
    else:
        raise StateError(_apart(head is not None, decision, group))


def _apart(has_state: bool, decision: Decision, group: str | None) -> str:
    advice = "Bring the right state back (STREAMLAB_STATE_DIR), or begin anew"
    if not decision.offsets:
        found = "there is state on disk, but the group has no committed offsets: they expired, or the topic was deleted and made anew"
        advice = "Begin anew"
    elif decision.checkpoint is None:
        found = "the group has offsets that no checkpoint of streamlab made: another program commits to it"
        advice = "Give the pipeline another name, or begin anew"
    elif has_state:
        found = "the state on disk is not of the checkpoint that the group's offsets belong to: it is older, or another machine's"
    else:
        found = (
            "the group has committed offsets, but there is no state on disk: it is on another machine, or was removed"
        )
    return f"group {group!r}: {found}. Going on would lose or double records. {advice}: streamlab reset {group}."
