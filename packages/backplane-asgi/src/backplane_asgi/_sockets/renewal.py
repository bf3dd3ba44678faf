"""Lets a client that is connected show a fresh token: `Renewal`."""

from __future__ import annotations

from typing import Final

from attrs import define, field
from backplane_core import ClosedError, Target, TargetDeniedError

from backplane_asgi._sockets.budget import Budget
from backplane_asgi._sockets.endings import DEAF, Ending
from backplane_asgi._sockets.expiry import Expiry
from backplane_asgi._sockets.outbound import Outbound
from backplane_asgi._sockets.subscriptions import Subscriptions
from backplane_asgi.access import Authenticate, Grant, Refused, Request, ask_host

__all__ = ["Renewal"]

AT_ONCE: Final = 10
PER_S: Final = 1.0
"""Each may cost the host a look into its database; a token lives for minutes."""

TOO_MANY: Final = Ending(1008, "too many renewals")
ANOTHER: Final = Ending(4401, "the new grant is for another connection: come back with it")


@define
class Renewal:
    """Renews the grant of one client, while it stays connected.

    Args:
        authenticate: Decides again, as it did when the client came.
        request: What the client came with.
        grant: What it may do now.
        outbound: Its socket.
        subscriptions: What it hears.
        expiry: Closes the socket.
    """

    _authenticate: Authenticate
    _request: Request
    _grant: Grant
    _outbound: Outbound
    _subscriptions: Subscriptions
    _expiry: Expiry
    _budget: Budget = field(factory=lambda: Budget(AT_ONCE, PER_S), init=False)

    @property
    def left_s(self) -> float | None:
        """Seconds until the grant expires; None: it never does."""
        return self._expiry.left_s

    async def renew(self, token: str, now: float) -> list[Target] | None:
        """Go by what this token grants from now on; a client whose token is refused is closed with the refusal's code.

        Args:
            token: What the client shows.
            now: The loop's clock.

        Returns:
            What it had subscribed to by itself and no longer may; None: the socket is being closed.
        """
        if not self._budget.admits(now):
            self._outbound.finish(TOO_MANY)
            return None
        try:
            grant = await ask_host(self._authenticate, self._request.renewed(token))
        except Refused as refused:
            self._outbound.finish(Ending(refused.code, refused.reason))
            return None
        if not self._is_same_client(grant):
            self._outbound.finish(ANOTHER)
            return None
        # What is no longer allowed ends first, whatever the broker takes for the rest.
        lost = self._subscriptions.narrow(grant)
        self._grant = grant
        self._expiry.move(grant.expires_at)
        try:
            await self._subscriptions.widen()
        except TargetDeniedError:  # the log says which, and what to grant
            self._outbound.finish(DEAF)
            return None
        except ClosedError:  # which closes the socket too
            return None
        return [*lost]

    def _is_same_client(self, grant: Grant) -> bool:
        """Return whether a grant is for who is connected: an id, and what others see of it, stay while it is."""
        return (
            grant.conn_id in {None, self._outbound.conn_id}
            and grant.presence == self._grant.presence
            and grant.presence_key == self._grant.presence_key
        )
