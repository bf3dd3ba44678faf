"""WebSocket clients that go on at another server with the last id that they got: `WebClient`, `Published`."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final
from urllib.parse import quote

from attrs import define, field
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.product.asgi.servers import Server

__all__ = ["EVERYONE", "Published", "Servers", "WebClient"]

EVERYONE: Final = "everyone"
BACK_OFF_S: Final = 0.02


@define
class Servers:
    """Those that a load balancer would send clients to."""

    up: list[Server] = field(factory=list[Server])


@define
class Published:
    """What was published to whom, by a sender who numbers its events.

    Args:
        targets: By sender: the targets of each event.
        unknown: Events whose sender does not know whether they were published: it got no answer.
    """

    targets: dict[str, list[frozenset[str]]] = field(factory=lambda: defaultdict[str, list[frozenset[str]]](list))
    unknown: set[tuple[str, int]] = field(factory=set[tuple[str, int]])

    def next(self, sender: str, *targets: str) -> tuple[str, int]:
        """Number an event."""
        numbered = self.targets[sender]
        numbered.append(frozenset(targets))
        return sender, len(numbered) - 1

    @property
    def total(self) -> int:
        """How many events there are."""
        return sum(map(len, self.targets.values()))

    def for_(self, held: frozenset[str]) -> dict[str, list[int]]:
        """Return what a client that holds these targets should get, by sender."""
        return {
            sender: [number for number, targets in enumerate(numbered) if not held.isdisjoint(targets)]
            for sender, numbered in self.targets.items()
        }


@define(eq=False)
class WebClient:
    """One client: it goes to any server that is up, and to another once that closes it.

    Args:
        number: Its own.
        servers: Where it goes.
        user: Its user.
        room: What it subscribes to.
        resumes: Whether it says where it was.
    """

    number: int
    servers: Servers
    user: str
    room: str
    resumes: bool = True
    got: dict[str, list[int]] = field(factory=lambda: defaultdict[str, list[int]](list), init=False)
    gaps: list[Mapping[str, Any]] = field(factory=list[Mapping[str, Any]], init=False)
    codes: list[int | None] = field(factory=list[int | None], init=False)
    replayed: int = field(default=0, init=False)
    count: int = field(default=0, init=False)
    visits: int = field(default=0, init=False)
    is_attached: asyncio.Event = field(factory=asyncio.Event, init=False)
    last_id: str = field(default="", init=False)

    @property
    def held(self) -> frozenset[str]:
        """Its targets."""
        return frozenset([f"user:{self.user}", self.room, EVERYONE])

    async def run(self) -> None:
        """Go on until it is cancelled."""
        random = Random(self.number)
        while True:
            with suppress(OSError, InvalidHandshake, TimeoutError):
                await self._visit(random.choice(self.servers.up))
            await asyncio.sleep(random.uniform(0, BACK_OFF_S))

    async def _visit(self, server: Server) -> None:
        last_id = quote(self.last_id) if self.resumes else ""
        path = f"/ws?user={self.user}&last-event-id={last_id}&subscribe={quote(self.room)}"
        try:
            async with server.websocket(path, open_timeout=60, ping_interval=None, compression=None) as socket:
                async for text in socket:
                    self._take(json.loads(text))
                self.codes.append(socket.close_code)
        except ConnectionClosed as error:
            self.codes.append(None if error.rcvd is None else error.rcvd.code)

    def _take(self, item: Mapping[str, Any]) -> None:
        kind = item["backplane"]
        if kind == "gap":
            self.gaps.append(item)
            return
        self.last_id = item["id"]
        if kind == "caughtup":
            self.replayed += item["replayed"]
            self.visits += 1
            self.is_attached.set()
            return
        sender, number = item["event"]
        self.got[sender].append(number)
        self.count += 1

    def faults(self, published: Published) -> Sequence[str]:
        """Return what is wrong with what it got."""
        found = [f"client {self.number} was notified of {gap}" for gap in self.gaps]
        for sender, expected in published.for_(self.held).items():
            got = self.got[sender]
            if len(set(got)) < len(got):
                found.append(f"client {self.number} got events of {sender} twice: {_repeated(got)}")
            missing = [number for number in sorted({*expected} - {*got}) if (sender, number) not in published.unknown]
            if missing:
                found.append(f"client {self.number} lacks {missing} of {sender}")
            if alien := {*got} - {*expected}:
                found.append(f"client {self.number} got what is not for it of {sender}: {sorted(alien)}")
            found += self._out_of_order(sender, got, published.targets[sender])
        return found

    def _out_of_order(self, sender: str, got: Sequence[int], targets: Sequence[frozenset[str]]) -> list[str]:
        """Return where events to the same targets came in another order than they were published."""
        last: dict[frozenset[str], int] = {}
        found: list[str] = []
        for number in got:
            if number < last.get(targets[number], -1):
                found.append(f"client {self.number} got {number} of {sender} after {last[targets[number]]}")
            last[targets[number]] = number
        return found


def _repeated(numbers: Sequence[int]) -> list[int]:
    return sorted({number for number in numbers if numbers.count(number) > 1})
