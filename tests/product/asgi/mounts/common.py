"""What the apps of this folder mount, each in its framework's way."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import backplane_asgi as web
from backplane_core import BaseBackplane, Target, connect_from_env

__all__ = ["PATHS", "endpoints", "opened"]

PATHS: Final = ("/ws", "/sse", "/publish", "/health", "/metrics")


async def authenticate(request: web.Request) -> web.Grant:
    user = request.bearer or request.query.get("user")
    if user is None:
        raise web.Refused
    return web.Grant(targets=[Target.user(user)], may_publish=[Target.user(user)])


def endpoints(backplane: BaseBackplane | str = "backplane") -> dict[str, web.ASGIApp]:
    return dict(
        zip(
            PATHS,
            (
                web.websocket_endpoint(backplane, authenticate=authenticate),
                web.sse_endpoint(backplane, authenticate=authenticate),
                web.publish_endpoint(backplane, authenticate=authenticate),
                web.health_endpoint(backplane),
                web.metrics_endpoint(backplane),
            ),
            strict=True,
        )
    )


@asynccontextmanager
async def opened() -> AsyncGenerator[BaseBackplane]:
    async with connect_from_env(wait=False) as backplane:
        with web.drain_on_signal(backplane):
            yield backplane
