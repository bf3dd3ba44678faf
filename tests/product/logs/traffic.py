"""A fleet over a log and what each of its sockets should have got: `fleet`, `Traffic`, `reading`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from backplane_core import BaseBackplane, DurableLink, Frame, Lost, Target, connect

from tests.support.sockets import Socket, attach
from tests.support.waiting import until

__all__ = ["USER", "Traffic", "fleet", "reading"]

USER: Final = Target.user("u1")
END: Final = {"end": True}


@asynccontextmanager
async def reading(link: DurableLink) -> AsyncGenerator[list[Frame | Lost]]:
    """What a link yields, as far as it has come; closed at the end."""
    got: list[Frame | Lost] = []

    async def read() -> None:
        async for batch in link.receive():
            got.extend(batch)

    task = asyncio.create_task(read())
    try:
        yield got
    finally:
        task.cancel()
        await asyncio.wait([task])
        await link.aclose()


class Traffic:
    """Pods that publish to each other's sockets, and what each socket should have got."""

    def __init__(self, pods: list[BaseBackplane], sockets: list[Socket]) -> None:
        self.pods, self.sockets = pods, sockets
        self.number = 0

    async def publish(self, events: int) -> None:
        for _ in range(events):
            await self.pods[self.number % len(self.pods)].publish(USER, self.number)
            self.number += 1
            if not self.number % 20:
                await asyncio.sleep(0.005)

    async def settle(self) -> None:
        """Return once all has come that will: lanes are read each for itself, so the marker takes theirs."""
        for pod in self.pods:
            await pod.flush(timeout_s=30)
            await pod.publish(USER, END)
        for socket in self.sockets:
            await until(partial(self._has_ended, socket), f"the end comes to {socket.conn_id}", 30)
            socket.stream[:] = [item for item in socket.stream if item != END]

    async def live_again(self, links: list[int]) -> None:
        """Return once each pod has another link than it had."""
        await until(
            lambda: all(
                pod.stats().links > before and pod.state == "live" for pod, before in zip(self.pods, links, strict=True)
            ),
            "each pod has another link",
            30,
        )

    @property
    def links(self) -> list[int]:
        """How many links each pod has had."""
        return [pod.stats().links for pod in self.pods]

    def _has_ended(self, socket: Socket) -> bool:
        return socket.stream.count(END) == len(self.pods)

    def missing(self, socket: Socket) -> int:
        got: list[int] = socket.events
        assert len(set(got)) == len(got), "an event came twice"
        for sender in range(len(self.pods)):
            own = [number for number in got if number % len(self.pods) == sender]
            assert own == sorted(own), "events came out of order"
        assert set(got) <= {*range(self.number)}
        return self.number - len(got)

    def assert_whole(self) -> None:
        """Each socket got each event once, in order, and no gap."""
        for socket in self.sockets:
            assert self.missing(socket) == 0
            assert not socket.gaps


@asynccontextmanager
async def fleet(url: str, channel: str, **options: Any) -> AsyncGenerator[Traffic]:
    """Three pods with a socket each."""
    async with AsyncExitStack() as stack:
        chosen: dict[str, Any] = {"channel": channel, "beat_s": 0.1, **options}
        pods = [await stack.enter_async_context(connect(url, **chosen)) for _ in range(3)]
        sockets = [await attach(pod, f"c{number}", USER) for number, pod in enumerate(pods)]
        yield Traffic([*pods], sockets)
