r"""A service with sockets, streams, publishing, health and metrics, for any number of processes.

$ export BACKPLANE_URL=redis://localhost:6379
$ uvicorn examples.web_app:app --ws backplane_asgi.uvicorn:PreparedProtocol \
    --http backplane_asgi.uvicorn:PreparedHttpProtocol
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import backplane_asgi as web
from backplane_core import Target, connect_from_env
from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, object]]:
    """Open one backplane for this process."""
    async with connect_from_env(wait=False) as backplane:
        with web.drain_on_signal(backplane):
            yield {"backplane": backplane}


async def authenticate(request: web.Request) -> web.Grant:
    """Let anyone be the user that they name: put your own check here."""
    user = request.cookies.get("user")
    if user is None:
        raise web.Refused(4401, "log in first")
    return web.Grant(targets=[Target.user(user)], may_publish=[Target.user(user)])


app = FastAPI(lifespan=lifespan)
app.mount("/events", web.websocket_endpoint(authenticate=authenticate, on_gap="frame"))
app.mount("/stream", web.sse_endpoint(authenticate=authenticate))
app.mount("/publish", web.publish_endpoint(authenticate=authenticate))
app.mount("/health", web.health_endpoint())
app.mount("/metrics", web.metrics_endpoint())


@app.get("/who/{user}")
async def who(request: Request, user: str) -> dict[str, int]:
    """Return how many sockets a user has on each process."""
    return dict((await request.state.backplane.fleet.count(Target.user(user))).by_pod)
