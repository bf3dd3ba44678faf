"""Clients without a browser, for the check: `Client`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlencode

from attrs import define, field
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from backplane_server._demo.gateways import Gateway

__all__ = ["Client", "client"]

ARRIVES_S: Final = 30.0
"""Milliseconds, or a few seconds after an outage; the rest is for a machine that is starved of processor time."""


@define(eq=False)
class Client:
    """A socket, and what it has received.

    Args:
        name: Its name in the report.
        pod: Which pod holds it.
        last_id: The id of the newest event, with which it can resume; empty before the first one.
        events: The events, in the order of their arrival.
        gaps: The causes of the gaps that were reported to it.
    """

    name: str
    pod: str
    last_id: str = ""
    events: list[Any] = field(factory=list[Any], init=False)
    gaps: list[str] = field(factory=list[str], init=False)
    has_caught_up: bool = field(default=False, init=False)
    _came: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def listen(self, socket: ClientConnection) -> None:
        """Record what arrives, until the socket is closed."""
        with suppress(ConnectionClosed):
            async for text in socket:
                self._take(json.loads(text))
                self._came.set()

    async def until(self, condition: Callable[[Client], bool]) -> bool:
        """Wait until a condition holds; return whether it did in time."""
        try:
            async with asyncio.timeout(ARRIVES_S):
                while not condition(self):
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return False
        return True

    def _take(self, message: Any) -> None:  # noqa: ANN401 -- any JSON
        match message:
            case {"backplane": "event", "id": last_id, "event": event}:
                self.last_id = last_id
                self.events.append(event)
            case {"backplane": "caughtup", "id": last_id}:
                self.last_id, self.has_caught_up = last_id or self.last_id, True
            case {"backplane": "gap", "cause": cause}:
                self.gaps.append(cause)
            case {"backplane": _}:
                pass
            case _:
                self.events.append(message)


@asynccontextmanager
async def client(name: str, gateway: Gateway, *targets: str, last_id: str = "") -> AsyncGenerator[Client]:
    """Connect a client for the length of the block; it receives events from the moment that this yields.

    Args:
        name: Its name in the report.
        gateway: The gateway that it connects to.
        targets: The targets whose events it gets.
        last_id: The id of the last event that it got before; empty: none.
    """
    query = urlencode({"target": ",".join(targets), "name": name, "last-event-id": last_id})
    one = Client(name, gateway.name, last_id)
    async with connect(f"ws://127.0.0.1:{gateway.port}/ws?{query}", proxy=None) as socket:
        listening = asyncio.create_task(one.listen(socket))
        try:
            yield one
        finally:
            await socket.close()
            await listening
