"""Who publishes: pods and `Publisher`s in the loop, `SyncPublisher`s in threads."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from attrs import define, field
from backplane_core import (
    BaseBackplane,
    ClosedError,
    EventDropped,
    EventTooLargeError,
    Observer,
    OutboxFullError,
    Publisher,
    Record,
    SyncPublisher,
    Target,
    TransportError,
)

from tests.product.ledger.book import Book, Published
from tests.product.ledger.plan import TARGETS

__all__ = ["BackplaneSender", "LoopSender", "Mail", "Sender", "ThreadSender"]

WATCH_S: Final = 0.005
FLUSH_S: Final = 60.0
REFUSALS: Final = (OutboxFullError, EventTooLargeError, TransportError)


@define
class Mail:
    """Chooses what is published to whom.

    Args:
        book: Where it is written down.
        conn_ids: Of the fleet's connections, for targets and excludes.
        padding: Bytes that the largest events are padded with.
    """

    book: Book
    conn_ids: Sequence[str]
    padding: int

    def next(self, name: str, random: Random) -> Published:
        """Write down another event of a sender."""
        return self.book.publish(name, self._targets(random), self._excluded(random))

    def last_round(self, name: str) -> list[Published]:
        """Write down an event to every target."""
        return [self.book.publish(name, [target]) for target in (*TARGETS, Target.everyone())]

    def counter(self, name: str) -> Observer:
        """Return an observer that writes down what a sender counts as dropped."""

        def observe(record: Record) -> None:
            if isinstance(record, EventDropped):
                self.book.dropped(name, record.channel, record.cause, record.count)

        return observe

    def value(self, event: Published) -> list[Any]:
        """Return what is sent."""
        padding = event.padding if event.padding is not None else self.padding if event.number % 7 == 3 else 10
        return [event.sender, event.number, "x" * padding]

    def _targets(self, random: Random) -> list[Target]:
        chance = random.random()
        if chance < 0.7:
            return [random.choice(TARGETS)]
        if chance < 0.78:
            return [Target.everyone()]
        if chance < 0.86:
            return [Target.connection(random.choice(self.conn_ids))]
        return random.sample(TARGETS, random.randint(2, 3))

    def _excluded(self, random: Random) -> list[str]:
        return random.sample(self.conn_ids, 1) if random.random() < 0.15 else []


class Sender(ABC):
    """One that publishes until it is stopped."""

    @abstractmethod
    async def run(self, stopped: asyncio.Event) -> None:
        """Publish until then."""

    @abstractmethod
    async def finish(self, *, last_round: bool) -> None:
        """Publish to everyone once more, or not, and flush."""

    @abstractmethod
    async def close(self) -> None:
        """Close it in good order."""


@define(eq=False)
class BackplaneSender:
    """What is published on one backplane, a pod or a `Publisher`, and by when it was confirmed."""

    name: str
    backplane: BaseBackplane
    mail: Mail
    random: Random
    pending: list[Published] = field(factory=list[Published])

    async def publish(self, event: Published) -> bool:
        """Publish an event in one of the ways that there are; False: the backplane is closed."""
        backplane, value = self.backplane, self.mail.value(event)
        exclude = sorted(event.exclude)
        try:
            match self.random.randrange(6):
                case 0:
                    backplane.publish_nowait(event.targets, value, exclude=exclude)
                case 1:
                    await asyncio.wrap_future(backplane.publish_threadsafe(event.targets, value, exclude=exclude))
                case _:
                    await backplane.publish(event.targets, value, exclude=exclude)
        except ClosedError:
            event.refused = True
            return False
        except REFUSALS:
            event.refused = True
        event.returned = self.mail.book.order()
        self.pending.append(event)
        return True

    async def watch(self) -> None:
        """Write down again and again what the broker has by now."""
        while True:
            await self.flush(None)
            await asyncio.sleep(WATCH_S)

    async def flush(self, timeout_s: float | None) -> None:
        """Return once what was published is confirmed, or counted."""
        events = self.pending[:]
        await self.backplane.flush(timeout_s=timeout_s)
        self.settled(events)

    def settled(self, events: Sequence[Published]) -> None:
        self.mail.book.confirmed(events)
        done = set(events)  # two may flush at a time
        self.pending = [event for event in self.pending if event not in done]


@define(eq=False)
class LoopSender(Sender):
    """A `Publisher`."""

    name: str
    url: str
    options: dict[str, Any]
    mail: Mail
    random: Random
    rate_per_s: int
    _sender: BackplaneSender | None = None

    async def run(self, stopped: asyncio.Event) -> None:
        sender = await self._open()
        watching = asyncio.create_task(sender.watch(), name=f"watch {self.name}")
        try:
            while not stopped.is_set():
                for _ in range(self.random.choice((1, 1, 1, 8))):
                    await sender.publish(self.mail.next(self.name, self.random))
                await asyncio.sleep(self.random.expovariate(self.rate_per_s / 2.75))
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _open(self) -> BackplaneSender:
        while True:
            publisher = Publisher(self.url, observer=self.mail.counter(self.name), **self.options)
            try:
                await publisher.open()
            except TransportError:
                continue  # loud at start; the broker may be away just now
            self._sender = BackplaneSender(self.name, publisher, self.mail, self.random)
            return self._sender

    async def finish(self, *, last_round: bool) -> None:
        if self._sender is not None:
            for event in self.mail.last_round(self.name) if last_round else ():
                await self._sender.publish(event)
            await self._sender.flush(FLUSH_S)

    async def close(self) -> None:
        if self._sender is not None:
            await self._sender.backplane.aclose()


@define(eq=False)
class ThreadSender(Sender):
    """A `SyncPublisher` in a thread."""

    name: str
    url: str
    options: dict[str, Any]
    mail: Mail
    random: Random
    rate_per_s: int
    _publisher: SyncPublisher = field(init=False)
    _pending: list[Published] = field(factory=list[Published])
    _stopped: threading.Event = field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self._publisher = SyncPublisher(self.url, observer=self.mail.counter(self.name), **self.options)

    async def run(self, stopped: asyncio.Event) -> None:
        running = asyncio.create_task(asyncio.to_thread(self._run), name=f"thread {self.name}")
        try:
            await stopped.wait()
        finally:
            self._stopped.set()
            await running

    def _run(self) -> None:
        while not self._stopped.wait(self.random.expovariate(self.rate_per_s / 2.75)):
            for _ in range(self.random.choice((1, 1, 1, 8))):
                self._publish(self.mail.next(self.name, self.random))
            if self.random.random() < 0.3:
                self._flush(0.5)

    def _publish(self, event: Published) -> None:
        try:
            self._publisher.publish(event.targets, self.mail.value(event), exclude=sorted(event.exclude))
        except REFUSALS:
            event.refused = True
        event.returned = self.mail.book.order()
        self._pending.append(event)

    def _flush(self, timeout_s: float) -> None:
        try:
            self._publisher.flush(timeout_s=timeout_s)
        except TimeoutError:
            return
        self.mail.book.confirmed(self._pending)
        self._pending.clear()

    async def finish(self, *, last_round: bool) -> None:
        await asyncio.to_thread(self._finish, last_round=last_round)

    def _finish(self, *, last_round: bool) -> None:
        for event in self.mail.last_round(self.name) if last_round else ():
            self._publish(event)
        self._flush(FLUSH_S)

    async def close(self) -> None:
        await asyncio.to_thread(self._publisher.close)
