"""A fleet over a broker in memory, and small helpers that wait with a deadline."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from attrs import define, field
from backplane_core import BaseBackplane, DistributedBackplane, Gap, Target
from backplane_core._local.registry import SinkAttachment
from backplane_core.testing import MemoryBroker, MemoryTransport

DEADLINE_S = 10.0


async def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return once the condition holds; fail with what was waited for."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        await asyncio.sleep(0.001)


def told(error: BaseException | None) -> str:
    """Everything that an error's chain says, in every form in which it could be shown."""
    texts: list[str] = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        if isinstance(error, UnicodeError):
            texts.append(repr(getattr(error, "object", None)))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


async def user(
    backplane: BaseBackplane, conn_id: str, sink: Callable[[Any], Any], *, raw: bool = False
) -> SinkAttachment:
    """Attach a sink as a connection of user u1."""
    attachment = await backplane.attach(conn_id, sink, raw=raw)
    await backplane.associate(conn_id, Target.user("u1"))
    return attachment


@define
class Socket:
    """What one connection got, in order; gaps stand among the events where they were told."""

    conn_id: str
    stream: list[Any] = field(factory=list[Any])

    @property
    def events(self) -> list[Any]:
        return [item for item in self.stream if not isinstance(item, Gap)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.stream if isinstance(item, Gap)]

    async def has(self, count: int) -> list[Any]:
        await until(lambda: len(self.events) >= count, f"{count} events at {self.conn_id}: {len(self.events)}")
        return self.events


class LinkAround:
    """A link that does as the one in it, but for what a test replaces."""

    def __init__(self, link: Any) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


@define
class MemoryFleet:
    """Pods over one `MemoryBroker`."""

    routing: str = "broadcast"
    broker: MemoryBroker = field(factory=MemoryBroker)
    stack: AsyncExitStack = field(factory=AsyncExitStack)

    def make(self, transport: MemoryTransport | None = None, **options: Any) -> DistributedBackplane:
        """A pod that is not open yet."""
        chosen: dict[str, Any] = {"routing": self.routing, **options}
        return DistributedBackplane(MemoryTransport(self.broker) if transport is None else transport, **chosen)

    async def pod(self, transport: MemoryTransport | None = None, **options: Any) -> DistributedBackplane:
        return await self.stack.enter_async_context(self.make(transport, **options))

    @staticmethod
    async def socket(pod: DistributedBackplane, conn_id: str, *targets: Target) -> Socket:
        socket = Socket(conn_id)
        await pod.attach(conn_id, socket.stream.append, on_gap=socket.stream.append)
        for target in targets:
            assert await pod.associate(conn_id, target) is True
        return socket


def shown(value: object) -> str:
    """A parameter as a test's id: the same in every process, so without an address."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
