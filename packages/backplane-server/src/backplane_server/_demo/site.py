"""The demo's page and what it asks: `make_site`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final, TypeAlias, cast

from attrs import frozen
from backplane_asgi import browser_script
from backplane_core import BackplaneError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backplane_server._demo.desk import Desk, DeskError
from backplane_server._demo.invitation import Invitation
from backplane_server._demo.ports import HOST

__all__ = ["make_site"]

MOST_BYTES: Final = 16 * 1024
"""Of what a page asks."""
INLINE: Final = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)

Order: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, object]]]


def make_site(desk: Desk, invitation: Invitation) -> Starlette:
    """Return the app that the demo's page comes from, and that does what its buttons say.

    Args:
        desk: Does it.
        invitation: Given once a signal would end the server in good order.
    """
    page = files("backplane_server").joinpath("_demo/page.html").read_text(encoding="utf-8")
    site = Site(desk, page, _policy(page, desk))
    orders: Mapping[str, Order] = {
        "/publish": desk.publish,
        "/kick": desk.kick,
        "/job": desk.work,
        "/broker/kill": desk.kill_broker,
        "/broker/start": desk.start_broker,
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        invitation.give()
        yield

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", site.page),
            Route("/backplane.js", _script),
            Route("/about.json", site.about),
            Route("/status.json", site.status),
            *[Route(path, Ordered(order).answer, methods=["POST"]) for path, order in orders.items()],
        ],
        # A page of the internet whose name leads to this machine is not one of ours.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


@frozen
class Site:
    """What the page gets.

    Args:
        desk: Knows it.
        html: The page.
        policy: What it may load and reach.
    """

    desk: Desk
    html: str
    policy: str

    async def page(self, _: Request) -> Response:
        """Return the page."""
        headers = {
            "Content-Security-Policy": self.policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return Response(self.html, media_type="text/html", headers=headers)

    async def about(self, _: Request) -> Response:
        """Return what stays as it is."""
        return JSONResponse(self.desk.about())

    async def status(self, _: Request) -> Response:
        """Return how things are now."""
        return JSONResponse(await self.desk.status(), headers={"Cache-Control": "no-store"})


@frozen
class Ordered:
    """A button of the page.

    Args:
        order: What it does.
    """

    order: Order

    async def answer(self, request: Request) -> Response:
        """Do it, and return what came of it, or why it can't be done."""
        # Another site's form can't send this type, and its script would have to ask first.
        if request.headers.get("content-type") != "application/json":
            return JSONResponse({"error": "Content-Type must be application/json"}, 415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return JSONResponse({"error": f"at most {MOST_BYTES} bytes"}, 413)
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            return JSONResponse({"error": "not a JSON object"}, 422)
        try:
            return JSONResponse(await self.order(cast("dict[str, Any]", asked)))
        except (DeskError, BackplaneError) as error:
            return JSONResponse({"error": str(error)}, 409)


async def _script(_: Request) -> Response:
    return Response(browser_script(), media_type="text/javascript", headers={"Cache-Control": "no-cache"})


def _policy(page: str, desk: Desk) -> str:
    """Return the policy under which the page runs: its own script and style, this server, and the gateways' sockets."""
    allowed: dict[str, list[str]] = {"script": ["'self'"], "style": []}
    for kind, text in INLINE.findall(page):
        allowed[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    sockets = [f"ws://{HOST}:{gateway.port}" for gateway in desk.stage.gateways.values()]
    parts = {
        "default-src": ["'none'"],
        "script-src": allowed["script"],
        "style-src": allowed["style"],
        "connect-src": ["'self'", *sockets],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in parts.items())
