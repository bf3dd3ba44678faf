"""Links and transports that are broken on purpose: in how they begin, end, are cancelled, and outlive their broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from attrs import evolve
from backplane_core import Frame, Link, Lost, Proven, Traits, TransportError
from backplane_core.testing import MemoryBroker

from tests.product.contract.sound import Sound, SoundTransport

# Beginnings and ends


class LeaksATask(Sound):
    def __init__(self, link: Link, transport: SoundTransport) -> None:
        super().__init__(link, transport)
        self.tasks.append(asyncio.create_task(asyncio.sleep(3_600)))


class LeavesUnasked(Sound):
    async def leaving(self) -> str:
        return "it likes to travel"


class HangsInAclose(Sound):
    async def aclose(self) -> None:
        await asyncio.Event().wait()


class RaisesInAcloseWhenDead(Sound):
    async def aclose(self) -> None:
        await self.inner.send([])
        await super().aclose()


class IsNotClosed(Sound):
    async def aclose(self) -> None:
        await asyncio.sleep(0)


class LeavesReceiveHanging(Sound):
    closed = False

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        try:
            async for batch in super().receive():
                yield batch
        except TransportError:
            if self.closed:
                await asyncio.Event().wait()
            raise

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class ClosesOnceAllIsRead(Sound):
    async def aclose(self) -> None:
        while cast("Any", self.inner)._waiting:  # noqa: ASYNC110 -- the fault
            await asyncio.sleep(0.001)
        await super().aclose()


class BlocksTheLoop(Sound):
    count = 0

    async def send(self, frames: Sequence[Frame]) -> None:
        await super().send(frames)
        self.count += len(frames) > 2_000
        if self.count % 8 == 1:
            time.sleep(0.6)  # noqa: ASYNC251 -- the fault


class DropsWhenTheConsumerIsSlow(Sound):
    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return batch[:5_000]


# Cancellation


class ConfusedByACancelledCall(Sound):
    """The confirmation of a cancelled call confirms the next one."""

    credit = False

    async def confirmed(self, call: Callable[[], Awaitable[None]]) -> None:
        if self.credit:
            self.credit = False
            self.later(call)
            return
        try:
            await call()
        except asyncio.CancelledError:
            self.credit = True
            raise

    async def subscribe(self, channels: Sequence[str]) -> None:
        await self.confirmed(lambda: self.inner.subscribe(channels))

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self.confirmed(lambda: self.inner.unsubscribe(channels))

    async def send(self, frames: Sequence[Frame]) -> None:
        await self.confirmed(lambda: self.inner.send(frames))

    async def aclose(self) -> None:
        await self.give_up_tasks()
        await super().aclose()


class HasOneReceiveAlone(Sound):
    used = False

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        if self.used:
            await asyncio.Event().wait()
        self.used = True
        async for batch in super().receive():
            yield batch


# Outages


class HangsWhenDead(Sound):
    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        try:
            async for batch in super().receive():
                yield batch
        except TransportError:
            await asyncio.Event().wait()


class EndsWithoutAWord(Sound):
    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        try:
            async for batch in super().receive():
                yield batch
        except TransportError:
            return


class Resurrects(Sound):
    """Reconnects by itself, as client libraries do."""

    def __init__(self, link: Link, transport: SoundTransport) -> None:
        super().__init__(link, transport)
        self.channels: set[str] = set()
        self.closed = False

    async def subscribe(self, channels: Sequence[str]) -> None:
        await super().subscribe(channels)
        self.channels.update(channels)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        while True:
            try:
                async for batch in super().receive():
                    yield batch
            except TransportError:
                if self.closed:
                    raise
                await self.reconnect()

    async def reconnect(self) -> None:
        while True:
            try:
                self.inner = await self.transport.memory.open()
                await self.inner.subscribe(sorted(self.channels))
            except TransportError:
                await asyncio.sleep(0.001)
            else:
                return

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class ComesBackLater(Resurrects):
    """Dies when the broker goes, and is there again when somebody asks."""

    died = False

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        if self.died:
            await self.reconnect()
        try:
            async for batch in self.inner.receive():
                yield batch
        except TransportError:
            self.died = True
            raise


class SendsAgainWhenDead(Resurrects):
    """Dies when the broker goes; a later call connects anew, without the subscriptions."""

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        async for batch in self.inner.receive():
            yield batch

    async def send(self, frames: Sequence[Frame]) -> None:
        try:
            await super().send(frames)
        except TransportError:
            self.inner = await self.transport.memory.open()
            await super().send(frames)


class RaisesForeignErrors(Sound):
    async def send(self, frames: Sequence[Frame]) -> None:
        try:
            await super().send(frames)
        except TransportError as error:
            raise ConnectionResetError(str(error)) from None


class HangsInSendWhenDead(Sound):
    async def send(self, frames: Sequence[Frame]) -> None:
        try:
            await super().send(frames)
        except TransportError:
            await asyncio.Event().wait()


class SwallowsSendsWhenDead(Sound):
    async def send(self, frames: Sequence[Frame]) -> None:
        try:
            await super().send(frames)
        except TransportError:
            return


# Transports


class HasOtherTraits(SoundTransport):
    @property
    def traits(self) -> Traits:
        return cast("Traits", {"confirms": True})


class HasNoProof(SoundTransport):
    """Declares several nodes, over a link that can't say what it has proven: a misspelt method, for example."""

    @property
    def traits(self) -> Traits:
        return evolve(super().traits, nodes="several")


class HidesThatItLeaves(SoundTransport):
    """Opens links that hear of the end beforehand, and does not say so."""

    async def open(self) -> Link:
        return await self.memory.open()


class ProvesTooMuch(SoundTransport):
    """Opens links that take a confirmation for a proof of what stands unread behind it."""

    @property
    def traits(self) -> Traits:
        return evolve(super().traits, nodes="several", single_stream=False)

    async def open(self) -> Link:
        return ProvesNow(await self.memory.open(), self)


class ProvesNow(Sound):
    def proven(self) -> Proven:
        return Proven(received_until=time.monotonic(), replicated_until=None)


class TakesItsProofBack(ProvesTooMuch):
    async def open(self) -> Link:
        return ProvesBackwards(await self.memory.open(), self)


class ProvesBackwards(Sound):
    def proven(self) -> Proven:
        return Proven(received_until=None, replicated_until=-time.monotonic())


class ConnectsWhenMade(SoundTransport):
    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.task = asyncio.create_task(asyncio.sleep(3_600))


class HangsInOpenWhileCut(SoundTransport):
    async def open(self) -> Link:
        try:
            return await super().open()
        except TransportError:
            await asyncio.Event().wait()
            raise


class RaisesForeignErrorsInOpen(SoundTransport):
    async def open(self) -> Link:
        try:
            return await super().open()
        except TransportError as error:
            raise OSError(str(error)) from None


class SaysThatTryingAgainIsUseless(SoundTransport):
    async def open(self) -> Link:
        try:
            return await super().open()
        except TransportError as error:
            raise TransportError(str(error), retryable=False) from None


class LeaksATaskWhenOpenFails(SoundTransport):
    async def open(self) -> Link:
        self.attempt = asyncio.create_task(asyncio.sleep(3_600))
        link = await super().open()
        self.attempt.cancel()
        return link


class LeavesAnErrorWhenOpenIsCancelled(SoundTransport):
    async def open(self) -> Link:
        attempt = asyncio.create_task(super().open())
        await asyncio.wait({attempt})
        return attempt.result()


class NeverTriesAgain(SoundTransport):
    failure: TransportError | None = None

    async def open(self) -> Link:
        if self.failure is not None:
            raise TransportError(str(self.failure))
        try:
            return await super().open()
        except TransportError as error:
            self.failure = error
            raise
