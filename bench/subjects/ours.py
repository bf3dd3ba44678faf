"""Backplane, by its public API alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal, TypeAlias, get_args

from attrs import frozen
from backplane_core import Connection, DistributedBackplane, Publisher, Target, connect

from bench.events import flat, nested, user_id
from bench.subjects.running import reading
from bench.subjects.turn import Socket, Sockets, Turn

__all__ = ["ROUTINGS", "Ours", "Routing"]

Routing: TypeAlias = Literal["broadcast", "interest"]
ROUTINGS: Final[tuple[Routing, ...]] = get_args(Routing)

_FLUSH_S: Final = 60


@frozen(kw_only=True)
class Ours:
    """Backplane on both sides."""

    routing: Routing = "broadcast"  # of both pods
    # Whether a connection's sink gets each event (`attach`); else a task reads its queue (`connection()`).
    sinks: bool = False
    worker: bool = False  # whether the sender is a `Publisher`, which hears nothing; else a pod like the receiver
    query: str = ""  # of the URL: options of the adapter
    log: Literal["", "streams", "jetstream"] = ""  # which log carries the events; else pub/sub
    flushes: bool = False  # whether each publish is followed by a flush, which waits until the broker has the event

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Sender]:
        """A pod that publishes, or a worker."""
        make = _FlushingSender if self.flushes else _Sender
        if self.worker:
            async with Publisher(turn.url, channel=turn.channel, routing=self.routing) as publisher:
                yield make(publisher, turn, echoes=False)
        else:
            async with self._pod(turn) as backplane:
                yield make(backplane, turn, echoes=self.routing == "broadcast")

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """A pod with a connection for each user."""
        async with self._pod(turn) as backplane:
            if self.sinks:
                for user in turn.users:
                    conn_id = f"connection-{user}"
                    await backplane.attach(conn_id, sockets.of(user).take, raw=True)
                    assert await backplane.associate(conn_id, Target.user(user)), "the broker did not confirm it"
                yield
                return
            async with AsyncExitStack() as stack:
                connections = {
                    user: await stack.enter_async_context(backplane.connection(f"connection-{user}", Target.user(user)))
                    for user in turn.users
                }
                async with reading([_read(connection, sockets.of(user)) for user, connection in connections.items()]):
                    yield

    @asynccontextmanager
    async def _pod(self, turn: Turn) -> AsyncGenerator[DistributedBackplane]:
        url = f"{turn.url}?{self.query}" if self.query else turn.url
        url = url.replace("://", f"+{self.log}://", 1) if self.log else url
        async with connect(url, channel=turn.channel, routing=self.routing) as backplane:
            assert isinstance(backplane, DistributedBackplane)
            yield backplane


@frozen
class _Sender:
    backplane: DistributedBackplane
    turn: Turn
    echoes: bool

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await backplane.publish(Target.user(user), {…})`, as README has it."""
        backplane = self.backplane
        if self.turn.flat:
            target = Target.user(self.turn.users[0])
            for number in numbers:
                await backplane.publish(target, flat(number))
        else:
            for number in numbers:
                user = user_id(number)
                await backplane.publish(Target.user(user), nested(number, user))

    async def settle(self, published: int, /) -> None:
        """With broadcast, also until this pod has read what came back: its own echo is part of its cost."""
        await self.backplane.flush(timeout_s=_FLUSH_S)
        while self.echoes and self.backplane.stats().echoed < published:  # noqa: ASYNC110 -- only a counter shows echoes
            await asyncio.sleep(0.002)


class _FlushingSender(_Sender):
    async def publish(self, numbers: Iterable[int]) -> None:
        """`await backplane.flush()` after each publish: the event is with the broker before the next."""
        for number in numbers:
            user = user_id(number)
            await self.backplane.publish(Target.user(user), nested(number, user))
            await self.backplane.flush(timeout_s=_FLUSH_S)


async def _read(connection: Connection, socket: Socket) -> None:
    async for event in connection:
        socket.take(event.text)
