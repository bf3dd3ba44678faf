"""For a server without a lifespan: the first request opens the backplane, and a signal closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from backplane_asgi import ASGIApp, Receive, Scope, Send

from tests.product.asgi.mounts.common import endpoints, opened


class Mounted:
    """Opens one backplane for the process, in the loop of its first request."""

    def __init__(self) -> None:
        self._endpoints: asyncio.Future[Mapping[str, ASGIApp]] | None = None
        self._serving: asyncio.Task[None] | None = None

    async def endpoints(self) -> Mapping[str, ASGIApp]:
        if self._endpoints is None:
            self._endpoints = asyncio.get_running_loop().create_future()
            self._serving = asyncio.create_task(self._serve(self._endpoints))
        return await self._endpoints

    async def _serve(self, found: asyncio.Future[Mapping[str, ASGIApp]]) -> None:
        async with opened() as backplane:
            found.set_result(endpoints(backplane))
            await backplane.wait_for_state("closed")


mounted = Mounted()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    found = await mounted.endpoints()
    await found["/" + str(scope["path"]).split("/")[1]](scope, receive, send)
