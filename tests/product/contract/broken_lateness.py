"""Links that are broken on purpose: in what they do while a confirmation is late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from backplane_core import Frame, Link, Lost, TransportError

from tests.product.contract.sound import Sound, SoundTransport


class ConfirmsLate(Sound):
    """Sound: its confirmations stand behind what its consumer has not taken yet."""

    def __init__(self, link: Link, transport: SoundTransport) -> None:
        super().__init__(link, transport)
        self.idle = asyncio.Event()
        self.idle.set()

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        try:
            async for batch in super().receive():
                self.idle.clear()
                yield batch
                self.idle.set()
        finally:
            self.idle.set()

    async def send(self, frames: Sequence[Frame]) -> None:
        await self.idle.wait()
        await super().send(frames)


class GivesUpWhenConfirmedLate(ConfirmsLate):
    """A client library's own time limit, behind which the connection lives on."""

    async def send(self, frames: Sequence[Frame]) -> None:
        try:
            async with asyncio.timeout(0.02):
                await super().send(frames)
        except TimeoutError:
            raise TransportError("no answer in time") from None


class SendsAgainWhenConfirmedLate(ConfirmsLate):
    async def send(self, frames: Sequence[Frame]) -> None:
        if not self.idle.is_set():
            await self.inner.send(self.sent(list(frames)))
        await super().send(frames)


class EndsTheNextWhenConfirmedLate(ConfirmsLate):
    """A cancelled call gives up its place in the queue, and its confirmation ends the call behind."""

    credit = False

    async def send(self, frames: Sequence[Frame]) -> None:
        if self.credit:
            self.credit = False
            self.later(lambda: self.inner.send(frames))
            await self.idle.wait()
            return
        try:
            await super().send(frames)
        except asyncio.CancelledError:
            self.credit = True
            raise

    async def aclose(self) -> None:
        await self.give_up_tasks()
        await super().aclose()
