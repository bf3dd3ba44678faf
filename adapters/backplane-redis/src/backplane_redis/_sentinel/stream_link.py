"""`SentinelStreamLink`: a link to the streams of a master that leaves it when the sentinels name another."""

from __future__ import annotations

from contextlib import AsyncExitStack

import hiredis
from backplane_core import Proven

from backplane_redis._commands import pack_command
from backplane_redis._greeting import Greeting
from backplane_redis._sentinel.watch import Master, MasterWatch
from backplane_redis._streams.link import StreamLink
from backplane_redis._streams.queues import StreamQueues
from backplane_redis._streams.reader import StreamReader
from backplane_redis._streams.session import Session
from backplane_redis._streams.writer import StreamWriter

__all__ = ["SentinelStreamLink"]


class SentinelStreamLink(StreamLink):
    """A link to the streams of a master; it dies when the sentinels name another, or the node says it is a replica.

    The next link finds by itself what the new master lacks: what was read behind the last common entry counts for
    nothing there, and publishers send again what it has forgotten.

    Args:
        writing: Adds entries, and is asked about streams.
        reading: Waits for entries.
        reader: Reads over the second.
        writer: Writes over the first.
        queues: Shares jobs out.
        master: The link's node, and who knows of it.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        writing: Session,
        reading: Session,
        reader: StreamReader,
        writer: StreamWriter,
        queues: StreamQueues,
        master: Master,
    ) -> None:
        super().__init__(writing, reading, reader, writer, queues)
        self._watch = MasterWatch(master, self)

    def proven(self) -> Proven:
        """Return until when everything was read that went to the node which was certainly the master then."""
        received_until = min(self._reader.received_until, self._watch.sure_until)
        return Proven(received_until=received_until, replicated_until=None)

    async def ask_standing(self) -> None:
        """Ask the node for its role; the link is dead if it is a replica.

        Raises:
            TransportError: The link is dead.
        """
        [reply] = await self._writing.ask(pack_command("HELLO"))
        if not isinstance(reply, hiredis.ReplyError) and Greeting.parse(reply).is_replica:
            await self.leave("it is a replica: what is added to its streams comes from its master alone")

    async def aclose(self) -> None:
        """Close both sockets and those to the sentinels at once; pending calls raise."""
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at another one
            stack.push_async_callback(super().aclose)
            stack.push_async_callback(self._watch.aclose)
