"""A broker in memory, for tests: `MemoryBroker` and the `MemoryTransport` over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from attrs import evolve

from backplane_core.errors import TransportError
from backplane_core.testing._kit.subscribers import Subscribers
from backplane_core.transport import Frame, Link, Lost, Traits

__all__ = ["MemoryBroker", "MemoryLink", "MemoryTransport"]

MAX_WAITING: Final = 200_000
"""Frames that one link may be behind before its broker cuts it, as real ones do."""


class MemoryBroker:
    """A broker without a network, which a test can cut. The pods of a fleet share one, each over its own transport."""

    def __init__(self) -> None:
        self._subscribers = Subscribers[MemoryLink]()

    def cut(self) -> None:
        """Go down: every link dies, and none can be opened until `restore`."""
        self._subscribers.cut("the broker was cut")

    def restore(self) -> None:
        """Come back up, without links or subscriptions. Harmless if it was not cut."""
        self._subscribers.restore()

    def drop_links(self) -> None:
        """Cut every link once, and stay up."""
        self.cut()
        self.restore()

    def ask_to_leave(self, reason: str = "the memory broker is about to close this link") -> None:
        """Announce to every link that is open now that it will be closed, as for planned maintenance.

        Args:
            reason: Why, as it appears in logs and records.
        """
        for link in list(self._subscribers.links):
            link.ask_to_leave(reason)

    @property
    def link_count(self) -> int:
        """How many links are open."""
        return len(self._subscribers.links)

    @property
    def channels(self) -> frozenset[str]:
        """The channels that at least one link is subscribed to."""
        return frozenset(self._subscribers.by_channel)

    def subscriber_count(self, channel: str) -> int:
        """Return how many links are subscribed to a channel.

        Args:
            channel: The channel's name.
        """
        return len(self._subscribers.by_channel.get(channel, ()))

    def open(self) -> Link:
        """Return a new link, for a test that speaks to pods from outside of the library.

        Raises:
            TransportError: The broker is cut.
        """
        link = MemoryLink(self)
        link.enter()
        return link

    def publish(self, frame: Frame) -> None:
        """Deliver a frame to every link that is subscribed to its channel.

        Args:
            frame: The channel and the payload.
        """
        for link in list(self._subscribers.by_channel.get(frame[0], ())):
            link.take(frame)


class MemoryLink:
    """A link to a `MemoryBroker`.

    Args:
        broker: The broker; it does not know of the link before `enter`.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._subscribers = broker._subscribers  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- two of one module
        self._waiting: list[Frame | Lost] = []
        self._arrived = asyncio.Event()
        self._dead: str | None = None
        self._leaving: str | None = None
        self._asked_to_leave = asyncio.Event()

    def enter(self) -> None:
        """Connect to the broker.

        Raises:
            TransportError: The broker is cut.
        """
        self._subscribers.enter(self)

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to the channels."""
        await self._turn()
        for channel in channels:
            self._subscribers.subscribe(self, channel)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from the channels."""
        await self._turn()
        for channel in channels:
            self._subscribers.unsubscribe(self, channel)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Hand the frames to the broker."""
        await self._turn()
        for frame in frames:
            self._broker.publish(frame)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived."""
        while True:
            batch, self._waiting = self._waiting, []
            if batch:
                yield batch
            elif self._dead is not None:
                raise TransportError(self._dead)
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def leaving(self) -> str:
        """Return once the broker has asked this link to leave."""
        while self._leaving is None:
            await self._asked_to_leave.wait()
        return self._leaving

    async def aclose(self) -> None:
        """Disconnect from the broker."""
        self.die("closed")

    def take(self, frame: Frame) -> None:
        """Queue a frame that arrived; die if too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            self.die("the link was too far behind")
        elif self._dead is None:
            self._waiting.append(frame)
            self._arrived.set()

    def ask_to_leave(self, reason: str) -> None:
        """Record that the broker will close this link."""
        self._leaving = reason
        self._asked_to_leave.set()

    def die(self, reason: str) -> None:
        """Be dead from now on; a no-op if it is."""
        if self._dead is None:
            self._dead = reason
            self._subscribers.leave(self)
            self._arrived.set()

    async def _turn(self) -> None:
        """Let the loop run once, as a round trip would, then raise if the link is dead."""
        await asyncio.sleep(0)
        if self._dead is not None:
            raise TransportError(self._dead)


class MemoryTransport:
    """A transport without a network: pods whose transports share a broker are a fleet.

    Args:
        broker: Shared with other transports; None: one of its own.
        traits: In place of the defaults, to act as a broker with limits. `announces_leave` is always True, since its
            broker can ask any link to leave.
    """

    def __init__(self, broker: MemoryBroker | None = None, traits: Traits | None = None) -> None:
        self.broker: MemoryBroker = MemoryBroker() if broker is None else broker
        """The broker that it opens links to."""
        self._traits = evolve(Traits(single_stream=True) if traits is None else traits, announces_leave=True)

    @property
    def traits(self) -> Traits:
        """The traits that it was made with, and `announces_leave`; by default also `single_stream`."""
        return self._traits

    async def open(self) -> Link:
        """Open a link to the broker.

        Raises:
            TransportError: The broker is cut.
        """
        await asyncio.sleep(0)
        return self.broker.open()
