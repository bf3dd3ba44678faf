"""A broker in memory that keeps a log of each channel, for tests: `MemoryLog` and the `MemoryLogTransport` over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Final

from backplane_core.errors import TransportError
from backplane_core.queues import Delivery, QueueLink
from backplane_core.testing._kit.logs import Log, Logs, Place
from backplane_core.testing._kit.queues import MemoryQueues
from backplane_core.testing._kit.subscribers import Subscribers
from backplane_core.transport import Frame, Lost, Traits

__all__ = ["MemoryLog", "MemoryLogLink", "MemoryLogTransport"]

PAGE: Final = 256
"""Entries of one channel that a link yields at once."""

TRAITS: Final = Traits(durable=True, queues=True)


class MemoryLog:
    """A broker without a network that keeps a log of each channel. A test can cut it, and make its logs forget.

    The pods of a fleet share one, each over its own transport.
    """

    def __init__(self) -> None:
        self._logs = Logs()
        self._queues = MemoryQueues(self._logs)
        self._links = Subscribers[MemoryLogLink]()

    @property
    def loses_confirmations(self) -> bool:
        """Whether each link dies once its frames are added, before it learns of it. May be set at any time."""
        return self._logs.loses_confirmations

    @loses_confirmations.setter
    def loses_confirmations(self, loses: bool) -> None:
        self._logs.loses_confirmations = loses

    def cut(self) -> None:
        """Go down: every link dies, and none can be opened until `restore`. The logs stay."""
        self._links.cut("the broker was cut")

    def restore(self) -> None:
        """Come back up. Harmless if it was not cut."""
        self._links.restore()

    def drop_links(self) -> None:
        """Cut every link once, and stay up."""
        self.cut()
        self.restore()

    def forget(self, count: int, channel: str | None = None) -> int:
        """Restart without the last entries, as a server does that had not written them to disk; every link dies.

        Args:
            count: How many entries each log forgets.
            channel: The only log that does; None: all do.

        Returns:
            How many entries were forgotten.
        """
        forgotten = 0
        for name, log in self._logs.by_channel.items():
            gone = min(count, len(log.entries)) if channel in {None, name} else 0
            if gone:
                del log.entries[-gone:]
                log.added -= gone
                forgotten += gone
        self.drop_links()
        return forgotten

    def erase(self) -> None:
        """Restart without any log; every link dies."""
        self._logs.by_channel.clear()
        self._queues.clear()
        self.drop_links()

    def trim(self, keep: int, channel: str | None = None) -> int:
        """Drop the oldest entries, as a limit does.

        Args:
            keep: How many entries of each log are kept.
            channel: The only log that is trimmed; None: all are.

        Returns:
            How many entries were dropped.
        """
        dropped = 0
        for name, log in self._logs.by_channel.items():
            if channel in {None, name} and len(log.entries) > keep:
                dropped += len(log.entries) - keep
                del log.entries[: len(log.entries) - keep]
        return dropped

    def hold(self, channel: str) -> None:
        """Let no link read a channel until `release`, so that it lags behind the others.

        Args:
            channel: The channel's name.
        """
        self._logs.held.add(channel)

    def release(self, channel: str | None = None) -> None:
        """Let links read a channel again.

        Args:
            channel: The channel; None: all.
        """
        self._logs.held = set() if channel is None else self._logs.held - {channel}
        for link in self._links.links:
            link.wake()

    @property
    def link_count(self) -> int:
        """How many links are open."""
        return len(self._links.links)

    @property
    def channels(self) -> frozenset[str]:
        """The channels that have a log."""
        return frozenset(self._logs.by_channel)

    def payloads(self, channel: str) -> list[bytes]:
        """Return what the log of a channel has, the oldest first.

        Args:
            channel: The channel's name.
        """
        return [entry.payload for entry in self._logs.get(channel).entries]

    def open(self) -> QueueLink:
        """Return a new link, for a test that speaks to pods from outside of the library.

        Raises:
            TransportError: The broker is cut.
        """
        link = MemoryLogLink(self._logs, self._links, self._queues)
        self._links.enter(link)
        return link


class MemoryLogLink:
    """A link to a `MemoryLog`; its `open` makes one.

    Args:
        logs: The broker's.
        links: The broker's.
        queues: The broker's.
    """

    def __init__(self, logs: Logs, links: Subscribers[MemoryLogLink], queues: MemoryQueues) -> None:
        self._queues = queues
        self._logs = logs
        self._links = links
        self._places: dict[str, Place] = {}
        self._lost: list[Frame | Lost] = []
        self._confirmed: dict[str, str] = {}
        self._arrived = asyncio.Event()
        self._dead: str | None = None

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Read the channels from the ends of their logs on."""
        await self.resume(channels, {})

    async def resume(self, channels: Sequence[str], after: Mapping[str, str]) -> Mapping[str, str]:
        """Read the channels behind these cursors, or from the ends of their logs on."""
        await self._turn()
        for channel in channels:
            log, cursor = self._logs.get(channel), after.get(channel)
            self._places[channel] = (
                Place(log.added, log.last_id) if cursor is None else self._resumed(channel, log, Place.parse(cursor))
            )
            self._links.subscribe(self, channel)
        self.wake()
        return {channel: str(self._places[channel]) for channel in channels}

    def _resumed(self, channel: str, log: Log, place: Place) -> Place:
        if place.number <= log.gone or log.has(place):
            return place  # what was trimmed since is found when it is read
        self._lost.append(Lost(channel, "the broker came back with less than it had confirmed", cause="epoch"))
        older = sum([entry.id <= place.id for entry in log.entries])
        return Place(log.gone + older, log.entries[older - 1].id if older else 0)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Read the channels no longer."""
        await self._turn()
        for channel in channels:
            self._places.pop(channel, None)
            self._links.unsubscribe(self, channel)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Add the frames to their logs."""
        await self._turn()
        confirmed = {frame[0]: self._logs.add(frame) for frame in frames}
        for channel in confirmed:
            for link in self._links.by_channel.get(channel, ()):
                link.wake()
        if self._logs.loses_confirmations:
            self.die("the line was cut before the confirmation came")
        await self._turn()
        self._confirmed.update(confirmed)

    def confirmed(self) -> Mapping[str, str]:
        """Return where the last entry that was confirmed on each channel is."""
        return self._confirmed

    async def find_forgotten(self, cursors: Mapping[str, str]) -> Collection[str]:
        """Return the channels whose logs lack the entry of this cursor."""
        await self._turn()
        return [name for name, cursor in cursors.items() if not self._logs.get(name).has(Place.parse(cursor))]

    async def read(
        self, channel: str, limit: int, *, after: str | None = None, before: str | None = None
    ) -> Sequence[Frame | Lost]:
        """Return a page of a log, also of one that is held."""
        await self._turn()
        log, cursor = self._logs.get(channel), before if after is None else after
        if cursor is None:
            return _frames(channel, log.page(log.added - limit, log.added))
        try:
            place = Place.parse(cursor)
        except ValueError:
            place = Place(-1, 0)
        if not log.knows(place):
            return [Lost(channel, "the log has no such entry", cause="epoch")]
        if after is None:
            return _frames(channel, log.page(place.number - 1 - limit, place.number - 1))
        missed = log.gone - place.number
        lost = [Lost(channel, f"{missed} entries are gone", missed, cause="trimmed")] if missed > 0 else []
        begin = max(place.number, log.gone)
        return [*lost, *_frames(channel, log.page(begin, begin + limit))]

    async def open_queue(self, channel: str, *, lease_s: float) -> bool:
        """Return whether the queue had workers before."""
        await self._turn()
        return self._queues.open(channel, lease_s)

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return entries that nobody has."""
        await self._turn()
        taken = await self._queues.take(channel, limit, wait_s=wait_s)
        await self._turn()
        return taken

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Keep these entries for their worker."""
        await self._turn()
        self._queues.delay(channel, tokens, None)

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Let another `take` have an entry, after the delay."""
        await self._turn()
        self._queues.delay(channel, [token], delay_s)

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Let nobody get these entries again."""
        await self._turn()
        self._queues.finish(channel, tokens)
        await self._turn()

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what the logs have, a page of each channel at once."""
        while True:
            self._arrived.clear()
            if self._dead is not None:
                raise TransportError(self._dead)
            batch, self._lost = self._lost, []
            for channel in list(self._places):
                if channel not in self._logs.held:
                    batch += self._read(channel)
            if batch:
                self.wake()  # there may be more
                yield batch
            else:
                await self._arrived.wait()

    def _read(self, channel: str) -> list[Frame | Lost]:
        log, place = self._logs.get(channel), self._places[channel]
        batch: list[Frame | Lost] = []
        if place.number < log.gone:
            missed = log.gone - place.number
            batch.append(Lost(channel, f"the log was trimmed: {missed} entries are gone", missed, cause="trimmed"))
            place = Place(log.gone, place.id)
        begin = place.number - log.gone
        for entry in log.entries[begin : begin + PAGE]:
            place = Place(place.number + 1, entry.id)
            batch.append((channel, entry.payload, str(place)))
        self._places[channel] = place
        return batch

    async def aclose(self) -> None:
        """Disconnect from the broker."""
        self.die("closed")

    def wake(self) -> None:
        """Look whether there is something to read."""
        self._arrived.set()

    def die(self, reason: str) -> None:
        """Be dead from now on; a no-op if it is."""
        if self._dead is None:
            self._dead = reason
            self._links.leave(self)
            self._arrived.set()

    async def _turn(self) -> None:
        """Let the loop run once, as a round trip would, then raise if the link is dead."""
        await asyncio.sleep(0)
        if self._dead is not None:
            raise TransportError(self._dead)


def _frames(channel: str, page: Sequence[tuple[bytes, str]]) -> list[Frame]:
    return [(channel, payload, cursor) for payload, cursor in page]


class MemoryLogTransport:
    """A durable transport without a network: pods whose transports share a broker are a fleet.

    Args:
        broker: Shared with other transports; None: one of its own.
    """

    def __init__(self, broker: MemoryLog | None = None) -> None:
        self.broker: MemoryLog = MemoryLog() if broker is None else broker
        """The broker that it opens links to."""

    @property
    def traits(self) -> Traits:
        """What it can do: `durable`."""
        return TRAITS

    async def open(self) -> QueueLink:
        """Open a link to the broker.

        Raises:
            TransportError: The broker is cut.
        """
        await asyncio.sleep(0)
        return self.broker.open()
