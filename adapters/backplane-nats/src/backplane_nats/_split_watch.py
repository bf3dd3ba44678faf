"""Notices that a node was cut off from the larger part of its cluster: `SplitWatch`."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from random import sample, uniform
from typing import Any, Final, cast

from backplane_core.sockets import AddressMap, Dialer

from backplane_nats._dialing import open_streams
from backplane_nats._mesh import Mesh, announced_by
from backplane_nats._url import Server

__all__ = ["SplitWatch"]

_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0, 4.0)
"""Both sides of a cut notice it within moments of each other. What can't be reached for so long was shut down."""

_ASKED: Final = 3
"""How many lost nodes are asked at once."""

_ASK_S: Final = 1.0
_MAX_LINE_BYTES: Final = 1 << 20


class SplitWatch:
    """Asks the nodes that a link's node no longer announces what they announce; costs nothing while all is well.

    A node introduces itself to everybody who connects, before any login, so nothing is sent to it. One that wants the
    TLS handshake first does not, and then nothing is noticed.

    Args:
        mesh: What the link's node announces.
        node: The link's node.
        addresses: Where announced nodes can be reached.
        dialer: Opens the connections.
    """

    def __init__(self, mesh: Mesh, node: Server, addresses: AddressMap, dialer: Dialer) -> None:
        self._mesh = mesh
        self._node = node
        self._addresses = addresses
        self._dialer = dialer

    @property
    def lost_at(self) -> float | None:
        """Since when the node may have been cut off; `time.monotonic()`, seconds."""
        return self._mesh.lost_at

    async def wait_split(self) -> None:
        """Return once the node is cut off from the larger part of its cluster.

        Cancellation: leaves no socket behind.
        """
        while True:
            await self._mesh.shrunk.wait()
            self._mesh.shrunk.clear()
            if await self._look():
                return

    async def _look(self) -> bool:
        for pause in _PAUSES_S:
            await asyncio.sleep(uniform(0.5, 1.0) * pause)  # noqa: S311 -- no secret; a whole fleet asks now
            if self._mesh.lost_at is None or self._mesh.shrunk.is_set():
                return False
            lost = sorted(self._mesh.lost)
            asked = sample(lost, min(_ASKED, len(lost)))
            answers = await asyncio.gather(*[self._ask(address) for address in asked])
            if any(map(self._mesh.is_smaller_than, answers)):
                return True
        self._mesh.forget()
        return False

    async def _ask(self, address: str) -> frozenset[str]:
        """Return what a node announces; nothing, if it can't be reached."""
        node = self._node.neighbour(address, self._addresses)
        if node is None:
            return frozenset()
        line = b""
        # The last two: a line that is too long, and a name that can't be looked up while the interpreter exits.
        with suppress(OSError, ValueError, RuntimeError):
            async with asyncio.timeout(_ASK_S):
                reader, writer = await open_streams(self._dialer, node.host, node.port, _MAX_LINE_BYTES)
                try:
                    line = await reader.readline()
                finally:
                    writer.transport.abort()
                    with suppress(OSError):
                        await writer.wait_closed()
        info: Any = None
        with suppress(ValueError):
            info = json.loads(line.removeprefix(b"INFO "))
        return announced_by(cast("dict[str, Any]", info)) if isinstance(info, dict) else frozenset()
