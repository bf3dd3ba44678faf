"""Clients that break the rules, at each server: a close code or a status, no traceback, and others unharmed."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import psutil  # type: ignore[import-untyped]
import pytest
from attrs import frozen
from websockets.asyncio.client import ClientConnection

from tests.product.asgi.servers import PREPARED, PREPARED_HTTP, Server, need, serve, serve_by
from tests.product.asgi.test_websocket import handshake, receive

SERVICE: Final = "tests.product.asgi.service:app"
MAX_BYTES: Final = 65_536
"""Of one message, as the servers are started."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: bytes | None = None,
) -> bytes:
    """Return a frame of a client, be it legal or not."""
    size = len(payload)
    if length is None:
        short = size if size < 126 else 126 if size < 65_536 else 127
        length = bytes([short]) + (b"" if size < 126 else struct.pack("!H" if size < 65_536 else "!Q", size))
    head = bytes([fin << 7 | rsv << 4 | opcode, length[0] | masked << 7]) + length[1:]
    return head + (bytes(4) + payload if masked else payload)  # a mask of zeros changes nothing


TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


FRAMES: Mapping[str, tuple[bytes, set[int]]] = {
    # Text that is not UTF-8
    "text that is not UTF-8": (frame(TEXT, b"\xff\xfe"), {1007}),
    "a sequence that is too long": (frame(TEXT, b"\xc0\xaf"), {1007}),
    "half of a surrogate pair": (frame(TEXT, b"\xed\xa0\x80"), {1007}),
    "beyond the last character": (frame(TEXT, b"\xf4\x90\x80\x80"), {1007}),
    "a character that ends too soon": (frame(TEXT, "ü".encode()[:1]), {1007}),
    "two such texts at once": (frame(TEXT, b"\xff") * 2, {1007}),
    "a broken character over two fragments": (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("), {1007}),
    "a reason that is not UTF-8": (close(1000, b"\xff\xfe"), {1007, 1002}),
    # Frames that nobody may send
    "a reserved bit, 1": (frame(TEXT, b"{}", rsv=4), {1002}),
    "a reserved bit, 2": (frame(TEXT, b"{}", rsv=2), {1002}),
    "a reserved bit, 3": (frame(TEXT, b"{}", rsv=1), {1002}),
    "an unknown kind of data": (frame(0x3), {1002}),
    "an unknown kind of control": (frame(0xB), {1002}),
    "without a mask": (frame(TEXT, b"hi", masked=False), {1002}),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), {1002}),
    "a continuation behind a whole message": (frame(TEXT, b"{}") + frame(CONTINUATION, b"x"), {1002}),
    "a message within a message": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), {1002}),
    # Control frames
    "a ping of 126 bytes": (frame(PING, b"x" * 126), {1002}),
    "a pong of 126 bytes": (frame(PONG, b"x" * 126), {1002}),
    "a ping in two fragments": (frame(PING, b"x", fin=False) + frame(CONTINUATION, b"y"), {1002}),
    "a close in two fragments": (frame(CLOSE, b"\x03\xe8", fin=False) + frame(CONTINUATION), {1002}),
    "a close of one byte": (frame(CLOSE, b"\x03"), {1002}),
    "a close with a reason of 124 bytes": (close(1000, b"x" * 124), {1002}),
    **{f"a close with code {code}": (close(code), {1002}) for code in (0, 999, 1004, 1005, 1006, 1016, 2999, 65_535)},
    # Sizes
    "a message that is too large": (frame(TEXT, b"x" * (MAX_BYTES + 1)), {1009}),
    "a message that is too large for a command": (frame(TEXT, b"x" * 9_000), {1009}),
    "a large message in small fragments": (
        frame(TEXT, b"x" * 1_000, fin=False) + frame(CONTINUATION, b"x" * 1_000, fin=False) * 100,
        {1009},
    ),
    "a gigabyte, as announced": (frame(TEXT, length=b"\x7f" + (1 << 30).to_bytes(8, "big")), {1009}),
    "the largest length there is": (frame(TEXT, length=b"\x7f" + ((1 << 63) - 1).to_bytes(8, "big")), {1009, 1002}),
    "a length with its highest bit set": (frame(TEXT, length=b"\x7f" + b"\xff" * 8), {1002, 1009}),
    # Legal, and answered
    "a close without a code": (frame(CLOSE), {1000, 1005}),
    "a close with the longest reason": (close(1000, b"x" * 123), {1000}),
    "a close with a code of its own": (close(4_999), {4_999, 1000}),
}
"""What a client sends, and the codes that may answer it."""

ODD: Sequence[bytes] = (
    frame(PING, b"x" * 125),
    frame(PONG, b"nobody asked"),
    frame(TEXT),
    frame(BINARY, bytes(range(256))),
    frame(TEXT, b"{", fin=False) + frame(PING, b"between") + frame(CONTINUATION, b"}"),
    frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 5 + frame(CONTINUATION),
    frame(TEXT, "ü".encode()[:1], fin=False) + frame(CONTINUATION, "ü".encode()[1:]),
    frame(TEXT, b'{"backplane":"subscribe","target":"room:\\u0000"}'),
    frame(TEXT, b'{"backplane":"subscribe","target":"\\ud800"}'),
    frame(TEXT, b'{"backplane":"subscribe","target":"everyone"}'),
    frame(TEXT, b"[" * 4_000),
    frame(TEXT, b'{"backplane":' + b"9" * 4_000 + b"}"),
)
"""What is legal, however odd: the socket lives on."""


@frozen(kw_only=True)
class Way:
    """A server to be abused.

    Args:
        command: Of Python.
        needs: What has to be installed.
        spared: Rows that this server does not stand, whatever app it runs.
        is_curt: Whether it ends some of such connections without a close frame.
    """

    command: Sequence[str]
    needs: Sequence[str] = ()
    spared: frozenset[str] = frozenset()
    is_curt: bool = False


def uvicorn(ws: str, http: str) -> tuple[str, ...]:
    limits = ("--ws-max-size", str(MAX_BYTES), "--ws-ping-interval", "0.5", "--ws-ping-timeout", "2")
    return ("-m", "uvicorn", SERVICE, "--fd", "{fd}", "--ws", ws, "--http", http, *limits)


NOT_UTF_8: Final = frozenset(name for name, (_, codes) in FRAMES.items() if 1007 in codes)

ANNOUNCED: Final = frozenset({"a gigabyte, as announced", "the largest length there is"})
"""wsproto waits for the rest: the limit ends it once so much has come."""

WAYS: Mapping[str, Way] = {
    "prepared": Way(command=uvicorn(PREPARED, PREPARED_HTTP)),
    "prepared, h11": Way(command=uvicorn(PREPARED, "tests.product.asgi.on_h11:PreparedHttpProtocol")),
    # Its protocol logs a traceback of text that is not UTF-8, before any app sees it.
    "sans-io": Way(command=uvicorn("websockets-sansio", "h11"), spared=NOT_UTF_8),
    "wsproto": Way(command=uvicorn("wsproto", "h11"), needs=("wsproto",), spared=ANNOUNCED, is_curt=True),
    "hypercorn": Way(
        command=("-m", "hypercorn", SERVICE, "--bind", "fd://{fd}", "--workers", "0"),
        needs=("hypercorn",),
        spared=ANNOUNCED | {"a large message in small fragments"},  # it allows 16 MiB
        is_curt=True,
    ),
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    way = WAYS[request.param]
    need(*way.needs)
    return way


@asynccontextmanager
async def watched(way: Way) -> AsyncGenerator[tuple[Server, ClientConnection]]:
    """Run a server with a client that breaks no rule, and that gets what it should to the end."""
    async with serve_by(way.command) as server, server.websocket("/ws?user=ann") as witness:
        yield server, witness
        assert await server.publish("user:ann", "still here") >= 1
        assert await receive(witness) == "still here"


async def frames_of(reader: asyncio.StreamReader) -> AsyncGenerator[tuple[int, bytes]]:
    """Yield the frames of a server, until the connection ends."""
    with suppress(asyncio.IncompleteReadError, ConnectionResetError):
        while True:
            first, size = await reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            yield first & 15, await reader.readexactly(size)


async def code_of(reader: asyncio.StreamReader) -> int:
    """Return the code of the close frame that comes; 1005: it has none, 1006: none came."""
    async with asyncio.timeout(20):
        async for opcode, payload in frames_of(reader):
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big") if payload else 1005
    return 1006


async def open_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(handshake("/ws?user=ann"))
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")


async def test_frames_against_the_rules_are_answered_by_a_code(way: Way) -> None:
    wrong: list[str] = []
    async with watched(way) as (server, _):
        for name, (sent, codes) in FRAMES.items():
            if name in way.spared:
                continue
            async with server.raw() as (reader, writer):
                await open_socket(reader, writer)
                writer.write(sent)
                code = await code_of(reader)
                if code not in (codes | {1006} if way.is_curt else codes):
                    wrong.append(f"{name}: {code}, not {sorted(codes)}")
        await server.metric_is("backplane_connections", 1)
    assert not wrong


async def test_what_is_legal_however_odd_costs_nobody_the_socket(way: Way) -> None:
    async with watched(way) as (server, _), server.raw() as (reader, writer):
        await open_socket(reader, writer)
        for sent in ODD:
            writer.write(sent)
        writer.write(frame(TEXT, b'{"backplane":"ping"}'))
        async with asyncio.timeout(20):
            async for opcode, payload in frames_of(reader):
                assert opcode != CLOSE, payload
                if payload == b'{"backplane":"pong"}':
                    break


FLOODS: Mapping[str, bytes] = {
    "commands": frame(TEXT, b"{}"),
    "binary messages": frame(BINARY),
    "pings": frame(PING, b"x" * 125),
    "pongs": frame(PONG),
    "fragments without a byte": frame(CONTINUATION, fin=False),
}
FLOOD_BYTES: Final = 24 * 1024 * 1024
MAY_GROW_BYTES: Final = 16 * 1024 * 1024


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_ended_and_memory_stays_flat(name: str) -> None:
    """The flood is not read back: what answers it would pile up."""
    command = uvicorn(PREPARED, PREPARED_HTTP)
    async with watched(Way(command=command)) as (server, _), server.raw() as (reader, writer):
        process = psutil.Process(server.process.pid)
        await open_socket(reader, writer)
        before = process.memory_info().rss
        part = (frame(TEXT, fin=False) if "fragments" in name else b"") + FLOODS[name] * (65_536 // len(FLOODS[name]))
        with suppress(ConnectionError):
            for _ in range(FLOOD_BYTES // len(part)):
                writer.write(part)
                async with asyncio.timeout(20):
                    await writer.drain()
        await server.metric_is("backplane_connections", 1)
        assert process.memory_info().rss - before < MAY_GROW_BYTES


async def test_a_client_that_does_not_answer_pings_is_cut_though_it_takes_nothing() -> None:
    """Its last words can't be written; uvicorn alone would wait for ever for it to take them."""
    options = '{"max_age_s": 600, "max_pending_bytes": 50000000}'
    pings = ("--ws-ping-interval", "3", "--ws-ping-timeout", "3")
    async with serve(None, *pings, SERVICE_OPTIONS=options) as server, server.raw() as (reader, writer):
        await open_socket(reader, writer)
        sent = 0
        while await server.metric("backplane_gateway_send_queue_events") == 0:
            await server.publish("user:ann", {"text": "x" * 90_000})
            sent += 1
            assert sent < 500
        await server.metric_is("backplane_connections", 0)


REQUESTS: Mapping[str, tuple[bytes, set[int]]] = {
    # Handshakes
    "no key": (handshake("/ws").replace(b"Sec-WebSocket-Key", b"X-Key"), {400, 426}),
    "a wrong version": (handshake("/ws").replace(b"Version: 13", b"Version: 8"), {400, 426}),
    "a socket by POST": (handshake("/ws").replace(b"GET", b"POST"), {400, 405, 426}),
    "a path that is not ASCII": (handshake("/ws?user=ann").replace(b"/ws", b"/ws\xff"), {400}),
    "an origin that is none": (
        handshake("/ws?user=ann").replace(b"Host: h", b"Host: h\r\nOrigin: http://["),
        {403},
    ),
    "an origin with the host as its user": (
        handshake("/ws?user=ann").replace(b"Host: h", b"Host: h\r\nOrigin: http://h@evil.example"),
        {403},
    ),
    "an origin that begins like the host": (
        handshake("/ws?user=ann").replace(b"Host: h", b"Host: h\r\nOrigin: http://h.evil.example"),
        {403},
    ),
    "an empty origin": (handshake("/ws?user=ann").replace(b"Host: h", b"Host: h\r\nOrigin: "), {403, 400}),
    "two origins": (
        handshake("/ws?user=ann").replace(b"Host: h", b"Host: h\r\nOrigin: http://h\r\nOrigin: http://evil.example"),
        {403, 400},
    ),
    "a socket where there is none": (handshake("/publish"), {403}),
    # Streams
    "a stream by POST": (b"POST /sse?user=ann HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", {405}),
    "a stream by a method that nobody knows": (b"BREW /sse HTTP/1.1\r\nHost: h\r\n\r\n", {400, 405, 501}),
    "a stream for nobody": (b"GET /sse?user= HTTP/1.1\r\nHost: h\r\n\r\n", {403}),
    "a stream for a name that is too long": (b"GET /sse?user=%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"x" * 1_025), {403}),
    "a stream of another origin": (b"GET /sse?user=ann HTTP/1.1\r\nHost: h\r\nOrigin: http://[\r\n\r\n", {403}),
    # Publishing
    "no length": (b"POST /publish HTTP/1.1\r\nHost: h\r\n\r\n", {411, 415}),
    "a negative length": (b"POST /publish HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", {400}),
    "two lengths": (
        b"POST /publish HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        {400},
    ),
    "chunks that are none": (
        b"POST /publish HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        {400, 415},
    ),
    "chunks that are none, behind an answer": (
        b"POST /sse HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" + b"zz\r\n" * 20_000,
        {400, 405},
    ),
    "a header without an end": (b"GET /health HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 200_000, {400, 431}),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
}
"""What a client asks, and the statuses that may answer it."""


async def status_of(reader: asyncio.StreamReader) -> int:
    """Return the status of the answer; 0: there was none."""
    async with asyncio.timeout(20):
        with suppress(ConnectionResetError):
            line = await reader.readline()
            return int(line.split()[1]) if line.startswith(b"HTTP/") else 0
    return 0


@pytest.mark.parametrize("name", ["prepared", "prepared, h11"])
async def test_requests_against_the_rules_are_answered_by_a_status(name: str) -> None:
    wrong: list[str] = []
    async with watched(WAYS[name]) as (server, _):
        for what, (sent, statuses) in REQUESTS.items():
            async with server.raw() as (reader, writer):
                with suppress(ConnectionError):
                    writer.write(sent)
                    await writer.drain()
                try:
                    status = await status_of(reader)
                except TimeoutError:
                    status = -1
                if status not in statuses:
                    wrong.append(f"{what}: {status}, not {sorted(statuses)}")
        for body, statuses in BODIES.items():
            headers = {"Authorization": "Bearer ann", "Content-Type": "application/json"}
            status = (await server.client.post("/publish", content=body, headers=headers)).status_code
            if status not in statuses:
                wrong.append(f"{body[:60]!r}: {status}, not {sorted(statuses)}")
        await server.metric_is("backplane_connections", 1)
    assert not wrong


BODIES: Mapping[bytes, set[int]] = {
    json.dumps({"target": ["user:ann"] * 20_000, "event": 1}).encode()[:190_000]: {422},
    json.dumps({"target": [f"room:{number}" for number in range(150)] * 20, "event": 1}).encode(): {200, 422},
    json.dumps({"target": "user:ann", "event": 1, "exclude": ["x" * 2_000]}).encode(): {422},
    b'{"target": "user:\\ud800", "event": 1}': {422},
    b'{"target": "user:ann", "event": "\\ud800"}': {422},
    b'{"target": "user:ann", "event": NaN}': {422},
    b'{"target": "user:ann", "event": ' + b"9" * 100_000 + b"}": {200, 422},
    b'{"target": "user:ann", "event": ' + b'{"a":' * 30_000 + b"1" + b"}" * 30_000 + b"}": {422},
    b'{"target": "user:ann", "target": "user:bob", "event": 1}': {200, 403, 422},
    b"\xef\xbb\xbf{}": {422},
    b"\xff\xfe": {422},
}


async def test_cookies_that_were_made_to_be_slow_are_read_at_once() -> None:
    hostile = "a=" + '"' + "\\" * 15_000 + '"; user=ann'
    async with serve() as server:
        began = time.process_time()
        assert (await server.get("/sse", headers={"Cookie": hostile})).status_code == 401
        assert time.process_time() - began < 20, "it would be minutes"


@pytest.mark.parametrize("begun", [b"", b"GET /sse", b"GET /sse HTTP/1.1\r\nHost: h\r\n"])
async def test_a_request_that_never_ends_is_given_up(begun: bytes) -> None:
    http = "tests.product.asgi.impatient:PreparedHttpProtocol"
    async with serve(http=http) as server, server.websocket("/ws?user=ann") as witness:
        async with server.raw() as (reader, writer), asyncio.timeout(20):
            writer.write(begun)
            answer = await reader.read(-1)
            assert answer.startswith(b"HTTP/1.1 408 ") if begun else answer == b""
        async with server.raw() as (reader, writer), asyncio.timeout(20):
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\nGET /he")  # a second one, half
            await reader.read(-1)  # it is over
        assert await server.publish("user:ann", 1) == 1
        assert await receive(witness) == 1


async def test_a_body_that_never_ends_is_given_up() -> None:
    async with serve(SERVICE_BODY_S="0.5") as server, server.raw() as (reader, writer):
        head = "Host: h\r\nAuthorization: Bearer ann\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        writer.write(f"POST /publish HTTP/1.1\r\n{head}{{".encode())
        assert await status_of(reader) == 408
        async with asyncio.timeout(20):
            await reader.read(-1)  # and the connection is over
