"""How many messages a second a layer of Django Channels carries: ours, and those of channels_redis, in the same run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any, ClassVar, Final

from attrs import frozen
from backplane_testservers import open_broker

from bench.findings import Findings
from bench.libraries import library
from bench.measure import Measure, Progress, option

__all__ = ["Channels", "Figures"]

_LAYERS: Final = {
    "ours": ("backplane_channels", "BackplaneChannelLayer"),
    "pubsub": ("channels_redis.pubsub", "RedisPubSubChannelLayer"),
    "default": ("channels_redis.core", "RedisChannelLayer"),
}
_NAMES: Final = {
    "ours": "backplane-channels",
    "pubsub": "channels_redis, pub/sub",
    "default": "channels_redis, default",
}
_METHOD: Final = """\
Two layers in one process, as two servers have them, over one Redis: one sends small messages to a group, and the
consumers of the other read them; counted are messages sent a second, from the first one until all consumers have the
last one. Then `async_to_sync(layer.group_send)` from a thread without an event loop. The layers take turns; each figure
is the median of {rounds} rounds. `layer.publisher` is what a view of ours can use instead."""


@frozen(kw_only=True)
class Rates:
    """Messages sent a second."""

    to_one: float
    to_fifty: float
    from_threads: float
    by_publisher: float | None


@frozen(kw_only=True)
class Figures:
    """What is measured, by layer."""

    rounds: int
    by_layer: Mapping[str, Rates]


@frozen(kw_only=True)
class Channels(Measure[Figures]):
    """How many messages a second a layer of Django Channels carries, next to channels_redis."""

    name: ClassVar = "channels"
    title: ClassVar = "Django Channels"
    figures: ClassVar = Figures
    quick: ClassVar = {"messages": 300, "rounds": 1}
    usual_s: ClassVar = 40

    messages: int = option(3_000, "to one consumer; a fifth of them to fifty, a tenth by async_to_sync")
    rounds: int = option(3, "of each layer")

    def measure(self, progress: Progress) -> Figures:
        """Let the layers take turns."""
        progress.expect(self.rounds)
        found: dict[str, list[Rates]] = {name: [] for name in _LAYERS}
        with open_broker("redis") as broker:
            for number in range(self.rounds):
                progress.step(f"round {number + 1} of {self.rounds}")
                for name, rates in found.items():
                    rates.append(self._rates(name, broker.url))
        return Figures(rounds=self.rounds, by_layer={name: _median(rates) for name, rates in found.items()})

    def _rates(self, name: str, url: str) -> Rates:
        prefix = f"bench-{uuid.uuid4().hex}"
        return Rates(
            to_one=asyncio.run(_group_send(name, url, prefix, 1, self.messages)),
            to_fifty=asyncio.run(_group_send(name, url, prefix, 50, max(1, self.messages // 5))),
            from_threads=_from_a_thread(name, url, prefix, max(1, self.messages // 10)),
            by_publisher=_by_publisher(url, prefix, 10 * self.messages) if name == "ours" else None,
        )

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        return Findings(
            method=_METHOD.format(rounds=figures.rounds),
            columns=("messages sent a second", "to 1 consumer", "to 50", "async_to_sync", "layer.publisher"),
            rows=[
                (
                    _NAMES[name],
                    f"{rates.to_one:,.0f}",
                    f"{rates.to_fifty:,.0f}",
                    f"{rates.from_threads:,.0f}",
                    "–" if rates.by_publisher is None else f"{rates.by_publisher:,.0f}",  # noqa: RUF001 -- a dash
                )
                for name, rates in figures.by_layer.items()
            ],
        )


def _layer(name: str, url: str, prefix: str) -> Any:  # noqa: ANN401 -- of any library
    module, kind = _LAYERS[name]
    room = {} if name == "pubsub" else {"capacity": 1_000_000}
    return getattr(library(module), kind)(hosts=[url], prefix=prefix, **room)


async def _group_send(name: str, url: str, prefix: str, consumers: int, messages: int) -> float:
    here, there = _layer(name, url, prefix), _layer(name, url, prefix)
    channels = [await here.new_channel() for _ in range(consumers)]
    for channel in channels:
        await here.group_add("g", channel)
    kept = await there.new_channel()  # as a server has consumers

    async def read(channel: str) -> None:
        for _ in range(messages):
            await here.receive(channel)

    readers = [asyncio.ensure_future(read(channel)) for channel in channels]
    await asyncio.sleep(0.1)  # the peers subscribe when the readers begin
    begun = perf_counter()
    for number in range(messages):
        await there.group_send("g", {"type": "chat.message", "text": "hello", "number": number})
    await asyncio.gather(*readers)
    rate = messages / (perf_counter() - begun)
    await there.group_discard("g", kept)
    for layer in (here, there):
        await (layer.close() if name == "ours" else layer.flush())
        if name == "default":
            await layer.close_pools()
    return rate


def _from_a_thread(name: str, url: str, prefix: str, messages: int) -> float:
    layer = _layer(name, url, prefix)
    send = library("asgiref.sync").async_to_sync(layer.group_send)
    begun = perf_counter()
    for number in range(messages):
        send("g", {"type": "chat.message", "text": "hello", "number": number})
    if name == "ours":
        layer.publisher.flush()
    rate = messages / (perf_counter() - begun)
    if name == "ours":
        asyncio.run(layer.close())
    return rate


def _by_publisher(url: str, prefix: str, messages: int) -> float:
    layer = _layer("ours", url, prefix)
    begun = perf_counter()
    for number in range(messages):
        layer.publisher.group_send("g", {"type": "chat.message", "text": "hello", "number": number})
    layer.publisher.flush()
    rate = messages / (perf_counter() - begun)
    asyncio.run(layer.close())
    return rate


def _median(rates: list[Rates]) -> Rates:
    by_publisher = [one.by_publisher for one in rates if one.by_publisher is not None]
    return Rates(
        to_one=median([one.to_one for one in rates]),
        to_fifty=median([one.to_fifty for one in rates]),
        from_threads=median([one.from_threads for one in rates]),
        by_publisher=median(by_publisher) if by_publisher else None,
    )
