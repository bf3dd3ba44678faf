"""NATS without Backplane: nats-py as people write it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from bench.libraries import library
from bench.subjects.running import ClientSender, topic
from bench.subjects.turn import Socket, Sockets, Turn

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["NatsPy"]


@frozen(kw_only=True)
class NatsPy:
    """`await client.publish()`, one after the other, and a flush at the end."""

    wildcard: bool = False  # whether one subscription hears the subjects of all users; else each user's has its own

    @asynccontextmanager
    async def sender(self, turn: Turn) -> AsyncGenerator[_Publisher]:
        """One client."""
        client = await library("nats").connect(turn.url)
        try:
            yield _Publisher(client, turn)
        finally:
            await client.close()

    @asynccontextmanager
    async def receiver(self, turn: Turn, sockets: Sockets) -> AsyncGenerator[None]:
        """A callback per subscription."""
        by_subject = {topic(turn, user): sockets.of(user) for user in turn.users}
        client = await library("nats").connect(turn.url)
        try:
            if self.wildcard:
                await client.subscribe(topic(turn, "*"), cb=_Dispatcher(by_subject).on_message)
            else:
                for subject, socket in by_subject.items():
                    await client.subscribe(subject, cb=_Handler(socket).on_message)
            await client.flush()
            yield
        finally:
            await client.close()


@frozen
class _Handler:
    socket: Socket

    async def on_message(self, message: Msg) -> None:
        self.socket.take(message.data)


@frozen
class _Dispatcher:
    by_subject: Mapping[str, Socket]

    async def on_message(self, message: Msg) -> None:
        self.by_subject[message.subject].take(message.data)


class _Publisher(ClientSender):
    async def settle(self, _: int, /) -> None:
        """`await client.flush()`."""
        await self.client.flush()
