"""What speaks Pusher with a gateway: a bare socket, PyPI's SDK, and requests that are signed by hand."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pusher  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from attrs import define, field
from websockets.asyncio.client import ClientConnection, connect

from tests.product.server.gateways import Gateway, closed, gateway
from tests.support.waiting import DEADLINE_S

__all__ = [
    "APP",
    "ENV",
    "KEY",
    "OTHER_KEY",
    "OTHER_SECRET",
    "PUSHER_SECRET",
    "Client",
    "Reached",
    "client",
    "sdk",
    "served",
    "sign",
    "signed_request",
]

APP, KEY, PUSHER_SECRET = "1", "app-key", "secret-of-app-one-0123"
OTHER_KEY, OTHER_SECRET = "other-key", "secret-of-app-two-4567"
ENV = {
    "BACKPLANE_SERVE_PUSHER_APPS": f"{APP}:{KEY}:{PUSHER_SECRET}:client-events,2:{OTHER_KEY}:{OTHER_SECRET}",
}
"""Two apps, of which the first lets its clients send events."""


class Reached(Protocol):
    """A gateway, or what stands in front of gateways."""

    @property
    def address(self) -> str:
        """Host and port."""
        ...


def served(url: str, channel: str, *flags: str, env: Mapping[str, str] = ENV) -> AbstractAsyncContextManager[Gateway]:
    """Return a gateway that speaks Pusher, to be entered."""
    return gateway(*flags, url=url, channel=channel, env=env)


def sign(text: str, key: str = KEY, secret: str = PUSHER_SECRET) -> str:
    """Return `auth` for a text."""
    return f"{key}:{hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()}"


def sdk(of: Reached | None = None, app: str = APP, key: str = KEY, secret: str = PUSHER_SECRET) -> Any:
    """Return PyPI's SDK, as an app's server has it; without a gateway it only signs."""
    host, port = ("127.0.0.1", "0") if of is None else of.address.split(":")
    untyped: Any = pusher  # as far as a strict checker sees
    return untyped.Pusher(app_id=app, key=key, secret=secret, ssl=False, host=host, port=int(port), timeout=DEADLINE_S)


@define
class Client:
    """A socket that speaks Pusher."""

    websocket: ClientConnection
    socket_id: str = ""
    got: list[Any] = field(factory=list[Any])

    async def next(self) -> Any:
        """Return the next message, its data decoded."""
        async with asyncio.timeout(DEADLINE_S):
            message = json.loads(await self.websocket.recv())
        if isinstance(message.get("data"), str):
            message["data"] = json.loads(message["data"])
        self.got.append(message)
        return message

    async def say(self, event: str, data: Any, **more: Any) -> None:
        """Send a message."""
        await self.websocket.send(json.dumps({"event": event, "data": data, **more}))

    async def subscribe(self, channel: str, member: Any = None, auth: str | None = None) -> Any:
        """Subscribe, rightly unless `auth` says otherwise, and return the answer."""
        data: dict[str, Any] = {"channel": channel}
        if channel.startswith(("private-", "presence-")):
            described = None if member is None else json.dumps(member)
            signed = ":".join([self.socket_id, channel, *([] if described is None else [described])])
            data |= {"auth": sign(signed) if auth is None else auth, "channel_data": described}
        await self.say("pusher:subscribe", data)
        return await self.next()

    async def hears_nothing(self) -> None:
        """Assert that no message has come: the answer to a ping is the next one."""
        await self.say("pusher:ping", {})
        assert (await self.next())["event"] == "pusher:pong"

    async def closed(self) -> int | None:
        """Return the code with which it is closed."""
        async with asyncio.timeout(DEADLINE_S):
            return (await closed(self.websocket))[0]


@asynccontextmanager
async def client(of: Reached, key: str = KEY, query: str = "?protocol=7") -> AsyncGenerator[Client]:
    """Connect, and get what comes first."""
    async with connect(f"ws://{of.address}/app/{key}{query}", proxy=None, ping_interval=None) as websocket:
        made = Client(websocket)
        first = await made.next()
        assert first["event"] == "pusher:connection_established"
        assert first["data"]["activity_timeout"] == 120
        made.socket_id = first["data"]["socket_id"]
        yield made


async def signed_request(
    of: Gateway,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    secret: str = PUSHER_SECRET,
    more: Mapping[str, str] | None = None,
    tampered: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Ask as an app's server does; `more` is signed too, and what is `tampered` with is not; return the answer."""
    query = {
        "auth_key": KEY,
        "auth_timestamp": str(int(time.time())),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        **(more or {}),
    }
    text = "\n".join([method, path, "&".join(f"{name}={query[name]}" for name in sorted(query))])
    query["auth_signature"] = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    query |= tampered or {}
    kept = {name: value for name, value in query.items() if value != "(left out)"}
    answer = await of.http.request(method, f"http://{of.address}{path}", params=kept, content=body, headers=headers)
    return answer.status_code, answer.json()
