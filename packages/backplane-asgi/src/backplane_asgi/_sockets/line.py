"""One WebSocket from its accept to its close, whatever its client and its server speak: `Line`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from backplane_asgi._sockets.endings import SLOW, Ending
from backplane_asgi._sockets.hub import Hub
from backplane_asgi._sockets.outbound import Outbound
from backplane_asgi._sockets.port import Port, SendPort
from backplane_asgi._types import Message, Scope, Send

__all__ = ["Line", "takes_frames"]

CLOSE_S: Final = 5.0
"""How long a close may take to be written."""

APP_CODES: Final = 3_000
"""Added to a code of the protocol where a server keeps those to itself, as daphne does: 4001 for 1001."""

FRAMES: Final = "backplane.frames"


def takes_frames(scope: Scope) -> bool:
    """Return whether the server takes ready frames; see backplane_asgi.uvicorn."""
    return _prepared_of(scope) is not None


def _prepared_of(scope: Scope) -> Any:  # noqa: ANN401 -- the server's protocol, of a class that may be absent
    extensions: Mapping[str, Any] = scope.get("extensions") or {}
    return extensions.get(FRAMES)


class Line:
    """One accepted WebSocket: opens the way out, and closes it once with the code that says why.

    Args:
        hub: Counts it.
        scope: Of the connection.
        outbound: What waits to be written.
    """

    def __init__(self, hub: Hub, scope: Scope, outbound: Outbound) -> None:
        self.has_gone = False
        """Whether the client has gone by itself."""
        self._hub = hub
        self._outbound = outbound
        self._prepared: Any = _prepared_of(scope)
        self._plain: SendPort | None = None
        self._has_ended = False

    @asynccontextmanager
    async def opened(self, send: Send) -> AsyncGenerator[None]:
        """Write from now on; what is awaited in the block is cancelled once the socket is to be closed."""
        port: Port = self._prepared
        if self._prepared is None:
            port = self._plain = SendPort(send, self._outbound)
        else:
            self._prepared.outbound = self._outbound
        async with self._outbound.opened(port):
            yield

    def detach(self) -> None:
        """Take nothing else from the backplane."""
        outbound = self._outbound
        ending = outbound.ending
        if outbound.attachment is not None:
            outbound.attachment.detach_nowait()
        if self.has_gone and ending is None:
            outbound.leave()
        if self._prepared is not None:
            self._prepared.outbound = None

    async def close(self, send: Send, ending: Ending | None) -> None:
        """Close the socket with the code that says why, unless the client has gone; None: it has, or nothing says."""
        outbound = self._outbound
        if not self.has_gone and ending is not None:
            if outbound.ending is not SLOW:
                outbound.flush()
            if self._prepared is not None and self._prepared.is_blocked:
                self._prepared.cut(ending.code, ending.reason)
            else:
                await self._send_close(send, ending)
        outbound.leave()
        if self._plain is not None:
            await self._plain.stop()
        self.end(0 if self.has_gone or ending is None else ending.code)

    def end(self, code: int = 0) -> None:
        """Count it as ended, once, also where something failed before it could be closed.

        Args:
            code: What it was closed with; 0: the client went, or the server closed it.
        """
        if not self._has_ended:
            self._has_ended = True
            self._outbound.leave()
            self._hub.ended("websocket", self._outbound, code)

    async def _send_close(self, send: Send, ending: Ending) -> None:
        # RuntimeError: the server has closed it meanwhile, as on a signal.
        with suppress(TimeoutError, RuntimeError, OSError):
            async with asyncio.timeout(CLOSE_S):
                if self._plain is not None and self._outbound.ending is not SLOW:
                    await self._plain.wait_idle()
                elif self._plain is not None:
                    await self._plain.stop()
                try:
                    await send(_close(ending.code, ending.reason))
                except (RuntimeError, OSError):
                    raise
                except Exception:  # noqa: BLE001 -- autobahn, under daphne: "invalid close code", and no type of its own
                    await send(_close(ending.code + APP_CODES, ending.reason))


def _close(code: int, reason: str) -> Message:
    return {"type": "websocket.close", "code": code, "reason": reason}
