"""The hubs of a layer, one for each event loop with consumers: `Hubs`."""

from __future__ import annotations

import asyncio

from backplane_channels._hub.hub import Hub
from backplane_channels._hub.settings import HubSettings

__all__ = ["Hubs"]


class Hubs:
    """Finds the hub of the running loop.

    Args:
        settings: Of all of them.
    """

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}

    def find(self) -> Hub | None:
        """Return the hub of the running loop, if it is open."""
        hub = self._hubs.get(asyncio.get_running_loop())
        return hub if hub is not None and hub.is_open else None

    def make(self) -> Hub:
        """Return the hub of the running loop, a new one if it has none; forget those whose loops have ended."""
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None or hub.is_over:
            for other, old in list(self._hubs.items()):
                if old.is_over:
                    self._hubs.pop(other, None)
            hub = self._hubs[loop] = Hub(self._settings, loop)
        return hub

    async def flush(self) -> None:
        """Flush all of them; those of other loops soon."""
        for loop, hub in list(self._hubs.items()):
            if hub.is_over:
                continue
            if loop is asyncio.get_running_loop():
                await hub.flush()
            else:
                asyncio.run_coroutine_threadsafe(hub.flush(), loop)

    async def aclose(self) -> None:
        """Close all of them; those of other loops soon."""
        hubs, self._hubs = self._hubs, {}
        for loop, hub in hubs.items():
            if hub.is_over:
                continue
            if loop is asyncio.get_running_loop():
                await hub.aclose()
            else:
                asyncio.run_coroutine_threadsafe(hub.aclose(), loop)
