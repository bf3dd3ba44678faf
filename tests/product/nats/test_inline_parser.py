"""What a server says, cut anywhere: taken in the socket's callback or by nats-py's read loop, and in order."""

# What is held back is looked at, and bytes are put where the socket would put them.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
from __future__ import annotations

import asyncio
import functools
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import nats
import pytest
from attrs import define, field
from backplane_core import Frame, Lost, TransportError
from backplane_core.sockets import Inbox
from backplane_nats._inline_io import InlineIO, make_inline_io
from backplane_nats._inline_parser import InlineParser
from backplane_nats._link import NatsLink
from backplane_nats._settings import REPORTS_LAME_DUCK
from backplane_testservers import NatsServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.product.nats.helpers import DEADLINE_S, listening, opened, speaking, tapped
from tests.support.waiting import until

INFO = {"server_id": "S", "version": "2.15.1", "proto": 1, "max_payload": 1 << 20, "headers": True}
GREETING = b"INFO %b\r\nPONG\r\n" % json.dumps(INFO).encode()

Item: TypeAlias = Frame | Lost | int | str
"""A frame, the number of a confirmation, or the word that nats-py handles."""

LINES: dict[bytes, Sequence[Item]] = {
    b"MSG c 1 3\r\nabc\r\n": [("c", b"abc")],
    b"MSG c 1 an.inbox 14\r\n\r\nPONG\r\nPING\r\n\r\n": [("c", b"\r\nPONG\r\nPING\r\n")],
    b"HMSG d 2 22 24\r\nNATS/1.0\r\nTrace: 1\r\n\r\nhi\r\n": [("d", b"hi")],
    b"MSG d 2 0\r\n\r\n": [("d", b"")],
    b"MSG unheard 3 1\r\nx\r\n": [],
    b"PONG\r\n": [0],
    b"PING\r\n": ["PING"],
    b"+OK\r\n": [],
    b"INFO %b\r\n" % json.dumps({**INFO, "connect_urls": ["10.9.8.7:4222"]}).encode(): ["INFO"],
}
MIXED = b"".join([line + b"PONG\r\n" * (number % 2) for number, line in enumerate([*LINES, *reversed(LINES)])])


def meant(stream: Sequence[bytes]) -> list[Item]:
    """Return the frames, numbered confirmations and words that a stream of lines comes to."""
    items: list[Item] = []
    numbers = itertools.count()
    for line in stream:
        items += [next(numbers) if isinstance(item, int) else item for item in LINES[line]]
    return items


def kind_of(item: Item) -> str:
    return "word" if isinstance(item, str) else "confirmation" if isinstance(item, int) else "frame"


def before(kind: str, items: Sequence[Item], earlier: str) -> list[int]:
    """Return for each item of a kind how many of another came before it."""
    kinds = [kind_of(item) for item in items]
    return [kinds[:at].count(earlier) for at, found in enumerate(kinds) if found == kind]


def assert_in_order(items: Sequence[Item], expected: Sequence[Item]) -> None:
    """Each kind in its own order; none is confirmed before all that came before it, no frame overtakes a word."""
    for kind in ("frame", "confirmation", "word"):
        assert [item for item in items if kind_of(item) == kind] == [x for x in expected if kind_of(x) == kind]
    for later, earlier in (("confirmation", "frame"), ("confirmation", "word"), ("frame", "word")):
        pairs = zip(before(later, items, earlier), before(later, expected, earlier), strict=True)
        assert all(found >= wanted for found, wanted in pairs), (later, earlier)


def parted(stream: bytes) -> list[bytes]:
    """Return its lines, each with what belongs to it."""
    lines: list[bytes] = []
    while stream:
        line = next(line for line in LINES if stream.startswith(line))
        lines.append(line)
        stream = stream.removeprefix(line)
    return lines


@define
class Fed:
    """A link whose server is silent: what it says is put into the socket's callback, in pieces.

    Args:
        link: Hears `c` and `d`.
        items: Frames and confirmations as they came to those who wait for them, words as nats-py had handled them.
        why: The reason for the link's end, once it has `ended`.
    """

    link: NatsLink
    items: list[Item] = field(factory=list[Item])
    why: str = ""
    ended: asyncio.Event = field(factory=asyncio.Event)

    async def feed(self, pieces: Sequence[bytes], turns: Sequence[int]) -> None:
        """Ask for as many confirmations as come; then say the pieces, with so many turns of the loop after each."""
        lines = parted(b"".join(pieces))
        expected = meant(lines)
        self.items.clear()
        client: Any = self.link._client
        stream: Any = client._ps
        assert isinstance(stream, InlineParser)
        asks = [asyncio.create_task(self._ask(number)) for number in range(lines.count(b"PONG\r\n"))]
        await asyncio.sleep(0)
        assert len(client._pongs) == len(asks), "all are written"
        for piece, pause in zip(pieces, turns, strict=True):
            asyncio.get_running_loop().call_soon(stream._tap.data_received, piece)
            for _ in range(pause + 1):
                await asyncio.sleep(0)
        await until(lambda: len(self.items) >= len(expected) and stream._line is None, f"{expected} of {lines}")
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*asks)
        assert_in_order(self.items, expected)
        assert client.stats["in_msgs"] == 0, "none went through nats-py"

    async def _ask(self, number: int) -> None:
        await self.link.send([])
        self.items.append(number)

    async def handled(self, word: str, handle: Callable[..., Awaitable[None]], *args: object) -> None:
        await asyncio.sleep(0)
        await handle(*args)
        self.items.append(word)

    async def read(self) -> None:
        try:
            async for batch in self.link.receive():
                self.items += batch
        except TransportError as error:
            self.why = str(error)
            self.ended.set()


@asynccontextmanager
async def fed(greeting: bytes = GREETING, *, rest: bytes = b"", heard: bytearray | None = None) -> AsyncGenerator[Fed]:
    async with speaking(greeting, then_close_after=None, heard=heard) as address, opened(f"nats://{address}") as link:
        found = Fed(link)
        client: Any = link._client
        for word in ("PING", "INFO"):
            handle = getattr(client, f"_process_{word.lower()}")
            setattr(client, f"_process_{word.lower()}", functools.partial(found.handled, word, handle))
        reading = asyncio.create_task(found.read())
        asking = asyncio.create_task(link.subscribe(["c", "d"]))
        await asyncio.sleep(0)
        client._ps._tap.data_received(b"PONG\r\n")
        async with asyncio.timeout(DEADLINE_S):
            await asking
        try:
            yield found
        finally:
            reading.cancel()
            await asyncio.wait({reading})


@pytest.mark.every_loop
@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_stream_cut_in_two_anywhere_says_the_same(turns: int) -> None:
    async with fed() as one:
        for at in range(1, len(MIXED)):
            await one.feed([MIXED[:at], MIXED[at:]], [turns, 0])


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_stream_byte_by_byte_says_the_same(turns: int) -> None:
    pieces = [MIXED[at : at + 1] for at in range(len(MIXED))]
    async with fed() as one:
        await one.feed(pieces, [turns] * len(pieces))


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """Any lines in any order, cut anywhere, with any number of turns between."""
    stream = b"".join(draw(st.lists(st.sampled_from(list(LINES)), min_size=1, max_size=20)))
    cuts = sorted(draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    return pieces, draw(st.lists(st.integers(0, 4), min_size=len(pieces), max_size=len(pieces)))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cut_streams())
async def test_any_stream_cut_anywhere_says_the_same(cut: tuple[list[bytes], list[int]]) -> None:
    async with fed() as one:
        await one.feed(*cut)


@pytest.mark.every_loop
async def test_what_came_before_the_first_turn_of_the_loop_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def and_more_at_once(client: Any, inbox: Inbox, *, reads_headers: bool) -> InlineIO | None:
        io = make_inline_io(client, inbox, reads_headers=reads_headers)
        client._ps._tap.data_received(b"NG\r\n")
        return io

    monkeypatch.setattr("backplane_nats._link.make_inline_io", and_more_at_once)
    # All at once with the first PONG, as a node of a cluster does: nats-py's stream has it before the link begins.
    heard, early = bytearray(), GREETING + b"PING\r\n" * 8_000 + b"PI"
    async with fed(early, heard=heard) as one:
        assert isinstance(one.link._io, InlineIO)
        await until(lambda: heard.count(b"PONG\r\n") == 8_001, "each PING is answered")
        await one.feed([MIXED], [0])


async def test_a_client_that_has_read_already_or_has_ended_keeps_its_own_parser(nats_url: str) -> None:
    client: Any = await nats.connect(nats_url)
    try:
        client._ps.buf = b"MSG c"
        assert make_inline_io(client, Inbox()) is None
        client._ps.buf = b""
        client._transport._io_writer.transport.abort()
        assert make_inline_io(client, Inbox()) is None
        assert not isinstance(client._ps, InlineParser)
    finally:
        client._ps.buf = bytearray()
        await client.close()


async def test_frames_and_confirmations_come_in_the_callback_itself() -> None:
    async with fed() as one:
        client: Any = one.link._client
        asking = asyncio.create_task(one._ask(1))
        await asyncio.sleep(0)
        seen: list[list[Item]] = []

        def callback() -> None:
            client._ps._tap.data_received(b"PONG\r\nMSG c 1 1\r\nx\r\n")
            seen.append([*one.items])

        asyncio.get_running_loop().call_soon(callback)
        await asking
        assert seen == [[("c", b"x"), 1]], "and what was read at once with a confirmation comes before it"


async def test_a_server_that_says_too_long_a_line_ends_the_link() -> None:
    async with fed() as one, asyncio.timeout(DEADLINE_S):
        client: Any = one.link._client
        for _ in range(5):
            client._ps._tap.data_received(b"x" * (1 << 18))
        await one.ended.wait()
        assert "protocol error" in one.why


@pytest.mark.parametrize(
    "line", [b"MSG c 1 %b\r\n" % (b"9" * 5_000), b"MSG c 1 -1\r\n", b"MSG c\r\n", b"HMSG c 1 2\r\n"]
)
async def test_a_message_of_no_size_ends_the_link(line: bytes) -> None:
    async with fed() as one, asyncio.timeout(DEADLINE_S):
        client: Any = one.link._client
        client._ps._tap.data_received(line)
        await one.ended.wait()
        assert "protocol error" in one.why


@pytest.mark.every_loop
@pytest.mark.skipif(not REPORTS_LAME_DUCK, reason="this nats-py does not tell of it")
async def test_while_nats_py_works_on_a_line_the_socket_waits(start: StartServer) -> None:
    server = start(NatsServer())
    told, goes_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        told.set()
        await goes_on.wait()

    frames: list[Frame] = [("c", b"%06d" % number + b"x" * 1000) for number in range(20_000)]
    async with (
        tapped(server.port) as (address, tap),
        opened(f"nats://{address}", {"lame_duck_mode_cb": slow}) as link,
        listening(link) as listener,
        opened(server.url) as sender,
        asyncio.timeout(3 * DEADLINE_S),
    ):
        await link.subscribe(["c"])
        tap.writers[0].write(b"INFO %b\r\n" % json.dumps({**INFO, "ldm": True}).encode())
        await told.wait()
        client: Any = link._client
        transport = client._transport._io_writer.transport
        sending = asyncio.create_task(sender.send(frames))
        await until(lambda: not transport.is_reading(), "the socket waits")
        await sending
        assert client._ps._have < 1 << 20, "one read, not all that is there"
        assert not listener.items
        goes_on.set()
        assert await listener.until(len(frames)) == frames
        assert transport.is_reading()


@pytest.mark.every_loop
async def test_a_line_that_ends_does_not_let_go_a_socket_whose_reader_is_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backplane_nats._link.Inbox", functools.partial(Inbox, pause_bytes=10))
    heard = bytearray()
    async with speaking(GREETING, then_close_after=None, heard=heard) as address, opened(f"nats://{address}") as link:
        client: Any = link._client
        transport = client._transport._io_writer.transport
        subscribing = asyncio.create_task(link.subscribe(["c"]))
        await asyncio.sleep(0)
        client._ps._tap.data_received(b"PONG\r\n")
        await subscribing
        client._ps._tap.data_received(b"MSG c 1 20\r\n%b\r\nPING\r\n" % (b"x" * 20))
        await until(lambda: b"PONG\r\n" in heard, "nats-py answered")
        assert not transport.is_reading()
        async with listening(link) as listener:
            assert await listener.until(1) == [("c", b"x" * 20)]
            assert transport.is_reading()
