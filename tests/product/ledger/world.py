"""Plays a plan over a broker, and says what no promise explains: `play`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

from attrs import define, field, frozen
from backplane_core import Gap
from backplane_core._protocol.routing import make_routing
from backplane_testservers import NatsCluster, OwnBroker, Proxy
from backplane_testservers.leftovers import no_leftovers
from redis.crc import key_slot

from tests.product.ledger.access import Access, make_access
from tests.product.ledger.book import Book
from tests.product.ledger.buses import DURABLE, SINGLE, Bus, mend
from tests.product.ledger.faults import Fault
from tests.product.ledger.hurry import hurried
from tests.product.ledger.plan import TARGETS, Plan
from tests.product.ledger.pods import Pod
from tests.product.ledger.senders import LoopSender, Mail, Sender, ThreadSender
from tests.product.ledger.story import Story
from tests.product.ledger.verdict import Violation, find_losses, find_violations
from tests.support.waiting import until

__all__ = ["Outcome", "play"]

DEADLINE_S: Final = 90.0
"""For what takes a second or two: the rest is for a starved machine."""
QUIET_S: Final = 6.0
"""What has not come, while nothing else came either for so long, does not come: gaps of a sink are a second apart."""
LOOK_S: Final = 0.05


@frozen
class Outcome:
    """What a run came to.

    Args:
        plan: What was played.
        problems: What must not be; empty if all is well.
        story: What happened.
        counts: How much, by what.
    """

    plan: Plan
    problems: Sequence[str]
    story: Sequence[str]
    counts: dict[str, int]


@define(eq=False)
class World:
    """One run."""

    plan: Plan
    bus: Bus
    story: Story = field(factory=Story)
    channel: str = field(factory=lambda: f"ledger:{uuid.uuid4().hex}")
    book: Book = field(init=False)
    access: Access = field(init=False)
    pods: list[Pod] = field(factory=list[Pod], init=False)
    senders: list[Sender] = field(factory=list[Sender], init=False)
    stopped: asyncio.Event = field(factory=asyncio.Event, init=False)
    seen: list[Fault] = field(factory=list[Fault], init=False)
    _places: dict[str, asyncio.Lock] = field(factory=lambda: defaultdict[str, asyncio.Lock](asyncio.Lock), init=False)

    def __attrs_post_init__(self) -> None:
        routing = make_routing(self.plan.options["routing"], self.channel, self.plan.options.get("lanes", 1))
        self.book = Book(routing, forwards=isinstance(self.bus, NatsCluster), keeps=self.plan.bus in DURABLE)

    # What faults need

    @property
    def server(self) -> OwnBroker:
        if not isinstance(self.bus, OwnBroker):
            raise TypeError(f"{self.plan.bus} is not one that can be killed as a whole")
        return self.bus

    @property
    def signs(self) -> bool:
        return "signing_keys" in self.plan.options

    def slots(self) -> Sequence[int]:
        channels = {self.book.routing.channel([target]) for target in TARGETS} | set(self.book.routing.base)
        return sorted({key_slot(channel.encode()) for channel in channels})

    def saw(self, fault: Fault, what: str) -> None:
        self.seen.append(fault)
        self.story.say("fault", f"{type(fault).__name__}: {what}")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        await until(condition, what, DEADLINE_S)

    # The run

    async def run(self, stack: AsyncExitStack) -> list[Violation]:
        """Play it to its end, and return what is wrong."""
        await self._build(stack)
        ends = time.monotonic() + self.plan.run_s
        async with asyncio.TaskGroup() as group:
            for sender in self.senders:
                group.create_task(sender.run(self.stopped))
            await asyncio.gather(*[self._happen(fault) for fault in self.plan.faults])
            await asyncio.sleep(max(0.0, ends - time.monotonic()))
            self.stopped.set()
        for pod in self.pods:
            await pod.rest()
        await self.until(self._all_live, "all pods live at the end")
        self.story.say("run", "all is healed")
        for sender in self.senders:
            await sender.finish(last_round=self.plan.last_round)
        await self._settle()
        for sender in reversed(self.senders):
            await sender.close()
        return find_violations(self.book)

    async def _build(self, stack: AsyncExitStack) -> None:
        plan = self.plan
        options = {**plan.options, "channel": self.channel}
        known = sorted({self.book.routing.channel([target]) for target in TARGETS} - {*self.book.routing.base})
        directory = Path(stack.enter_context(TemporaryDirectory()))
        self.access = make_access(
            plan.bus, self.bus, pods=len(plan.pods), shared=self.channel, known=known, directory=directory
        )
        await asyncio.to_thread(self.access.open)
        url = self.access.url(None)
        proxies: list[Proxy | None] = [None] * len(plan.pods)
        if plan.bus in SINGLE:
            proxies = [stack.enter_context(Proxy(self.server.host, self.server.port)) for _ in plan.pods]
        conn_ids = [f"p{index}-c{number}" for index, pod in enumerate(plan.pods) for number in range(len(pod.habits))]
        mail = Mail(self.book, conn_ids, plan.padding)
        for index, proxy in enumerate(proxies):
            pod = Pod(plan, index, self.access, proxy, options, mail, self.book, self.story, self.stopped)
            await pod.open()
            self.pods.append(pod)
        self.senders += self.pods
        for number, sender in enumerate(plan.senders):
            proxy = None if sender.line is None else proxies[sender.line]
            kind = LoopSender if sender.kind == "Publisher" else ThreadSender
            self.senders.append(
                kind(
                    name=f"s{number}",
                    url=url if proxy is None else proxy.url(url),
                    options={**options, **sender.options},
                    mail=mail,
                    random=plan.random(f"sender {number}"),
                    rate_per_s=sender.rate_per_s,
                )
            )

    async def _happen(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        async with self._places[fault.place]:
            self.story.say("fault", f"{fault} begins")
            await fault.happen(self)
            self.story.say("fault", f"{type(fault).__name__} is healed")

    async def _settle(self) -> None:
        """Return once nothing is missing any more; or once nothing has come for long, so that it never will."""
        quiet_since, before = time.monotonic(), self._progress()
        ends = quiet_since + DEADLINE_S
        while find_losses(self.book) and time.monotonic() < min(quiet_since + QUIET_S, ends):
            await asyncio.sleep(LOOK_S)
            now = self._progress()
            if now != before or not self._all_live():
                quiet_since, before = time.monotonic(), now

    async def abandon(self) -> None:
        """Leave nothing behind after a failure, and the broker whole."""
        self.stopped.set()
        for pod in self.pods:
            pod.heal_line()
        await asyncio.to_thread(mend, self.bus)
        for sender in reversed(self.senders):
            with suppress(Exception):
                await sender.close()

    def _all_live(self) -> bool:
        return all(pod.backplane.state == "live" for pod in self.pods)

    def _progress(self) -> int:
        return sum([len(life.stream) for life in self.book.lives])

    def outcome(self, violations: Sequence[Violation], error: BaseException | None) -> Outcome:
        """Return what it came to."""
        problems = [str(violation) for violation in violations]
        if error is not None:
            problems.append(f"the run failed: {_leaf(error)!r}")
        else:
            problems += [f"a fault was not seen: {fault}" for fault in self.plan.faults if fault not in self.seen]
            errors = sum([pod.sink_errors for pod in self.pods])
            problems += [f"{errors} callbacks raised"] if errors else []
        heard = sum([len(life.heard) for life in self.book.lives])
        if not problems and not heard:
            problems.append("nothing was delivered: the run saw nothing")
        who = [name for violation in violations for name in self._concerned(violation)]
        story = [str(line) for line in (self.story.about(*who) if violations else self.story.outline)]
        for violation in violations[:1]:
            story += self._life(violation)
        gaps = [told for life in self.book.lives for told in life.told]
        counts = {
            "events": len(self.book.events),
            "deliveries": heard,
            "connections": len(self.book.lives),
            "gaps": len(gaps),
            "counted": sum([drops.total() for drops in self.book.drops.values()]),
            "faults": len(self.seen),
        }
        return Outcome(self.plan, problems, story, counts)

    @staticmethod
    def _concerned(violation: Violation) -> list[str]:
        return [violation.life.pod, *([violation.event.sender] if violation.event is not None else [])]

    def _life(self, violation: Violation) -> list[str]:
        """Return the life of the connection, as far as it concerns the event."""
        life, event = violation.life, violation.event
        began = self.story.began
        lines = [f"{life} ended at order {life.ended}"]
        if event is not None:
            lines.append(
                f"{event}: published at {event.at - began:.3f} (order {event.order}), "
                f"confirmed by {event.confirmed_at - began:.3f}, to {event.targets}, without {set(event.exclude)}"
            )
            lines += [
                f"holds {hold.target} from {hold.began}, owed from {hold.owed}, until {hold.ended}"
                for hold in life.holds
                if hold.matches(event)
            ]
        lines += [self._told_line(told.gap, told.order) for told in life.told]
        return lines

    def _told_line(self, gap: Gap, order: int) -> str:
        return (
            f"was notified at order {order}: {gap.cause} on {gap.channel}, {self.story.span(gap)}, missed {gap.missed}"
        )


async def play(plan: Plan, bus: Bus) -> Outcome:
    """Play a plan over a broker that is all its own, and return what it came to; the broker is whole afterwards."""
    violations: list[Violation] = []
    failure: BaseException | None = None
    world = World(plan, bus)
    try:
        with hurried():
            async with no_leftovers(timeout_s=10), AsyncExitStack() as stack:
                try:
                    violations = await world.run(stack)
                except BaseException:
                    await world.abandon()
                    raise
    except Exception as error:  # noqa: BLE001 -- whatever it is, the run says how to replay it
        failure = error
    return world.outcome(violations, failure)


def _leaf(error: BaseException) -> BaseException:
    """Return the first error within groups of them."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return _leaf(group.exceptions[0])
    return error
