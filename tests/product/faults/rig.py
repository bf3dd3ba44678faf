"""Pods, sockets and steady publishers over a broker that is about to be hurt, with a ledger of all: `Rig`.

async with Rig(broker, {"channel": channel}) as rig:
    here, there = await rig.pod(), await rig.pod()
    await rig.sockets(there, 10)
    async with rig.traffic(here):
        ...                        # hurt something
    await rig.settle()
    rig.ledger.assert_clean()
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from attrs import define, field
from backplane_core import BaseBackplane, EventDropped, Gap, Record, Target
from backplane_testservers import Broker, Proxy

from tests.product.faults.ledger import Event, Ledger, Witness
from tests.support.fleets import Fleet
from tests.support.inside import gaps_wait
from tests.support.waiting import until

__all__ = ["Pod", "Rig"]

TARGETS: Final = 5
WATCH_S: Final = 0.01
LOOK_S: Final = 0.02
"""How often all events are gone through, which takes milliseconds."""
HOLES_S: Final = 10.0
RATE_PER_S: Final = 500
"""A steady stream that leaves a small machine idle most of the time."""


@define(eq=False)
class Pod:
    """A backplane of the rig, with its name in the ledger, and what it told of itself."""

    name: str
    backplane: BaseBackplane
    gaps: list[Gap] = field(factory=list[Gap])
    records: list[Record] = field(factory=list[Record])
    on_the_way: list[Event] = field(factory=list[Event])
    """Published, and not yet known to be with the broker."""

    @property
    def links(self) -> int:
        """How many links went live."""
        return self.backplane.stats().links

    @property
    def is_live(self) -> bool:
        return self.backplane.state == "live"

    @property
    def is_degraded(self) -> bool:
        return self.backplane.state == "degraded"


@define
class Rig:
    """A fleet with a ledger; closes its pods at the end, and its proxies after them.

    Args:
        broker: Where its pods connect.
        options: Of every pod.
        ledger: What it writes into.
    """

    broker: Broker
    options: dict[str, Any]
    ledger: Ledger = field(factory=Ledger)
    pods: list[Pod] = field(factory=list[Pod])
    stack: AsyncExitStack = field(factory=AsyncExitStack)
    targets: int = TARGETS
    _turn: int = 0

    def proxy(self) -> Proxy:
        """Start a proxy in front of the broker."""
        return self.stack.enter_context(Proxy(self.broker.host, self.broker.port))

    async def pod(self, proxy: Proxy | None = None, **options: Any) -> Pod:
        """Open a pod, through a proxy or not; its drops go into the ledger, its gaps and records are kept."""
        url = self.broker.url if proxy is None else proxy.url(self.broker.url)
        return await self.pod_at(url, **options)

    async def pod_at(self, url: str, **options: Any) -> Pod:
        """Open a pod at a URL of its own."""
        name = f"p{len(self.pods)}"
        gaps: list[Gap] = []
        records: list[Record] = []
        fleet = Fleet(url, self.options, self.stack)
        backplane = await fleet.pod(on_gap=gaps.append, observer=partial(self._observe, name, records), **options)
        pod = Pod(name, backplane, gaps, records)
        self.pods.append(pod)
        return pod

    def _observe(self, name: str, records: list[Record], record: Record) -> None:
        if isinstance(record, EventDropped):
            self.ledger.anonymous[name] += record.count
        else:
            records.append(record)

    async def sockets(self, pod: Pod, count: int) -> list[Witness]:
        """Attach so many sockets, each associated with one of the targets; with all where there are fewer sockets."""
        made: list[Witness] = []
        for number in range(count):
            ids = [f"u{n}" for n in range(self.targets) if n % count == number] if count < self.targets else None
            made.append(await self.socket(pod, *(ids or [f"u{number % self.targets}"])))
        return made

    async def socket(self, pod: Pod, *ids: str) -> Witness:
        """Attach one socket, associated with these users; each association is confirmed."""
        witness = Witness(f"{pod.name}-c{len(self.ledger.witnesses)}", frozenset(ids), pod.name)
        await pod.backplane.attach(witness.name, witness.take, on_gap=witness.gaps.append)
        for target in ids:
            assert await pod.backplane.associate(witness.name, Target.user(target)) is True
        witness.since = time.time()
        self.ledger.witnesses.append(witness)
        return witness

    async def publish(self, pod: Pod, count: int = 1) -> None:
        """Publish to the targets in turn. A drop that the publish itself counts is written down by name."""
        for _ in range(count):
            target = f"u{self._turn % self.targets}"
            self._turn += 1
            event = self.ledger.new(pod.name, target)
            pod.on_the_way.append(event)
            before = self.ledger.anonymous[pod.name]
            await pod.backplane.publish(Target.user(target), event)
            if self.ledger.anonymous[pod.name] == before + 1:
                self.ledger.anonymous[pod.name] -= 1
                self.ledger.dropped.add(event)

    @staticmethod
    async def publish_unrecorded(pod: Pod) -> None:
        """Publish to nobody in particular, and keep no book of it: for what measures memory."""
        await pod.backplane.publish(Target.user("nobody"), "unrecorded")

    @asynccontextmanager
    async def traffic(self, *pods: Pod, rate_per_s: float = RATE_PER_S) -> AsyncGenerator[None]:
        """Publish steadily from these pods while the block runs; a publish that raises fails the test."""
        stop = asyncio.Event()

        async def stream(pod: Pod) -> None:
            clock = asyncio.get_running_loop().time
            due = clock()
            while not stop.is_set():
                await self.publish(pod)
                due += 1 / rate_per_s
                if due < clock() - 1:
                    due = clock()  # after a standstill go on at the same pace, without a burst
                await asyncio.sleep(max(0, due - clock()))

        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(self._watch(pod)) for pod in pods]
            for pod in pods:
                group.create_task(stream(pod), name=f"traffic-{pod.name}")
            try:
                yield
            finally:
                stop.set()
                for watch in watching:
                    watch.cancel()

    async def _watch(self, pod: Pod) -> None:
        """Write down again and again what the broker has by now."""
        while True:
            await self._confirmed(pod, None)
            await asyncio.sleep(WATCH_S)

    async def _confirmed(self, pod: Pod, deadline_s: float | None) -> None:
        events = pod.on_the_way[:]
        await pod.backplane.flush(timeout_s=deadline_s)
        self.ledger.has_left(events)
        del pod.on_the_way[: len(events)]

    async def more(self, count: int, what: str, *witnesses: Witness) -> None:
        """Wait until each of these sockets (all, by default) got so many more events from other pods."""
        watched = witnesses or tuple(self.ledger.witnesses)
        goals = {witness.name: witness.remote + count for witness in watched}

        def arrived() -> bool:
            return all(witness.remote >= goals[witness.name] for witness in watched)

        await until(arrived, f"{count} more events: {what}", 60)

    async def more_published(self, count: int) -> None:
        """Wait until so many more events were published: publish returns, whatever happens."""
        goal = len(self.ledger.at) + count
        await until(lambda: len(self.ledger.at) >= goal, "publish returns", 60)

    async def new_link(self, pod: Pod, links: int) -> None:
        """Wait until a pod that had so many links has another, and is live."""
        await until(lambda: pod.links > links and pod.is_live, "the link is replaced", 60)

    async def all_live(self, what: str = "all pods live", deadline_s: float = 60) -> None:
        """Wait until each pod is live."""
        await until(lambda: all(pod.is_live for pod in self.pods), what, deadline_s)

    async def all_degraded(self, what: str = "all pods notice", deadline_s: float = 60) -> None:
        """Wait until each pod is degraded."""
        await until(lambda: all(pod.is_degraded for pod in self.pods), what, deadline_s)

    async def settle(self, deadline_s: float = 60) -> None:
        """Return once all that was published has arrived wherever it will, and all gaps were told.

        A last event follows on each path, and arrives; gaps of one connection come a second apart at most.
        """
        await self.all_live()
        publishers = {event[0] for event in self.ledger.at}
        for pod in self.pods:
            if pod.name in publishers and pod.is_live:
                await self._confirmed(pod, deadline_s)
                await self.publish(pod, self.targets)
                await self._confirmed(pod, deadline_s)
        await self.settle_after(deadline_s)

    async def settle_after(self, deadline_s: float = 60) -> None:
        """Return once the last event of each publisher is at each socket, and all gaps were told."""
        await until(self.ledger.everywhere, "the last event of each publisher at each socket", deadline_s, LOOK_S)
        for pod in self.pods:
            if pod.gaps:
                mine = [witness for witness in self.ledger.witnesses if witness.pod == pod.name]
                await until(partial(_all_told, pod, mine), "the last gap at each socket", deadline_s)

    async def clean(self) -> None:
        """Settle, and assert that what was reported explains all that is missing.

        A hole is reported a second after the gap before it, and nothing shows that one waits.
        """
        await self.settle()
        with suppress(AssertionError):  # the ledger says what is wrong
            await until(self._explained, "the last hole at each socket", HOLES_S, LOOK_S)
        self.ledger.assert_clean()

    def _explained(self) -> bool:
        return not any(self.ledger.verdict(witness).faults() for witness in self.ledger.witnesses)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stack.__aexit__(kind, error, traceback)


def _all_told(pod: Pod, witnesses: list[Witness]) -> bool:
    """Whether each socket was told of the pod's last outage, and no gap waits.

    A channel's gap ends when that channel is heard again, so those of one outage need not end at the same moment.
    """
    ends = [(gap.until, gap.since) for gap in pod.gaps if gap.cause == "reconnect"]
    told = [max((gap.until for gap in witness.gaps), default=0.0) for witness in witnesses]
    return not gaps_wait(pod.backplane) and (not ends or all(end > max(ends)[1] for end in told))
