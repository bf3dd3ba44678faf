"""The page as it is sent, with the policy under which it runs: `Page`."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final, Self

from attrs import frozen
from backplane_asgi import browser_script
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Page"]

INLINE: Final = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)


@frozen
class Page:
    """The page, which loads nothing but its script.

    Args:
        html: The page.
        policy: Its Content-Security-Policy.
    """

    html: str
    policy: str

    @classmethod
    def read(cls, sockets: Sequence[str] = ()) -> Self:
        """Return the page.

        Args:
            sockets: Origins of WebSockets that it may open, besides those of its own server.
        """
        html = files("backplane_server").joinpath("_page/page.html").read_text(encoding="utf-8")
        return cls(html, _policy(html, sockets))

    async def send(self, _: Request) -> Response:
        """Return the page."""
        headers = {
            "Content-Security-Policy": self.policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return Response(self.html, media_type="text/html", headers=headers)

    async def send_script(self, _: Request) -> Response:
        """Return `backplane.js`, which the page imports."""
        return Response(browser_script(), media_type="text/javascript", headers={"Cache-Control": "no-cache"})


def _policy(page: str, sockets: Sequence[str]) -> str:
    allowed: dict[str, list[str]] = {"script": ["'self'"], "style": []}
    for kind, text in INLINE.findall(page):
        allowed[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    parts = {
        "default-src": ["'none'"],
        "script-src": allowed["script"],
        "style-src": allowed["style"],
        "connect-src": ["'self'", *sockets],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in parts.items())
