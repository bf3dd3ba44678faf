"""What several nodes refused of one call: `Refused`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import define, evolve, field
from backplane_core import Frame, Refusal, RefusedError

from backplane_redis._cluster.node import ClusterNode
from backplane_redis._pending import PendingReply

__all__ = ["Refused"]


@define
class Refused:
    """Collects refusals node by node, and raises them as those of the whole call."""

    _found: list[tuple[str | Frame, Refusal]] = field(factory=list[tuple[str | Frame, Refusal]], init=False)

    def collect(self, written: Iterable[tuple[ClusterNode, PendingReply]]) -> list[str]:
        """Take what each node refused; return the channels of it."""
        new = [(pending.operands[one.index], one) for _, pending in written for one in pending.refused]
        self._found += new
        return [operand if isinstance(operand, str) else operand[0] for operand, _ in new]

    def check(self, operands: Sequence[str | Frame]) -> None:
        """Raise if anything was refused.

        Args:
            operands: Those of the whole call.

        Raises:
            RefusedError: Something was.
        """
        if self._found:
            places = {id(operand): place for place, operand in enumerate(operands)}
            refusals = [evolve(refusal, index=places[id(operand)]) for operand, refusal in self._found]
            raise RefusedError(sorted(refusals, key=lambda refusal: refusal.index))
