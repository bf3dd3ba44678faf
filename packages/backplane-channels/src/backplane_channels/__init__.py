"""A channel layer for Django Channels over Backplane: over Redis or NATS, and what may be missing is reported."""

from typing import TYPE_CHECKING

from backplane_channels.consumers import ClosesOnGap
from backplane_channels.errors import NormalChannelError
from backplane_channels.layer import BackplaneChannelLayer
from backplane_channels.publisher import LayerPublisher
from backplane_channels.signals import gap_reported

__all__ = ["BackplaneChannelLayer", "ClosesOnGap", "LayerPublisher", "NormalChannelError", "gap_reported"]

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # a checker would take every name for one of this package

    def __getattr__(name: str) -> str:
        # Read when it is asked for: an import would pay for it each time.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("backplane-channels")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
