"""What is done to this pod's connections because any pod ordered it, in slices that leave the loop its turns."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._protocol.fleet_frame import Question, target_of
from backplane_core._runtime.reporter import Reporter
from backplane_core.errors import ClosedByFleetError
from backplane_core.target import Intersection, Target

__all__ = ["Orders"]

SLICE: Final = 128
"""Connections that are dealt with between two turns of the loop: some 1 ms of work."""


class Orders:
    """Follows orders of this pod and of others.

    Args:
        registry: Knows the connections.
        reporter: Notifies the owners of sinks that are closed.
    """

    def __init__(self, registry: Registry, reporter: Reporter) -> None:
        self._registry = registry
        self._reporter = reporter

    def follow(self, order: Question, whom: Sequence[Target | Intersection]) -> Generator[None, None, int]:
        """Do what is ordered, and return how many connections it changed. It yields where the loop may turn.

        Args:
            order: Checked.
            whom: Those of its targets that it is followed for now.
        """
        # A connection that leaves meanwhile is passed by, as is one that takes its id.
        entries = [(entry, entry.generation) for entry in self._registry.resolve(whom)]
        changed = 0
        for number, (entry, generation) in enumerate(entries, 1):
            if entry.sink is not None and entry.generation == generation:
                changed += self._change(order, entry)
            if not number % SLICE:
                yield
        return changed

    def _change(self, order: Question, entry: Entry) -> bool:
        target = target_of(order)
        if target is None:
            self._close(entry, order.code, order.reason)
            return True
        had_it = entry.targets is not None and target in entry.targets
        if order.what == "dissociate":
            self._registry.dissociate(entry.conn_id, target)
            return had_it
        if not had_it:
            self._registry.associate(entry.conn_id, target)
        return not had_it

    def _close(self, entry: Entry, code: int, reason: str) -> None:
        queue, on_close, closed = entry.queue, entry.on_close, ClosedByFleetError(code, reason)
        if queue is not None:
            self._reporter.notify(queue.close, closed)
        self._registry.detach(entry.conn_id)
        if on_close is not None:
            self._reporter.notify(on_close, closed)
