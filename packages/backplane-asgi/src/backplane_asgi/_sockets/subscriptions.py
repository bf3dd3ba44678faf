"""What one client hears: the targets of its grant, and those that it subscribed to by itself: `Subscriptions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define
from backplane_core import BackplaneError, BaseBackplane, Target

from backplane_asgi.access import Grant

__all__ = ["MAX_TARGETS", "Subscriptions"]

MAX_TARGETS: Final = 128
"""That one client may subscribe to by itself."""


@define
class Subscriptions:
    """The targets of one client, within what its grant allows.

    Args:
        backplane: Where it is attached.
        conn_id: Under which id.
        grant: What it may do.
        own: What it has subscribed to by itself.
    """

    _backplane: BaseBackplane
    _conn_id: str
    _grant: Grant
    _own: set[Target]

    async def add(self, target: Target) -> str | None:
        """Subscribe to a target; return why that can't be, or None: it is done."""
        held = self._backplane.targets_of(self._conn_id)
        if target not in self._grant.may_subscribe:
            return "not allowed"
        if target not in held and len(held) >= MAX_TARGETS + len(self._grant.targets):
            return f"at most {MAX_TARGETS} targets"
        try:
            await self._backplane.associate(self._conn_id, target)
        except BackplaneError:  # it is closing, or the broker refuses
            return "not now"
        self._own.add(target)
        return None

    async def remove(self, target: Target) -> None:
        """Unsubscribe from a target; one of the grant stays."""
        self._own.discard(target)
        if target not in self._grant.targets:
            await self._backplane.dissociate(self._conn_id, target)

    def narrow(self, grant: Grant) -> Sequence[Target]:
        """Leave at once what another grant does not allow, and go by that one from now on.

        Returns:
            What the client had subscribed to by itself and no longer may.
        """
        lost = [target for target in self._own if target not in grant.may_subscribe]
        self._own.difference_update(lost)
        for target in self._backplane.targets_of(self._conn_id) - self._own - {*grant.targets}:
            self._backplane.dissociate_nowait(self._conn_id, target)
        self._grant = grant
        return lost

    async def widen(self) -> None:
        """Hear what the grant says from now on.

        Raises:
            TargetDeniedError: The broker does not let this pod hear one of its targets.
            ClosedError: The backplane is draining or closed.
        """
        for target in self._grant.targets:
            await self._backplane.associate(self._conn_id, target)
