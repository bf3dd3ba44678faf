"""The broker and the links of a run: faulty ones that write down what passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from random import Random
from typing import Final

from backplane_core import Frame, Lost, Traits
from backplane_core.testing import FaultyTransport, MemoryBroker
from backplane_core.testing._faulty.link import FaultyLink

from tests.product.model.ledger import NEVER, Arrival, Batch, LinkLog, PodLog, Turn
from tests.product.model.recorder import Recorder

__all__ = ["CHANNEL", "ModelBroker", "ModelTransport"]

CHANNEL: Final = "c"


class ModelBroker(MemoryBroker):
    """Writes down each copy of a frame that reaches it."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def publish(self, frame: Frame) -> None:
        recorder, ledger = self.recorder, self.recorder.ledger
        copy: Frame = (frame[0], frame[1])
        arrival = Arrival(frame[0], recorder.parsed(frame[1]), recorder.loop.time(), recorder.order())
        ledger.arrivals.append(arrival)
        ledger.frames.append(copy)
        ledger.by_frame[id(copy)] = arrival
        if arrival.parsed.event is not None:
            ledger.events[arrival.parsed.event].arrivals.append(arrival)
        recorder.say(lambda: f"broker: {_brief(arrival)}")
        super().publish(copy)


class ModelLink(FaultyLink):
    """Writes down what its pod gets of it, and when it ends."""

    def __init__(self, transport: ModelTransport) -> None:
        super().__init__(transport)
        self.recorder = transport.recorder
        self.log = LinkLog(transport.pod, self.recorder.loop.time())
        transport.pod.links.append(self.log)
        self._lost_now: list[Arrival] = []

    def take(self, frame: Frame) -> None:
        self.recorder.ledger.by_frame[id(frame)].links.append(self.log)
        super().take(frame)

    def deafen(self) -> None:
        super().deafen()
        self.log.deaf_at = min(self.log.deaf_at, self.recorder.loop.time())

    def end(self, reason: str) -> None:
        super().end(reason)
        if not self._waiting:
            self._log_end(reason)

    async def aclose(self) -> None:
        self._log_end("given up")
        await super().aclose()

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        recorder, log = self.recorder, self.log
        by_frame = recorder.ledger.by_frame
        async for items in super().receive():
            got = [item.channel or "" if isinstance(item, Lost) else by_frame[id(item)] for item in items]
            batch = Batch(recorder.loop.time(), recorder.order(), got)
            log.batches.append(batch)
            for arrival in [*got, *self._lost_now]:
                if isinstance(arrival, Arrival):
                    log.read.setdefault(arrival, batch)
            self._lost_now = []
            recorder.say(partial(_brief_batch, log.pod.origin, got))
            yield items
            batch.done = recorder.loop.time()

    async def subscribe(self, channels: Sequence[str]) -> None:
        await super().subscribe(channels)
        self._turn_to(channels, left=False)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await super().unsubscribe(channels)
        self._turn_to(channels, left=True)

    def _turn_to(self, channels: Sequence[str], *, left: bool) -> None:
        self.recorder.say(lambda: f"{self.log.pod.origin} {'leaves' if left else 'hears'} {', '.join(channels)}")
        self.log.batches += [Turn(channel, self.recorder.loop.time(), left) for channel in channels]

    async def send(self, frames: Sequence[Frame]) -> None:
        await super().send(frames)
        log = self.log.pod
        question = f"{CHANNEL}:@{log.origin}"  # no event, no beat: only its answer counts
        log.confirmed_frames += sum([frame[0] != question for frame in frames])
        for frame in frames:
            event = self.recorder.parsed(frame[1]).event
            if event is not None:
                self.recorder.ledger.events[event].confirmed = True

    @property
    def is_behind(self) -> bool:
        """Whether something waits to be read, or is being worked off."""
        batches = [batch for batch in self.log.batches if isinstance(batch, Batch)]
        return bool(self._waiting or self._line) or (bool(batches) and batches[-1].done == NEVER)

    def _spoil(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        spoilt = super()._spoil(batch)
        if spoilt is not batch:
            kept = {id(item) for item in spoilt}
            for item in batch:
                if not isinstance(item, Lost) and id(item) not in kept:
                    self._lost_now.append(self.recorder.ledger.by_frame[id(item)])
        return spoilt

    def _log_end(self, reason: str) -> None:
        if self.log.ended == NEVER:
            self.log.ended = self.recorder.loop.time()
            self.recorder.say(lambda: f"{self.log.pod.origin}: its link ends: {reason}")


class ModelTransport(FaultyTransport):
    """Opens links that write down."""

    def __init__(self, recorder: Recorder, broker: MemoryBroker, pod: PodLog, random: Random) -> None:
        super().__init__(broker, Traits(single_stream=recorder.plan.single_stream), random=random)
        self.recorder = recorder
        self.pod = pod

    def _make_link(self) -> FaultyLink:
        return ModelLink(self)

    @property
    def has_deaf_link(self) -> bool:
        """Whether it has a link that gets nothing."""
        return any(link.deaf for link in self._open_links)

    @property
    def is_behind(self) -> bool:
        """Whether its pod has not read all that came."""
        return any(isinstance(link, ModelLink) and link.is_behind for link in self._open_links)


def _brief_batch(origin: str, items: Sequence[Arrival | str]) -> str:
    return f"{origin} gets {', '.join(map(_brief, items))}"


def _brief(arrival: Arrival | str) -> str:
    if isinstance(arrival, str):
        return f"word of a loss on {arrival}"
    parsed = arrival.parsed
    what = "beat" if parsed.event is None else f"event {parsed.event}"
    return f"{what} {parsed.origin}/{arrival.channel}#{parsed.seq}"
