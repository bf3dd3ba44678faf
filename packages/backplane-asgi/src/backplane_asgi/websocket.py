"""`websocket_endpoint`: the events of a user's targets, on a WebSocket of any ASGI app."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from attrs import frozen
from backplane_core import BaseBackplane, ConfigurationError, Conflate

from backplane_asgi._finding import find_backplane
from backplane_asgi._http.answers import answer
from backplane_asgi._http.origins import Origins
from backplane_asgi._sockets.endings import DRAIN_CODES, STOPPING, Ending
from backplane_asgi._sockets.hub import hub_of
from backplane_asgi._sockets.outbound import Limits, OnGap, SocketOverflow, closes_on_gap
from backplane_asgi._sockets.pulse import Pulse
from backplane_asgi._sockets.returning import Returning
from backplane_asgi._sockets.session import Session, SessionOptions
from backplane_asgi._types import ASGIApp, Message, Receive, Scope, Send
from backplane_asgi.access import Authenticate, Refused, Request, ask_host
from backplane_asgi.script import is_script, send_script

__all__ = ["websocket_endpoint"]


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
    drain_code: Literal[1001, 1012] = 1001,
) -> ASGIApp:
    """Return an ASGI app that hands a client the events of its targets, each as one text message: the event's JSON.

    Its messages with the key `backplane` are the endpoint's own, in both directions. A client may send
    `{"backplane":"subscribe","target":"room:42"}` within `Grant.may_subscribe`, `unsubscribe`, and `ping`; other
    messages are ignored.

    Before its token expires it may send `{"backplane":"renew","token":…}`: `authenticate` decides again, and the socket
    goes by the new grant. `{"backplane":"granted","expires_in_s":…}` says so; `{"backplane":"grant"}` asks for it.

    On a bus that keeps a log a client can resume, on any pod. It connects with `?last-event-id=`, empty the first time,
    and gets each event as `{"backplane":"event","id":…,"event":…}`. It comes back with the newest id it got, and with
    `subscribe=room:42` for each target that it had subscribed to, and gets what it missed first; where that ends, and
    at first, is a `{"backplane":"caughtup","replayed":…,"id":…}`. A gap in what it missed is a message, whatever
    `on_gap` is. `backplane.js` does all of it.

    Close codes: 1001, or `drain_code`: this server is about to stop. 1007, 1008, 1009: it sent what is no UTF-8, too
    many messages, or one that is too large. 1011: the broker does not let this pod hear what was granted. 1012:
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
        drain_code: What the socket is closed with when this server is about to stop. 1001, "going away", is the default
            of most servers, and differs from the code of a gap. 1012, "service restart", is what many clients take as
            leave to come back, and what the gateway says.

    Returns:
        The app: route or mount it where you like. Asked over HTTP for `…/backplane.js`, it answers with the client.

    Raises:
        ConfigurationError: An argument is not allowed.

    Delivery: events published once the socket is open arrive, in order; what is missed closes the socket, or is a
        message, as `on_gap` says. A client that resumes gets what it missed first, each event once.
    """
    if drain_code not in DRAIN_CODES:
        raise ConfigurationError(f"drain_code={drain_code!r} is not allowed: 1001 or 1012")
    limits = Limits(
        max_pending=max_pending,
        max_pending_bytes=max_pending_bytes,
        max_age_s=max_age_s,
        overflow=overflow,
        conflate=conflate,
    )
    options = SessionOptions(
        authenticate=authenticate,
        limits=limits,
        pulse=Pulse(ping_s),
        closes_on_gap=closes_on_gap(on_gap),
        stopping=Ending(drain_code, STOPPING.reason),
    )
    return WebSocketEndpoint(backplane=backplane, origins=Origins.of(origins), options=options)


@frozen(kw_only=True)
class WebSocketEndpoint:
    """See `websocket_endpoint`."""

    backplane: BaseBackplane | str
    origins: Origins
    options: SessionOptions

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
            grant = await ask_host(self.options.authenticate, request)
        except Refused as refused:
            # After it is accepted: a browser can't read the status of a handshake that was refused.
            hub.refused["websocket", str(refused.code)] += 1
            await send(accept)
            await send({"type": "websocket.close", "code": refused.code, "reason": refused.reason})
            return
        returning = Returning.of(request, grant, backplane)
        session = Session(backplane, hub, grant, request, self.options, returning)
        try:
            if await session.attach(returning):
                try:
                    await session.run(accept, receive, send)
                finally:
                    session.detach()
            else:
                await send(accept)
            await session.close(send)
        finally:
            session.end()
