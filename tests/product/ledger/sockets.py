"""The connections of one pod, that stay or come and go: `Slot`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, get_args

from attrs import define, field
from backplane_core import (
    BaseBackplane,
    ClosedError,
    Connection,
    Gap,
    GapError,
    Overflow,
    SlowConsumerError,
    Target,
    TargetDeniedError,
)

from tests.product.ledger.book import Book, Kind, Life
from tests.product.ledger.clocks import PodClock
from tests.product.ledger.plan import OFTEN_LEFT, TARGETS, Habit

__all__ = ["Slot"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
LEFT_S: Final = (0.01, 1.05, 1.2, 1.4)
"""A pod keeps a channel that nobody holds for a second."""
QUEUES: Final[tuple[Overflow, ...]] = ("close", "close", "drop_oldest", "drop_newest")


@define(eq=False)
class Slot:
    """One connection id of a pod; it attaches under it again and again, or once.

    Args:
        book: What it writes into.
        clock: The pod's, by which gaps are dated.
        backplane: The pod.
        pod: The pod's name.
        conn_id: The id.
        random: Decides.
        habit: What it does.
        favourite: What it leaves and takes up again, if that is its habit.
        filler: How many more targets it holds.
        slow_s: How long its slower sinks take for an event.
        slow_gap_s: How long its sinks take to be notified of a gap.
        stopped: When it is to change nothing any more.
    """

    book: Book
    clock: PodClock
    backplane: BaseBackplane
    pod: str
    conn_id: str
    random: Random
    habit: Habit
    favourite: Target
    filler: int
    slow_s: float
    slow_gap_s: float
    stopped: asyncio.Event
    life: Life | None = None
    readers: list[asyncio.Task[None]] = field(factory=list[asyncio.Task[None]])

    async def live(self) -> None:
        """Attach, change, detach, and do it again, until all is to stay as it is or the pod closes."""
        try:
            if self.habit == "leaver":
                await self._leave_and_return()
            elif self.habit == "fickle":
                while not self.stopped.is_set():
                    await self._come_and_go()
            else:
                await self._begin_as(self.habit, TARGETS[len(OFTEN_LEFT) :])
        except (ClosedError, TargetDeniedError):
            return  # the pod closes; or may not hear even what only this connection needs

    async def _begin_as(self, kind: Kind, choice: Sequence[Target]) -> Life | None:
        targets = self.random.sample(choice, self.random.randint(1, 4))
        targets += [Target("filler", f"{self.conn_id}-{number}") for number in range(self.filler)]
        self.random.shuffle(targets)
        return await (self._attach(targets) if kind == "sink" else self._open(targets))

    async def _leave_and_return(self) -> None:
        life = await self._attach([self.favourite])
        while not self.stopped.is_set():
            await self._pause(0.6)
            await self._leave(life, self.favourite)
            await asyncio.sleep(self.random.choice(LEFT_S))
            await self._associate(life, self.favourite)

    async def _come_and_go(self) -> None:
        life = await self._begin_as(self.random.choice(KINDS), TARGETS)
        if life is None:
            return
        for _ in range(self.random.randint(0, 4)):
            await self._pause(0.3)
            if self.stopped.is_set():
                return
            await self._change(life)
        await self._pause(0.6)
        # Otherwise the next one takes the id over; or it stays, at the end.
        if self.random.random() < 0.6 and not self.stopped.is_set():
            self.book.end(life)
            await self.backplane.detach(self.conn_id)
            await self._pause(0.2)

    async def _pause(self, most_s: float) -> None:
        await asyncio.sleep(self.random.uniform(0, most_s))

    # A bare sink

    async def _attach(self, targets: list[Target]) -> Life:
        life = self._begin("sink", self._kept())
        raw = self.random.random() < 0.3
        try:
            await self.backplane.attach(
                self.conn_id, self._sink(life, raw=raw), raw=raw, on_gap=lambda gap: self._told(life, gap)
            )
        except TargetDeniedError:
            self.book.end(life)
            raise
        self.book.owe(life.holds, confirmed=False)
        # All at once: a line that is late would take its time for one after the other.
        await asyncio.gather(*[self._associate(life, target) for target in targets])
        return life

    def _told(self, life: Life, gap: Gap) -> None:
        if self.slow_gap_s:
            time.sleep(self.slow_gap_s)
        self.book.told(life, self.clock.corrected(gap))

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
        if self.random.random() < 0.3:
            self.backplane.associate_nowait(self.conn_id, target)
            confirmed = False
        else:
            try:
                confirmed = await self.backplane.associate(self.conn_id, target)
            except TargetDeniedError:
                hold.ended = self.book.order()
                return
        self.book.owe([hold], confirmed=confirmed)

    async def _change(self, life: Life) -> None:
        """Take up a target, or give one up, and come back to it at times."""
        target = self.random.choice(OFTEN_LEFT)
        if life.held(target) is None:
            await self._associate(life, target)
            return
        await self._leave(life, target)
        if self.random.random() < 0.3:
            await self._pause(0.1)
            await self._associate(life, target)

    async def _leave(self, life: Life, target: Target) -> None:
        hold = life.held(target)
        if hold is not None:
            hold.ended = self.book.order()
        await self.backplane.dissociate(self.conn_id, target)

    # A queue with a reader

    async def _open(self, targets: list[Target]) -> Life | None:
        overflow = self.random.choice(QUEUES)
        lives: list[Life] = []  # begins when it is entered
        takes_items = self.random.random() < 0.5
        connection = self.backplane.connection(
            self.conn_id,
            *targets,
            max_pending=self.random.choice((10, 1_000, 1_000)),
            overflow=overflow,
            on_gap=None if takes_items else lambda gap: self.book.told(lives[0], self.clock.corrected(gap)),
            end_on_gap=overflow == "close" and self.habit == "fickle" and self.random.random() < 0.3,
        )
        entered: asyncio.Future[Life | None] = asyncio.get_running_loop().create_future()
        pause_s = 0.003 if self.random.random() < 0.4 else 0.0
        reader = self._read(connection, targets, lives, entered, pause_s=pause_s, takes_items=takes_items)
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
        takes_items: bool,
    ) -> None:
        life = self._begin("queue", targets)
        lives.append(life)
        links = self._links_if_live()
        try:
            async with connection:
                self.book.owe(life.holds, confirmed=links is not None and links == self._links_if_live())
                entered.set_result(life)
                async for item in connection.items() if takes_items else connection:
                    if isinstance(item, Gap):
                        self.book.told(life, self.clock.corrected(item))
                    else:
                        self.book.heard(life, item.value)
                    if pause_s:
                        await asyncio.sleep(pause_s)
        except (ClosedError, GapError, SlowConsumerError, TargetDeniedError):
            pass
        finally:
            self.book.end(life)
            if not entered.done():
                entered.set_result(None)

    def _links_if_live(self) -> int | None:
        """Return which link is live; None: none is, so that nobody waits for confirmations."""
        return self.backplane.stats().links if self.backplane.state == "live" else None

    def _begin(self, kind: Kind, targets: list[Target]) -> Life:
        if self.life is not None:
            self.book.end(self.life)
        self.life = self.book.begin(self.conn_id, self.pod, kind, targets)
        return self.life
