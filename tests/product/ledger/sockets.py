"""The connections of one pod, that stay or come and go: `Slot`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final, get_args

from attrs import define, field
from backplane_core import BaseBackplane, ClosedError, Connection, Gap, GapError, Overflow, SlowConsumerError, Target

from tests.product.ledger.book import Book, Life
from tests.product.ledger.plan import OFTEN_LEFT, TARGETS, SocketKind

__all__ = ["Slot"]

KINDS: Final[tuple[SocketKind, ...]] = get_args(SocketKind)
QUEUES: Final[tuple[Overflow, ...]] = ("close", "close", "drop_oldest", "drop_newest")


@define(eq=False)
class Slot:
    """One connection id of a pod; it attaches under it again and again, or once.

    Args:
        book: What it writes into.
        backplane: The pod.
        pod: The pod's name.
        conn_id: The id.
        random: Decides.
        stays: None: it comes and goes. Else it attaches once, as this, and stays.
        filler: How many more targets it holds.
        slow_s: How long its slower sinks take for an event.
        slow_gap_s: How long its sinks take to be notified of a gap.
        stopped: When it is to change nothing any more.
    """

    book: Book
    backplane: BaseBackplane
    pod: str
    conn_id: str
    random: Random
    stays: SocketKind | None
    filler: int
    slow_s: float
    slow_gap_s: float
    stopped: asyncio.Event
    life: Life | None = None
    readers: list[asyncio.Task[None]] = field(factory=list[asyncio.Task[None]])

    async def live(self) -> None:
        """Attach, change, detach, and do it again, until all is to stay as it is or the pod closes."""
        try:
            while not self.stopped.is_set():
                await self._live_once(self.random.choice(KINDS) if self.stays is None else self.stays)
                if self.stays is not None:
                    return
        except ClosedError:
            return

    async def _live_once(self, kind: SocketKind) -> None:
        choice = TARGETS if self.stays is None else TARGETS[len(OFTEN_LEFT) :]
        targets = self.random.sample(choice, self.random.randint(1, 4))
        targets += [Target("filler", f"{self.conn_id}-{number}") for number in range(self.filler)]
        self.random.shuffle(targets)
        life = await (self._attach(targets) if kind == "sink" else self._open(targets))
        if life is None:
            return
        if self.stays is not None:
            return
        for _ in range(self.random.randint(0, 4)):
            await self._pause(0.3)
            if self.stopped.is_set():
                return
            await self._change(life)
        await self._pause(0.6)
        if self.stopped.is_set():
            return
        # Otherwise the next one takes the id over.
        if self.random.random() < 0.6:
            self.book.end(life)
            await self.backplane.detach(self.conn_id)
            await self._pause(0.2)

    async def _pause(self, most_s: float) -> None:
        await asyncio.sleep(self.random.uniform(0, most_s))

    # A bare sink

    async def _attach(self, targets: list[Target]) -> Life:
        life = self._begin("sink", self._kept())
        raw = self.random.random() < 0.3
        await self.backplane.attach(
            self.conn_id, self._sink(life, raw=raw), raw=raw, on_gap=lambda gap: self._told(life, gap)
        )
        self.book.owe(life.holds, confirmed=False)
        if len(targets) > len(TARGETS):
            await asyncio.gather(*[self._associate(life, target) for target in targets])
        for target in targets:
            await self._associate(life, target)
        return life

    def _told(self, life: Life, gap: Gap) -> None:
        if self.slow_gap_s:
            time.sleep(self.slow_gap_s)
        self.book.told(life, gap)

    def _kept(self) -> list[Target]:
        """Return the targets that a sink which takes the id over starts with."""
        return [target for target in self.backplane.targets_of(self.conn_id) if target.kind != "connection"]

    def _sink(self, life: Life, *, raw: bool) -> Callable[[Any], None]:
        slow_s = self.slow_s if self.random.random() < 0.5 else 0.0

        def take(event: Any) -> None:
            if slow_s:
                time.sleep(slow_s)
            self.book.heard(life, json.loads(event) if raw else event)

        return take

    async def _associate(self, life: Life, target: Target) -> None:
        if life.held(target) is not None:
            return
        hold = self.book.hold(life, target)
        confirmed = await self.backplane.associate(self.conn_id, target)
        self.book.owe([hold], confirmed=confirmed)

    async def _change(self, life: Life) -> None:
        """Take up a target, or give one up; at times come back to it, a little later than the pod keeps its channel."""
        target = self.random.choice(OFTEN_LEFT)
        hold = life.held(target)
        if hold is None:
            await self._associate(life, target)
            return
        hold.ended = self.book.order()
        await self.backplane.dissociate(self.conn_id, target)
        if self.random.random() < 0.5:
            await asyncio.sleep(self.random.choice((0.01, 1.1, 1.3)))
            await self._associate(life, target)

    # A queue with a reader

    async def _open(self, targets: list[Target]) -> Life | None:
        overflow = self.random.choice(QUEUES)
        lives: list[Life] = []  # begins when it is entered
        connection = self.backplane.connection(
            self.conn_id,
            *targets,
            max_pending=self.random.choice((10, 1_000, 1_000)),
            overflow=overflow,
            on_gap=lambda gap: self.book.told(lives[0], gap),
            end_on_gap=overflow == "close" and self.stays is None and self.random.random() < 0.3,
        )
        entered: asyncio.Future[Life | None] = asyncio.get_running_loop().create_future()
        reader = self._read(connection, targets, lives, entered, pause_s=0.003 if self.random.random() < 0.4 else 0.0)
        self.readers.append(asyncio.create_task(reader, name=f"reader of {self.conn_id}"))
        return await entered

    async def _read(
        self,
        connection: Connection,
        targets: list[Target],
        lives: list[Life],
        entered: asyncio.Future[Life | None],
        *,
        pause_s: float,
    ) -> None:
        life = self._begin("queue", targets)
        lives.append(life)
        links = self._links_if_live()
        try:
            async with connection:
                self.book.owe(life.holds, confirmed=links is not None and links == self._links_if_live())
                entered.set_result(life)
                async for event in connection:
                    self.book.heard(life, event.value)
                    if pause_s:
                        await asyncio.sleep(pause_s)
        except (ClosedError, GapError, SlowConsumerError):
            pass
        finally:
            self.book.end(life)
            if not entered.done():
                entered.set_result(None)

    def _links_if_live(self) -> int | None:
        """Return which link is live; None: none is, so that nobody waits for confirmations."""
        return self.backplane.stats().links if self.backplane.state == "live" else None

    def _begin(self, kind: SocketKind, targets: list[Target]) -> Life:
        if self.life is not None:
            self.book.end(self.life)
        self.life = self.book.begin(self.conn_id, self.pod, kind, targets)
        return self.life
