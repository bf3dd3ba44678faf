from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from tests.product.asgi.mounts.common import endpoints, opened


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, object]]:
    async with opened() as backplane:
        yield {"backplane": backplane}


async def page(_: object) -> PlainTextResponse:
    return PlainTextResponse("a page")


found = endpoints()

app = Starlette(
    routes=[
        Route("/page", page),
        WebSocketRoute("/ws", found["/ws"]),
        Mount("/health", found["/health"]),
        *[Route(path, found[path]) for path in ("/sse", "/publish", "/metrics")],
    ],
    middleware=[Middleware(GZipMiddleware, minimum_size=1)],
    lifespan=lifespan,
)
