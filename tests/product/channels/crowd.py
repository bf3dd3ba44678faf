"""A crowd of consumers on several layers that join and leave groups, and a check that nothing is unexplained."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from attrs import define, field
from backplane_channels import BackplaneChannelLayer

from tests.support.waiting import until

__all__ = ["Consumer", "Crowd"]


@define(eq=False)
class Consumer:
    """Reads from its channel, and notes what it got of each group, and where it may have missed something.

    Args:
        layer: Its layer.
        channel: The name of its channel.
    """

    layer: BackplaneChannelLayer
    channel: str
    joined: dict[str, int] = field(factory=dict[str, int])
    """Of each group that it is in, the number of the first message that it must get."""
    got: dict[str, list[int]] = field(factory=lambda: defaultdict[str, list[int]](list))
    gaps: int = 0
    wrong: list[str] = field(factory=list[str])

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            message = await self.layer.receive(self.channel)
            if message["type"] == "backplane.gap":
                self.gaps += 1
                continue
            group, number = message["group"], message["number"]
            if self.got[group] and number <= self.got[group][-1]:
                self.wrong.append(f"{group}: {number} after {self.got[group][-1]}")
            self.got[group].append(number)


@define
class Crowd:
    """Consumers on several layers.

    Args:
        layers: Each as in a process of its own.
        groups: Their names.
        seed: Decides who goes where.
    """

    layers: Sequence[BackplaneChannelLayer]
    groups: Sequence[str]
    seed: int = 1
    consumers: list[Consumer] = field(factory=list[Consumer])
    sent: dict[str, int] = field(factory=lambda: defaultdict[str, int](int))
    _random: random.Random = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(factory=list["asyncio.Task[None]"])

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    async def gather(self, count: int) -> None:
        """Make consumers, each in one group."""
        for number in range(count):
            layer = self.layers[number % len(self.layers)]
            consumer = Consumer(layer, await layer.new_channel())
            self.consumers.append(consumer)
            self._tasks.append(asyncio.ensure_future(consumer.run()))
            await self.join(consumer, self.groups[number % len(self.groups)])

    async def join(self, consumer: Consumer, group: str) -> None:
        """Have a consumer join; it must get what is sent from then on."""
        await consumer.layer.group_add(group, consumer.channel)
        consumer.joined[group] = self.sent[group]

    async def leave(self, consumer: Consumer, group: str) -> None:
        """Have a consumer leave, once it has all that was sent so far."""
        await self.settle([consumer])
        await consumer.layer.group_discard(group, consumer.channel)
        self.check(consumer)
        consumer.joined.pop(group)
        consumer.got.pop(group, None)

    async def move_one(self) -> None:
        """Have any consumer join a group, or leave one."""
        consumer = self._random.choice(self.consumers)
        group = self._random.choice(self.groups)
        if group in consumer.joined:
            await self.leave(consumer, group)
        else:
            await self.join(consumer, group)

    async def send(self, group: str) -> None:
        """Send the next message of a group, from any layer but always the same one."""
        number = self.sent[group]
        self.sent[group] = number + 1
        layer = self.layers[self.groups.index(group) % len(self.layers)]
        await layer.group_send(group, {"type": "x", "group": group, "number": number})

    async def settle(self, consumers: Sequence[Consumer]) -> None:
        """Return once these have all that they must get, or a gap for it."""
        for consumer in consumers:
            await until(partial(self._has_all, consumer), "all has come", 60)

    def check(self, consumer: Consumer) -> None:
        """Assert that nothing is missing, twice, or out of order."""
        assert not consumer.wrong, consumer.wrong
        if not consumer.gaps:
            for group, since in consumer.joined.items():
                got = [number for number in consumer.got[group] if number >= since]
                assert got == list(range(since, self.sent[group])), (group, since, len(got))

    async def end(self) -> None:
        """Stop reading."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _has_all(self, consumer: Consumer) -> bool:
        return bool(consumer.wrong) or all(
            self.sent[group] == since or (consumer.got[group] and consumer.got[group][-1] >= self.sent[group] - 1)
            for group, since in consumer.joined.items()
        )
