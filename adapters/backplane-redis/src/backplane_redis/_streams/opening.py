"""Makes links to the streams of a server, out of two connections to it: `StreamOpener`."""

from __future__ import annotations

from backplane_core import Retention, Traits

from backplane_redis._commands import pack_command
from backplane_redis._limits import MAX_PAYLOAD_BYTES
from backplane_redis._streams.reader import StreamReader
from backplane_redis._streams.session import Session
from backplane_redis._streams.settings import SettingsCheck
from backplane_redis._streams.trail import Trails
from backplane_redis._streams.writer import StreamWriter

__all__ = ["RETAIN_BYTES", "RETAIN_ENTRIES", "RETAIN_S", "TRAITS", "StreamOpener"]

RETAIN_ENTRIES = 100_000
RETAIN_BYTES = 16 * 1024 * 1024
RETAIN_S = 600.0

TRAITS = Traits(durable=True, max_payload_bytes=MAX_PAYLOAD_BYTES, nodes="several", queues=True)


class StreamOpener:
    """What the links of one transport have in common.

    Args:
        retention: How much a stream keeps.
        is_replicated: Whether a replica may take over, which the server's settings should provide for.
    """

    def __init__(self, retention: Retention, *, is_replicated: bool = False) -> None:
        self.retention = retention
        self._settings = SettingsCheck(is_replicated=is_replicated)
        self.trails = Trails()
        """Where this pod has been, by all links."""

    async def check(self, session: Session) -> None:
        """Warn of settings of a server that a log depends on, once; raise if the connection is dead."""
        await self._settings.run(session)

    async def ends(self, writing: Session, reading: Session) -> tuple[StreamReader, StreamWriter]:
        """Return what reads over one connection and writes over the other; they stay the caller's.

        Raises:
            TransportError: A connection is dead.
        """
        client_id = reading.client_id
        if client_id is None:  # it speaks RESP2
            [reply] = await reading.ask(pack_command("CLIENT", "ID"))
            client_id = reply if isinstance(reply, int) else None
        return StreamReader(reading, writing, client_id, self.trails), StreamWriter(writing, self.retention)
