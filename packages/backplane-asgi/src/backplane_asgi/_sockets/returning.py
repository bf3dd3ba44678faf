"""What the client of a WebSocket says as it connects, if it can resume: `Returning`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

from attrs import frozen
from backplane_core import BaseBackplane, InvalidTargetError, Target

from backplane_asgi._sockets.subscriptions import MAX_TARGETS
from backplane_asgi.access import Grant, Request

__all__ = ["Returning"]


@frozen
class Returning:
    """Where a client goes on.

    Args:
        last_id: Of the last event that it got, or where the bus is now; None: it can't resume, or nothing can.
        targets: What it had subscribed to by itself, as far as it still may.
        has_places: Whether it gets the place of each event, so that it can come back.
    """

    last_id: str | None = None
    targets: Sequence[Target] = ()
    has_places: bool = False

    @classmethod
    def of(cls, request: Request, grant: Grant, backplane: BaseBackplane) -> Returning:
        """Return what a client says by `?last-event-id=`, empty the first time, and by each `subscribe=room:42`."""
        last_id = request.last_event_id
        if last_id is None:
            return cls()
        here = backplane.last_event_id
        query = parse_qsl(request.scope.get("query_string", b"").decode("latin-1"))
        named = dict.fromkeys([value for name, value in query if name == "subscribe"][:MAX_TARGETS])
        targets = [target for text in named if (target := _read(text)) is not None and target in grant.may_subscribe]
        return cls(last_id or here, targets, has_places=here is not None)


def _read(text: str) -> Target | None:
    try:
        return Target.parse(text)
    except InvalidTargetError:
        return None
