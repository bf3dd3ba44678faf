from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any, Final

from backplane_asgi import ASGIApp, Receive, Scope, Send

from tests.product.asgi.mounts.common import endpoints, opened

# Not everywhere installed, so a checker knows nothing of it.
site: Final[Any] = import_module("quart").Quart(__name__)
mounted: dict[str, ASGIApp] = {}


async def lifespan() -> AsyncGenerator[None]:
    async with opened() as backplane:
        mounted.update(endpoints(backplane))
        yield


async def page() -> str:
    return "a page"


site.while_serving(lifespan)
site.get("/page")(page)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    endpoint = mounted.get("/" + str(scope.get("path", "/")).split("/")[1])
    await (endpoint or site)(scope, receive, send)
