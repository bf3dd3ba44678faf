"""The demo's page and its requests: `make_site`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from attrs import frozen
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backplane_server._demo.desk import Desk
from backplane_server._demo.invitation import Invitation
from backplane_server._demo.ports import HOST
from backplane_server._page.orders import Order, Ordered
from backplane_server._page.page import Page

__all__ = ["make_site"]


def make_site(desk: Desk, invitation: Invitation) -> Starlette:
    """Return the app that serves the demo's page and carries out its requests.

    Args:
        desk: Carries them out.
        invitation: Printed once the server can be ended by a signal.
    """
    page = Page.read([f"ws://{HOST}:{gateway.port}" for gateway in desk.stage.gateways.values()])
    site = Site(desk)
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
            Route("/", page.send),
            Route("/backplane.js", page.send_script),
            Route("/about.json", site.about),
            Route("/status.json", site.status),
            *[Route(path, Ordered(order).answer, methods=["POST"]) for path, order in orders.items()],
        ],
        # Against DNS rebinding: a page of another site whose name resolves to this machine is refused.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


@frozen
class Site:
    """Serves the data that the page asks for.

    Args:
        desk: Has the data.
    """

    desk: Desk

    async def about(self, _: Request) -> Response:
        """Return what does not change."""
        return JSONResponse(self.desk.about())

    async def status(self, _: Request) -> Response:
        """Return the current state."""
        return JSONResponse(await self.desk.status(), headers={"Cache-Control": "no-store"})
