"""uvicorn's protocols that take ready bytes.

$ uvicorn app:app --ws backplane_asgi.uvicorn:PreparedProtocol --http backplane_asgi.uvicorn:PreparedHttpProtocol

ASGI has no message for an encoded frame, so each `send` makes a frame of its own. With these protocols one frame is
made per event and pod, and written to each socket's transport: half the processor time for one event, an eighth in
bursts. The endpoints use them where they are, and plain `send` anywhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backplane_asgi._sockets.outbound import Outbound
from backplane_asgi._types import ASGIApp, Receive, Scope, Send
from backplane_asgi._uvicorn.answer import Answer
from backplane_asgi._uvicorn.fitting import fits
from backplane_asgi._uvicorn.transports import bound_kernel_buffer

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol  # on httptools where that is installed, else on h11

__all__ = ["PreparedHttpProtocol", "PreparedProtocol"]

FRAMES: Final = "backplane.frames"
CHUNKS: Final = "backplane.chunks"
"""The names in the scope's `extensions` under which an endpoint finds the way to the transport."""

GRACE_S: Final = 5.0
"""For how long a socket that is cut may still take its close frame before it is aborted."""

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


class PreparedProtocol(WebSocketsSansIOProtocol):
    """uvicorn's default protocol, which also writes ready frames, and cuts a socket that does not read.

    It offers no `permessage-deflate`: shared frames are not compressed, a compressor takes 40 KiB per socket and twice
    the time per event, and one that is kept between events lets an onlooker guess secrets by their length.
    """

    outbound: Outbound | None = None
    """What is resumed once the socket takes frames again."""
    is_blocked: bool = False
    """Whether the socket takes nothing now."""

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

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; text that is not UTF-8 ends the socket with 1007, and no traceback in the log."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(1007, "text that is not UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()


class PreparedHttpProtocol(AutoHTTPProtocol):
    """uvicorn's HTTP protocol, which also writes ready chunks of an event stream, and cuts one that nobody reads.

    All other answers go their usual way.
    """

    answer: Answer | None = None
    """The answer that takes chunks, if one does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(*args, **kwargs)
        self._served: ASGIApp = cast("ASGIApp", self.app)
        self.app = cast("Any", self._serve)

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
        if self.answer is not None:
            self.answer.is_blocked = False
            self.answer = None
        self.app = cast("Any", self._served)
