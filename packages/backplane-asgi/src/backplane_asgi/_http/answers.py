"""Answers with a body that is known at once."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from backplane_asgi._types import Receive, Scope, Send

__all__ = ["answer", "answer_json", "read_body", "refuses_method"]


async def answer(
    send: Send,
    status: int,
    body: bytes = b"",
    content_type: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a whole answer."""
    all_headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    if not any(name == b"cache-control" for name, _ in all_headers):
        all_headers.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, status: int, value: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a whole answer of JSON."""
    await answer(send, status, msgspec.json.encode(value), "application/json", headers)


async def refuses_method(scope: Scope, receive: Receive, send: Send, *allowed: str) -> bool:
    """Refuse a request that is none of these methods, or a WebSocket; return whether it was refused."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4403})  # before it is accepted: an HTTP 403
        return True
    if scope["method"] in allowed:
        return False
    names = ", ".join(allowed)
    await answer(send, 405, f"{names} alone\n".encode(), headers=[(b"allow", names.encode())])
    return True


async def read_body(receive: Receive, most_bytes: int) -> bytes | None:
    """Return the request's body; None if it is larger than allowed, or the client has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > most_bytes:
            return None
        if not message.get("more_body", False):
            return bytes(body)
