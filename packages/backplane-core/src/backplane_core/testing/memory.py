"""A broker in memory, for tests: `MemoryBroker` and the `MemoryTransport` over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from backplane_core.errors import TransportError
from backplane_core.transport import Frame, Link, Lost, Traits

__all__ = ["MemoryBroker", "MemoryLink", "MemoryTransport"]

MAX_WAITING: Final = 200_000
"""Frames that one link may be behind before its broker cuts it, as real ones do."""


class MemoryBroker:
    """What a broker is to its links: channels, and the power to fail. Share one between the pods of a test."""

    def __init__(self) -> None:
        self._links: dict[MemoryLink, None] = {}
        self._channels: dict[str, dict[MemoryLink, None]] = {}
        self._down = False

    def cut(self) -> None:
        """Die: every link is dead, nothing can be opened until `restore`."""
        self._down = True
        for link in list(self._links):
            link.die("the broker was cut")

    def restore(self) -> None:
        """Come back, empty."""
        self._down = False

    def drop_links(self) -> None:
        """Cut every link once and stay up."""
        self.cut()
        self.restore()

    def ask_to_leave(self, reason: str = "the memory broker is about to close this link") -> None:
        """Announce to every link that is open now that it will be closed, as for planned works."""
        for link in self._links:
            link.ask_to_leave(reason)

    @property
    def links(self) -> int:
        """How many links are open."""
        return len(self._links)

    def subscribers(self, channel: str) -> int:
        """How many links hear the channel."""
        return len(self._channels.get(channel, ()))

    @property
    def channels(self) -> frozenset[str]:
        """The channels that somebody hears."""
        return frozenset(self._channels)

    def open(self) -> MemoryLink:
        """Return a new link.

        Raises:
            TransportError: The broker is down.
        """
        link = MemoryLink(self)
        self.enter(link)
        return link

    def enter(self, link: MemoryLink) -> None:
        """Let a link in.

        Raises:
            TransportError: The broker is down.
        """
        if self._down:
            raise TransportError("the memory broker is down")
        self._links[link] = None

    def leave(self, link: MemoryLink) -> None:
        """Forget a link and its subscriptions."""
        self._links.pop(link, None)
        for channel in list(self._channels):
            self.unsubscribe(link, channel)

    def subscribe(self, link: MemoryLink, channel: str) -> None:
        """Let a link hear a channel."""
        self._channels.setdefault(channel, {})[link] = None

    def unsubscribe(self, link: MemoryLink, channel: str) -> None:
        """Let it hear it no more."""
        links = self._channels.get(channel, {})
        links.pop(link, None)
        if not links:
            self._channels.pop(channel, None)

    def publish(self, frame: Frame) -> None:
        """Hand a frame to every link that hears its channel."""
        for link in list(self._channels.get(frame[0], ())):
            link.take(frame)


class MemoryLink:
    """A link to a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._waiting: list[Frame | Lost] = []
        self._arrived = asyncio.Event()
        self._dead: str | None = None
        self._leaving: str | None = None
        self._asked_to_leave = asyncio.Event()

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:  # noqa: ARG002 -- keeps no log
        """Hear the channels."""
        await self._turn()
        for channel in channels:
            self._broker.subscribe(self, channel)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Hear them no more."""
        await self._turn()
        for channel in channels:
            self._broker.unsubscribe(self, channel)

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
        """Return once the broker asks this link to leave."""
        while self._leaving is None:
            await self._asked_to_leave.wait()
        return self._leaving

    async def aclose(self) -> None:
        """Leave the broker."""
        self.die("closed")

    def take(self, frame: Frame) -> None:
        """A frame arrived."""
        if len(self._waiting) >= MAX_WAITING:
            self.die("the link was too far behind")
        elif self._dead is None:
            self._waiting.append(frame)
            self._arrived.set()

    def ask_to_leave(self, reason: str) -> None:
        """Be about to be closed by the broker."""
        self._leaving = reason
        self._asked_to_leave.set()

    def die(self, reason: str) -> None:
        """Be dead from now on."""
        if self._dead is None:
            self._dead = reason
            self._broker.leave(self)
            self._arrived.set()

    async def _turn(self) -> None:
        """Take a turn of the loop, as a round trip would, then fail if dead."""
        await asyncio.sleep(0)
        if self._dead is not None:
            raise TransportError(self._dead)


class MemoryTransport:
    """A transport without a network: pods that share its broker are a fleet.

    Args:
        broker: Shared with other transports; None makes one.
        traits: Instead of the defaults, to play a broker with limits.
    """

    def __init__(self, broker: MemoryBroker | None = None, traits: Traits | None = None) -> None:
        self.broker = MemoryBroker() if broker is None else broker
        self._traits = Traits(single_stream=True) if traits is None else traits

    @property
    def traits(self) -> Traits:
        """As given."""
        return self._traits

    async def open(self) -> Link:
        """Open a link to the broker.

        Raises:
            TransportError: It is cut.
        """
        await asyncio.sleep(0)
        return self.broker.open()
