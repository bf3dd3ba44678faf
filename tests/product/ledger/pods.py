"""A pod of a run: a backplane, its connections, what it publishes, and the pod that takes its place: `Pod`."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import Any

from attrs import define, field
from backplane_core import (
    BaseBackplane,
    EnvelopeRejected,
    EventDropped,
    Gap,
    LinkChanged,
    Record,
    StateChanged,
    Target,
    TransportError,
    connect,
)
from backplane_testservers import Proxy

from tests.product.ledger.access import Access
from tests.product.ledger.book import Book, Published
from tests.product.ledger.clocks import PodClock
from tests.product.ledger.plan import OFTEN_LEFT, Plan, PodPlan
from tests.product.ledger.senders import BackplaneSender, Mail, Sender
from tests.product.ledger.sockets import Slot
from tests.product.ledger.story import Story

__all__ = ["Pod"]

FLUSH_S = 60.0
AGAIN_S = 0.1


@define(eq=False)
class Pod(Sender):
    """One pod, and its successors.

    Args:
        plan: Of the run.
        index: Its place in the plan.
        access: Its user of the broker.
        proxy: What stands before the broker.
        options: Of the fleet.
        mail: What it publishes.
        book: What is written down.
        story: For people.
        stopped: When nothing is to change any more.
    """

    plan: Plan
    index: int
    access: Access
    proxy: Proxy | None
    options: dict[str, Any]
    mail: Mail
    book: Book
    story: Story
    stopped: asyncio.Event
    clock: PodClock = field(init=False)
    name: str = field(init=False)
    backplane: BaseBackplane = field(init=False)
    sink_errors: int = 0
    _generation: int = -1
    _links: int = 0
    _sender: BackplaneSender = field(init=False)
    _watching: asyncio.Task[None] | None = None
    _slots: list[Slot] = field(factory=list[Slot])
    _living: list[asyncio.Task[None]] = field(factory=list[asyncio.Task[None]])
    _random: Random = field(init=False)
    # The order is that of the calls, and one way to publish goes by another thread.
    _one_at_a_time: asyncio.Lock = field(factory=asyncio.Lock)

    def __attrs_post_init__(self) -> None:
        self._random = self.plan.random(f"pod {self.index}")
        self.clock = PodClock(self.own.ahead_s)
        self.heal_line()

    def heal_line(self) -> None:
        if self.proxy is not None:
            self.proxy.heal()
            for way in (self.proxy.up, self.proxy.down):
                way.delay(self.own.late_s, jitter_s=self.own.late_s / 2)

    @property
    def own(self) -> PodPlan:
        """Its part of the plan."""
        return self.plan.pods[self.index]

    @property
    def links(self) -> int:
        """How many links went live, of its predecessors too."""
        return self._links

    async def open(self) -> None:
        """Open the backplane and its connections."""
        self._generation += 1
        self.name = f"p{self.index}" if not self._generation else f"p{self.index}.{self._generation}"
        url = self.access.url(self.index)
        if self.proxy is not None:
            url = self.proxy.url(url)
        while True:
            options: dict[str, Any] = {**self.options, **self.own.options, **self.access.options(self.index)}
            observe, on_gap = partial(self._observe, self.name), partial(self._told, self.name)
            with self.clock.given():
                connecting = connect(url, observer=observe, on_gap=on_gap, **options)
            try:
                self.backplane = await connecting
            except TransportError as error:
                self.story.say(self.name, f"could not open: {error}")
                await asyncio.sleep(AGAIN_S)
            else:
                break
        self._sender = BackplaneSender(self.name, self.backplane, self.mail, self._random)
        self._watching = asyncio.create_task(self._sender.watch(), name=f"watch {self.name}")
        self._open_slots()

    def _open_slots(self) -> None:
        self._slots = [
            Slot(
                book=self.book,
                clock=self.clock,
                backplane=self.backplane,
                pod=self.name,
                conn_id=f"p{self.index}-c{number}",
                favourite=OFTEN_LEFT[number % len(OFTEN_LEFT)],
                random=self.plan.random(f"slot {self.name} {number}"),
                habit=habit,
                filler=self.own.filler if number == 0 else 0,
                slow_s=self.own.slow_s,
                slow_gap_s=self.own.slow_gap_s,
                stopped=self.stopped,
            )
            for number, habit in enumerate(self.own.habits)
        ]
        self._living = [asyncio.create_task(slot.live(), name=f"slot {slot.conn_id}") for slot in self._slots]

    def _observe(self, name: str, record: Record) -> None:
        if isinstance(record, EventDropped):
            self.book.dropped(name, record.channel, record.cause, record.count)
            self.story.say(name, f"counts {record.count} as dropped: {record.cause} on {record.channel}")
        elif isinstance(record, LinkChanged):
            self._links += record.live
            self.story.say(name, f"link {record.links} is {'live' if record.live else 'lost'}: {record.reason}")
        elif isinstance(record, EnvelopeRejected):
            self.book.refusing.add(name)
        elif isinstance(record, StateChanged):
            self.story.say(name, f"is {record.state}")

    def _told(self, name: str, gap: Gap) -> None:
        span = self.story.span(self.clock.corrected(gap))
        self.story.say(name, f"gap on {gap.channel}: {gap.cause}, {span}, missed {gap.missed}")

    async def publish(self, target: Target, padding: int) -> Published:
        """Publish an event of this size, whatever the plan says."""
        async with self._one_at_a_time:
            event = self.book.publish(self.name, [target], padding=padding)
            await self._sender.publish(event)
        return event

    async def restart(self, drain_s: float) -> None:
        await self._close(drain_s)
        await self.open()

    async def run(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            if not self.own.rate_per_s:
                await stopped.wait()
                return
            for _ in range(self._random.choice((1, 1, 1, 8))):
                async with self._one_at_a_time:
                    is_open = await self._sender.publish(self.mail.next(self._sender.name, self._random))
                if not is_open:
                    break  # the next one is about to open
            await asyncio.sleep(self._random.expovariate(self.own.rate_per_s / 2.75))

    async def rest(self) -> None:
        """Return once no connection comes or goes any more."""
        await asyncio.gather(*self._living)

    async def finish(self, *, last_round: bool) -> None:
        for event in self.mail.last_round(self.name) if last_round and self.own.rate_per_s else ():
            await self._sender.publish(event)
        await self._sender.flush(FLUSH_S)

    async def close(self) -> None:
        await self._close(5.0)

    async def _close(self, drain_s: float) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if not self.stopped.is_set():
            # At the end of a run the connections' books stay open: what they have not got by then is missing.
            for slot in self._slots:
                if slot.life is not None:
                    self.book.end(slot.life, closing=True)
        # Nothing may come between: from here on it takes no connection.
        await self.backplane.aclose(drain_s=drain_s)
        self._sender.settled(self._sender.pending)
        await asyncio.gather(*self._living)
        await asyncio.gather(*[reader for slot in self._slots for reader in slot.readers])
        stats = self.backplane.stats()
        self.sink_errors += stats.sink_errors + stats.observer_errors
