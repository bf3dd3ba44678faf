"""A port whose clients a handler serves, for stand-ins: `StreamServer`, `serve`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

__all__ = ["Handler", "StreamServer", "serve"]

HOST: Final = "127.0.0.1"

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one client; the connection is closed when it returns."""


class StreamServer:
    """Serves each client by a handler; when it ends, so does every connection, and nothing of them is left.

    asyncio's own server leaves them to the garbage collector, which then fails some later test: on Python 3.11 nothing
    waits for its handlers, and on none for a connection that was accepted in the last moment. So this one accepts by
    itself, and each client is one task of its own, from the socket on.

    Args:
        handler: Serves one client.
        tls: Speak TLS with this context.
    """

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None) -> None:
        self.failures: list[Exception] = []
        """What handlers raised, but for errors of the connection."""
        self._handler = handler
        self._tls = tls
        self._listener = socket.create_server((HOST, 0), backlog=512)
        self._listener.setblocking(False)  # noqa: FBT003 -- the standard library's
        self.port: int = self._listener.getsockname()[1]
        self._clients: dict[asyncio.Task[None], socket.socket] = {}

    def start(self) -> None:
        """Accept clients from now on, in the running loop."""
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def aclose(self) -> None:
        """End all connections at once, and wait for their handlers."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait([*self._clients])

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return  # it went away again
        accepted.setblocking(False)  # noqa: FBT003 -- the standard library's
        task = asyncio.ensure_future(self._serve(accepted))
        self._clients[task] = accepted
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._clients.pop(task).close()  # also of a task that was cancelled before it began

    async def _serve(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=self._tls)
        except OSError:
            return  # it hung up, or it speaks no TLS
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._handler(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError):  # an IncompleteReadError is an EOFError
            pass
        except asyncio.CancelledError:
            pass  # `aclose`
        except Exception as error:  # noqa: BLE001 -- raised by what started it
            self.failures.append(error)
        finally:
            with suppress(AttributeError):  # CPython up to 3.11.2, when the TLS transport is closed already
                transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def serve(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Serve clients on a port of 127.0.0.1, which is what this yields, for the length of the block.

    Args:
        handler: Serves one client; its connection is closed when it returns.
        tls: Speak TLS with this context.

    Raises:
        ExceptionGroup: Handlers failed; not raised when the block itself raises.
    """
    server = StreamServer(handler, tls=tls)
    server.start()
    try:
        yield server.port
    finally:
        await server.aclose()
    if server.failures:
        raise ExceptionGroup("the stand-in itself failed", server.failures)
