"""A link under test, read as core reads it: `OpenLink`, `links`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from backplane_core._runtime.faults import error_location
from backplane_core.errors import TransportError
from backplane_core.testing._kit.waiting import ABANDON_S, all_of, returned, until
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import Frame, Link, Lost, Transport

__all__ = ["OpenLink", "fresh", "links", "many", "same"]

RECEIVE: Final = "Link.receive: every frame on a subscribed channel is yielded once, in order, as (channel, payload)"
SUBSCRIBE: Final = "Link.subscribe: it returns once the broker confirmed, not once the command is written"
UNSUBSCRIBE: Final = "Link.unsubscribe: it gives up these channels, and only these"
SEND: Final = "Link.send: it writes all frames, in order, payloads untouched"
ACLOSE: Final = "Link.aclose: it closes the socket, ends pending calls and waits for the link's own tasks"
SUBSCRIBE_BATCH: Final = 512
OPEN: Final = "Transport.open: it makes one attempt, which either returns a link or cleans up"


def fresh(name: str = "") -> str:
    """Return a channel that nobody else uses and that ends in the given words."""
    return f"kit-{uuid4().hex}{name and ':'}{name}"


def many() -> list[str]:
    """Return as many channels as core puts into one call, with long names, so that the broker takes its time.

    A link that does not wait for the confirmation is then caught.
    """
    return [fresh("x" * 200) for _ in range(SUBSCRIBE_BATCH)]


class OpenLink:
    """One link, and what it yielded so far.

    Args:
        transport: The transport that opened it.
        link: The link.
    """

    def __init__(self, transport: Transport, link: Link) -> None:
        self.transport = transport
        self.link = link
        self.lists = 0
        self.payloads: dict[str, list[bytes]] = defaultdict(list)
        self.lost: list[Lost] = []
        self._markers: set[bytes] = set()
        self.gate = asyncio.Event()
        """While cleared, the consumer is busy with the list that it has."""
        self.gate.set()
        self.closed = False
        self.read()

    def read(self) -> None:
        """Start to iterate `receive()`."""
        self.reader = asyncio.create_task(self._read(), name="contract check: receive")

    async def _read(self) -> TransportError:
        try:
            async for batch in self.link.receive():
                self.lists += 1
                for item in batch:
                    self._take(item)
                await self.gate.wait()
        except TransportError as error:
            return error
        raise ContractError("receive() raises TransportError when the link dies", "it ended silently", RECEIVE)

    def _take(self, item: Frame | Lost) -> None:
        # Core recognizes frames by `type(...) is tuple`, and parses only `bytes`.
        if type(item) is tuple and type(item[0]) is str and type(item[1]) is bytes:
            self.payloads[item[0]].append(item[1])
        elif isinstance(item, Lost):
            self.lost.append(item)
        else:
            expected = "lists of plain tuples (str, bytes) or of Lost"
            raise ContractError(expected, f"a {type(item).__name__} that is neither", RECEIVE)

    async def subscribe(self, *channels: str) -> None:
        """Subscribe on a live link."""
        await returned(self.link.subscribe(channels), f"subscribe() of {len(channels)} channels", SUBSCRIBE)

    async def unsubscribe(self, *channels: str) -> None:
        """Unsubscribe on a live link."""
        await returned(self.link.unsubscribe(channels), f"unsubscribe() of {len(channels)} channels", UNSUBSCRIBE)

    async def send(self, *frames: Frame) -> None:
        """Send on a live link."""
        await returned(self.link.send(frames), f"send() of {len(frames)} frames", SEND)

    async def heard(self, channel: str, count: int) -> list[bytes]:
        """Return the payloads of a channel once there are this many.

        Raises:
            ContractError: Too few came within the deadline, or the link died.
        """
        payloads = self.payloads[channel]
        what = f"{count} frames on a channel"
        await until(
            lambda: len(payloads) >= count or self.ended, what, lambda: f"{len(payloads)}{self._lost()}", RECEIVE
        )
        if len(payloads) < count:
            raise ContractError(what, f"{len(payloads)}{self._lost()}, then {self._end()}", RECEIVE)
        return payloads

    async def settled(self, sender: OpenLink, channel: str) -> list[bytes]:
        """Send a marker, and return everything that came on the channel from this sender before it."""
        marker = uuid4().bytes
        self._markers.add(marker)
        await sender.send((channel, marker))
        payloads = self.payloads[channel]
        await until(
            lambda: marker in payloads[-8:] or self.ended,
            "a frame sent after the others arrives",
            lambda: f"{len(payloads)} frames without it{self._lost()}",
            RECEIVE,
        )
        if marker not in payloads:
            raise ContractError("a frame sent after the others arrives", f"{self._end()} first", RECEIVE)
        return [payload for payload in payloads if payload not in self._markers]

    async def died(self, why: str) -> TransportError:
        """Return what `receive()` raised when the link died.

        Raises:
            ContractError: It did not raise `TransportError` within the deadline.
        """
        what = f"receive() raises TransportError {why}"
        await until(lambda: self.ended, what, lambda: "it waits for frames as if nothing had happened", RECEIVE)
        try:
            return self.reader.result()
        except ContractError:
            raise
        except Exception as error:
            raise ContractError(what, f"{error_location(error)}: {error}", RECEIVE) from error

    async def over(self, why: str) -> None:
        """Return once `receive()` has ended, in whatever way.

        Raises:
            ContractError: It is still waiting at the deadline.
        """
        await until(lambda: self.ended, f"receive() ends {why}", lambda: "it waits for frames", ACLOSE)

    @property
    def ended(self) -> bool:
        """Whether `receive()` has ended."""
        return self.reader.done()

    def _end(self) -> str:
        error = None if self.reader.cancelled() else self.reader.exception()
        if isinstance(error, ContractError):
            raise error
        said = self.reader.result() if error is None and not self.reader.cancelled() else error
        return f"the link died: {type(said).__name__}: {said}"

    def _lost(self) -> str:
        return f", and {len(self.lost)} Lost" if self.lost else ""

    async def close(self) -> None:
        """Close the link, once, and keep reading. It may be dead already."""
        if not self.closed:
            self.closed = True
            await returned(self.link.aclose(), "aclose()", ACLOSE)

    async def aclose(self) -> None:
        """Close the link unless it is closed, and clean up after this check."""
        try:
            await self.close()
        finally:
            if not self.reader.done():
                self.reader.cancel()
                await asyncio.wait({self.reader}, timeout=ABANDON_S)
            if self.reader.done() and not self.reader.cancelled():
                self.reader.exception()


@asynccontextmanager
async def links(harness: Harness, count: int, transport: Transport | None = None) -> AsyncGenerator[list[OpenLink]]:
    """Open this many links, each over a new transport unless one is given, and close them at the end."""
    opened: list[OpenLink] = []
    try:
        for _ in range(count):
            chosen = harness.make() if transport is None else transport
            opened.append(OpenLink(chosen, await returned(chosen.open(), "open()", OPEN)))
        yield opened
    finally:
        await all_of(*[link.aclose() for link in opened])


def same(got: Sequence[bytes], expected: Sequence[bytes], look_at: str) -> None:
    """Compare what a channel yielded with what was sent on it.

    Raises:
        ContractError: They differ; it says where first, and how many are missing, duplicated or foreign.
    """
    if list(got) == list(expected):
        return
    at = next((i for i, (one, other) in enumerate(zip(got, expected, strict=False)) if one != other), None)
    if at is None:
        at = min(len(got), len(expected))
    missing, foreign = len(set(expected) - set(got)), len(set(got) - set(expected))
    raise ContractError(
        f"{len(expected)} frames on the channel, in order, each once; number {at} is {_shown(expected, at)}",
        f"{len(got)} frames: {missing} missing, {len(got) - len(set(got))} twice, {foreign} that nobody sent there; "
        f"number {at} is {_shown(got, at)}",
        look_at,
    )


def _shown(payloads: Sequence[bytes], at: int) -> str:
    if at >= len(payloads):
        return "not there"
    payload = payloads[at]
    return repr(payload) if len(payload) <= 40 else f"{payload[:40]!r}… of {len(payload)} bytes"  # noqa: PLR2004 -- a line
