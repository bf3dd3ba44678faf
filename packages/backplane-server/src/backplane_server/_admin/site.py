"""The paths below `/admin`, each of which asks who is there: `admin_routes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import attrs
from attrs import frozen
from backplane_asgi import ASGIApp, Grant, Refused, websocket_endpoint
from backplane_asgi import Request as ClientRequest
from backplane_core import BaseBackplane, Target
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute

from backplane_server._admin.desk import AdminDesk
from backplane_server._page.orders import Order, Ordered
from backplane_server._page.page import Page

__all__ = ["Administrators", "admin_routes"]

PATH: Final = "/admin"
NO_STORE: Final = {"Cache-Control": "no-store"}

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class Administrators(Protocol):
    """Knows who may administer."""

    async def administering(self, request: ClientRequest) -> Grant:
        """Return what an administrator may do; raise `Refused` if it is none."""
        ...


def admin_routes(
    backplane: BaseBackplane, administrators: Administrators, origins: Sequence[str] | None
) -> Sequence[Route | WebSocketRoute]:
    """Return the routes of the page for administrators.

    The page itself holds nothing, so anybody may load it: a browser can show a token only once it is there.

    Args:
        backplane: The gateway's.
        administrators: Knows who may administer.
        origins: Pages that may open its WebSocket; None: those of the host that is asked.
    """
    page, desk = Page.read(), AdminDesk(backplane)
    site = AdminSite(desk)
    orders: Mapping[str, Order] = {"publish": desk.publish, "kick": desk.kick}
    socket: ASGIApp = websocket_endpoint(
        authenticate=Watching(administrators).authenticate, origins=origins, on_gap="frame", drain_code=1012
    )
    return [
        Route(PATH, _redirect),
        Route(f"{PATH}/", page.send),
        Route(f"{PATH}/backplane.js", page.send_script),
        Route(f"{PATH}/about.json", Admitted(administrators, site.about).answer),
        Route(f"{PATH}/status.json", Admitted(administrators, site.status).answer),
        *[
            Route(f"{PATH}/{name}", Admitted(administrators, Ordered(order).answer).answer, methods=["POST"])
            for name, order in orders.items()
        ],
        WebSocketRoute(f"{PATH}/ws", socket),
    ]


@frozen
class AdminSite:
    """What the page asks for without a button.

    Args:
        desk: Knows it.
    """

    desk: AdminDesk

    async def about(self, _: Request) -> Response:
        """Return what stays as it is."""
        return JSONResponse(self.desk.about(), headers=NO_STORE)

    async def status(self, _: Request) -> Response:
        """Return how things are now."""
        return JSONResponse(await self.desk.status(), headers=NO_STORE)


@frozen
class Admitted:
    """A path for administrators.

    Args:
        administrators: Knows who they are.
        handler: Answers them.
    """

    administrators: Administrators
    handler: Handler

    async def answer(self, request: Request) -> Response:
        """Answer an administrator, and say to anybody else what is missing."""
        try:
            await self.administrators.administering(ClientRequest(request.scope))
        except Refused as refused:
            return JSONResponse({"error": refused.reason}, refused.status, headers=NO_STORE)
        return await self.handler(request)


@frozen
class Watching:
    """What a socket of the page gets: the events of the targets in its query, whosever they are.

    Args:
        administrators: Knows who may see them.
    """

    administrators: Administrators

    async def authenticate(self, request: ClientRequest) -> Grant:
        """Return what the socket may hear.

        Raises:
            Refused: It is none of an administrator.
        """
        grant = await self.administrators.administering(request)
        targets = [Target.parse(text) for text in request.query.get("target", "").split(",") if text]
        return attrs.evolve(grant, targets=targets)


async def _redirect(_: Request) -> Response:
    return RedirectResponse(f"{PATH}/", status_code=307)
