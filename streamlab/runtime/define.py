"""Define mode: a notebook's cells are executed for what they define, and nothing is run.

With $STREAMLAB_DEFINE set, `start`, `run`, `show`, `preview`, `collect` and `export` do nothing and return a `NotRun`, which goes along
with whatever later cells do with a query, a report or a frame, so that they do not fail for want of results.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFINE = "STREAMLAB_DEFINE"
"""The environment variable that turns it on."""

_made: list[Any] = []


def active() -> bool:
    """Whether pipelines are to be defined, not run.

    Examples
    --------
    >>> active()
    False
    """
    return os.environ.get(DEFINE, "") not in {"", "0"}


def made(pipeline: Any) -> None:
    """Remember a pipeline that was defined in this mode."""
    if active():
        _made.append(pipeline)


def pipelines() -> list[Any]:
    """Return the pipelines that were defined in this mode, in order; those that only show results are none."""
    return [one for one in _made if any(sink.kind != "memory" for sink in one.plan.sinks)]


def not_run(call: str) -> Any:
    """Return what stands in for the result of a call that is turned off."""
    return NotRun(call)


class NotRun:
    """What a call that is turned off returns: in place of a query, a report or a frame.

    Its attributes, items and results of calls are such, too. It is empty, equal to nothing, less than nothing and false; `wait()` has
    waited and `status` is "stopped", so that loops which wait for a query end.

    Examples
    --------
    >>> query = NotRun("start()")
    >>> query.frame(10).height > 5, list(query.lag()), query.wait(), query.status, f"{query.report.records:,}"
    (False, [], True, 'stopped', '(not run)')
    """

    def __init__(self, call: str) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        # protocols of Jupyter, pickle and copy look for methods that must not seem to be there
        if name.startswith("_"):
            raise AttributeError(name)
        return "stopped" if name == "status" else NotRun(self._call)

    def wait(self, *_: Any, **__: Any) -> bool:
        """Say that it has ended."""
        return True

    def __call__(self, *_: Any, **__: Any) -> NotRun:  # noqa: D102  # as every magic method
        return self

    def __getitem__(self, _: Any) -> NotRun:
        return self

    def __setitem__(self, _: Any, __: Any) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __contains__(self, _: Any) -> bool:
        return False

    def __bool__(self) -> bool:
        return False

    def __int__(self) -> int:
        return 0

    def __index__(self) -> int:
        return 0

    def __float__(self) -> float:
        return 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, _: object) -> bool:
        return False

    def __ne__(self, _: object) -> bool:
        return False

    def __lt__(self, _: object) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__

    def _same(self, *_: Any) -> NotRun:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __and__ = __or__ = __xor__ = _same
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = _same

    def __format__(self, _: str) -> str:
        return "(not run)"

    def __repr__(self) -> str:
        """Say why there is nothing."""
        return f"(not run: {self._call} is turned off while the notebook is read)"
