"""Clients that come back whenever they are cut off, as those of a service do, and write down all that they see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx2
import websockets
from attrs import define, field
from playwright.async_api import Page
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.product.asgi.test_sse import Stream

__all__ = ["Diary", "PageDiary", "SocketClient", "StreamClient"]

BREAK_S: Final = 0.05
"""Between two attempts."""


@define
class Diary:
    """What one client has seen: events, and in their places the marks that say that some may be missing.

    Args:
        name: Of the client.
    """

    name: str
    entries: list[tuple[str, Any]] = field(factory=list[tuple[str, Any]], init=False)

    def take(self, message: Mapping[str, Any]) -> None:
        """Write a message down."""
        if "backplane" in message:
            self.mark(str(message["backplane"]))
        else:
            self.entries.append(("event", message))

    def mark(self, what: str) -> None:
        """Write down that something may be missing here."""
        self.entries.append((what, None))

    def count(self, what: str) -> int:
        """Return how often something was marked."""
        return sum(kind == what for kind, _ in self.entries)

    def numbers(self, source: str) -> list[int]:
        """Return the numbers of the events of a source."""
        return [value["n"] for kind, value in self.entries if kind == "event" and value["from"] == source]

    def unexplained(self, published: Mapping[str, int]) -> Sequence[str]:
        """Return a sentence for each event that came twice, late, or not at all without a mark in its place.

        Args:
            published: How many events each source has published: from 0 on.
        """
        following = dict.fromkeys(published, 0)
        excused = set[str]()
        found: list[str] = []
        for kind, value in self.entries:
            if kind != "event":
                excused = set(published)
                continue
            source, number = value["from"], value["n"]
            if number < following[source]:
                found.append(f"{self.name}: {source} {number} came twice, or late")
                continue
            if number > following[source] and source not in excused:
                found.append(f"{self.name}: {source} {following[source]} to {number - 1} are missing")
            following[source] = number + 1
            excused.discard(source)
        found += [
            f"{self.name}: {source} {following[source]} to {count - 1} are missing at the end"
            for source, count in published.items()
            if following[source] < count and source not in excused
        ]
        return found


@define
class SocketClient:
    """A WebSocket of the `websockets` library."""

    diary: Diary
    url: str
    headers: Mapping[str, str]
    codes: list[int] = field(factory=list[int], init=False)
    opened: int = field(default=0, init=False)
    is_over: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Read, and come back at each end, until it is over."""
        while not self.is_over:
            try:
                async with websockets.connect(self.url, additional_headers=self.headers, proxy=None) as socket:
                    self.opened += 1
                    while True:
                        self.diary.take(json.loads(await socket.recv()))
            except ConnectionClosed as closed:
                self.codes.append(1006 if closed.rcvd is None else closed.rcvd.code)
                self.diary.mark("closed")
            except (OSError, InvalidHandshake):  # it got no further than the door of a server that stops
                pass
            await asyncio.sleep(BREAK_S)


@define
class StreamClient:
    """An event stream of httpx."""

    diary: Diary
    url: str
    headers: Mapping[str, str]
    cuts: int = field(default=0, init=False)
    opened: int = field(default=0, init=False)
    is_over: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Read, and come back at each end, until it is over."""
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=60) as client:
            while not self.is_over:
                with suppress(httpx2.TransportError):  # it got no further than the door of a server that stops
                    await self._read(client)
                await asyncio.sleep(BREAK_S)

    async def _read(self, client: httpx2.AsyncClient) -> None:
        async with client.stream("GET", self.url, headers=self.headers) as answer:
            assert answer.status_code == 200
            self.opened += 1
            stream = Stream(answer.aiter_lines(), answer.status_code, answer.headers)
            try:
                while (item := await stream.next())[0] != "end":
                    self.diary.take(item[1])
            except httpx2.RemoteProtocolError:
                self.cuts += 1
            finally:
                self.diary.mark("closed")


@define
class PageDiary:
    """What a page in the browser has seen, by its socket or by its stream."""

    diary: Diary
    page: Page
    variable: str
    _read: int = field(default=0, init=False)

    async def update(self) -> None:
        """Copy what the page has written down."""
        for kind, value in await self.page.evaluate(f"{self.variable}.slice({self._read})"):
            self._read += 1
            if kind == "event":
                self.diary.take(value)
            else:
                self.diary.mark(f"{kind} {value}" if value is not None else kind)
