"""WebSocket, SSE, publish, health and metrics endpoints for any ASGI app, fed by Backplane."""

from typing import TYPE_CHECKING

from backplane_asgi._sockets.outbound import OnGap, SocketOverflow
from backplane_asgi._types import ASGIApp, Message, Receive, Scope, Send
from backplane_asgi.access import Authenticate, Grant, Refused, Request
from backplane_asgi.draining import drain_on_signal
from backplane_asgi.health import health_endpoint
from backplane_asgi.metrics import metrics_endpoint
from backplane_asgi.publish import publish_endpoint
from backplane_asgi.script import browser_script
from backplane_asgi.sse import sse_endpoint
from backplane_asgi.websocket import websocket_endpoint

__all__ = [
    "ASGIApp",
    "Authenticate",
    "Grant",
    "Message",
    "OnGap",
    "Receive",
    "Refused",
    "Request",
    "Scope",
    "Send",
    "SocketOverflow",
    "browser_script",
    "drain_on_signal",
    "health_endpoint",
    "metrics_endpoint",
    "publish_endpoint",
    "sse_endpoint",
    "websocket_endpoint",
]

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # a checker would take every name for one of this package

    def __getattr__(name: str) -> str:
        # Read when it is asked for: an import would pay for it each time.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("backplane-asgi")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
