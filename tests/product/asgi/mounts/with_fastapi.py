from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.middleware.base import RequestResponseEndpoint

from tests.product.asgi.mounts.common import endpoints, opened


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, object]]:
    async with opened() as backplane:
        yield {"backplane": backplane}


app = FastAPI(lifespan=lifespan)
for path, endpoint in endpoints().items():
    app.mount(path, endpoint)


@app.middleware("http")
async def add_header(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Hold what is sent back for a moment, as such a middleware does: it passes it on from a task of its own."""
    answer = await call_next(request)
    answer.headers["X-Seen"] = "yes"
    return answer


async def page() -> PlainTextResponse:
    return PlainTextResponse("a page")


app.get("/page", response_class=PlainTextResponse)(page)
