"""uvicorn's WebSocket protocol that takes ready frames: `uvicorn app:app --ws backplane_asgi.uvicorn:PreparedProtocol`.

ASGI has no message for an encoded frame, so each `send` makes a frame of its own. With this protocol one frame is made
per event and pod, and written to each socket's transport: half the processor time for one event, an eighth in bursts.
The endpoints use it where it is, and plain `send` anywhere else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backplane_asgi._sockets.outbound import Outbound

__all__ = ["PreparedProtocol"]

logger: Final = logging.getLogger("backplane")

EXTENSION: Final = "backplane.frames"
"""The name in the scope's `extensions` under which an endpoint finds the protocol."""

SEND_BUFFER_BYTES: Final = 64 * 1024
"""Of the kernel, per socket. By itself Linux lets a client that never reads pile up 4 MiB, minutes of events, before
anyone notices; with this it is 0.3 MiB, and still more than a fast line has on its way."""

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
"""What is used of uvicorn's class, none of which it promises. If one is not there, endpoints send as on any server."""


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
        line = transport.get_extra_info("socket")
        if line is not None and line.family in {socket.AF_INET, socket.AF_INET6}:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_connect(self, event: Any) -> None:  # noqa: ANN401 -- of websockets
        """Begin the app's call, and let it find this protocol."""
        super().handle_connect(event)
        scope = cast("dict[str, Any] | None", getattr(self, "scope", None))
        if scope is not None and fits(self):
            scope["extensions"][EXTENSION] = self

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


def fits(protocol: object) -> bool:
    """Return whether uvicorn's class has what is needed; if not, say so once."""
    missing = [name for name, kind in NEEDED.items() if not isinstance(getattr(protocol, name, Missing), kind)]
    missing += [name for name in NEEDED if getattr(protocol, name, Missing) is Missing]
    if missing and not _warned:
        _warned.append(True)
        logger.warning(
            "this uvicorn has no %s: frames are not shared, each socket makes its own", ", ".join(sorted({*missing}))
        )
    return not missing


class Missing:
    """Stands for an attribute that is not there."""


_warned: Final[list[bool]] = []
