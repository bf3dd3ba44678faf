"""What `attach_events` returns: an attachment that its sink can end."""

from __future__ import annotations

import asyncio

from attrs import frozen

from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.registry import SinkAttachment
from backplane_core.observe import Gap

__all__ = ["SinkHandle"]


@frozen
class SinkHandle:
    """See `EventAttachment`.

    Args:
        host: The backplane.
        attachment: Of the sink.
    """

    _host: ConnectionHost
    _attachment: SinkAttachment

    @property
    def conn_id(self) -> str:
        """The connection's id."""
        return self._attachment.conn_id

    async def detach(self) -> None:
        """Detach this sink; a no-op if it was detached or replaced meanwhile."""
        await self._attachment.detach()

    def detach_nowait(self) -> None:
        """Detach at once."""
        self._attachment.drop()

    def count_conflated(self) -> None:
        """Count an event that was left out for a newer one."""
        self._host.reporter.counters.conflated += 1

    def count_overflow(self, reason: str, *, waited_s: float = 0.0) -> Gap:
        """Count an event that was dropped, and return the gap that it leaves."""
        return self._host.count_overflow(self.conn_id, reason, self._host.bus.earliest() - waited_s)

    def end_overflowed(self, reason: str) -> None:
        """Detach at once, and count it as an overflow that is reported when the fan-out is done."""
        self._host.end_overflowed(self.conn_id, f"{reason}, so the connection ended")
        self._attachment.drop()
        # No fan-out may be under way, and then none would report it.
        asyncio.get_running_loop().call_soon(self._host.reporter.release)
