"""Clients that roam over the pods of a fleet with the id of the last event that they got, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import define
from backplane_core import CaughtUp, DistributedBackplane, Event, Gap

from tests.product.logs.model import USERS, Account, Plan, Reader, Run
from tests.product.model.virtual_loop import VirtualLoop, run

__all__ = ["RoamingAccount", "play_roaming"]

SLOW_S: Final = 0.003


@define
class RoamingAccount(Account):
    """What came of a run with clients that roam.

    Args:
        roams: How often one changed pods.
        replayed: Events that were handed to those that came back.
        unknown: Gaps since a client's id said nothing to the pod.
    """

    roams: int = 0
    replayed: int = 0
    unknown: int = 0


@define
class Roamer(Reader):
    """One client: it reads, leaves, and comes back elsewhere."""

    last_id: str | None = None
    task: asyncio.Task[None] | None = None


class RoamingRun(Run):
    """A run whose readers change pods."""

    def __init__(self, plan: Plan, loop: VirtualLoop) -> None:
        super().__init__(plan, loop)
        self.account: RoamingAccount = RoamingAccount()
        self.restarts = 0

    async def _attach(self, number: int) -> None:
        targets = frozenset(self.chance.sample(USERS, self.chance.randint(1, 3)))
        client = Roamer(f"c{number}", number % 3, targets)
        self.readers.append(client)
        client.last_id = self.pods[client.pod].last_event_id
        await self._begin(client)

    async def _begin(self, client: Roamer) -> None:
        ready = asyncio.Event()
        client.task = asyncio.create_task(self._live(client, self.pods[client.pod], ready))
        await ready.wait()

    async def _live(self, client: Roamer, pod: DistributedBackplane, ready: asyncio.Event) -> None:
        slow = self.chance.random() < 0.2
        async with pod.connection(
            client.conn_id, *client.targets, resume_from=client.last_id, max_pending=100_000
        ) as connection:
            ready.set()
            async for item in connection.items(marks=True):
                self._take(client, item)
                if slow and self.chance.random() < 0.3:
                    self.loop.spend(SLOW_S)
                    await asyncio.sleep(0)

    def _take(self, client: Roamer, item: Event | Gap | CaughtUp) -> None:
        if isinstance(item, Event):
            client.stream.append(item.value)
            client.last_id = item.id
        elif isinstance(item, Gap):
            client.stream.append(item)
            self.account.unknown += item.cause == "resume"
        else:
            client.last_id = item.id
            self.account.replayed += item.replayed

    async def _step(self) -> None:
        if self.plan.restarts and self.chance.random() < 0.04:
            await self._restart(self.chance.randrange(3))
        elif self.chance.random() < 0.35:
            client = self.chance.choice(self.readers)
            assert isinstance(client, Roamer)
            await self._roam(client)
        else:
            await super()._step()

    async def _restart(self, index: int) -> None:
        """End a pod whose log has all that it published, and start another one; its clients go elsewhere meanwhile."""
        old = self.pods[index]
        await old.flush(timeout_s=60)
        guests = [client for client in self.readers if isinstance(client, Roamer) and client.pod == index]
        for client in guests:
            await self._leave(client)
        self.account.given_up += old.stats().dropped.get("refused", 0)
        await old.aclose()
        self.restarts += 1
        self.lives[index] += 1
        new = self._pod(f"{index} {self.restarts}", wait=False, **self.options)
        self.pods[index] = await self.stack.enter_async_context(new)
        for client in guests:
            await self._come(client)

    async def _leave(self, client: Roamer) -> None:
        assert client.task is not None
        client.task.cancel()
        await asyncio.wait([client.task])
        self.account.roams += 1

    async def _come(self, client: Roamer) -> None:
        client.pod = self.chance.randrange(3)
        client.task = asyncio.create_task(self._live(client, self.pods[client.pod], asyncio.Event()))

    async def _roam(self, client: Roamer) -> None:
        if self.chance.random() < 0.5:
            await asyncio.sleep(0)
        await self._leave(client)
        for _ in range(self.chance.randint(0, 6)):
            self._publish()
            if self.chance.random() < 0.3:
                await asyncio.sleep(self.chance.uniform(0, 0.3))
        await self._come(client)
        if self.chance.random() < 0.5:
            await asyncio.sleep(0)

    async def _settle(self) -> None:
        await super()._settle()
        await asyncio.sleep(30)
        for client in self.readers:
            assert isinstance(client, Roamer)
            assert client.task is not None
            if client.task.done():
                client.task.result()
            client.task.cancel()
            await asyncio.wait([client.task])

    def _may_repeat(self, reader: Reader) -> bool:
        """Return whether a reader came back with an id of which nobody knew any longer what it had got.

        A pod that did not read what was trimmed does not know its numbers, if their sender sends that again.
        """
        return any(isinstance(item, Gap) and item.cause in {"epoch", "resume", "trimmed"} for item in reader.stream)

    def _own_missing(self, reader: Reader, missing: set[tuple[int, int]]) -> set[tuple[int, int]]:
        return set()


def play_roaming(plan: Plan) -> RoamingAccount:
    """Play a plan with clients that roam, and return what came of it."""
    loop = VirtualLoop()
    account = run(loop, RoamingRun(plan, loop).play())
    assert isinstance(account, RoamingAccount)
    return account
