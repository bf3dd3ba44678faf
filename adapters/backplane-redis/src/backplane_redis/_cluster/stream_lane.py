"""One stream of a cluster, read and written at whichever node has it: `StreamLane`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

from backplane_core import Frame, Lost, TransportError

from backplane_redis._cluster.nodes import ROUNDS
from backplane_redis._cluster.placements import disagreement
from backplane_redis._cluster.redirects import NodeSession, Redirected
from backplane_redis._cluster.stream_nodes import StreamNodes
from backplane_redis._streams.opening import StreamOpener
from backplane_redis._streams.pages import PageReader
from backplane_redis._streams.reader import StreamReader
from backplane_redis._streams.writer import StreamWriter
from backplane_redis._url import Address

__all__ = ["StreamLane"]


class StreamLane:
    """Follows a stream from node to node: when its slot is moved, and when another node takes over.

    The two look the same from here: a node says that it does not serve the slot, and which one does. But one that took
    over from a node that died or was cut off may lack what that one had confirmed. So what the new node has is compared
    with what the old one confirmed, before anything is written there; if it lacks something the link ends, and the next
    one sends it again. What was read is compared as well: see `Trails`.

    Args:
        channel: The stream's.
        nodes: Knows where it is.
        opener: Knows how much a stream keeps, and where this pod has been in it.
    """

    def __init__(self, channel: str, nodes: StreamNodes, opener: StreamOpener) -> None:
        self.channel = channel
        self.confirmed: str | None = None
        """The last entry that was added, for `find_forgotten`; None: none was."""
        self._nodes = nodes
        self._opener = opener
        self._writer: StreamWriter | None = None
        # The node that the writer writes to.
        self._written_at: Address | None = None
        self._reading: NodeSession | None = None
        self._reader: StreamReader | None = None
        self._changing = asyncio.Lock()

    @property
    def received_until(self) -> float:
        """All that was in the stream by then was yielded, and taken: `time.monotonic()`, seconds."""
        return float("-inf") if self._reader is None else self._reader.received_until

    # Writing

    async def send(self, frames: Sequence[Frame]) -> None:
        """Add frames; return once they are in the stream.

        Raises:
            TransportError: A node can't be reached, refuses, or lacks what was confirmed before.
            RefusedError: Some frames found no room in a queue; all others were added.
        """
        async with self._changing:
            for attempt in range(ROUNDS):
                session = await self._nodes.session(self.channel, attempt)
                try:
                    await self._send(await self._writer_at(session), frames)
                except Redirected as redirected:
                    self._nodes.follow(self.channel, redirected)
                    continue
                return
        raise disagreement("streams")

    async def _send(self, writer: StreamWriter, frames: Sequence[Frame]) -> None:
        try:
            await writer.send(frames)
        finally:  # a full queue refuses some, and has the others
            self.confirmed = writer.confirmed.get(self.channel, self.confirmed)

    async def check_written(self) -> None:
        """Return if the node that has the stream now has what was confirmed; raise as `send`."""
        if self.confirmed is None:
            return
        async with self._changing:
            for attempt in range(ROUNDS):
                session = await self._nodes.session(self.channel, attempt)
                try:
                    await self._writer_at(session)
                    await session.check_serves(self.channel)
                except Redirected as redirected:
                    self._nodes.follow(self.channel, redirected)
                    continue
                return
        raise disagreement("streams")

    async def has_forgotten(self, cursor: str) -> bool:
        """Return whether the stream lacks an entry that an earlier link had added; raise as `send`."""
        async with self._changing:
            for attempt in range(ROUNDS):
                session = await self._nodes.session(self.channel, attempt)
                try:
                    found = await StreamWriter(session, self._opener.retention).find_forgotten({self.channel: cursor})
                except Redirected as redirected:
                    self._nodes.follow(self.channel, redirected)
                    continue
                if found:
                    return True
                # Another node may take over before this link has added anything.
                self.confirmed, self._written_at = cursor, None
                await self._writer_at(session)
                return False
        raise disagreement("streams")

    async def _writer_at(self, session: NodeSession) -> StreamWriter:
        if self._writer is not None and self._written_at == session.address and not session.is_asking:
            return self._writer
        writer = StreamWriter(session, self._opener.retention)
        if self.confirmed is not None and await writer.find_forgotten({self.channel: self.confirmed}):
            raise TransportError(
                f"the stream {self.channel!r} is at {session.where} now, which lacks what another node had confirmed"
            )
        if not session.is_asking:
            self._writer, self._written_at = writer, session.address
        return writer

    # Reading

    async def resume(self, after: Mapping[str, str]) -> Mapping[str, str]:
        """Read the stream behind its cursor, or from its end on; return where that is; raise as `send`."""
        for attempt in range(ROUNDS):
            session = await self._nodes.session(self.channel, attempt)
            async with AsyncExitStack() as stack:
                reading = await self._nodes.connect(session.address, is_asking=session.is_asking)
                stack.push_async_callback(reading.aclose)
                reader = StreamReader(reading, session, None, self._opener.trails)
                try:
                    begun = await reader.resume([self.channel], after)
                except Redirected as redirected:
                    self._nodes.follow(self.channel, redirected)
                    continue
                self._nodes.check_open()  # or nobody closes the new one
                stack.pop_all()
                # At once: should this be cancelled while the old one is closed, the new one has an owner who closes it.
                left, self._reading, self._reader = self._reading, reading, reader
                if left is not None:
                    await left.aclose()
                return begun
        raise disagreement("streams")

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what is added to the stream, at whichever node; raise as `send`."""
        while True:
            reader = self._reader
            if reader is None:
                raise TransportError(f"the stream {self.channel!r} is not read")
            try:
                async for batch in reader.receive():
                    yield batch
            except Redirected as redirected:
                self._nodes.follow(self.channel, redirected)
            await self.check_written()
            await self.resume(reader.cursors)

    async def leave(self) -> None:
        """Read the stream no longer."""
        reading, self._reading, self._reader = self._reading, None, None
        if reading is not None:
            await reading.aclose()

    async def read(self, limit: int, after: str | None, before: str | None) -> Sequence[Frame | Lost]:
        """Return a page, as `DurableLink.read` does; raise as `send`."""
        for attempt in range(ROUNDS):
            session = await self._nodes.session(self.channel, attempt)
            try:
                return await PageReader(session).read(self.channel, limit, after, before)
            except Redirected as redirected:
                self._nodes.follow(self.channel, redirected)
        raise disagreement("streams")
