"""Links that are broken on purpose: in what they move, and in what they hear."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from typing import cast

from backplane_core import Frame, Link, Lost, TransportError

from tests.product.contract.sound import Sound, SoundTransport, payloads

# What moves


class DropsEverySeventh(Sound):
    count = 0

    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        kept: list[Frame | Lost] = []
        for item in batch:
            self.count += 1
            if self.count % 7:
                kept.append(item)
        return kept


class SwapsNeighbours(Sound):
    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return [*batch[:-6], *reversed(batch[-6:])]


class Duplicates(Sound):
    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return [*batch, batch[-1]]


class CutsPayloads(Sound):
    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return payloads(batch, lambda payload: payload[:65_535])


class EndsPayloadsAtNul(Sound):
    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return payloads(batch, lambda payload: payload.partition(b"\0")[0] if len(payload) < 1_000 else payload)


class TakesPayloadsForText(Sound):
    def sent(self, frames: list[Frame]) -> list[Frame]:
        return [(frame[0], frame[1].decode(errors="replace").encode()) for frame in frames]


class SkipsEmptyPayloads(Sound):
    def sent(self, frames: list[Frame]) -> list[Frame]:
        return [frame for frame in frames if frame[1]]


class YieldsByteArrays(Sound):
    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return payloads(batch, lambda payload: cast("bytes", bytearray(payload)))


class YieldsOneByOne(Sound):
    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        async for batch in self.inner.receive():
            for item in batch:
                yield [item]


class DeliversBehindAnswers(Sound):
    """As with a connection of its own for what is sent: its answers overtake what comes over the other one."""

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        async for batch in self.inner.receive():
            await asyncio.sleep(0.01)
            yield batch


class HasNoEcho(Sound):
    def __init__(self, link: Link, transport: SoundTransport) -> None:
        super().__init__(link, transport)
        self.own: Counter[Frame] = Counter()

    def sent(self, frames: list[Frame]) -> list[Frame]:
        self.own.update(frames)
        return frames

    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return [item for item in batch if isinstance(item, Lost) or not self.own[item]]


class HearsOnlyItself(HasNoEcho):
    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return [item for item in batch if isinstance(item, tuple) and self.own[item]]


class SharesFramesOut(Sound):
    """A queue group: each frame goes to one of the links."""

    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        taken: set[object] = self.transport.broker.__dict__.setdefault("taken", set())
        mine = [item for item in batch if item not in taken]
        taken.update(mine)
        return mine


class FoldsCase(Sound):
    """Names of channels as a database folds them: in its subscriptions, not in its frames."""

    async def subscribe(self, channels: Sequence[str]) -> None:
        twins = {name for channel in channels for name in (channel, channel.lower(), channel.swapcase())}
        await super().subscribe(sorted(twins))


class CutsNames(Sound):
    async def subscribe(self, channels: Sequence[str]) -> None:
        await super().subscribe([channel[:63] for channel in channels])

    def sent(self, frames: list[Frame]) -> list[Frame]:
        return [(frame[0][:63], frame[1]) for frame in frames]


class HearsPrefixes(Sound):
    def sent(self, frames: list[Frame]) -> list[Frame]:
        return [
            (channel, frame[1])
            for frame in frames
            for channel in sorted(self.transport.broker.channels)
            if frame[0].startswith(channel)
        ]


class HearsAllChannels(Sound):
    def sent(self, frames: list[Frame]) -> list[Frame]:
        return [(channel, frame[1]) for frame in frames for channel in sorted(self.transport.broker.channels)]


class ConfirmsTooEarly(Sound):
    async def send(self, frames: Sequence[Frame]) -> None:
        self.later(lambda: self.inner.send(frames), len(frames) / 10_000)

    async def aclose(self) -> None:
        await self.give_up_tasks()
        await super().aclose()


class MergesEqualFrames(Sound):
    """As PostgreSQL merges equal notifications of one transaction."""

    def sent(self, frames: list[Frame]) -> list[Frame]:
        return [*dict.fromkeys(frames)]


class WaitsForEachFrame(Sound):
    """It keeps what is unconfirmed by frame, and counts confirmations: of equal ones, one is waited for in vain."""

    async def send(self, frames: Sequence[Frame]) -> None:
        unconfirmed = {frame: asyncio.Event() for frame in frames}
        await super().send(frames)
        for event in unconfirmed.values():
            event.set()
        if len(unconfirmed) < len(frames):
            await asyncio.Event().wait()


class ConfirmsEqualFramesAtOnce(Sound):
    """The confirmation of a frame stands for all equal ones, and the last of those is still under way."""

    async def send(self, frames: Sequence[Frame]) -> None:
        if frames and frames[-1] in frames[:-1]:
            last = frames[-1:]
            await super().send(frames[:-1])
            self.later(lambda: self.inner.send(last))
        else:
            await super().send(frames)

    async def aclose(self) -> None:
        await self.give_up_tasks()
        await super().aclose()


class WantsListeners(Sound):
    async def send(self, frames: Sequence[Frame]) -> None:
        if not any(self.transport.broker.subscriber_count(frame[0]) for frame in frames):
            raise TransportError("no responders")
        await super().send(frames)


# What is heard


class SubscribesTooEarly(Sound):
    async def subscribe(self, channels: Sequence[str]) -> None:
        self.later(lambda: self.inner.subscribe(channels))


class SubscribesToSome(Sound):
    async def subscribe(self, channels: Sequence[str]) -> None:
        await super().subscribe(channels[:100])


class WaitsForTheLastAlone(Sound):
    """It takes the confirmation of a call's last channel for that of all: true where the broker goes by the order."""

    async def subscribe(self, channels: Sequence[str]) -> None:
        await super().subscribe(channels[-1:])
        self.later(lambda: self.inner.subscribe(channels[:-1]))

    async def aclose(self) -> None:
        await self.give_up_tasks()
        await super().aclose()


class ConfirmsByTheOrderOfCalls(Sound):
    """Whatever the broker confirms confirms the oldest call, and it takes longer over many channels than over one."""

    def __init__(self, link: Link, transport: SoundTransport) -> None:
        super().__init__(link, transport)
        self.waiting: deque[asyncio.Event] = deque()

    async def subscribe(self, channels: Sequence[str]) -> None:
        mine = asyncio.Event()
        self.waiting.append(mine)

        async def ask() -> None:
            await self.inner.subscribe(channels)
            self.waiting.popleft().set()

        self.later(ask, len(channels) / 10_000)
        await mine.wait()

    async def aclose(self) -> None:
        await self.give_up_tasks()
        await super().aclose()


class SubscribesInsteadOfBefore(Sound):
    heard: Sequence[str] = ()

    async def subscribe(self, channels: Sequence[str]) -> None:
        await self.inner.unsubscribe(self.heard)
        self.heard = channels
        await super().subscribe(channels)


class HearsTwiceWhenBack(Sound):
    def __init__(self, link: Link, transport: SoundTransport) -> None:
        super().__init__(link, transport)
        self.subscribed: Counter[str] = Counter()

    async def subscribe(self, channels: Sequence[str]) -> None:
        self.subscribed.update(channels)
        await super().subscribe(channels)

    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        return [item for item in batch for _ in range(self.subscribed[item[0]] if isinstance(item, tuple) else 1)]


class IgnoresUnsubscribe(Sound):
    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await self.inner.unsubscribe([])


class UnsubscribesAllOfNothing(Sound):
    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await super().unsubscribe(channels or sorted(self.transport.broker.channels))


class LosesAFrameAfterUnsubscribe(Sound):
    loses = False

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await super().unsubscribe(channels)
        self.loses = True

    def received(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        loses, self.loses = self.loses, False
        return batch[1:] if loses else batch


class UnsubscribesOthers(Sound):
    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await super().unsubscribe(channels)
        subscribers = self.transport.broker._subscribers  # pyright: ignore[reportPrivateUsage] -- the fault
        for link in list(subscribers.links):
            for channel in channels:
                subscribers.unsubscribe(link, channel)
