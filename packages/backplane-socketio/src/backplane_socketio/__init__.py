"""Share the clients of Socket.IO servers over Redis or NATS: client managers for python-socketio and Flask-SocketIO."""

from typing import TYPE_CHECKING

from backplane_socketio.async_manager import AsyncBackplaneManager
from backplane_socketio.json_module import JsonModule
from backplane_socketio.manager import BackplaneManager
from backplane_socketio.participants import Participants

__all__ = ["AsyncBackplaneManager", "BackplaneManager", "JsonModule", "Participants"]

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # a checker would take every name for one of this package

    def __getattr__(name: str) -> str:
        # Read when it is asked for: an import would pay for it each time.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("backplane-socketio")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
