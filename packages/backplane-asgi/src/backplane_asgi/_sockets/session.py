"""One client of a WebSocket that was admitted, from its first event to its close code: `Session`."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import uuid4

from attrs import frozen
from backplane_core import BaseBackplane, ClosedError, TargetDeniedError

from backplane_asgi._sockets.commands import Commands
from backplane_asgi._sockets.endings import DEAF, STOPPING, Ending, resolve
from backplane_asgi._sockets.expiry import Expiry, closing_at
from backplane_asgi._sockets.flusher import flusher_of
from backplane_asgi._sockets.hub import Hub
from backplane_asgi._sockets.latest import make_outbound
from backplane_asgi._sockets.line import Line, takes_frames
from backplane_asgi._sockets.outbound import Limits
from backplane_asgi._sockets.pulse import Pulse
from backplane_asgi._sockets.renewal import Renewal
from backplane_asgi._sockets.returning import Returning
from backplane_asgi._sockets.subscriptions import Subscriptions
from backplane_asgi._types import Message, Receive, Send
from backplane_asgi.access import Authenticate, Grant, Request

__all__ = ["Session", "SessionOptions"]

PING: Final = b'{"backplane":"ping"}'


@frozen(kw_only=True)
class SessionOptions:
    """What all clients of an endpoint have in common.

    Args:
        authenticate: Decides what a client may do, again when it shows a fresh token.
        limits: How far behind it may be.
        pulse: Writes to those that were silent.
        closes_on_gap: Whether a gap ends it; else the gap is written.
        stopping: How it ends when the server is about to stop.
    """

    authenticate: Authenticate
    limits: Limits
    pulse: Pulse
    closes_on_gap: bool
    stopping: Ending


class Session:
    """One client that was admitted."""

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        backplane: BaseBackplane,
        hub: Hub,
        grant: Grant,
        request: Request,
        options: SessionOptions,
        returning: Returning,
    ) -> None:
        self._backplane = backplane
        self._hub = hub
        self._grant = grant
        self._outbound = make_outbound(
            grant.conn_id or uuid4().hex,
            hub.socket_encoding(is_prepared=takes_frames(request.scope), has_places=returning.has_places),
            flusher_of(asyncio.get_running_loop()),
            options.limits,
            closes_on_gap=options.closes_on_gap,
        )
        self._request = request
        self._options = options
        self._subscriptions = Subscriptions(backplane, self._outbound.conn_id, grant, {*returning.targets})
        self._line = Line(hub, request.scope, self._outbound)

    async def attach(self, returning: Returning) -> bool:
        """Attach the client, and let it go on where it was; return whether the backplane takes connections."""
        try:
            grant = self._grant
            self._outbound.attachment = await self._backplane.attach_events(
                self._outbound,
                *grant.targets,
                *returning.targets,
                presence=grant.presence,
                presence_key=grant.presence_key,
                resume_from=returning.last_id,
            )
        except ClosedError:
            self._outbound.finish(STOPPING)
            return False
        except TargetDeniedError:  # the log says which, and what to grant
            # The backplane has ended it already, without saying why.
            self._outbound.ending = DEAF
            return False
        self._hub.opened("websocket", self._outbound)
        return True

    async def run(self, accept: Message, receive: Receive, send: Send) -> None:
        """Accept the client once it is attached, and serve it until it goes, or has to."""
        outbound, pulse = self._outbound, self._options.pulse
        await send(accept)
        pulse.add(outbound, outbound.control_item(PING))
        try:
            with closing_at(self._grant.expires_at, outbound) as expiry:
                async with self._line.opened(send):
                    await self._listen(receive, expiry)
        finally:
            pulse.remove(outbound)

    async def _listen(self, receive: Receive, expiry: Expiry) -> None:
        """Take what the client says, until it goes."""
        outbound, subscriptions = self._outbound, self._subscriptions
        renewal = Renewal(self._options.authenticate, self._request, self._grant, outbound, subscriptions, expiry)
        commands = Commands(outbound, subscriptions, renewal)
        clock = asyncio.get_running_loop().time
        while (message := await receive())["type"] != "websocket.disconnect":
            if not commands.admits(message, now := clock()):
                continue  # until the end, which is near, comes through
            if (text := message.get("text")) is not None:
                await commands.take(text, now)
        self._line.has_gone = True

    def detach(self) -> None:
        """Take nothing else from the backplane."""
        self._line.detach()

    async def close(self, send: Send) -> None:
        """Close the socket with the code that says why, unless the client has gone."""
        await self._line.close(send, self._ending())

    def end(self) -> None:
        """Count it as ended, whatever it ended with."""
        self._line.end()

    def _ending(self) -> Ending | None:
        ending = resolve(self._outbound.ending, self._backplane.state)
        return self._options.stopping if ending is STOPPING else ending
