"""Custom state, record by record: a function of one row and of what is kept for its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.properties.oracle import Aggregate, Item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.properties.oracle import Moment, Node, Row


class ApplyState(Aggregate):
    """A row for each row; the watermark is passed on as it is."""

    def __init__(
        self,
        upstream: Node,
        by: Sequence[str],
        function: Callable[[Row, Any], tuple[Row, Any]],
        initial: Any,
        *,
        partitions: int | None,
    ) -> None:
        super().__init__(upstream, by, [], window=None, final=True, partitions=partitions)
        self.function, self.initial = function, initial
        self.states: dict[Any, Any] = {}

    def _take(self, task: Any, which: int | None, items: list[Item], _moment: Moment) -> list[Item]:
        found = []
        for item in items:
            key = which, tuple(item.row[name] for name in self.by)
            row, state = self.function(item.row, self.states.get(key, self.initial))
            self.states[key] = self.initial if state is None else state
            found.append(Item(row, item.time, item.partition, item.made))
        return found
