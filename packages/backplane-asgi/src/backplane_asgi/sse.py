"""`sse_endpoint`: the events of a user's targets, as server-sent events of any ASGI app."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import uniform
from typing import Any, Final
from uuid import uuid4

import msgspec
from attrs import frozen
from backplane_core import BaseBackplane, ClosedError, Conflate, TargetDeniedError

from backplane_asgi._finding import find_backplane
from backplane_asgi._http.answers import answer, refuses_method
from backplane_asgi._http.origins import Origins
from backplane_asgi._sockets.endings import DEAF, SLOW, STOPPING, Ending, resolve
from backplane_asgi._sockets.expiry import closing_at
from backplane_asgi._sockets.flusher import flusher_of
from backplane_asgi._sockets.hub import Hub, hub_of
from backplane_asgi._sockets.latest import make_outbound
from backplane_asgi._sockets.outbound import Limits, OnGap, SocketOverflow, closes_on_gap
from backplane_asgi._sockets.port import StreamPort
from backplane_asgi._sockets.pulse import Pulse
from backplane_asgi._types import ASGIApp, Receive, Scope, Send
from backplane_asgi.access import TRY_LATER, Authenticate, Grant, Refused, Request, ask_host
from backplane_asgi.script import is_script, send_script

__all__ = ["sse_endpoint"]

WRITE_S: Final = 1.0
"""How long the end of a stream may take to be written."""

COMMENT: Final = b": \n\n"
"""Says nothing, and shows proxies and browsers that the stream lives."""

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events until it has 4 KiB of them
)


def sse_endpoint(
    backplane: BaseBackplane | str = "backplane",
    *,
    authenticate: Authenticate,
    on_gap: OnGap = "frame",
    origins: Sequence[str] | None = None,
    max_pending: int = 1_000,
    max_pending_bytes: int = 1024 * 1024,
    max_age_s: float = 10.0,
    overflow: SocketOverflow = "close",
    conflate: Conflate = "full",
    comment_s: float = 15.0,
    retry_s: float = 2.0,
) -> ASGIApp:
    """Return an ASGI app that hands a client the events of its targets, as a stream that an `EventSource` reads.

    A browser's `EventSource` gives up for good on any status but 200, so a server that is about to stop answers 200,
    with a time after which to come back, and ends. It sends 401 and 403 where `authenticate` refuses for good.

    A stream that the server ends says why: its last event is an `event: closed` with the data
    `{"backplane":"closed","code":1001,"reason":…}` and a code of `websocket_endpoint`. An `EventSource` comes back all
    the same, unless the page closes it; after 30 s on the average where its target is denied (1011) or its id was taken
    over (4409).

    Args:
        backplane: The backplane, or its name in the state that the app's lifespan yields.
        authenticate: Decides which events the client gets. An `EventSource` can set no header: use a cookie.
        on_gap: What the client gets at a gap; see `OnGap`.
        origins: Web pages that may connect, as `https://app.example`; `["*"]`: any. None: those of the host that is
            asked.
        max_pending: Events that may wait to be written. By default 1,000: a second of a very busy stream.
        max_pending_bytes: Bytes that may wait to be written. By default 1 MiB.
        max_age_s: Seconds for which the stream may take nothing of what waits. By default 10, less than people wait.
        overflow: What happens to a client that is too far behind; see `SocketOverflow`.
        conflate: When `overflow="latest"` leaves out what is outdated: once the client is too far behind ("full", the
            default), or whenever it waits ("always").
        comment_s: Seconds between two signs of life on a silent stream. By default 15, half of the usual 30 s after
            which a proxy ends it.
        retry_s: Seconds after which a client comes back to a stream that ended, on the average: each gets a time of
            its own between half and one and a half of it, so that they don't come at once. By default 2.

    Returns:
        The app: route or mount it where you like. Asked for `…/backplane.js`, it answers with the client.

    Raises:
        ConfigurationError: An argument is not allowed.

    Delivery: events published once the stream has begun arrive, in order; what is missed is an `event: gap`, or the end
        of the stream, as `on_gap` says. On a bus that keeps a log each event has an `id:`, and with `on_gap="frame"` a
        client that comes back with it, as an `EventSource` does by itself, gets what it missed first, on any pod; where
        that ends is an `event: caughtup`.
    """
    limits = Limits(
        max_pending=max_pending,
        max_pending_bytes=max_pending_bytes,
        max_age_s=max_age_s,
        overflow=overflow,
        conflate=conflate,
    )
    return SseEndpoint(
        backplane=backplane,
        authenticate=authenticate,
        origins=Origins.of(origins),
        limits=limits,
        pulse=Pulse(comment_s),
        closes_on_gap=closes_on_gap(on_gap),
        retry_s=retry_s,
    )


@frozen(kw_only=True)
class SseEndpoint:
    """See `sse_endpoint`."""

    backplane: BaseBackplane | str
    authenticate: Authenticate
    origins: Origins
    limits: Limits
    pulse: Pulse
    closes_on_gap: bool
    retry_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        if is_script(scope):
            await send_script(scope, send)
        elif not await refuses_method(scope, receive, send, "GET"):
            with suppress(OSError):  # the client went while something was being sent
                await self._stream(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        backplane = find_backplane(self.backplane, scope)
        hub, request = hub_of(backplane), Request(scope)
        if not self.origins.admits(request):
            hub.refused["sse", "origin"] += 1
            await answer(send, 403, b"this page may not connect\n")
            return
        cors = self.origins.cors(request)
        try:
            grant = await ask_host(self.authenticate, request)
        except Refused as refused:
            hub.refused["sse", str(refused.code)] += 1
            if refused.code == TRY_LATER:
                await self._send_back(refused, cors, send)
            else:
                await answer(send, refused.status, f"{refused.reason}\n".encode(), headers=cors)
            return
        stream = Stream(backplane, hub, grant, scope, self)
        # One that ends at a gap would end there each time.
        await stream.attach(None if self.closes_on_gap else request.last_event_id or backplane.last_event_id)
        try:
            await stream.run(cors, receive, send)
        finally:
            stream.leave()

    async def _send_back(self, refused: Refused, cors: list[tuple[bytes, bytes]], send: Send) -> None:
        """Answer with a stream that ends at once: an `EventSource` comes back to that, and to no other status."""
        closed = b"retry: %d\n%b" % (_spread_ms(self.retry_s), _closed(Ending(refused.code, refused.reason)))
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *cors]})
        await send({"type": "http.response.body", "body": closed})


def _spread_ms(retry_s: float) -> float:
    """Return after how long one client is to come back: a time of its own, so that they don't all come at once."""
    return uniform(0.5, 1.5) * retry_s * 1_000  # noqa: S311 -- a spread, no secret


def _closed(ending: Ending) -> bytes:
    """Return the last event of a stream, which says what a WebSocket's close does."""
    retry = b"" if ending.retry_s is None else b"retry: %d\n" % _spread_ms(ending.retry_s)
    data = msgspec.json.encode({"backplane": "closed", "code": ending.code, "reason": ending.reason})
    return b"%bevent: closed\ndata: %b\n\n" % (retry, data)


class Stream:
    """One client that was admitted.

    Args:
        backplane: Where it is attached.
        hub: Of the backplane.
        grant: What the client gets.
        scope: Of its request.
        endpoint: With the limits and times.
    """

    def __init__(self, backplane: BaseBackplane, hub: Hub, grant: Grant, scope: Scope, endpoint: SseEndpoint) -> None:
        self._backplane = backplane
        self._hub = hub
        self._grant = grant
        self._pulse = endpoint.pulse
        self._retry_s = endpoint.retry_s
        self._code = 0  # of what ended it; the client, so far
        # The server's way to the transport, where it has one; see backplane_asgi.uvicorn.
        extensions: Mapping[str, Any] = scope.get("extensions") or {}
        self._direct: Any = extensions.get("backplane.chunks")
        self._outbound = make_outbound(
            grant.conn_id or uuid4().hex,
            hub.stream,
            flusher_of(asyncio.get_running_loop()),
            endpoint.limits,
            closes_on_gap=endpoint.closes_on_gap,
        )

    async def attach(self, last_id: str | None) -> None:
        """Attach the client, and let it go on behind the event that it got last; or note why it can't be served."""
        grant = self._grant
        try:
            self._outbound.attachment = await self._backplane.attach_events(
                self._outbound,
                *grant.targets,
                presence=grant.presence,
                presence_key=grant.presence_key,
                resume_from=last_id,
            )
        except ClosedError:
            self._outbound.finish(STOPPING)
        except TargetDeniedError:  # the log says which, and what to grant
            # The backplane has ended it already, without saying why.
            self._outbound.ending = DEAF
        else:
            self._hub.opened("sse", self._outbound)

    async def run(self, cors: list[tuple[bytes, bytes]], receive: Receive, send: Send) -> None:
        """Begin the stream, and serve the client until it goes, or has to."""
        begin = b"retry: %d\n%b" % (_spread_ms(self._retry_s), COMMENT)
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *cors]})
        await send({"type": "http.response.body", "body": begin, "more_body": True})
        if self._direct is not None and self._direct.admits(begin):
            self._outbound.use_chunks(self._hub.chunks)
            self._direct.begin(self._outbound)
            port, comment = self._direct, self._hub.chunks.body_item(COMMENT)
        else:
            self._direct = None
            port, comment = StreamPort(send, self._outbound), COMMENT
        has_gone = await self._listen(port, comment, receive)
        ending = None if has_gone else resolve(self._outbound.ending, self._backplane.state)
        if ending is None:
            await port.stop()
        else:
            self._code = ending.code
            await self._end(ending, port, receive, send)

    def leave(self) -> None:
        """Take nothing else from the backplane."""
        if self._outbound.attachment is not None:
            self._outbound.attachment.detach_nowait()
        self._outbound.leave()
        self._hub.ended("sse", self._outbound, self._code)

    async def _listen(self, port: StreamPort | Any, comment: bytes, receive: Receive) -> bool:  # noqa: ANN401 -- the server's
        """Write what comes; return whether the client has gone, rather than that the stream is to end."""
        outbound = self._outbound
        if outbound.attachment is None:
            return False
        self._pulse.add(outbound, comment)
        try:
            with closing_at(self._grant.expires_at, outbound):
                async with outbound.opened(port):
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    return True
        finally:
            self._pulse.remove(outbound)
        return False

    async def _end(self, ending: Ending, port: StreamPort | Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 -- the server's
        """End the stream behind what was accepted; one that takes nothing is cut, or left to the server."""
        is_slow = ending is SLOW
        if not is_slow:
            self._outbound.flush()
        with suppress(TimeoutError, RuntimeError, OSError):
            async with asyncio.timeout(WRITE_S):
                if not is_slow:
                    await port.wait_idle()
                await port.stop()
                if not (is_slow and port.is_blocked):
                    await send({"type": "http.response.body", "body": _closed(ending), "more_body": False})
                    return
        await port.stop()
        if self._direct is not None:
            self._direct.cut()
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_S):
                    while (await receive())["type"] != "http.disconnect":
                        pass
