"""`JetStreamLink`: one live way to the streams of JetStream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack

from backplane_core import Delivery, Frame, Lost, Proven, TransportError

from backplane_nats._jetstream.connection import JetStreamConnection
from backplane_nats._jetstream.pages import PageReader
from backplane_nats._jetstream.queues import JetStreamQueues
from backplane_nats._jetstream.reader import StreamReader
from backplane_nats._jetstream.writer import StreamWriter

__all__ = ["JetStreamLink"]


class JetStreamLink:
    """A link to the streams of one server or cluster; see `DurableLink`.

    Args:
        connection: Open.
        reader: Reads over it.
        writer: Writes over it.
        pages: Reads over it what was in the streams before.
        queues: Shares jobs out over it.
    """

    def __init__(
        self,
        connection: JetStreamConnection,
        reader: StreamReader,
        writer: StreamWriter,
        pages: PageReader,
        queues: JetStreamQueues,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._pages = pages
        self._queues = queues
        self._reading = asyncio.create_task(self._read(), name="backplane-jetstream")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._connection!r}>"

    async def _read(self) -> None:
        try:
            await self._reader.run()
        except TransportError as error:
            self._connection.fail(error)
        except Exception as error:  # noqa: BLE001 -- nobody would read what was not heard, in silence
            where = self._connection.where
            self._connection.fail(TransportError(f"reading streams at {where} failed with {type(error).__name__}"))

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Read the channels from the ends of their streams on."""
        await self.resume(channels, {})

    async def resume(self, channels: Sequence[str], after: Mapping[str, str]) -> Mapping[str, str]:
        """Read the channels behind their cursors, or from the ends of their streams on; return where that is.

        Raises:
            TransportError: The link is dead, or a stream can't be read.
            RefusedError: This user may not hear some of them; the others are read.
        """
        return await self._reader.resume(channels, after)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Read the channels no longer."""
        await self._reader.leave(channels)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Add the frames to their streams; return once each is acknowledged.

        Raises:
            TransportError: The link is dead, or JetStream takes nothing.
            RefusedError: Some frames were refused; all others were taken.
        """
        await self._writer.send(frames)

    def confirmed(self) -> Mapping[str, str]:
        """Return the cursors of the last entries that this link has added, by channel."""
        return self._writer.confirmed

    async def find_forgotten(self, cursors: Mapping[str, str]) -> Collection[str]:
        """Return the channels whose streams lack the entry of this cursor."""
        return await self._writer.find_forgotten(cursors)

    async def read(
        self, channel: str, limit: int, *, after: str | None = None, before: str | None = None
    ) -> Sequence[Frame | Lost]:
        """Return a page of a stream."""
        return await self._pages.read(channel, limit, after, before)

    async def open_queue(self, channel: str, *, lease_s: float) -> bool:
        """Return whether the queue had workers before, once entries can be taken from it."""
        return await self._queues.open(channel, lease_s)

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return entries that nobody has; none if there was none for so many seconds."""
        return await self._queues.take(channel, limit, wait_s=wait_s)

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Keep these entries for their worker."""
        await self._queues.extend(channel, tokens)

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Let another `take` have an entry, after the delay."""
        await self._queues.give_back(channel, token, delay_s=delay_s)

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Let nobody get these entries again."""
        await self._queues.finish(channel, tokens)

    def proven(self) -> Proven:
        """Return until when everything was read; what a stream acknowledged is in no doubt."""
        return Proven(received_until=self._connection.inbox.received_until, replicated_until=None)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what is added to the streams."""
        async for batch in self._connection.receive():
            yield batch

    async def aclose(self) -> None:
        """Close the socket at once; pending calls raise."""
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at the other one
            stack.push_async_callback(self._connection.aclose)
            self._reading.cancel()
            stack.push_async_callback(asyncio.wait, [self._reading])
