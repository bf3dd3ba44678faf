"""A link under test, read as core reads it: `OpenLink`, `open_links`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from backplane_core._runtime.faults import error_location
from backplane_core.errors import TransportError
from backplane_core.testing._kit.waiting import ABANDON_S, expect_return, run_together, wait_until
from backplane_core.testing.harness import ContractError, Harness
from backplane_core.transport import Frame, Link, Lost, Transport

__all__ = ["OpenLink", "busy_channels", "expect_same", "many_channels", "new_channel", "open_links"]

RECEIVE: Final = "Link.receive: it yields every frame of a subscribed channel once, in order, as (channel, payload)"
SUBSCRIBE: Final = "Link.subscribe: it returns once the broker has confirmed, not once the command is written"
UNSUBSCRIBE: Final = "Link.unsubscribe: it unsubscribes from these channels, and only these"
SEND: Final = "Link.send: it writes all frames, in order, with unchanged payloads"
ACLOSE: Final = "Link.aclose: it closes the socket, ends pending calls and waits for the link's own tasks"
SUBSCRIBE_BATCH: Final = 512
LOGS_AT_ONCE: Final = 64
"""More than a fleet has lanes. To begin a log may be work for a broker: 20 ms on a busy machine."""
OPEN: Final = "Transport.open: it makes one attempt, which either returns a link or cleans up"


def new_channel(name: str = "") -> str:
    """Return a channel that nobody else uses; a name is appended to it."""
    return f"kit-{uuid4().hex}{name and ':'}{name}"


def many_channels(count: int = SUBSCRIBE_BATCH) -> list[str]:
    """Return as many channels as core puts into one call, with long names.

    They keep a broker busy, so that a link that does not wait for its confirmation is overtaken.
    """
    return [new_channel("x" * 200) for _ in range(count)]


def busy_channels(harness: Harness) -> list[str]:
    """Return many channels, for a check that does so again and again; fewer where each begins a log."""
    return many_channels(LOGS_AT_ONCE if harness.make().traits.durable else SUBSCRIBE_BATCH)


class OpenLink:
    """One link, and what it has yielded so far.

    Args:
        transport: What opened it.
        link: The link.
    """

    def __init__(self, transport: Transport, link: Link) -> None:
        self.transport = transport
        self.link = link
        self.batches = 0
        self.payloads: dict[str, list[bytes]] = defaultdict(list)
        self.cursors: dict[str, list[str]] = defaultdict(list)
        """Those of the payloads, where there are any."""
        self.lost: list[Lost] = []
        self._markers: set[bytes] = set()
        self.gate = asyncio.Event()
        """While it is cleared, the consumer is busy with the list that it has."""
        self.gate.set()
        self.closed = False
        self.read()

    def read(self) -> None:
        """Start iterating `receive()`."""
        self.reader = asyncio.create_task(self._read(), name="contract check: receive")

    async def _read(self) -> TransportError:
        try:
            async for batch in self.link.receive():
                self.batches += 1
                for item in batch:
                    self._take(item)
                await self.gate.wait()
        except TransportError as error:
            return error
        raise ContractError("receive() raises TransportError when the link dies", "it ended without an error", RECEIVE)

    def _take(self, item: Frame | Lost) -> None:
        # Core recognizes frames by `type(...) is tuple`, and parses only `bytes`.
        if type(item) is tuple and type(item[0]) is str and type(item[1]) is bytes:
            self.payloads[item[0]].append(item[1])
            self.cursors[item[0]] += item[2:]
        elif isinstance(item, Lost):
            self.lost.append(item)
        else:
            expected = "lists of plain tuples (str, bytes) or of Lost"
            raise ContractError(expected, f"a {type(item).__name__} that is neither", RECEIVE)

    async def subscribe(self, *channels: str) -> None:
        """Subscribe on a live link."""
        await expect_return(self.link.subscribe(channels), f"subscribe() of {len(channels)} channels", SUBSCRIBE)

    async def unsubscribe(self, *channels: str) -> None:
        """Unsubscribe on a live link."""
        await expect_return(self.link.unsubscribe(channels), f"unsubscribe() of {len(channels)} channels", UNSUBSCRIBE)

    async def send(self, *frames: Frame) -> None:
        """Send on a live link."""
        await expect_return(self.link.send(frames), f"send() of {len(frames)} frames", SEND)

    async def wait_for_frames(self, channel: str, count: int) -> list[bytes]:
        """Return the payloads of a channel once there are `count` of them.

        Raises:
            ContractError: There were fewer at the deadline, or when the link died.
        """
        payloads = self.payloads[channel]
        what = f"{count} frames on a channel"
        await wait_until(
            lambda: len(payloads) >= count or self.ended,
            what,
            lambda: f"{len(payloads)}{self._and_lost()}",
            RECEIVE,
        )
        if len(payloads) < count:
            raise ContractError(what, f"{len(payloads)}{self._and_lost()}, then {self._how_it_ended()}", RECEIVE)
        return payloads

    async def read_all(self, sender: OpenLink, channel: str) -> list[bytes]:
        """Return everything that one sender has sent on a channel up to now; a marker is sent behind it."""
        marker = uuid4().bytes
        self._markers.add(marker)
        await sender.send((channel, marker))
        payloads = self.payloads[channel]
        await wait_until(
            lambda: marker in payloads[-8:] or self.ended,
            "a frame behind the others arrives",
            lambda: f"{len(payloads)} frames without it{self._and_lost()}",
            RECEIVE,
        )
        if marker not in payloads:
            raise ContractError("a frame behind the others arrives", f"{self._how_it_ended()} first", RECEIVE)
        return [payload for payload in payloads if payload not in self._markers]

    async def expect_death(self, why: str) -> TransportError:
        """Return what `receive()` raised when the link died.

        Raises:
            ContractError: It did not raise `TransportError` within the deadline.
        """
        what = f"receive() raises TransportError {why}"
        await wait_until(lambda: self.ended, what, lambda: "it waits for frames as if the link were live", RECEIVE)
        try:
            return self.reader.result()
        except ContractError:
            raise
        except Exception as error:
            raise ContractError(what, f"{error_location(error)}: {error}", RECEIVE) from error

    async def expect_end(self, why: str) -> None:
        """Return once `receive()` has ended, in any way.

        Raises:
            ContractError: It had not at the deadline.
        """
        await wait_until(lambda: self.ended, f"receive() ends {why}", lambda: "it waits for frames", ACLOSE)

    @property
    def ended(self) -> bool:
        """Whether `receive()` has ended."""
        return self.reader.done()

    def _how_it_ended(self) -> str:
        error = None if self.reader.cancelled() else self.reader.exception()
        if isinstance(error, ContractError):
            raise error
        said = self.reader.result() if error is None and not self.reader.cancelled() else error
        return f"the link died: {type(said).__name__}: {said}"

    def _and_lost(self) -> str:
        return f", and {len(self.lost)} Lost" if self.lost else ""

    async def close(self) -> None:
        """Close the link, unless it is closed, and go on reading. It may be dead."""
        if not self.closed:
            self.closed = True
            await expect_return(self.link.aclose(), "aclose()", ACLOSE)

    async def aclose(self) -> None:
        """Close the link unless it is closed, and stop reading."""
        try:
            await self.close()
        finally:
            if not self.reader.done():
                self.reader.cancel()
                await asyncio.wait({self.reader}, timeout=ABANDON_S)
            if self.reader.done() and not self.reader.cancelled():
                self.reader.exception()


@asynccontextmanager
async def open_links(
    harness: Harness, count: int, transport: Transport | None = None
) -> AsyncGenerator[list[OpenLink]]:
    """Open `count` links, each over a new transport unless one is given, and close them at the end."""
    opened: list[OpenLink] = []
    try:
        for _ in range(count):
            chosen = harness.make() if transport is None else transport
            opened.append(OpenLink(chosen, await expect_return(chosen.open(), "open()", OPEN)))
        yield opened
    finally:
        await run_together(*[link.aclose() for link in opened])


def expect_same(got: Sequence[bytes], expected: Sequence[bytes], look_at: str) -> None:
    """Compare what a channel yielded with what was sent on it.

    Raises:
        ContractError: They differ; says where first, and how many are missing, duplicate or foreign.
    """
    if list(got) == list(expected):
        return
    at = next((i for i, (one, other) in enumerate(zip(got, expected, strict=False)) if one != other), None)
    if at is None:
        at = min(len(got), len(expected))
    missing, foreign = len(set(expected) - set(got)), len(set(got) - set(expected))
    raise ContractError(
        f"{len(expected)} frames on the channel, in order, each once; number {at} is {_shorten(expected, at)}",
        f"{len(got)} frames: {missing} missing, {len(got) - len(set(got))} duplicate, {foreign} foreign; "
        f"number {at} is {_shorten(got, at)}",
        look_at,
    )


def _shorten(payloads: Sequence[bytes], at: int) -> str:
    if at >= len(payloads):
        return "missing"
    payload = payloads[at]
    return repr(payload) if len(payload) <= 40 else f"{payload[:40]!r}… of {len(payload)} bytes"  # noqa: PLR2004 -- a line
