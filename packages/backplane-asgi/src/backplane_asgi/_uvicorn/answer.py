"""One HTTP answer whose body can be written to the transport, past ASGI's `send`: `Answer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from backplane_asgi._sockets.port import Resumable
from backplane_asgi._types import Message, Send
from backplane_asgi._uvicorn.transports import bound_kernel_buffer

__all__ = ["Answer", "Cycle", "Flow"]

FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"content-encoding"})
"""Headers of an answer whose body is not simply chunked."""


class Flow(Protocol):
    """uvicorn's record of whether the transport takes more."""

    write_paused: bool

    async def drain(self) -> None:
        """Return once it takes more."""
        ...


class Cycle(Protocol):
    """uvicorn's state of one request and its answer."""

    disconnected: bool
    response_complete: bool


class Answer:
    """Watches the beginning of an answer, and then takes chunks as they are on the wire.

    A middleware between the endpoint and the server may compress, rewrite or hold back what is sent. So the direct way
    is open only if the first bytes of the body came here as the object that the endpoint sent, under headers that leave
    the body alone.

    Args:
        transport: Of the connection.
        flow: Of the connection.
        cycle: Of this request.
        send: Of this request, as the server has it.
    """

    __slots__ = ("_cycle", "_first", "_flow", "_is_chunked", "_send", "is_blocked", "outbound", "transport")

    def __init__(self, transport: Any, flow: Flow, cycle: Cycle, send: Send) -> None:  # noqa: ANN401 -- asyncio's or uvloop's
        self.transport = transport
        self._flow = flow
        self._cycle = cycle
        self._send = send
        self._is_chunked = False
        self._first: object = None
        self.outbound: Resumable | None = None
        """What is resumed once the transport takes more; None: the direct way is not in use."""
        self.is_blocked = False
        """Whether the transport takes nothing now."""

    async def send(self, message: Message) -> None:
        """Send a message in the server's way, and see how the answer begins."""
        if message["type"] == "http.response.start":
            self._is_chunked = not any(name.lower() in FRAMING for name, _ in message.get("headers", ()))
        elif self._first is None:
            self._first = message.get("body")
        await self._send(message)

    def admits(self, first: bytes) -> bool:
        """Return whether chunks may follow these first bytes of the body, which the endpoint has sent."""
        is_same = self._is_chunked and self._first is first and not self._cycle.disconnected
        self._first = b""
        return is_same

    def begin(self, outbound: Resumable) -> None:
        """Take chunks from now on, for as long as the answer lasts."""
        bound_kernel_buffer(self.transport)
        self.outbound = outbound
        self.is_blocked = self._flow.write_paused

    def write_items(self, items: Sequence[bytes]) -> int:
        """Write chunks at once; return their bytes, or 0 if the transport takes nothing now."""
        if self.is_blocked or self._cycle.disconnected or self._cycle.response_complete:
            return 0
        data = items[0] if len(items) == 1 else b"".join(items)
        self.transport.write(data)
        return len(data)

    def paused(self) -> None:
        """Record that the transport takes nothing now."""
        self.is_blocked = True

    def resumed(self) -> None:
        """Write what waits."""
        self.is_blocked = False
        if self.outbound is not None:
            self.outbound.resume()

    async def wait_idle(self) -> None:
        """Return once the transport has taken all, or the client has gone."""
        while self.is_blocked:
            await self._flow.drain()

    async def stop(self) -> None:
        """Take nothing else."""
        self.outbound = None

    def cut(self) -> None:
        """End a connection whose client does not read: what waits for it is dropped."""
        self.transport.abort()
