"""What mutants are made of: `SoundTransport` and its `Sound` links hand everything on to memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from attrs import evolve
from backplane_core import Frame, Link, Lost, Traits
from backplane_core.testing import MemoryBroker, MemoryTransport


class Sound:
    """A link that hands everything on: what the mutants break one piece of."""

    def __init__(self, link: Link, transport: SoundTransport) -> None:
        self.inner = link
        self.transport = transport
        self.tasks: list[asyncio.Task[Any]] = []

    async def subscribe(self, channels: Sequence[str]) -> None:
        await self.inner.subscribe(channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self.inner.unsubscribe(channels)

    async def send(self, frames: Sequence[Frame]) -> None:
        await self.inner.send(self.sent(list(frames)))

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        async for batch in self.inner.receive():
            if batch := self.received(batch):
                yield batch

    async def aclose(self) -> None:
        await self.inner.aclose()

    def sent(self, frames: list[Frame]) -> list[Frame]:
        return frames

    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return batch

    def later(self, call: Callable[[], Awaitable[None]], delay_s: float = 0.01) -> None:
        """Make a call in a while, if the link is not closed by then."""

        async def run() -> None:
            await asyncio.sleep(delay_s)
            await call()

        self.tasks.append(asyncio.create_task(run()))

    async def give_up_tasks(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)


class SoundTransport:
    """Opens sound links, or those of a mutant.

    Args:
        broker: Shared by the transports of a harness.
        link: What to open.
    """

    def __init__(self, broker: MemoryBroker, link: type[Sound] = Sound) -> None:
        self.broker = broker
        self.memory = MemoryTransport(broker)
        self.link = link

    @property
    def traits(self) -> Traits:
        return evolve(self.memory.traits, announces_leave=hasattr(self.link, "leaving"))

    async def open(self) -> Link:
        return self.link(await self.memory.open(), self)


def payloads(batch: list[Frame | Lost], change: Callable[[bytes], bytes]) -> list[Frame | Lost]:
    """Change every payload of a batch."""
    return [(item[0], change(item[1])) if isinstance(item, tuple) else item for item in batch]
