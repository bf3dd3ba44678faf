"""The service of `web_app.py` by hand, on FastAPI and `backplane-core` alone: what its five mounts save you.

$ export BACKPLANE_URL=redis://localhost:6379
$ uvicorn examples.web_app_by_hand:app --ws-per-message-deflate false
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from types import FrameType
from typing import Annotated, cast

from backplane_core import (
    BaseBackplane,
    ClosedError,
    Connection,
    Event,
    EventEncodeError,
    EventTooLargeError,
    Gap,
    OutboxFullError,
    SlowConsumerError,
    Target,
    connect_from_env,
)
from fastapi import Cookie, FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, JsonValue
from starlette.datastructures import State
from starlette.types import Message, Send

SEND_S = 5  # for which one send may wait: a client that has stopped reading must not keep its task
COMMENT_S = 15  # between two signs of life on a silent stream
PATIENCE_S = 30  # of deafness until this pod is not ready
User = Annotated[str | None, Cookie()]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open one backplane for this process."""
    async with connect_from_env(wait=False) as backplane:
        is_open = app.state.open = set[object]()
        app.state.backplane = backplane
        drain_on_sigterm(backplane, is_open)
        yield


def drain_on_sigterm(backplane: BaseBackplane, is_open: set[object]) -> None:
    """End sockets and streams before the server stops: it would wait for ever for a stream."""
    loop, of_server = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
    tasks: list[asyncio.Task[None]] = []  # the loop itself holds no task

    async def drain(number: int, frame: FrameType | None) -> None:
        with suppress(TimeoutError):
            await backplane.drain(timeout_s=5)
        for _ in range(50):  # the last words of the sockets
            if is_open:
                await asyncio.sleep(0.1)
        if callable(of_server):
            of_server(number, frame)

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(drain(number, frame))))

    signal.signal(signal.SIGTERM, on_signal)


app = FastAPI(lifespan=lifespan)


def of_same_origin(headers: Mapping[str, str]) -> bool:
    """Return whether no page of another site asks, with a visitor's cookies."""
    return headers.get("origin", "//" + headers.get("host", "")).partition("//")[2] == headers.get("host", "")


def gap_text(gap: Gap) -> str:
    """Return what a client learns of a gap: nothing of the broker's address, as its reason has."""
    return json.dumps({"backplane": "gap", "cause": gap.cause, "missed": gap.missed, "open": gap.is_open})


@app.websocket("/events/")
async def events(websocket: WebSocket, user: User = None) -> None:
    """Hand a socket what is published for its user."""
    if not of_same_origin(websocket.headers):
        await websocket.close(4403)
        return
    if user is None:
        await websocket.accept()  # a page can't read the status of a refused handshake
        await websocket.close(4401, "log in first")
        return
    is_open: set[object] = websocket.app.state.open
    code: int | None = 1001
    is_open.add(websocket)
    try:
        try:
            async with websocket.app.state.backplane.connection(None, Target.user(user)) as connection:
                await websocket.accept()
                code = await pump(websocket, connection)
        except ClosedError:  # this server is about to stop
            await websocket.accept()
        if code is not None:
            with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                async with asyncio.timeout(SEND_S):
                    await websocket.close(code)
    finally:
        is_open.discard(websocket)


async def pump(websocket: WebSocket, connection: Connection) -> int | None:
    """Send until the client goes, or the connection ends; return the close code, None: the client has gone."""
    sending = asyncio.create_task(send_items(websocket, connection))
    listening = asyncio.create_task(listen(websocket))
    ended = asyncio.create_task(connection.ended())
    tasks = {sending, listening, ended}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not listening.done():  # what was queued may still be sent
            await asyncio.wait({sending, listening}, timeout=SEND_S, return_when=asyncio.FIRST_COMPLETED)
        if listening.done() or (sending.done() and sending.result() is None):
            return None
        return sending.result() if sending.done() else 1012
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def send_items(websocket: WebSocket, connection: Connection) -> int | None:
    """Send events and gaps until the connection ends; return the close code, None: the client has gone."""
    try:
        async for item in connection.items():
            async with asyncio.timeout(SEND_S):
                await websocket.send_text(item.text if isinstance(item, Event) else gap_text(item))
    except (SlowConsumerError, TimeoutError):
        return 1012
    except (RuntimeError, WebSocketDisconnect):  # the server has closed the socket meanwhile
        return None
    return 1001


async def listen(websocket: WebSocket) -> None:
    """Answer pings until the client goes."""
    with suppress(WebSocketDisconnect, RuntimeError, KeyError):
        while True:
            if await websocket.receive_text() == '{"backplane":"ping"}':
                await websocket.send_text('{"backplane":"pong"}')


class EventStream(StreamingResponse):
    """A stream whose client may not keep it waiting for ever."""

    async def stream_response(self, send: Send) -> None:
        """Send all parts, or give up."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_S):
                await send(message)

        async with aclosing(cast("AsyncGenerator[str]", self.body_iterator)):
            with suppress(TimeoutError):
                await super().stream_response(send_in_time)


@app.get("/stream/")
async def stream(request: Request, user: User = None) -> Response:
    """Hand an `EventSource` what is published for its user."""
    if not of_same_origin(request.headers):
        raise HTTPException(403)
    if user is None:
        raise HTTPException(401, "log in first")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(lines(request.app.state, user), media_type="text/event-stream", headers=headers)


async def lines(state: State, user: str) -> AsyncGenerator[str]:
    """Yield the parts of a stream."""
    yield "retry: 2000\n: \n\n"
    key = object()
    state.open.add(key)
    try:
        async with state.backplane.connection(None, Target.user(user)) as connection:
            items = connection.items()
            while True:
                try:
                    async with asyncio.timeout(COMMENT_S):
                        item = await anext(items)
                except TimeoutError:
                    yield ": \n\n"
                else:
                    is_event = isinstance(item, Event)
                    yield f"data: {item.text}\n\n" if is_event else f"event: gap\ndata: {gap_text(item)}\n\n"
    except (SlowConsumerError, StopAsyncIteration, ClosedError):
        pass
    finally:
        state.open.discard(key)


class Publish(BaseModel):
    """What is posted."""

    target: str
    event: JsonValue


@app.post("/publish/")
async def publish(request: Request, body: Publish, user: User = None) -> dict[str, int]:
    """Publish for one's own user."""
    if user is None:
        raise HTTPException(401, "log in first")
    if body.target != f"user:{user}":
        raise HTTPException(403, "this target is not allowed")
    try:
        return {"delivered": await request.app.state.backplane.publish(Target.user(user), body.event)}
    except (EventEncodeError, EventTooLargeError) as error:
        raise HTTPException(422, str(error)) from None
    except (OutboxFullError, ClosedError) as error:
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from None


@app.get("/health/live")
async def live() -> dict[str, bool]:
    """Say that the process answers."""
    return {"live": True}


@app.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """Say whether this pod hears the others, with patience: an outage of the broker makes all pods deaf."""
    backplane = request.app.state.backplane
    heard = backplane.ready()
    is_ready = backplane.state != "draining" and (
        bool(heard) or heard.deaf_since is None or time.time() - heard.deaf_since < PATIENCE_S
    )
    return JSONResponse({"ready": is_ready, "state": backplane.state}, 200 if is_ready else 503)


@app.get("/metrics/")
async def metrics(request: Request) -> PlainTextResponse:
    """Answer with counters, as Prometheus reads them."""
    stats = request.app.state.backplane.stats()
    counts = ("connections", "published", "delivered", "overflowed", "outbox_messages")
    text = [f"backplane_{name} {getattr(stats, name)}\n" for name in counts]
    text += [f"backplane_ready {int(bool(request.app.state.backplane.ready()))}\n"]
    text += [f'backplane_dropped{{cause="{cause}"}} {count}\n' for cause, count in stats.dropped.items()]
    text += [f'backplane_gaps{{cause="{cause}"}} {count}\n' for cause, count in stats.gaps.items()]
    return PlainTextResponse("".join(text), media_type="text/plain; version=0.0.4")
