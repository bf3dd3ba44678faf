"""The gateway's app: the endpoints of backplane-asgi under their paths."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Protocol

from attrs import frozen
from backplane_asgi import (
    ASGIApp,
    Grant,
    Receive,
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
from backplane_core import BaseBackplane
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from backplane_server._admin.site import admin_routes
from backplane_server._gateway.settings import ServeSettings
from backplane_server.pusher import PusherApp, pusher_endpoint

__all__ = ["Policy", "make_app", "make_metrics_app"]


class Policy(Protocol):
    """Decides what a client may do."""

    async def listening(self, request: Request) -> Grant:
        """Return what a client may receive, or raise `Refused`."""
        ...

    async def publishing(self, request: Request) -> Grant:
        """Return what a client may publish to, or raise `Refused`."""
        ...

    async def administering(self, request: Request) -> Grant:
        """Return what an administrator may do; raise `Refused` for anybody else."""
        ...


@frozen
class At:
    """An endpoint that is served under another path than its own.

    Args:
        app: The endpoint.
        path: The path that the endpoint itself sees.
    """

    app: ASGIApp
    path: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.app({**scope, "path": self.path}, receive, send)


async def _openapi(_: object) -> Response:
    text = files("backplane_server").joinpath("openapi.json").read_text(encoding="utf-8")
    return Response(text, media_type="application/json")


def make_app(
    backplane: BaseBackplane, policy: Policy, settings: ServeSettings, pusher_apps: Sequence[PusherApp] = ()
) -> Starlette:
    """Return the app that clients connect to.

    Args:
        backplane: An open backplane.
        policy: Decides what a client may do.
        settings: The gateway's settings.
        pusher_apps: The apps whose Pusher clients may connect.

    Raises:
        ConfigurationError: A setting is not allowed.
    """
    origins = list(settings.origins) or None
    websocket = websocket_endpoint(
        authenticate=policy.listening,
        origins=origins,
        on_gap="frame" if settings.on_gap == "frame" else "close",
        drain_code=1012,  # "service restart": each client of ours may come back, which 1001 leaves open
    )
    events = sse_endpoint(authenticate=policy.listening, origins=origins)
    publish = publish_endpoint(authenticate=policy.publishing, max_body_bytes=settings.max_body_bytes)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, Any]]:
        # The server has set its signal handlers by now: this replaces them, and restores them once all is drained.
        with drain_on_signal(backplane, delay_s=settings.drain_delay_s, spread_s=settings.drain_s):
            yield {"backplane": backplane}

    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", websocket),
        Route("/ws", websocket, methods=None),  # answers that it needs a WebSocket
        Route("/events", events, methods=None),
        Route("/publish", publish, methods=None),
        Route("/backplane.js", websocket, methods=None),
        Route("/openapi.json", _openapi),
        *(admin_routes(backplane, policy, origins) if settings.admin else ()),
        *_probes(),
        *_pusher_routes(settings, pusher_apps),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _pusher_routes(settings: ServeSettings, apps: Sequence[PusherApp]) -> Sequence[BaseRoute]:
    if not apps:
        return ()
    endpoint = pusher_endpoint(
        apps=apps,
        origins=settings.origins,
        max_connections=settings.max_connections,
        max_event_bytes=settings.pusher_max_event_bytes,
    )
    return Mount("/app", endpoint), Mount("/apps", endpoint)


def make_metrics_app(backplane: BaseBackplane) -> Starlette:
    """Return the app for Prometheus and for probes."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, Any]]:
        yield {"backplane": backplane}

    return Starlette(routes=[Route("/metrics", metrics_endpoint(), methods=None), *_probes()], lifespan=lifespan)


def _probes() -> Sequence[Route]:
    health = health_endpoint()
    return [
        Route("/healthz", At(health, "/live"), methods=None),
        Route("/readyz", At(health, "/ready"), methods=None),
    ]
