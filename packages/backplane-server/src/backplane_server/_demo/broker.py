"""The demo's broker, which may be killed and started again: `Broker`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from attrs import define, field

from backplane_server._demo.guard import Guard
from backplane_server._demo.ports import HOST, free_ports
from backplane_server._demo.processes import START_S, Child, environment
from backplane_server._demo.servers import Server

__all__ = ["Broker"]

POLL_S: Final = 0.02
"""Seconds between two attempts to reach a server that is starting."""


@define(eq=False)
class Broker:
    """A broker on a port of this machine. It keeps its log and its port when it is killed and started again.

    Args:
        server: The server to start.
        guard: Ends its process with the demo.
    """

    server: Server
    _guard: Guard
    _port: int = field(factory=lambda: free_ports(1)[0], init=False)
    _child: Child | None = field(default=None, init=False)
    _turn: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    @property
    def url(self) -> str:
        """Where pods connect."""
        return f"{self.server.scheme}://{HOST}:{self._port}"

    @property
    def has_log(self) -> bool:
        """Whether the bus is a log, which keeps what a pod has missed."""
        return self.server.has_log

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._child is not None and self._child.is_running

    async def start(self) -> None:
        """Start it unless it runs; return once it answers.

        Raises:
            Failure: It does not answer in time; with the end of its log.
        """
        async with self._turn:
            if self.is_running:
                return
            directory = self._guard.directory / "broker"
            directory.mkdir(exist_ok=True)
            child = await Child.start("broker", self.server.command(self._port, directory), self._guard, environment())
            self._child = child
            try:
                async with asyncio.timeout(START_S):
                    while not await self._answers():
                        if not child.is_running:
                            raise child.failure("has ended")
                        # Polled: that a server listens is only in its log.
                        await asyncio.sleep(POLL_S)
            except TimeoutError:
                raise child.failure(f"does not answer within {START_S:g} s") from None

    async def kill(self) -> None:
        """Kill it, as a power failure would; return once it is gone."""
        async with self._turn:
            if self._child is not None:
                await self._child.kill()

    async def stop(self) -> None:
        """End it."""
        if self._child is not None:
            await self._child.stop()

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(HOST, self._port)
        except OSError:
            return False
        try:
            writer.write(self.server.hello)
            return (await reader.readline()).startswith(self.server.greeting)
        except OSError:
            return False
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
