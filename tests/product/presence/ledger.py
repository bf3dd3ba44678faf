"""Pods over a real broker whose sockets come and go while pods, lines and the broker fail: who watches sees the truth.

Each pod has a line of its own to the broker. A pod that is killed is cut off for good first, so that not a byte of it
gets out from then on; for the others that is the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, Final

from attrs import define, field
from backplane_core import (
    BaseBackplane,
    PresenceJoined,
    PresenceSnapshot,
    Target,
    connect,
)
from backplane_testservers import OwnBroker, Proxy

__all__ = ["Ledger", "Reader"]

TARGETS: Final = (Target("room", "42"), Target("room", "43"), Target.everyone())
KEYS: Final = tuple(f"user-{number}" for number in range(40))
PODS: Final = 5
WATCHERS: Final = 3
FAULT_EVERY: Final = 150
"""Changes between two faults, on average."""
QUIET_S: Final = 60.0
"""How long a busy machine may take until all is repaired."""


@define(eq=False)
class Reader:
    """One that watches, and what it believes."""

    target: Target
    task: asyncio.Task[None] | None = None
    present: dict[str, object] = field(factory=dict[str, object])
    wrong: list[str] = field(factory=list[str])
    counts: Counter[str] = field(factory=Counter[str])

    def begin(self, pod: BaseBackplane) -> None:
        self.task = asyncio.create_task(self._read(pod), name="watcher")

    async def _read(self, pod: BaseBackplane) -> None:
        async for change in pod.fleet.watch(self.target):
            self.counts[type(change).__name__] += 1
            if isinstance(change, PresenceSnapshot):
                self.counts["skipped"] += change.skipped
                self.present = dict(change.present)
            elif isinstance(change, PresenceJoined):
                if self.present.get(change.key) == change.presence:
                    self.wrong.append(f"{change.key} joined twice")
                self.present[change.key] = change.presence
            elif self.present.pop(change.key, None) is None:
                self.wrong.append(f"{change.key} left and was not there")

    async def end(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])


@define(eq=False)
class LedgerPod:
    """A pod, its line, and who is on it."""

    pod: BaseBackplane
    proxy: Proxy
    stack: AsyncExitStack
    sockets: dict[str, tuple[str, set[Target]]] = field(factory=dict[str, tuple[str, set[Target]]])
    readers: list[Reader] = field(factory=list[Reader])


@define(eq=False)
class Ledger:
    """All that happens, and what is true.

    Args:
        broker: The broker.
        options: Of every pod.
        random: Of everything.
    """

    broker: OwnBroker
    options: dict[str, Any]
    random: Random
    pods: list[LedgerPod] = field(factory=list[LedgerPod])
    faults: Counter[str] = field(factory=Counter[str])
    readers: list[Reader] = field(factory=list[Reader])
    _last: int = 0
    _mending: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]])

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Five pods, three of which watch."""
        try:
            for number in range(PODS):
                self.pods.append(await self._start(watches=number < WATCHERS))
            yield
        finally:
            for task in self._mending:
                task.cancel()
            for pod in self.pods:
                await self._end(pod)

    async def play(self, changes: int) -> None:
        """Let so many sockets come, go and move, and something fail every now and then."""
        choices = (self._join, self._join, self._leave, self._move)
        faults = (self._cut, self._cut, self._cut_for_long, self._kill, self._restart_pod, self._restart_broker)
        for _ in range(changes):
            await self.random.choice(choices)()
            if self.random.random() < 0.1:
                await asyncio.sleep(self.random.random() * 0.01)
            if self.random.random() < 1 / FAULT_EVERY:
                await self._fail(self.random.choice(faults))
        for fault in faults:  # each at least once
            if not self.faults[fault.__name__]:
                await self._fail(fault)

    async def settle(self) -> None:
        """Return once every watcher sees the truth; after a minute, raise what it sees instead."""
        if self._mending:
            await asyncio.wait(self._mending)
        problems = self.problems()
        for _ in range(int(QUIET_S / 0.2)):
            if not problems:
                return
            await asyncio.sleep(0.2)
            problems = self.problems()
        raise AssertionError("\n".join(problems))

    def problems(self) -> list[str]:
        """What a watcher sees that is not so, or does not see."""
        found: list[str] = []
        for number, pod in enumerate(self.pods):
            for reader in pod.readers:
                truth = self.truth(reader.target)
                if ghosts := reader.present.keys() - truth:
                    found.append(f"pod {number} on {reader.target}: ghosts {sorted(ghosts)}")
                if missing := truth - reader.present.keys():
                    found.append(f"pod {number} on {reader.target}: missing {sorted(missing)}")
        return found

    def truth(self, target: Target) -> set[str]:
        """Who is present."""
        return {
            key
            for pod in self.pods
            for key, targets in pod.sockets.values()
            if target.kind == "everyone" or target in targets
        }

    # Sockets

    async def _join(self) -> None:
        pod = self.random.choice(self.pods)
        self._last += 1
        conn_id, key = f"c{self._last}", self.random.choice(KEYS)
        # It is in its place at once; what the broker confirms, nobody here waits for.
        await _in_any_case(pod.pod.attach(conn_id, lambda _: None, presence={"name": key}, presence_key=key))
        targets = set(self.random.sample(TARGETS[:2], self.random.randint(0, 2)))
        for target in targets:
            pod.pod.associate_nowait(conn_id, target)
        pod.sockets[conn_id] = (key, targets)

    async def _leave(self) -> None:
        pod = self.random.choice(self.pods)
        if pod.sockets:
            conn_id = self.random.choice(list(pod.sockets))
            del pod.sockets[conn_id]
            await pod.pod.detach(conn_id)

    async def _move(self) -> None:
        pod, target = self.random.choice(self.pods), self.random.choice(TARGETS[:2])
        if pod.sockets:
            conn_id = self.random.choice(list(pod.sockets))
            targets = pod.sockets[conn_id][1]
            if target in targets:
                targets.remove(target)
                await pod.pod.dissociate(conn_id, target)
            else:
                targets.add(target)
                pod.pod.associate_nowait(conn_id, target)

    # Faults

    async def _fail(self, fault: Callable[[], Awaitable[None]]) -> None:
        self.faults[fault.__name__] += 1
        await fault()

    async def _cut(self) -> None:
        self.random.choice(self.pods).proxy.reset()

    async def _cut_for_long(self) -> None:
        """Longer than a pod is a member without a sign of life."""
        pod = self.random.choice(self.pods)
        pod.proxy.refuse()
        pod.proxy.reset()
        self._later(1.0 + 2 * self.random.random(), pod.proxy.accept)

    async def _kill(self) -> None:
        number = self.random.randrange(PODS)
        killed = self.pods[number]
        killed.proxy.refuse()
        killed.proxy.reset()
        self.pods[number] = await self._start(watches=number < WATCHERS)
        await self._end(killed)

    async def _restart_pod(self) -> None:
        number = self.random.randrange(PODS)
        await self._end(self.pods[number])
        self.pods[number] = await self._start(watches=number < WATCHERS)

    async def _restart_broker(self) -> None:
        await asyncio.to_thread(self.broker.restart)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            call()

        task = asyncio.create_task(wait())
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    # Pods

    async def _start(self, *, watches: bool) -> LedgerPod:
        stack = AsyncExitStack()
        proxy = stack.enter_context(Proxy(self.broker.host, self.broker.port))
        pod = await stack.enter_async_context(connect(proxy.url(self.broker.url), **self.options, wait=False))
        started = LedgerPod(pod, proxy, stack)
        if watches:
            for target in TARGETS:
                reader = Reader(target)
                reader.begin(pod)
                started.readers.append(reader)
                self.readers.append(reader)
        return started

    @staticmethod
    async def _end(pod: LedgerPod) -> None:
        for reader in pod.readers:
            await reader.end()
        await pod.pod.aclose(drain_s=0.2)
        await pod.stack.aclose()


async def _in_any_case(attaching: Awaitable[object]) -> None:
    """Attach without waiting for what the broker says: the sink stays attached if nobody waits any longer."""
    task = asyncio.ensure_future(attaching)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
