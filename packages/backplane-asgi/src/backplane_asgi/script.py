"""`backplane.js`: the client for browsers, one file without dependencies, served by the endpoints."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from backplane_asgi._http.answers import answer
from backplane_asgi._types import Scope, Send

__all__ = ["browser_script"]

NAME: Final = "backplane.js"


@cache
def browser_script() -> bytes:
    """Return the source of `backplane.js`, for an app that serves it by its own means."""
    return files("backplane_asgi").joinpath(NAME).read_bytes()


@cache
def _tag() -> bytes:
    return b'"%b"' % sha256(browser_script()).hexdigest()[:16].encode()


def is_script(scope: Scope) -> bool:
    """Return whether a request asks for the script."""
    # Frameworks may add a slash to what they mount.
    return scope.get("method") in {"GET", "HEAD"} and str(scope.get("path", "")).rstrip("/").endswith(f"/{NAME}")


async def send_script(scope: Scope, send: Send) -> None:
    """Answer with the script, or that the browser has it."""
    known = {value for name, value in scope["headers"] if name.lower() == b"if-none-match"}
    headers = [(b"etag", _tag()), (b"cache-control", b"no-cache")]
    if _tag() in known:
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    else:
        await answer(send, 200, browser_script(), "text/javascript; charset=utf-8", headers)
