"""uvicorn's protocols that take ready bytes.

$ uvicorn app:app --ws backplane_asgi.uvicorn:PreparedProtocol --http backplane_asgi.uvicorn:PreparedHttpProtocol

ASGI has no message for an encoded frame, so each `send` makes a frame of its own. With these protocols one frame is
made per event and pod, and written to each socket's transport: half the processor time for one event, an eighth in
bursts. The endpoints use them where they are, and plain `send` anywhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from backplane_asgi._sockets.outbound import Outbound
from backplane_asgi._types import ASGIApp, Receive, Scope, Send
from backplane_asgi._uvicorn.answer import Answer
from backplane_asgi._uvicorn.fitting import fits
from backplane_asgi._uvicorn.strict import GRACE_S, StrictProtocol
from backplane_asgi._uvicorn.transports import bound_kernel_buffer

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol  # on httptools where that is installed, else on h11

__all__ = ["PreparedHttpProtocol", "PreparedProtocol"]

FRAMES: Final = "backplane.frames"
CHUNKS: Final = "backplane.chunks"
"""The names in the scope's `extensions` under which an endpoint finds the way to the transport."""

TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TOO_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

NEEDED: Final = {
    "transport": object,
    "conn": object,
    "loop": object,
    "queue": asyncio.Queue,
    "writable": asyncio.Event,
    "close_sent": bool,
    "disconnected": bool,
    "close_timer": object,
}
"""What is used of uvicorn's classes, none of which it promises. Without one, endpoints send as on any server."""
NEEDED_OF_HTTP: Final = {"transport": object, "flow": object, "cycle": object}
NEEDED_OF_FLOW: Final = {"write_paused": bool, "drain": object}
NEEDED_OF_CYCLE: Final = {"scope": dict, "disconnected": bool, "response_complete": bool}


class PreparedProtocol(StrictProtocol):
    """uvicorn's default protocol, which also writes ready frames, and cuts a socket that does not read.

    It offers no `permessage-deflate`: shared frames are not compressed, a compressor takes 40 KiB per socket and twice
    the time per event, and one that is kept between events lets an onlooker guess secrets by their length.
    """

    outbound: Outbound | None = None
    """What is resumed once the socket takes frames again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(*args, **kwargs)
        if hasattr(self.conn, "available_extensions"):
            self.conn.available_extensions = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the connection, with a kernel buffer that shows soon that a client does not read."""
        super().connection_made(transport)
        bound_kernel_buffer(transport)

    def handle_connect(self, event: Any) -> None:  # noqa: ANN401 -- of websockets
        """Begin the app's call, and let it find this protocol."""
        super().handle_connect(event)
        scope = cast("dict[str, Any] | None", getattr(self, "scope", None))
        if scope is not None and fits(self, NEEDED):
            scope["extensions"][FRAMES] = self

    def write_items(self, items: Sequence[bytes]) -> int:
        """Write ready frames at once; return their bytes, or 0 if the socket takes nothing now."""
        if self.is_blocked or self.close_sent or self.disconnected:
            return 0
        data = items[0] if len(items) == 1 else b"".join(items)
        self.transport.write(data)
        return len(data)

    def cut(self, code: int, reason: str) -> None:
        """Close a socket that does not read: its close frame comes last, and after a few seconds it is aborted."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(GRACE_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Record that the socket takes nothing now."""
        super().pause_writing()
        self.is_blocked = True

    def resume_writing(self) -> None:
        """Write what waits."""
        super().resume_writing()
        self.is_blocked = False
        if self.outbound is not None:
            self.outbound.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Write nothing else."""
        self.outbound = None
        super().connection_lost(exc)


class PreparedHttpProtocol(AutoHTTPProtocol):
    """uvicorn's HTTP protocol, which also writes ready chunks of an event stream, and cuts one that nobody reads.

    All other answers go their usual way.
    """

    head_s: ClassVar[float] = 10.0
    """Seconds for the line and the headers of a request to come, all of them; set it in a subclass. uvicorn waits for
    ever for what a client has begun."""
    head_bytes: ClassVar[int] = 64 * 1024
    """Of the line and the headers of a request; httptools knows no limit."""
    answer: Answer | None = None
    """The answer that takes chunks, if one does."""
    _head_timer: asyncio.TimerHandle | None = None
    _begun_bytes: int = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(*args, **kwargs)
        self._served: ASGIApp = cast("ASGIApp", self.app)
        self.app = cast("Any", self._serve)

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 -- asyncio's or uvloop's
        """Wait for the first request, and not for ever."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; the rest of a request that has begun is waited for, and not for ever."""
        self._begun_bytes += len(data)
        super().data_received(data)
        self._watch_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, unless an answer has begun; the app learns that the client is gone."""
        cycle = cast("Any", getattr(self, "cycle", None))
        if cycle is None or cycle.response_complete:
            super().send_400_response(msg)
            return
        if getattr(cycle, "response_started", True):
            self.transport.close()
        else:
            super().send_400_response(msg)
        cycle.disconnected = True
        cycle.message_event.set()

    def _watch_head(self) -> None:
        cycle = cast("Any", getattr(self, "cycle", None))
        is_served = cycle is not None and not cycle.response_complete
        is_here = self.transport.get_protocol() is self  # and no WebSocket by now
        if is_served or not is_here or self.transport.is_closing():
            self._unwatch_head()
        elif self._begun_bytes > self.head_bytes:
            self._give_up(TOO_LARGE)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self._give_up, TOO_LATE)

    def _unwatch_head(self) -> None:
        self._begun_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self, answer: bytes) -> None:
        if self._begun_bytes:
            self.transport.write(answer)
        self._unwatch_head()
        self.transport.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, and let it find the way to the transport."""
        if scope["http_version"] == "1.1" and self._fits(scope):
            answer = self.answer = Answer(self.transport, self.flow, self.cycle, send)
            scope.setdefault("extensions", {})[CHUNKS] = answer
            send = answer.send
        await self._served(scope, receive, send)

    def _fits(self, scope: Scope) -> bool:
        return (
            fits(self, NEEDED_OF_HTTP)
            and fits(self.flow, NEEDED_OF_FLOW)
            and fits(self.cycle, NEEDED_OF_CYCLE)
            # Of requests that came one upon the other, the last has the cycle.
            and cast("object", self.cycle.scope) is scope
        )

    def pause_writing(self) -> None:
        """Record that the client takes nothing now."""
        super().pause_writing()
        if self.answer is not None:
            self.answer.paused()

    def resume_writing(self) -> None:
        """Write what waits."""
        super().resume_writing()
        if self.answer is not None:
            self.answer.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Write nothing else, and let go of what refers back to this."""
        super().connection_lost(exc)
        self._unwatch_head()
        if self.answer is not None:
            self.answer.is_blocked = False
            self.answer = None
        self.app = cast("Any", self._served)
