"""What the tests of the NATS adapter share: links that close, a listener, a tap on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from backplane_core import Frame, Link, Lost, TransportError
from backplane_nats._link import NatsLink
from backplane_nats.transport import NatsTransport
from backplane_testservers.streams import serve

DEADLINE_S = 10.0
PROMPT_S = 2.0


@asynccontextmanager
async def opened(url: str, connection_kwargs: Mapping[str, Any] | None = None) -> AsyncGenerator[NatsLink]:
    async with asyncio.timeout(DEADLINE_S):
        link = await NatsTransport(url, connection_kwargs=connection_kwargs).open()
    try:
        yield cast("NatsLink", link)
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await link.aclose()


class Listener:
    """Iterates `receive()` in a task, as core does."""

    def __init__(self, link: Link) -> None:
        self.items: list[Frame | Lost] = []
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(link))

    async def _run(self, link: Link) -> TransportError:
        try:
            async for batch in link.receive():
                assert batch
                self.items += batch
                self._changed.set()
        except TransportError as error:
            return error
        raise AssertionError("receive() ended without an error")

    async def until(self, count: int) -> list[Frame | Lost]:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.items) < count:
                assert not self._task.done(), self._task.result()
                self._changed.clear()
                await self._changed.wait()
        return self.items

    async def error(self) -> TransportError:
        async with asyncio.timeout(PROMPT_S):
            return await self._task

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


@asynccontextmanager
async def listening(link: Link) -> AsyncGenerator[Listener]:
    listener = Listener(link)
    try:
        yield listener
    finally:
        await listener.aclose()


class Tap:
    """Stands between a client and a server: records what the client says, hands it the answers in pieces."""

    def __init__(self, port: int, piece_bytes: int | None) -> None:
        self.said = b""
        self.reads = asyncio.Event()
        """Cleared, the client finds that nobody takes what it says."""
        self.reads.set()
        self.writers: list[asyncio.StreamWriter] = []
        self._port = port
        self._piece_bytes = piece_bytes

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._record(reader, server_writer), self._answer(server_reader, writer))
        except ConnectionError:
            pass
        finally:
            for end in (writer, server_writer):
                end.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await end.wait_closed()

    async def _record(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.reads.wait()
            self.said += data
            writer.write(data)
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for at in range(0, len(data), self._piece_bytes or len(data)):
                writer.write(data[at : at + (self._piece_bytes or len(data))])
                # Each piece becomes a segment of its own, and mostly a read of its own.
                await asyncio.sleep(0)


@asynccontextmanager
async def tapped(port: int, *, piece_bytes: int | None = None) -> AsyncGenerator[tuple[str, Tap]]:
    tap = Tap(port, piece_bytes)
    async with serve(tap.connected) as here:
        yield f"127.0.0.1:{here}", tap


@asynccontextmanager
async def speaking(
    greeting: bytes, *, then_close_after: bytes | None, heard: bytearray | None = None
) -> AsyncGenerator[str]:
    """A thing on a port that is no NATS server: says this much, closes once it heard that, and is silent else.

    What it heard it keeps in `heard`; that is of use for one client alone.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        said = bytearray() if heard is None else heard
        with contextlib.suppress(ConnectionError):
            while then_close_after is None or then_close_after not in said:
                if not (data := await reader.read(4096)):
                    break
                said.extend(data)

    async with serve(talk) as port:
        yield f"127.0.0.1:{port}"


def texts_of(error: BaseException) -> Iterable[str]:
    """All that can be printed of an error and of whatever it is chained to."""
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = [error]
    for current in seen:
        yield str(current)
        yield repr(current)
        yield repr(current.args)
        seen += [link for link in (current.__cause__, current.__context__) if link is not None and link not in seen]
