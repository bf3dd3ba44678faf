"""NATS transport for Backplane."""

from typing import TYPE_CHECKING

from backplane_nats.backplane import NatsBackplane
from backplane_nats.jetstream import JetStreamTransport
from backplane_nats.transport import NatsTransport

__all__ = ["JetStreamTransport", "NatsBackplane", "NatsTransport"]

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # a checker would take every name for one of this package

    def __getattr__(name: str) -> str:
        # Read when it is asked for: an import would pay for it each time.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("backplane-nats")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
