from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

from tests.product.asgi.mounts.common import endpoints, opened

# Not everywhere installed, so a checker knows nothing of it.
litestar: Final[Any] = import_module("litestar")


@asynccontextmanager
async def lifespan(app: Any) -> AsyncGenerator[None]:
    async with opened() as backplane:
        app.state.backplane = backplane
        yield


def page() -> str:
    return "a page"


app = litestar.Litestar(
    [
        litestar.get("/page", sync_to_thread=False)(page),
        *[litestar.asgi(path, is_mount=True, copy_scope=True)(endpoint) for path, endpoint in endpoints().items()],
    ],
    lifespan=[lifespan],
)
