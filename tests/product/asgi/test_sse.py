"""Server-sent events of real clients, at a real server: framing, gaps, and that a stream ends when the server does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from attrs import define, field
from backplane_asgi import Grant, Message, Request, sse_endpoint
from backplane_core import Target, connect
from websockets.exceptions import InvalidStatus

from tests.product.asgi.servers import HTTP_PROTOCOLS, Server, serve


@define
class Stream:
    """Reads an event stream as the standard says, comments and all."""

    lines: AsyncIterator[str]
    status: int
    headers: Any
    comments: int = 0
    retry: list[int] = field(factory=list[int])

    async def next(self) -> tuple[str, Any]:
        """Return the next event: its name and its JSON."""
        name = "message"
        async with asyncio.timeout(20):
            async for line in self.lines:
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("retry: "):
                    self.retry.append(int(line[7:]))
                elif line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    return name, json.loads(line[6:])
        return "end", None

    async def message(self) -> Any:
        name, data = await self.next()
        assert name == "message", name
        return data

    async def closed(self) -> int:
        name, data = await self.next()
        assert name == "closed", name
        assert data["reason"]
        return int(data["code"])


@asynccontextmanager
async def stream(server: Server, path: str, **options: Any) -> AsyncGenerator[Stream]:
    async with server.client.stream("GET", path, **options) as answer:
        yield Stream(answer.aiter_lines(), answer.status_code, answer.headers)


@pytest.mark.parametrize("http", HTTP_PROTOCOLS)
async def test_events_are_data_lines_in_order_and_the_first_bytes_come_at_once(http: str) -> None:
    async with (
        serve(http=http) as server,
        stream(server, "/sse?user=ann") as ann,
        stream(server, "/sse?user=bob") as bob,
    ):
        assert ann.status == 200
        assert ann.headers["content-type"].startswith("text/event-stream")
        assert (ann.headers["cache-control"], ann.headers["x-accel-buffering"]) == ("no-store", "no")
        await server.metric_is("backplane_connections", 2)
        for number in range(20):
            assert await server.publish("user:ann", {"n": number, "text": "two\nlines\r\nü"}) == 1
        assert [await ann.message() for _ in range(20)] == [{"n": n, "text": "two\nlines\r\nü"} for n in range(20)]
        assert await server.publish("user:bob", "for bob", user="bob") == 1
        assert await bob.message() == "for bob"
        assert 1_000 <= ann.retry[0] <= 3_000


async def test_a_silent_stream_shows_that_it_lives() -> None:
    async with serve() as server, stream(server, "/sse?user=ann") as ann:
        lines = [line async for line in first(ann.lines, 6)]
        assert lines.count(": ") + lines.count(":") >= 2


async def first(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async with asyncio.timeout(20):
        for _ in range(count):
            yield await anext(lines)


async def test_a_client_that_is_refused_gets_a_status_after_which_it_does_not_come_back() -> None:
    async with serve() as server:
        assert (await server.get("/sse")).status_code == 401
        assert (await server.get("/sse?user=mallory")).status_code == 403
        assert (await server.get("/sse?user=ann", headers={"Origin": "https://evil.example"})).status_code == 403
        assert (await server.client.post("/sse?user=ann")).status_code == 405
        for path in ("/sse?user=ann", "/publish", "/health", "/metrics"):
            with pytest.raises(InvalidStatus):
                await server.websocket(path)


async def lines_until(stream: Stream, end: str) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(20):
        async for line in stream.lines:
            if not line.startswith((":", "retry")) and line:
                found.append(line)
            if line == end:
                break
    return found


@pytest.mark.parametrize("http", HTTP_PROTOCOLS)
async def test_a_client_that_comes_back_to_another_server_gets_what_it_missed(redis_server: Any, http: str) -> None:
    url = redis_server.url.replace("://", "+streams://", 1)
    async with serve(url, http=http) as one, serve(url, http=http) as two:
        async with stream(one, "/sse?user=ann") as ann:
            assert (await lines_until(ann, 'data: {"backplane":"caughtup","replayed":0}'))[0] == "event: caughtup"
            await two.publish("user:ann", 1)
            last = (await lines_until(ann, "data: 1"))[-2]
            assert last.startswith("id: 1.")
        for number in range(2, 200):
            await two.publish("user:ann", number)
        async with stream(two, "/sse?user=ann", headers={"Last-Event-ID": last[4:]}) as ann:
            lines = await lines_until(ann, 'data: {"backplane":"caughtup","replayed":198}')
            assert [line for line in lines if line.startswith("data: ")][:-1] == [f"data: {n}" for n in range(2, 200)]
            await one.publish("user:ann", "live")
            assert (await lines_until(ann, 'data: "live"'))[-1] == 'data: "live"'
        async with stream(one, "/sse?user=ann&last-event-id=made-up") as ann:
            assert (await ann.next())[1]["cause"] == "resume"


async def test_a_gap_stands_among_the_events(redis_server: Any) -> None:
    async with serve(redis_server.url) as server, stream(server, "/sse?user=ann") as ann:
        await server.metric_is("backplane_connections", 1)
        redis_server.kill()
        await asyncio.to_thread(redis_server.start)
        gap = {"backplane": "gap", "cause": "reconnect", "missed": None, "open": False}
        assert await ann.next() == ("gap", gap)
        await server.publish("user:ann", "after")
        assert await ann.message() == "after"


@pytest.mark.parametrize("http", HTTP_PROTOCOLS)
async def test_sigterm_ends_a_stream_whole_and_within_a_second(http: str) -> None:
    async with serve(http=http) as server, stream(server, "/sse?user=ann") as ann:
        await server.metric_is("backplane_connections", 1)
        await server.publish("user:ann", "last")
        server.terminate()
        began = time.monotonic()
        assert await ann.message() == "last"
        assert await ann.closed() == 1001
        assert await ann.next() == ("end", None)  # httpx would raise at a body that is not whole
        await server.ends()
        assert time.monotonic() - began < 20, "it would be for ever"


async def test_a_server_that_is_about_to_stop_answers_200_and_ends() -> None:
    async with serve(SERVICE_SPREAD_S="60") as server, stream(server, "/sse?user=ann"):
        await server.metric_is("backplane_connections", 1)
        server.terminate()
        for _ in range(1_000):
            if (await server.get("/health/ready")).status_code == 503:
                break
            await asyncio.sleep(0.01)
        assert (await server.get("/health/ready")).json()["state"] == "draining"


async def test_a_stream_that_begins_once_the_backplane_has_drained_says_so_and_ends() -> None:
    async def authenticate(_: Request) -> Grant:
        return Grant(targets=[Target.user("ann")])

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async with connect() as backplane:
        await backplane.drain()
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await sse_endpoint(backplane, authenticate=authenticate)(scope, receive, send)
    assert sent[0]["status"] == 200
    body = b"".join([message["body"] for message in sent[1:]])
    assert b'event: closed\ndata: {"backplane":"closed","code":1001,' in body
    assert not sent[-1]["more_body"]


async def test_a_client_that_goes_is_detached_and_an_expired_grant_ends_the_stream() -> None:
    async with serve() as server:
        async with stream(server, "/sse?user=ann"):
            await server.metric_is("backplane_connections", 1)
        await server.metric_is("backplane_connections", 0)
        async with stream(server, f"/sse?user=ann&expires_at={time.time() + 0.3}") as ann:
            assert await ann.closed() == 4401
            assert await ann.next() == ("end", None)
        await server.metric_is('backplane_gateway_closed_total{transport="sse",code="0"}', 1)
        await server.metric_is('backplane_gateway_closed_total{transport="sse",code="4401"}', 1)


@pytest.mark.parametrize("http", HTTP_PROTOCOLS)
async def test_a_stream_that_is_ended_says_why_behind_its_last_event(http: str, redis_server: Any) -> None:
    async with (
        serve(redis_server.url, http=http) as server,
        connect(redis_server.url) as elsewhere,
        stream(server, "/closing?user=ann") as ann,
    ):
        await server.metric_is("backplane_connections", 1)
        await server.publish("user:ann", "last")
        await elsewhere.fleet.close(Target.user("ann"), code=4001, reason='signed "out"', timeout_s=20)
        assert await ann.message() == "last"
        assert await ann.next() == ("closed", {"backplane": "closed", "code": 4001, "reason": 'signed "out"'})
        assert await ann.next() == ("end", None)
        async with stream(server, "/closing?user=ann") as again:
            await server.metric_is("backplane_connections", 1)
            redis_server.kill()
            await asyncio.to_thread(redis_server.start)
            assert await again.closed() == 1012
            assert len(again.retry) == 1, "it may come back as soon as it likes"


async def test_one_whose_id_is_taken_over_comes_back_late_so_that_two_do_not_take_turns() -> None:
    async with serve() as server, stream(server, "/sse?user=ann&conn_id=tab") as first_tab:
        await server.metric_is("backplane_connections", 1)
        async with stream(server, "/sse?user=ann&conn_id=tab") as second_tab:
            assert await first_tab.closed() == 4409
            assert 15_000 <= first_tab.retry[-1] <= 45_000
            await server.publish("user:ann", "for the second")
            assert await second_tab.message() == "for the second"


async def test_a_server_that_is_full_answers_200_and_says_so() -> None:
    async with serve() as server, stream(server, "/sse?user=late") as late:
        assert late.status == 200
        assert await late.next() == ("closed", {"backplane": "closed", "code": 1013, "reason": "full"})
        assert await late.next() == ("end", None)
        assert 1_000 <= late.retry[0] <= 3_000


@pytest.mark.parametrize("options", ['{"max_pending_bytes": 200000, "max_age_s": 60}', '{"max_age_s": 0.5}'])
@pytest.mark.parametrize("http", HTTP_PROTOCOLS[:3])
async def test_a_stream_that_nobody_reads_is_cut_and_others_get_everything(http: str, options: str) -> None:
    event = {"text": "x" * 90_000}
    async with serve(http=http, SERVICE_OPTIONS=options) as server, stream(server, "/sse?user=ann") as witness:
        async with server.raw() as (reader, writer):
            writer.write(b"GET /sse?user=ann HTTP/1.1\r\nHost: h\r\n\r\n")
            await reader.readuntil(b"retry: ")
            await server.metric_is("backplane_connections", 2)
            for _ in range(200):
                await server.publish("user:ann", event)
                assert await witness.message() == event
                if await server.metric("backplane_connections") == 1:
                    break
            await server.metric_is("backplane_connections", 1)
            assert await server.metric("backplane_overflowed_events_total") == 1
            await server.publish("user:ann", "still here")
            assert await witness.message() == "still here"
            if http not in {"h11", "httptools"}:  # the others wait until the client takes what they have
                await has_ended(reader)
        server.terminate()
        await server.ends()


async def has_ended(reader: asyncio.StreamReader) -> None:
    """Read what is left, which is not a whole answer."""
    rest = b""
    async with asyncio.timeout(20):
        with suppress(ConnectionResetError):
            while part := await reader.read(65_536):
                rest = (rest + part)[-16:]
    assert not rest.endswith(b"0\r\n\r\n")


async def test_a_stream_that_takes_nothing_is_cut_when_the_server_stops() -> None:
    async with (
        serve(SERVICE_OPTIONS='{"max_pending_bytes": 20000000, "max_age_s": 60}') as server,
        server.raw() as line,
    ):
        reader, writer = line
        writer.write(b"GET /sse?user=ann HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"retry: ")
        await server.metric_is("backplane_connections", 1)
        for _ in range(50):
            await server.publish("user:ann", {"text": "x" * 90_000})
        assert await server.metric("backplane_gateway_send_queue_events") > 0, "it takes nothing"
        server.terminate()
        await server.ends()
        await has_ended(reader)


async def test_a_middleware_that_changes_the_body_gets_every_event() -> None:
    async with serve() as server, stream(server, "/shouting/sse?user=ann") as ann:
        await server.metric_is("backplane_connections", 1)
        for number in range(3):
            await server.publish("user:ann", {"text": f"number {number}"})
        assert [await ann.message() for _ in range(3)] == [{"TEXT": f"NUMBER {number}"} for number in range(3)]


@pytest.mark.parametrize("http", HTTP_PROTOCOLS)
async def test_a_stream_over_http_1_0_is_bytes_without_a_length(http: str) -> None:
    async with serve(http=http) as server, server.raw() as (reader, writer):
        writer.write(b"GET /sse?user=ann HTTP/1.0\r\nHost: h\r\n\r\n")
        head = await reader.readuntil(b"retry: ")
        await server.metric_is("backplane_connections", 1)
        await server.publish("user:ann", "one")
        body = await reader.readuntil(b'data: "one"\n\n')
        # uvicorn on httptools sends chunks even so.
        assert (b"\r\ndata:" in body) == (b"transfer-encoding: chunked" in head)


async def test_a_request_right_behind_a_stream_is_answered_when_the_stream_has_ended() -> None:
    async with serve() as server, server.raw() as (reader, writer):
        soon = time.time() + 0.5
        asked = b"GET /sse?user=ann&expires_at=%f HTTP/1.1\r\nHost: h\r\n\r\n" % soon
        writer.write(asked + b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(20):
            answers = await reader.read(-1)
        assert answers.count(b"HTTP/1.1 200 OK") == 2
        assert answers.index(b"0\r\n\r\n") < answers.rindex(b"HTTP/1.1 200 OK")
