"""Pods of one fleet over a real broker, and what their connections got."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from attrs import define, field
from backplane_core import BaseBackplane, Gap, Target, connect

DEADLINE_S = 20.0


async def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return once the condition holds; fail with what was waited for."""
    deadline = asyncio.get_running_loop().time() + deadline_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        # Deliveries come from a socket: there is nothing to await but the loop itself.
        await asyncio.sleep(0.002)


@define
class Socket:
    """What one connection got, in order."""

    pod: BaseBackplane
    conn_id: str
    events: list[Any] = field(factory=list[Any])
    gaps: list[Gap] = field(factory=list[Gap])

    async def has(self, count: int) -> list[Any]:
        """Wait for so many events and return all."""
        await until(lambda: len(self.events) >= count, f"{count} events at {self.conn_id}, it has {len(self.events)}")
        return self.events


@define
class Fleet:
    """Opens pods that share a broker, a channel and a routing; closes them at the end."""

    url: str
    options: dict[str, Any]
    stack: AsyncExitStack = field(factory=AsyncExitStack)

    async def pod(self, **options: Any) -> BaseBackplane:
        return await self.stack.enter_async_context(connect(self.url, **{**self.options, **options}))

    async def socket(self, pod: BaseBackplane, conn_id: str, *targets: Target) -> Socket:
        """Attach a connection; each association is confirmed."""
        socket = Socket(pod, conn_id)
        await pod.attach(conn_id, socket.events.append, on_gap=socket.gaps.append)
        for target in targets:
            assert await pod.associate(conn_id, target) is True
        return socket


async def settled(*pods: BaseBackplane, sockets: list[Socket]) -> None:
    """Return once whatever was published before has arrived wherever it will: a marker follows it on each path.

    Frames keep their order per publisher and channel; a marker goes over the shared channel and over each connection's
    own.
    """
    for number, pod in enumerate(pods):
        for socket in sockets:
            await pod.publish(Target.connection(socket.conn_id), {"marker": number})
        await pod.publish(Target.everyone(), {"marker": number})
    for socket in sockets:
        await until(partial(_has_markers, socket, 2 * len(pods)), f"markers at {socket.conn_id}")
        socket.events[:] = [event for event in socket.events if not _is_marker(event)]


def _is_marker(event: Any) -> bool:
    return isinstance(event, dict) and "marker" in event


def _has_markers(socket: Socket, count: int) -> bool:
    return sum(map(_is_marker, socket.events)) >= count
