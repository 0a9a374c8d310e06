"""The catalogue: which operator does a step of the plan. A new operator is one line here, and a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlab.engine.operators.apply_state import StateFunction
from streamlab.engine.operators.asof_frame import FrameAsof
from streamlab.engine.operators.deduplicate import Deduplicate
from streamlab.engine.operators.expiring import ExpiringGroups
from streamlab.engine.operators.join_asof import AsofJoin
from streamlab.engine.operators.join_interval import IntervalJoin
from streamlab.engine.operators.join_table_grace import table_join
from streamlab.engine.operators.join_tables import TablesJoin
from streamlab.engine.operators.paned_updates import hopping_updates
from streamlab.engine.operators.sessions.operator import SessionWindows
from streamlab.engine.operators.sliding.operator import FinalSliding, SlidingUpdates
from streamlab.engine.operators.static_table import Static
from streamlab.engine.operators.table_aggregate import TableGroups
from streamlab.engine.operators.time_windows import FinalWindows
from streamlab.engine.operators.updates import Updates
from streamlab.plan.aggregate import Aggregate
from streamlab.plan.apply_state import ApplyState
from streamlab.plan.asof_frame import AsofFrame
from streamlab.plan.join_asof import AsofJoin as AsofJoinStep
from streamlab.plan.join_interval import IntervalJoin as IntervalJoinStep
from streamlab.plan.join_table import JoinTable
from streamlab.plan.join_tables import JoinTables
from streamlab.plan.table_aggregate import TableAggregate
from streamlab.plan.table_source import StaticTable
from streamlab.plan.unique import Unique
from streamlab.plan.windows import Hopping, Session, Sliding, Tumbling

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlab.engine.operator import Operator
    from streamlab.plan.stateful import Stateful
    from streamlab.plan.windows import Window

FINAL: dict[type[Window], Callable[..., Operator]] = {
    Tumbling: FinalWindows,
    Hopping: FinalWindows,
    Session: SessionWindows,
    Sliding: FinalSliding,
}
"""Windows that emit once, when they close."""

UPDATES: dict[type[Window] | None, Callable[..., Operator]] = {
    None: Updates,
    Tumbling: Updates,
    Hopping: hopping_updates,
    Session: SessionWindows,
    Sliding: SlidingUpdates,
}
"""Windows that emit at every change; None: groups without a window."""

STEPS: dict[type[Stateful], Callable[..., Operator]] = {
    ApplyState: StateFunction,
    StaticTable: Static,
    TableAggregate: TableGroups,
    JoinTable: table_join,
    JoinTables: TablesJoin,
    IntervalJoinStep: IntervalJoin,
    AsofJoinStep: AsofJoin,
    Unique: Deduplicate,
    AsofFrame: FrameAsof,
}
"""All other steps with state."""


def operator_of(node: Stateful) -> Operator:
    """Return a new operator for a step."""
    if isinstance(node, Aggregate):
        kind: Any = None if node.window is None else type(node.window)
        if node.ttl is not None:
            return ExpiringGroups(node, laned=node.laned)
        table = UPDATES if node.is_table else FINAL
        return table[kind](node, laned=node.laned)
    return STEPS[type(node)](node, laned=node.laned)
