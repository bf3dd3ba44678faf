"""Which web pages may connect: the `Origin` check that keeps other sites from using a visitor's cookies."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from attrs import frozen
from backplane_core import ConfigurationError

from backplane_asgi.access import Request

__all__ = ["Origins"]


@frozen
class Origins:
    """Decides by the `Origin` header, which browsers send and scripts of a page can't forge.

    A WebSocket is not bound by the same-origin policy: without this check any site could open one with the cookies of
    your user. What sends no `Origin` is no browser, and carries no cookies of anybody.

    Args:
        allowed: Origins as browsers write them, `https://app.example`; None: the host that was asked, alone.
    """

    allowed: frozenset[str] | None

    @classmethod
    def of(cls, allowed: Sequence[str] | None) -> Origins:
        """Return the check for these origins.

        Raises:
            ConfigurationError: One is not of the form of an origin, or it is a single string.
        """
        if allowed is None:
            return cls(None)
        if isinstance(allowed, str):
            raise ConfigurationError("origins takes several: origins=['https://app.example']")
        for origin in allowed:
            parts = urlsplit(origin)
            if origin != "*" and (not parts.scheme or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}"):
                raise ConfigurationError(f"{origin!r} is no origin: a scheme and a host, as in 'https://app.example'")
        return cls(frozenset(allowed))

    def admits(self, request: Request) -> bool:
        """Return whether a page of this origin may connect."""
        origin = request.header("origin")
        if origin is None:
            return True
        if self.allowed is None:
            return _host_of(origin) == (request.header("host") or "").lower()
        return "*" in self.allowed or origin in self.allowed

    def cors(self, request: Request) -> list[tuple[bytes, bytes]]:
        """Return the headers that let an EventSource of another, allowed origin read the answer, with cookies."""
        origin = request.header("origin")
        if origin is None or self.allowed is None:
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"origin"),
        ]


def _host_of(origin: str) -> str | None:
    """Return the host and port of an origin; None: it is none, whatever sent it."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:  # as of "http://["
        return None
