"""Gateways as processes, and tokens for them."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import jwt
from attrs import define
from backplane_testservers import free_port
from httpx2 import AsyncClient
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.product.server.commands import Running, running

__all__ = ["SECRET", "Gateway", "closed", "gateway", "token"]

SECRET = "0123456789abcdef0123456789abcdef"


def token(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token, valid for a day unless the claims say otherwise; a claim that is None is left out."""
    all_claims = {"sub": "ann", "exp": time.time() + 86_400, **claims}
    kept = {name: value for name, value in all_claims.items() if value is not None}
    headers = {"kid": str(kept.pop("kid"))} if "kid" in kept else None
    return jwt.encode(kept, key, algorithm=algorithm, headers=headers)


@define
class Gateway:
    """A gateway that runs."""

    running: Running
    address: str
    metrics_address: str
    http: AsyncClient

    def websocket(self, token: str | None, query: str = "") -> connect:
        """Return a WebSocket that is not open yet."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return connect(f"ws://{self.address}/ws{query}", additional_headers=headers, proxy=None)

    async def publish(self, token: str | None, target: Any, event: Any, **more: Any) -> tuple[int, Any]:
        """Publish by HTTP; return the status and the answer."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        body = {"target": target, "event": event, **more}
        answer = await self.http.post(f"http://{self.address}/publish", json=body, headers=headers)
        return answer.status_code, answer.json()

    async def status(self, path: str, *, of_metrics: bool = False) -> int:
        """Return the status of a path."""
        address = self.metrics_address if of_metrics else self.address
        return (await self.http.get(f"http://{address}{path}")).status_code


@asynccontextmanager
async def gateway(*flags: str, url: str, channel: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[Gateway]:
    """Run a gateway whose tokens are signed with `SECRET`, unless `env` says otherwise."""
    metrics = free_port()
    command = ("serve", "--port", "0", "--metrics-port", str(metrics), "--drain-delay", "0", "--drain-s", "0", *flags)
    secret = {"BACKPLANE_SERVE_JWT_SECRET": SECRET} if env is None else env
    async with running(*command, url=url, channel=channel, env=secret) as process, AsyncClient(trust_env=False) as http:
        line = await process.says("listening at")
        found = re.search(r"http://([^/]+):? ", line) or re.search(r"http://(\S+):", line)
        assert found is not None, line
        await process.says("metrics at")
        yield Gateway(process, found[1].rstrip(":"), f"127.0.0.1:{metrics}", http)


async def closed(websocket: ClientConnection) -> tuple[int | None, str | None]:
    """Read until a WebSocket is closed; return the code and the reason."""
    with suppress(ConnectionClosed):
        while True:
            await websocket.recv()
    return websocket.close_code, websocket.close_reason
