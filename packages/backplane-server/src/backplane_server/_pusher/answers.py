"""Requests by HTTP: what one asks, read within bounds, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from attrs import frozen
from backplane_asgi import Receive, Scope, Send

__all__ = ["Asked", "Problem", "answer", "read"]

BODY_S: Final = 30.0
"""How long a request's body may take to come, over a slow line."""


class Problem(Exception):  # noqa: N818 -- what an answer says, and no error of a library
    """A request is refused.

    Args:
        status: Of HTTP.
        message: For people; nothing secret.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@frozen(repr=False)
class Asked:
    """A request.

    Args:
        method: As it was asked with.
        paths: The path, decoded and as it was sent: clients sign either.
        query: Its parameters, each once.
        body: All of it.
    """

    method: str
    paths: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes


async def read(scope: Scope, receive: Receive, most_bytes: int) -> Asked:
    """Return what is asked.

    Args:
        scope: Of the request.
        receive: Of the request.
        most_bytes: Of its body.

    Raises:
        Problem: It is too large, takes too long, or names a parameter twice.
    """
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs):
        raise Problem(400, "a parameter stands in the query twice")
    try:
        async with asyncio.timeout(BODY_S):
            body = await _read_body(receive, most_bytes)
    except TimeoutError:
        raise Problem(408, f"the body has to come within {BODY_S:g} s") from None
    path: str = scope["path"]
    raw = scope.get("raw_path") or path.encode()
    return Asked(scope["method"], tuple({path, raw.decode("latin-1")}), query, body)


async def _read_body(receive: Receive, most_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "the client has gone")
        body += message.get("body", b"")
        if len(body) > most_bytes:
            raise Problem(413, f"at most {most_bytes} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def answer(send: Send, status: int, value: object) -> None:
    """Send a whole answer of JSON.

    Args:
        send: Of the request.
        status: Of HTTP.
        value: What it says.
    """
    body = msgspec.json.encode(value)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if status == 503:  # noqa: PLR2004 -- try again: an outbox of a healthy link is emptied sooner
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
