"""Several small pods in one process: `python -m tests.product.pods.crowd_process URL OPTIONS NAME PODS TARGETS`.

Each is a backplane with a link of its own, and one connection that holds its targets: `Target("room", "NAME-0-0")` ...
Says `{"live": PODS}`; then, told `{"do": "watch"}`, `{"watching": true}`, `{"failing": ...}` once each has tried in
vain for a while, and `{"again": ...}` once all are live again. `{"do": "got"}`: how many events came to each.
`{"do": "stop"}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define, field
from backplane_core import DistributedBackplane, Gap, Link, Target, Traits, Transport
from backplane_nats import NatsTransport
from backplane_redis import RedisTransport

from tests.product.pods.pod_process import say

ENOUGH_ATTEMPTS: Final = 4
"""By then the waits between them are long enough to tell pods in step from pods that are not."""
_WITHIN_S: Final = 300


@define
class NotedTransport:
    """Notes when it was asked for a link and when it had one, and what the links are asked for."""

    _transport: Transport
    attempts: int = 0
    opened: list[float] = field(factory=list[float])
    commands: int = 0
    channels: int = 0
    tried: asyncio.Event = field(factory=asyncio.Event)

    @property
    def traits(self) -> Traits:
        return self._transport.traits

    def reset(self) -> None:
        self.attempts = self.commands = self.channels = 0
        self.opened.clear()
        self.tried.clear()

    async def open(self) -> Link:
        self.attempts += 1
        if self.attempts > ENOUGH_ATTEMPTS:
            self.tried.set()
        link = await self._transport.open()
        self.opened.append(time.monotonic())
        subscribe = link.subscribe

        async def counted(channels: Sequence[str]) -> None:
            self.commands += 1
            self.channels += len(channels)
            await subscribe(channels)

        vars(link).update(subscribe=counted)
        return link


@define
class CrowdPod:
    """One pod, and what its connection got."""

    name: str
    transport: NotedTransport
    backplane: DistributedBackplane
    got: int = 0
    gaps: int = 0

    def take(self, _: Any) -> None:
        self.got += 1

    def on_gap(self, _: Gap) -> None:
        self.gaps += 1

    async def fill(self, targets: int) -> None:
        await self.backplane.open()
        await self.backplane.attach(self.name, self.take, on_gap=self.on_gap)
        rooms = [Target("room", f"{self.name}-{number}") for number in range(targets)]
        assert all(await asyncio.gather(*[self.backplane.associate(self.name, room) for room in rooms]))
        self.transport.reset()

    async def again(self) -> None:
        await self.backplane.wait_for_state("degraded", timeout_s=_WITHIN_S)
        await self.backplane.wait_for_state("live", timeout_s=_WITHIN_S)


async def watch(pods: list[CrowdPod]) -> None:
    say(watching=True)
    coming = [asyncio.create_task(pod.again()) for pod in pods]
    await asyncio.gather(*[pod.transport.tried.wait() for pod in pods])
    say(failing=max([pod.transport.attempts for pod in pods]))
    await asyncio.gather(*coming)
    say(
        again={
            "opened": [at for pod in pods for at in pod.transport.opened],
            "commands": [pod.transport.commands for pod in pods],
            "channels": [pod.transport.channels for pod in pods],
            "gaps": [pod.gaps for pod in pods],
        }
    )


async def main(url: str, options: dict[str, Any], name: str, count: int, targets: int) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    pods: list[CrowdPod] = []
    for number in range(count):
        inner = NatsTransport(url) if urlsplit(url).scheme == "nats" else RedisTransport(url)
        transport = NotedTransport(inner)
        pods.append(CrowdPod(f"{name}-{number}", transport, DistributedBackplane(transport, **options)))
    for pod in pods:
        await pod.fill(targets)
    say(live=len(pods))
    while line := await lines.readline():
        command = json.loads(line)["do"]
        if command == "watch":
            await watch(pods)
        elif command == "got":
            say(got=[pod.got for pod in pods])
        else:
            break
    await asyncio.gather(*[pod.backplane.aclose() for pod in pods])
    say(stopped=True)


if __name__ == "__main__":
    _, url, options, name, pods, targets = sys.argv
    asyncio.run(main(url, json.loads(options), name, int(pods), int(targets)))
