"""The app that tests start under a real server: `uvicorn tests.product.asgi.service:app`. Plain ASGI, no framework."""

from __future__ import annotations

import json
import os
from typing import Any

from backplane_asgi import (
    ASGIApp,
    Grant,
    Message,
    Receive,
    Refused,
    Request,
    Scope,
    Send,
    drain_on_signal,
    health_endpoint,
    metrics_endpoint,
    publish_endpoint,
    sse_endpoint,
    websocket_endpoint,
)
from backplane_core import Target, connect_from_env

OPTIONS: dict[str, Any] = json.loads(os.environ.get("SERVICE_OPTIONS", "{}"))
SSE_OPTIONS: dict[str, Any] = {name: it for name, it in OPTIONS.items() if name != "drain_code"}
STALE_AFTER_S = float(os.environ.get("SERVICE_STALE_AFTER_S", "10"))
SPREAD_S = float(os.environ.get("SERVICE_SPREAD_S", "0"))
BODY_S = float(os.environ.get("SERVICE_BODY_S", "30"))


async def authenticate(request: Request) -> Grant:
    """Grant what the token says: `ann~1700000000~1.2`, a user, until when, and the only rooms that she may enter."""
    user = request.bearer or request.query.get("user")
    if user is None:
        raise Refused
    user, _, rest = user.partition("~")
    if user == "mallory":
        raise Refused(4403, "not you")
    if user == "late":
        raise Refused(1013, "full")
    until, _, named = rest.partition("~")
    numbers = named.split(".") if named else map(str, range(200))
    rooms = frozenset(Target("room", number) for number in numbers)
    expires_at = until or request.query.get("expires_at")
    return Grant(
        targets=[Target.user(user)],
        conn_id=request.query.get("conn_id"),
        may_subscribe=rooms,
        may_publish=rooms | {Target.user(user)},
        expires_at=None if expires_at is None else float(expires_at),
    )


ROUTES: dict[str, ASGIApp] = {
    "/ws": websocket_endpoint(authenticate=authenticate, **OPTIONS),
    "/frames": websocket_endpoint(authenticate=authenticate, on_gap="frame", **OPTIONS),
    "/open": websocket_endpoint(authenticate=authenticate, origins=["https://app.example"], ping_s=0.2),
    "/sse": sse_endpoint(authenticate=authenticate, comment_s=0.5, **SSE_OPTIONS),
    "/closing": sse_endpoint(authenticate=authenticate, on_gap="close"),
    "/publish": publish_endpoint(authenticate=authenticate, max_body_bytes=200_000, max_body_s=BODY_S),
    "/health": health_endpoint(patience_s=0.5),
    "/metrics": metrics_endpoint(),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    if scope["path"].startswith("/shouting"):
        send = shouting(send)
        scope = {**scope, "path": scope["path"].removeprefix("/shouting")}
    path = "/" + str(scope["path"]).split("/")[1]
    await ROUTES.get(path, ROUTES["/health"])(scope, receive, send)


def shouting(send: Send) -> Send:
    """A middleware that changes what is sent."""

    async def shout(message: Message) -> None:
        if "body" in message:
            body = message["body"].upper().replace(b"DATA: ", b"data: ").replace(b"RETRY: ", b"retry: ")
            message = {**message, "body": body}
        await send(message)

    return shout


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    async with connect_from_env(wait=False, stale_after_s=STALE_AFTER_S) as backplane:
        scope["state"]["backplane"] = backplane
        with drain_on_signal(backplane, spread_s=SPREAD_S):
            await send({"type": "lifespan.startup.complete"})
            await receive()
    await send({"type": "lifespan.shutdown.complete"})
