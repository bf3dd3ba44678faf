"""`StreamLink`: one live way to streams, over a connection that writes and one that reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack

from backplane_core import Frame, Lost, Proven

from backplane_redis._streams.pages import PageReader
from backplane_redis._streams.queue_calls import QueueCalls
from backplane_redis._streams.queues import StreamQueues
from backplane_redis._streams.reader import StreamReader
from backplane_redis._streams.session import Session
from backplane_redis._streams.writer import StreamWriter

__all__ = ["StreamLink"]


class StreamLink(QueueCalls):
    """A link to the streams of one server; see `DurableLink`.

    Args:
        writing: Adds entries, and is asked about streams.
        reading: Waits for entries.
        reader: Reads over the second.
        writer: Writes over the first.
        queues: Shares jobs out.
    """

    def __init__(
        self, writing: Session, reading: Session, reader: StreamReader, writer: StreamWriter, queues: StreamQueues
    ) -> None:
        self._writing = writing
        self._reading = reading
        self._reader = reader
        self._writer = writer
        self._pages = PageReader(writing)
        self._queues = queues

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._writing.where} {'dead' if self.is_dead else 'live'}>"

    @property
    def is_dead(self) -> bool:
        """Whether either connection is dead: then the link is."""
        return self._writing.is_dead or self._reading.is_dead

    async def leave(self, reason: str) -> None:
        """Mark the link dead, and close both sockets at once; pending calls raise."""
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at the other one
            stack.push_async_callback(self._writing.leave, reason)
            stack.push_async_callback(self._reading.leave, reason)

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Read the channels from the ends of their streams on."""
        await self.resume(channels, {})

    async def resume(self, channels: Sequence[str], after: Mapping[str, str]) -> Mapping[str, str]:
        """Read the channels behind their cursors, or from the ends of their streams on; return where that is."""
        self._check()
        return await self._reader.resume(channels, after)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Read the channels no longer."""
        self._check()
        await self._reader.leave(channels)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Add the frames to their streams, all or none; return once they are there.

        Raises:
            TransportError: The link is dead, or a stream can't be written to.
        """
        self._check()
        await self._writer.send(frames)

    def confirmed(self) -> Mapping[str, str]:
        """Return the cursors of the last entries that this link has added, by channel."""
        return self._writer.confirmed

    async def find_forgotten(self, cursors: Mapping[str, str]) -> Collection[str]:
        """Return the channels whose streams lack the entry of this cursor."""
        self._check()
        return await self._writer.find_forgotten(cursors)

    async def read(
        self, channel: str, limit: int, *, after: str | None = None, before: str | None = None
    ) -> Sequence[Frame | Lost]:
        """Return a page of a stream."""
        self._check()
        return await self._pages.read(channel, limit, after, before)

    def proven(self) -> Proven:
        """Return until when everything was read; a stream keeps what a node that is replaced has confirmed."""
        return Proven(received_until=self._reader.received_until, replicated_until=None)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what is added to the streams."""
        async for batch in self._reader.receive():
            yield batch

    async def aclose(self) -> None:
        """Close both sockets at once; pending calls raise."""
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at the other one
            stack.push_async_callback(self._writing.aclose)
            stack.push_async_callback(self._reading.aclose)
            stack.push_async_callback(self._queues.aclose)

    def _check(self) -> None:
        """Raise if either connection is dead: then the link is."""
        for session in (self._writing, self._reading):
            if session.is_dead:
                raise session.error()
