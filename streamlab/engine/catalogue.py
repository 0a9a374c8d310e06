"""The catalogue: which operator does a step of the plan. A new operator is one line here, and a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlab.engine.tables import Updates
from streamlab.engine.time_windows import FinalWindows
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.windows import Tumbling

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.engine.operator import Operator
    from streamlab.plan.stateful import Stateful
    from streamlab.plan.windows import Window

FINAL: dict[type[Window], Callable[..., Operator]] = {Tumbling: FinalWindows}
"""Windows that emit once, when they close."""

UPDATES: dict[type[Window] | None, Callable[..., Operator]] = {None: Updates, Tumbling: Updates}
"""Windows that emit at every change; None: groups without a window."""

STEPS: dict[type[Stateful], Callable[..., Operator]] = {}
"""All other steps with state."""


def operator_of(node: Stateful) -> Operator:
    """Return a new operator for a step."""
    if isinstance(node, Aggregate):
        kind: Any = None if node.window is None else type(node.window)
        table = UPDATES if node.is_table else FINAL
        return table[kind](node, laned=node.laned)
    return STEPS[type(node)](node, laned=node.laned)
