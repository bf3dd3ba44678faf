"""`websocket_endpoint`: the events of a user's targets, on a WebSocket of any ASGI app."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import uuid4

from attrs import frozen
from backplane_core import BaseBackplane, ClosedError, Conflate, TargetDeniedError

from backplane_asgi._finding import find_backplane
from backplane_asgi._http.answers import answer
from backplane_asgi._http.origins import Origins
from backplane_asgi._sockets.commands import Commands
from backplane_asgi._sockets.expiry import closing_at
from backplane_asgi._sockets.flusher import flusher_of
from backplane_asgi._sockets.hub import Hub, hub_of
from backplane_asgi._sockets.latest import make_outbound
from backplane_asgi._sockets.line import Line, takes_frames
from backplane_asgi._sockets.outbound import ENDED, STOPPING, Ending, Limits, OnGap, SocketOverflow, closes_on_gap
from backplane_asgi._sockets.pulse import Pulse
from backplane_asgi._sockets.returning import Returning
from backplane_asgi._types import ASGIApp, Message, Receive, Scope, Send
from backplane_asgi.access import Authenticate, Grant, Refused, Request, ask_host
from backplane_asgi.script import is_script, send_script

__all__ = ["websocket_endpoint"]

DEAF: Final = Ending(1011, "this server is not allowed to hear what you asked for")
TAKEN_OVER: Final = Ending(4409, "another connection has taken this one's id")
PING: Final = b'{"backplane":"ping"}'


def websocket_endpoint(
    backplane: BaseBackplane | str = "backplane",
    *,
    authenticate: Authenticate,
    on_gap: OnGap = "close",
    origins: Sequence[str] | None = None,
    max_pending: int = 1_000,
    max_pending_bytes: int = 1024 * 1024,
    max_age_s: float = 10.0,
    overflow: SocketOverflow = "close",
    conflate: Conflate = "full",
    ping_s: float = 0.0,
) -> ASGIApp:
    """Return an ASGI app that hands a client the events of its targets, each as one text message: the event's JSON.

    Its messages with the key `backplane` are the endpoint's own, in both directions. A client may send
    `{"backplane":"subscribe","target":"room:42"}` within `Grant.may_subscribe`, `unsubscribe`, and `ping`; other
    messages are ignored.

    On a bus that keeps a log a client can resume, on any pod. It connects with `?last-event-id=`, empty the first time,
    and gets each event as `{"backplane":"event","id":…,"event":…}`. It comes back with the newest id it got, and with
    `subscribe=room:42` for each target that it had subscribed to, and gets what it missed first; where that ends, and
    at first, is a `{"backplane":"caughtup","replayed":…,"id":…}`. A gap in what it missed is a message, whatever
    `on_gap` is. `backplane.js` does all of it.

    Close codes: 1001: this server is about to stop. 1007, 1008, 1009: it sent what is no UTF-8,
    too many messages, or one that is too large. 1011: the broker does not let this pod hear what was granted. 1012:
    events are missing, or the client was too slow. 4401, 4403: as `authenticate` refused; 4401 also once the grant has
    expired. 4409: another connection took its id. Any other code came with an order, by `fleet.close`.

    Args:
        backplane: The backplane, or its name in the state that the app's lifespan yields.
        authenticate: Decides which events the client gets, before the socket is accepted.
        on_gap: What the client gets at a gap; see `OnGap`.
        origins: Web pages that may connect, as `https://app.example`; `["*"]`: any. None: those of the host that is
            asked. What sends no `Origin` header is no browser, and is not checked.
        max_pending: Messages that may wait to be written. By default 1,000: a second of a very busy stream.
        max_pending_bytes: Bytes that may wait to be written. By default 1 MiB.
        max_age_s: Seconds for which the socket may take nothing of what waits. By default 10, less than people wait.
        overflow: What happens to a client that is too far behind; see `SocketOverflow`.
        conflate: When `overflow="latest"` leaves out what is outdated: once the client is too far behind ("full", the
            default), or whenever it waits ("always").
        ping_s: Seconds between two messages `{"backplane":"ping"}` to a silent client, for servers that send no ping of
            their own; uvicorn and hypercorn do. By default 0: none.

    Returns:
        The app: route or mount it where you like. Asked over HTTP for `…/backplane.js`, it answers with the client.

    Raises:
        ConfigurationError: An argument is not allowed.

    Delivery: events published once the socket is open arrive, in order; what is missed closes the socket, or is a
        message, as `on_gap` says. A client that resumes gets what it missed first, each event once.
    """
    limits = Limits(
        max_pending=max_pending,
        max_pending_bytes=max_pending_bytes,
        max_age_s=max_age_s,
        overflow=overflow,
        conflate=conflate,
    )
    return WebSocketEndpoint(
        backplane=backplane,
        authenticate=authenticate,
        origins=Origins.of(origins),
        limits=limits,
        pulse=Pulse(ping_s),
        closes_on_gap=closes_on_gap(on_gap),
    )


@frozen(kw_only=True)
class WebSocketEndpoint:
    """See `websocket_endpoint`."""

    backplane: BaseBackplane | str
    authenticate: Authenticate
    origins: Origins
    limits: Limits
    pulse: Pulse
    closes_on_gap: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        if scope["type"] == "http":
            if is_script(scope):
                await send_script(scope, send)
            else:
                await answer(send, 426, b"this is a WebSocket\n", headers=[(b"upgrade", b"websocket")])
            return
        with suppress(OSError):  # the client went while something was being sent: ASGI's word for that
            await self._connect(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        backplane = find_backplane(self.backplane, scope)
        hub, request = hub_of(backplane), Request(scope)
        if not self.origins.admits(request):
            hub.refused["websocket", "origin"] += 1
            await send({"type": "websocket.close", "code": 4403})  # before it is accepted: an HTTP 403
            return
        # A browser ends a connection whose answer does not name one of the subprotocols that it offered.
        is_bearer = (scope.get("subprotocols") or [""])[0] == "bearer"
        accept: Message = {"type": "websocket.accept", "subprotocol": "bearer" if is_bearer else None}
        try:
            grant = await ask_host(self.authenticate, request)
        except Refused as refused:
            # After it is accepted: a browser can't read the status of a handshake that was refused.
            hub.refused["websocket", str(refused.code)] += 1
            await send(accept)
            await send({"type": "websocket.close", "code": refused.code, "reason": refused.reason})
            return
        returning = Returning.of(request, grant, backplane)
        session = Session(backplane, hub, grant, scope, self, returning)
        if await session.attach(returning):
            try:
                await session.run(accept, receive, send, self.pulse)
            finally:
                session.detach()
        else:
            await send(accept)
        await session.close(send)


class Session:
    """One client that was admitted."""

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        backplane: BaseBackplane,
        hub: Hub,
        grant: Grant,
        scope: Scope,
        endpoint: WebSocketEndpoint,
        returning: Returning,
    ) -> None:
        self._backplane = backplane
        self._hub = hub
        self._grant = grant
        self._outbound = make_outbound(
            grant.conn_id or uuid4().hex,
            hub.socket_encoding(is_prepared=takes_frames(scope), has_places=returning.has_places),
            flusher_of(asyncio.get_running_loop()),
            endpoint.limits,
            closes_on_gap=endpoint.closes_on_gap,
        )
        self._line = Line(hub, scope, self._outbound)

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

    async def run(self, accept: Message, receive: Receive, send: Send, pulse: Pulse) -> None:
        """Accept the client once it is attached, and serve it until it goes, or has to."""
        outbound = self._outbound
        await send(accept)
        pulse.add(outbound, outbound.control_item(PING))
        try:
            with closing_at(self._grant.expires_at, outbound):
                async with self._line.opened(send):
                    await self._listen(receive)
        finally:
            pulse.remove(outbound)

    async def _listen(self, receive: Receive) -> None:
        """Take what the client says, until it goes."""
        commands = Commands(self._backplane, self._outbound, self._grant)
        clock = asyncio.get_running_loop().time
        while (message := await receive())["type"] != "websocket.disconnect":
            if not commands.admits(message, clock()):
                continue  # until the end, which is near, comes through
            if (text := message.get("text")) is not None:
                await commands.take(text)
        self._line.has_gone = True

    def detach(self) -> None:
        """Take nothing else from the backplane."""
        self._line.detach()

    async def close(self, send: Send) -> None:
        """Close the socket with the code that says why, unless the client has gone."""
        await self._line.close(send, self._ending())

    def _ending(self) -> Ending | None:
        ending = self._outbound.ending
        if ending is not ENDED:
            return ending
        return STOPPING if self._backplane.state in {"draining", "closed"} else TAKEN_OVER
