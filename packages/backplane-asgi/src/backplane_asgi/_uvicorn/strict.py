"""Keeps clients of a WebSocket to the rules, in what uvicorn and websockets leave open: `StrictProtocol`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backplane_asgi._sockets.budget import Budget
from backplane_asgi._uvicorn.fitting import fits

__all__ = ["GRACE_S", "StrictProtocol"]

GRACE_S: Final = 5.0
"""For how long a socket that is cut may still take its close frame before it is aborted."""

LINGER_S: Final = 10.0
"""For how long what a client sends is dropped that has broken a rule, so that it can read why: as long as uvicorn waits
for the answer to a close."""

SLICE_BYTES: Final = 4_096
"""Of what a socket sent, that are taken at once: a flood of tiny frames is noticed after some 700 of them, in 5 ms, and
not after all that one read of the kernel holds, in half a second."""
MAX_FRAGMENTS: Final = 1_024
"""Of one message: frames without a byte cost a server memory, and count for no limit of bytes."""
MAX_UNREAD: Final = 128
"""Messages that may have come before the endpoint has seen the first of them; it admits fewer."""

NEEDED: Final = {
    "frames": list,
    "queue": asyncio.Queue,
    "close_sent": bool,
    "close_timer": object,
    "read_paused": bool,
    "curr_msg_data_type": str,
}
"""What is used of uvicorn's class, which promises none of it. Without one, clients are as free as on any server."""

BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class StrictProtocol(WebSocketsSansIOProtocol):
    """uvicorn's default protocol, which ends floods, and leaves no connection that is being closed to its client."""

    is_blocked: bool = False
    """Whether the socket takes nothing now."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(*args, **kwargs)
        self._control_budget = Budget()
        self._is_broken_off = False
        self._is_known = fits(self, NEEDED)

    def handle_connect(self, event: Any) -> None:  # noqa: ANN401 -- of websockets
        """Begin the app's call, if this is a handshake."""
        try:
            super().handle_connect(event)
        except UnicodeError:  # a header or path in which nobody may have such characters
            self._refuse_handshake()

    def data_received(self, data: bytes) -> None:
        """Take what came, a little at a time, until the client has broken a rule."""
        for start in range(0, len(data), SLICE_BYTES):
            if self._is_broken_off or self.transport.is_closing():
                return
            super().data_received(data[start : start + SLICE_BYTES])
        if not self.handshake_initiated and getattr(self.conn, "handshake_exc", None) is not None:
            self._refuse_handshake()

    def handle_cont(self, event: Any) -> None:  # noqa: ANN401 -- of websockets
        """Take a part of a message."""
        if not self._is_known:
            super().handle_cont(event)
        elif len(self.frames) >= MAX_FRAGMENTS:
            self._break_off(1009, f"a message may have {MAX_FRAGMENTS} fragments")
        elif not self.close_sent:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, unless there are too many of them, or the client does not read the answers."""
        if not self._is_known:
            super().handle_ping()
        elif not self._control_budget.admits(self.loop.time()):
            self._break_off(1008, "too many pings")
        elif self.is_blocked:
            self.conn.data_to_send()  # is dropped: what waits would grow without a limit
        else:
            super().handle_ping()

    def handle_pong(self, event: Any) -> None:  # noqa: ANN401 -- of websockets
        """Take the answer to a ping; those that nobody asked for are counted."""
        is_asked_for = event.data == getattr(self, "pending_ping_payload", None)
        if is_asked_for or self._control_budget.admits(self.loop.time()):
            super().handle_pong(event)
        else:
            self._break_off(1008, "too many pongs")

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; text that is not UTF-8 ends the socket with 1007, and no traceback in the log."""
        if not self._is_known:
            super().send_receive_event_to_app()
        elif self.curr_msg_data_type == "text" and not _is_text(self.frames):
            self._break_off(1007, "text that is not UTF-8")
        elif self.queue.qsize() >= MAX_UNREAD:
            self._break_off(1008, "too many messages")
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Close a socket whose client has broken a rule."""
        super().handle_parser_exception()
        self._abort_soon()

    def keepalive_timeout(self) -> None:
        """Close a socket whose client does not answer."""
        super().keepalive_timeout()
        self._abort_soon()

    def _break_off(self, code: int, reason: str) -> None:
        """Close the socket, and drop what else comes: to close the connection at once would reset it, code and all."""
        self.frames = []
        if self.close_sent:
            return
        self._is_broken_off = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.read_paused = False
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def _abort_soon(self) -> None:
        """Abort a socket that is being closed, unless it takes its last bytes: uvicorn would wait for ever."""
        if getattr(self, "close_timer", None) is None and not self.disconnected:
            self.close_timer = self.loop.call_later(GRACE_S, self.transport.abort)

    def _refuse_handshake(self) -> None:
        """Answer what is no handshake: websockets has an answer ready, or none at all."""
        self.transport.write(b"".join(self.conn.data_to_send()) or BAD_REQUEST)
        self.transport.close()


def _is_text(parts: Sequence[bytes]) -> bool:
    """Return whether the parts of a message are UTF-8."""
    try:
        b"".join(parts).decode()
    except UnicodeDecodeError:
        return False
    return True
