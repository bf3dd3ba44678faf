"""Mixed fleets: Python pods and foreign ones on one channel, publishing all at once, with one ledger for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from attrs import define, frozen
from backplane_core import BaseBackplane, Target

from tests.product.interop.ledger import FIVE_KINDS, Ledger, Publication

__all__ = ["HOST_KINDS", "Foreign", "Member", "Python", "attach_sockets", "traffic"]

IDS = ("1", "2", "ü 🙂*.>")
FOR_ALL = [Target(kind, id_) for kind in FIVE_KINDS if kind != "connection" for id_ in IDS]
HOST_KINDS = [Target(kind, id_) for kind in ("chat_room", "a_b_c") for id_ in IDS]
CHUNK = 50

# A publication, and how many sockets of the publisher's own pod must get it.
Due = tuple[Publication, int]


class Member(Protocol):
    """A pod of a mixed fleet."""

    @property
    def name(self) -> str: ...
    @property
    def foreign(self) -> bool: ...
    async def attach(self, conn_id: str, sink: Callable[[Any], None], targets: Sequence[Target]) -> None: ...
    async def publish(self, publications: Sequence[Due]) -> None: ...


class ForeignPodLike(Protocol):
    """A foreign pod, here or in a process of its own."""

    async def attach(self, conn_id: str, sink: Callable[[Any], None], targets: Sequence[Target]) -> None: ...
    async def publish(self, events: Sequence[tuple[Target, Any]]) -> None: ...


@frozen
class Foreign:
    """Publishes to one target of the five kinds at a time."""

    name: str
    pod: ForeignPodLike
    foreign: bool = True

    async def attach(self, conn_id: str, sink: Callable[[Any], None], targets: Sequence[Target]) -> None:
        await self.pod.attach(conn_id, sink, targets)

    async def publish(self, publications: Sequence[Due]) -> None:
        await self.pod.publish([(publication.targets[0], publication.event) for publication, _ in publications])


@define
class Python:
    """Publishes whatever there is: one target of any kind, everyone, unions; some with exclusions.

    Args:
        for_others: How many of its publications a foreign pod must drop, for their first target.
    """

    name: str
    pod: BaseBackplane
    foreign: bool = False
    for_others: int = 0

    async def attach(self, conn_id: str, sink: Callable[[Any], None], targets: Sequence[Target]) -> None:
        await self.pod.attach(conn_id, sink)
        for target in targets:
            assert await self.pod.associate(conn_id, target) is True

    async def publish(self, publications: Sequence[Due]) -> None:
        for publication, local in publications:
            self.for_others += publication.targets[0].kind not in FIVE_KINDS
            delivered = await self.pod.publish(publication.targets, publication.event, exclude=publication.exclude)
            assert delivered == local


async def attach_sockets(ledger: Ledger, members: Sequence[Member], random: Random) -> None:
    """Three sockets on each pod, on targets that overlap."""
    for member in members:
        for number in range(3):
            targets = random.sample(FOR_ALL, 4) + ([] if member.foreign else random.sample(HOST_KINDS, 2))
            socket = ledger.socket(member.name, f"{member.name}-{number}", *targets, foreign=member.foreign)
            await member.attach(socket.conn_id, socket.take, list(socket.targets))


async def traffic(ledger: Ledger, members: Sequence[Member], random: Random, *, rounds: int, each: int) -> None:
    """All publish at once. After each round all that is due must be there: no broker cuts off a test that is slow."""
    for _ in range(rounds):
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(publish(ledger, member, random, each))
        await ledger.settled()
    # What comes last from each publisher to each socket: whatever was doubled came before it.
    for member in members:
        await member.publish(
            [ledger.publication(member.name, Target.connection(socket.conn_id)) for socket in ledger.sockets]
        )
    await ledger.settled()


async def publish(ledger: Ledger, member: Member, random: Random, count: int) -> None:
    for start in range(0, count, CHUNK):
        chosen = [choose(ledger, member, random) for _ in range(min(CHUNK, count - start))]
        await member.publish(
            [ledger.publication(member.name, *targets, exclude=exclude) for targets, exclude in chosen]
        )


def choose(ledger: Ledger, member: Member, random: Random) -> tuple[list[Target], tuple[str, ...]]:
    conn_ids = [socket.conn_id for socket in ledger.sockets]
    singles = [*FOR_ALL, Target.user("nobody"), Target.connection(random.choice(conn_ids))]
    if member.foreign:
        return [random.choice(singles)], ()
    if random.random() < 0.05:
        targets = [Target.everyone()]
    else:
        targets = random.sample([*singles, *HOST_KINDS], random.choice([1, 1, 1, 2, 3]))
    return targets, tuple(random.sample(conn_ids, 2)) if random.random() < 0.2 else ()
