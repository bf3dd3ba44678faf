"""What a gateway's own metrics say: `scrape`."""

from __future__ import annotations

from typing import Final

from backplane_asgi import Message, Scope, metrics_endpoint
from backplane_core import BaseBackplane

__all__ = ["scrape"]

SCOPE: Final[Scope] = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "query_string": b""}


async def scrape(backplane: BaseBackplane) -> str:
    """Return the metrics of this process, as its endpoint would serve them: the page shows nothing that those don't."""
    body = b""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal body
        body += message.get("body", b"")

    await metrics_endpoint(backplane)(SCOPE, receive, send)
    return body.decode()
