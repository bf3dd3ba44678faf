"""The web app of the examples, on backplane-asgi and by hand: a day of two real servers, and nothing unexplained."""

from __future__ import annotations

import ast
import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from backplane_core import BaseBackplane, Target, connect
from playwright.async_api import Page, async_playwright
from websockets.exceptions import InvalidStatus

from tests.product.asgi.servers import PREPARED, PREPARED_HTTP, Server, serve
from tests.product.asgi.test_sse import has_ended
from tests.product.asgi.test_websocket import closed, handshake, receive
from tests.project.examples.diaries import Diary, PageDiary, SocketClient, StreamClient
from tests.support.browser import FLAGS

EXAMPLES = Path(__file__).parents[3] / "examples"
ANN = {"Cookie": "user=ann"}
SAL = {"Cookie": "user=sal"}

pytestmark = pytest.mark.xdist_group("browser")

# What a page does by hand; `backplane.js` does it for the other app.
BY_HAND = """
  const open = () => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/events/");
    let isOpen = false;  // else it got no further than the door of a server that stops
    socket.onopen = () => {
      isOpen = true;
      seen.push(["open", null]);
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      seen.push(message.backplane ? [message.backplane, null] : ["event", message]);
    };
    socket.onclose = ({ code }) => {
      if (isOpen) seen.push(["closed", code]);
      setTimeout(open, 100 + 200 * Math.random());
    };
  };
  open();
"""
BY_SCRIPT = """
  const { connect } = await import("/events/backplane.js");
  connect("/events/", {
    onEvent: (event) => seen.push(["event", event]),
    onGap: () => seen.push(["gap", null]),
    onState: (state) => seen.push([state === "live" ? "open" : state, null]),
  });
"""
STREAM = """
  const stream = new EventSource("/stream/");
  stream.onopen = () => streamed.push(["open", null]);
  stream.onmessage = ({ data }) => streamed.push(["event", JSON.parse(data)]);
  stream.addEventListener("gap", () => streamed.push(["gap", null]));
  stream.onerror = () => streamed.push(["closed", null]);
"""


@frozen
class App:
    """One of the two.

    Args:
        name: Of its module.
        ws: The WebSocket protocol of uvicorn.
        http: The HTTP protocol of uvicorn.
        script: What a page runs to get its events.
        reason: Why a socket that nobody reads is closed.
    """

    name: str
    ws: str
    http: str
    script: str
    reason: bytes


APPS = {
    "short": App("web_app", PREPARED, PREPARED_HTTP, BY_SCRIPT, b"too far behind: come back and reload"),
    "by hand": App("web_app_by_hand", "websockets-sansio", "httptools", BY_HAND, b""),
}


@pytest.fixture(params=list(APPS))
def app(request: pytest.FixtureRequest) -> App:
    return APPS[request.param]


@define
class Place:
    """Where one server after the other takes the connections: its clients know nothing else."""

    app: App
    url: str
    stack: AsyncExitStack
    listener: socket.socket = field(init=False)
    server: Server = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    async def start(self) -> Server:
        app = self.app
        running = serve(
            self.url,
            app=f"examples.{app.name}:app",
            ws=app.ws,
            http=app.http,
            metrics="/metrics/",
            listener=self.listener,
        )
        self.server = await self.stack.enter_async_context(running)
        return self.server


@define
class Traffic:
    """What is published for ann: by a worker all the time, and by HTTP."""

    worker: BaseBackplane
    published: dict[str, int] = field(factory=lambda: {"worker": 0}, init=False)

    async def run(self) -> None:
        while True:
            await self.by_worker()
            await asyncio.sleep(0.01)

    async def by_worker(self) -> None:
        number = self.published["worker"]
        self.published["worker"] += 1
        await self.worker.publish(Target.user("ann"), {"from": "worker", "n": number})

    async def by_http(self, server: Server, source: str, count: int = 5) -> None:
        for _ in range(count):
            number = self.published.setdefault(source, 0)
            self.published[source] += 1
            body = {"target": "user:ann", "event": {"from": source, "n": number}}
            assert (await server.client.post("/publish/", json=body, headers=ANN)).status_code == 200


@define
class Audience:
    """All clients of ann."""

    sockets: Sequence[SocketClient]
    streams: Sequence[StreamClient]
    pages: Sequence[PageDiary]

    @classmethod
    def of(cls, here: Place, there: Place, page: Page) -> Audience:
        at = {"here": here.address, "there": there.address}
        return cls(
            [SocketClient(Diary(f"socket, {name}"), f"ws://{where}/events/", ANN) for name, where in at.items()],
            [StreamClient(Diary(f"stream, {name}"), f"http://{where}/stream/", ANN) for name, where in at.items()],
            [PageDiary(Diary(f"page, {name}"), page, name) for name in ("seen", "streamed")],
        )

    def is_back(self, place: Place) -> bool:
        """Return whether the clients of a place were cut off, and have come back."""
        clients = [client for client in self.clients if place.address in client.url]
        in_page = [page.diary for page in self.pages] if f"//{place.address}" in self.pages[0].page.url else []
        return all(client.opened > 1 for client in clients) and all(diary.count("open") for diary in in_page)

    def is_over(self) -> None:
        """Let nobody come back from now on."""
        for client in self.clients:
            client.is_over = True

    @property
    def clients(self) -> list[SocketClient | StreamClient]:
        return [*self.sockets, *self.streams]

    @property
    def diaries(self) -> list[Diary]:
        return [client.diary for client in self.clients] + [page.diary for page in self.pages]

    async def comes_back(self, place: Place) -> None:
        await self.until(lambda _: self.is_back(place), "its clients are back")

    async def until(self, done: Callable[[Diary], bool], what: str) -> None:
        """Return once this is so of every client."""
        left: list[Diary] = []
        for _ in range(1_200):
            for page in self.pages:
                await page.update()
            left = [diary for diary in self.diaries if not done(diary)]
            if not left:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not so: {what}: {[(diary.name, diary.entries[-5:]) for diary in left]}")


@contextmanager
def running(audience: Audience) -> Generator[list[asyncio.Task[None]]]:
    """Let all clients run; none is left behind."""
    tasks = [asyncio.create_task(client.run()) for client in audience.clients]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()


async def series_is(server: Server, name: str, value: str) -> None:
    for _ in range(3_000):
        if f"{name} {value}\n" in (await server.get("/metrics/")).text:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} is not {value}: {(await server.get('/metrics/')).text}")


@asynccontextmanager
async def browsing(app: App, chromium: str, address: str) -> AsyncGenerator[Page]:
    """Open a page with a socket and a stream."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            context = await browser.new_context()
            await context.add_cookies([{"name": "user", "value": "ann", "url": f"http://{address}"}])
            page = await context.new_page()
            await page.goto(f"http://{address}/health/live")  # any page of this origin
            await page.evaluate(f"async () => {{ window.seen = []; window.streamed = []; {app.script} {STREAM} }}")
            yield page
        finally:
            await browser.close()


async def test_a_day_of_two_servers_leaves_nothing_unexplained(app: App, broker: Any, chromium: str) -> None:
    async with AsyncExitStack() as stack:
        here, there = Place(app, broker.url, stack), Place(app, broker.url, stack)
        await here.start()
        await there.start()
        worker = await stack.enter_async_context(connect(broker.url))
        page = await stack.enter_async_context(browsing(app, chromium, here.address))
        audience = Audience.of(here, there, page)
        clients = stack.enter_context(running(audience))
        await series_is(here.server, "backplane_connections", "4")
        await series_is(there.server, "backplane_connections", "2")
        for place in (here, there):
            await series_is(place.server, "backplane_ready", "1")
        await page.evaluate("seen.length = streamed.length = 0")
        for diary in audience.diaries:
            diary.entries.clear()  # from here on all is to be explained

        traffic = Traffic(worker)
        publishing = asyncio.create_task(traffic.run())
        await traffic.by_http(here.server, "here")
        await traffic.by_http(there.server, "there")
        await audience.until(lambda diary: len(diary.numbers("worker")) >= 20, "traffic flows")
        assert not any(diary.count("gap") for diary in audience.diaries)

        broker.kill()
        await traffic.by_http(here.server, "here")  # reaches this process's own clients meanwhile
        await asyncio.to_thread(broker.start)
        await audience.until(lambda diary: diary.count("gap") > 0, "everyone knows of the gap")
        await traffic.by_http(there.server, "there")

        await stall(here.server, app)

        for place in (here, there):
            old = place.server
            await place.start()
            old.terminate()
            await old.ends()
            await audience.comes_back(place)
        await traffic.by_http(here.server, "here again")

        publishing.cancel()
        await asyncio.wait([publishing])
        await audience.until(lambda diary: not diary.unexplained(traffic.published), "all that came is explained")
        audience.is_over()
        for place in (here, there):
            place.server.terminate()
        for place in (here, there):
            await place.server.ends()
        await asyncio.wait(clients)
        assert [task.exception() for task in clients if task.exception() is not None] == []
        assert {code for client in audience.sockets for code in client.codes} == {1001}
        assert [len(client.codes) >= 2 for client in audience.sockets] == [True, True]
        assert [client.cuts for client in audience.streams] == [0, 0], "a stream was cut off"
        for page_diary in audience.pages:
            await page_diary.update()
        closes = {kind for kind, _ in audience.pages[0].diary.entries if kind.startswith("closed ")}
        assert closes <= {"closed 1001"}


async def stall(server: Server, app: App) -> None:
    """Let a socket and a stream go unread: they are cut, and another client of that user gets everything."""
    event = {"text": "x" * 90_000}
    async with (
        server.raw() as (reader, writer),
        server.raw() as (stream, asking),
        server.websocket("/events/", additional_headers=SAL) as witness,
    ):
        writer.write(handshake("/events/").replace(b"Host: h", b"Host: h\r\nCookie: user=sal"))
        await reader.readuntil(b"\r\n\r\n")
        asking.write(b"GET /stream/ HTTP/1.1\r\nHost: h\r\nCookie: user=sal\r\n\r\n")
        await stream.readuntil(b"retry: ")
        await series_is(server, "backplane_connections", "7")
        for _ in range(400):
            answer = await server.client.post("/publish/", json={"target": "user:sal", "event": event}, headers=SAL)
            assert answer.status_code == 200
            assert await receive(witness) == event
            if answer.json() == {"delivered": 1}:
                break
        await series_is(server, "backplane_connections", "5")
        async with asyncio.timeout(60):
            assert b"\x03\xf4" + app.reason in (await reader.read(-1))[-100:], "no close frame with 1012"
        await has_ended(stream)
    await series_is(server, "backplane_connections", "4")


async def test_who_is_not_logged_in_gets_a_code_or_a_status(app: App) -> None:
    running = serve(app=f"examples.{app.name}:app", ws=app.ws, http=app.http, metrics="/metrics/")
    body = {"target": "user:ann", "event": 1}
    async with running as server:
        async with server.websocket("/events/") as nobody:
            assert await closed(nobody) == (4401, "log in first")
        for origin in ("https://evil.example", "null", "http://["):
            with pytest.raises(InvalidStatus):
                await server.websocket("/events/", additional_headers=ANN, origin=origin)
            assert (await server.get("/stream/", headers={**ANN, "Origin": origin})).status_code == 403
        assert (await server.get("/stream/")).status_code == 401
        assert (await server.client.post("/publish/", json=body)).status_code == 401
        assert (await server.client.post("/publish/", json=body, headers=SAL)).status_code == 403
        assert (await server.client.post("/publish/", json={"target": 1}, headers=ANN)).status_code == 422
        assert (await server.get("/health/live")).json() == {"live": True}
        assert (await server.get("/health/ready")).json()["ready"] is True


def code_lines(name: str) -> int:
    """Return how many lines of an example are code: neither empty nor a docstring or a comment."""
    text = (EXAMPLES / f"{name}.py").read_text()
    prose = set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in prose]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def test_the_short_one_is_thirty_lines_and_the_long_one_five_times_that() -> None:
    assert code_lines("web_app") <= 30
    assert code_lines("web_app_by_hand") >= 5 * code_lines("web_app")


async def test_the_short_one_also_knows_who_is_there(redis_url: str, channel: str) -> None:
    async with (
        serve(redis_url, app="examples.web_app:app", metrics="/metrics/", BACKPLANE_CHANNEL=channel) as here,
        serve(redis_url, app="examples.web_app:app", metrics="/metrics/", BACKPLANE_CHANNEL=channel) as there,
        here.websocket("/events/", additional_headers=ANN),
        there.websocket("/events/", additional_headers=ANN),
        there.websocket("/events/", additional_headers=ANN),
    ):
        counts: dict[str, int] = {}
        for _ in range(200):
            counts = (await here.get("/who/ann")).json()
            if sorted(counts.values()) == [1, 2]:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(counts)
