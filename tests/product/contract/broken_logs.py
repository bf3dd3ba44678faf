"""Links to logs that are broken on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

from backplane_core import Frame, Link, Lost, Traits
from backplane_core.testing import MemoryBroker, MemoryLog, MemoryLogTransport

from tests.product.contract.sound import SoundTransport

LOGS: WeakKeyDictionary[MemoryBroker, MemoryLog] = WeakKeyDictionary()


class SoundLogTransport(SoundTransport):
    """Opens links to logs, whose pages a mutant breaks."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.logs = MemoryLogTransport(LOGS.setdefault(broker, MemoryLog()))

    @property
    def traits(self) -> Traits:
        return self.logs.traits

    async def open(self) -> Link:
        link: Any = await self.logs.open()
        read = link.read

        async def read_broken(channel: str, limit: int, **where: Any) -> Sequence[Frame | Lost]:
            return self.page(list(await read(channel, limit, **where)))

        link.read = read_broken
        return cast("Link", link)

    def page(self, page: list[Frame | Lost]) -> list[Frame | Lost]:
        return page


class TurnsPagesRound(SoundLogTransport):
    def page(self, page: list[Frame | Lost]) -> list[Frame | Lost]:
        return page[::-1]


class TakesAnyCursor(SoundLogTransport):
    def page(self, page: list[Frame | Lost]) -> list[Frame | Lost]:
        return [item for item in page if not isinstance(item, Lost)]


class HandsOutTwice(SoundLogTransport):
    async def open(self) -> Link:
        link: Any = await super().open()
        taken: list[Any] = []
        take = link.take

        async def take_again(channel: str, limit: int, *, wait_s: float) -> list[Any]:
            items = [*taken, *await take(channel, limit, wait_s=wait_s)]
            taken[:] = items
            return items

        link.take = take_again
        return cast("Link", link)


class ForgetsToExtend(SoundLogTransport):
    async def open(self) -> Link:
        link: Any = await super().open()

        async def extend(channel: str, tokens: Sequence[str]) -> None:
            """Do nothing."""

        link.extend = extend
        return cast("Link", link)


class KeepsWhatIsFinished(SoundLogTransport):
    async def open(self) -> Link:
        link: Any = await super().open()

        async def finish(channel: str, tokens: Sequence[str]) -> None:
            """Do nothing."""

        link.finish = finish
        return cast("Link", link)


class EndsWhatIsTaken(SoundLogTransport):
    async def open(self) -> Link:
        link: Any = await super().open()
        take = link.take

        async def take_for_good(channel: str, limit: int, *, wait_s: float) -> list[Any]:
            items = [*await take(channel, limit, wait_s=wait_s)]
            await link.finish(channel, [item.token for item in items])
            return items

        link.take = take_for_good
        return cast("Link", link)
