"""A channel layer for Django Channels over Backplane: over Redis or NATS, and what may be missing is reported."""

from backplane_channels.consumers import ClosesOnGap
from backplane_channels.errors import NormalChannelError
from backplane_channels.layer import BackplaneChannelLayer
from backplane_channels.publisher import LayerPublisher
from backplane_channels.signals import gap_reported

__all__ = ["BackplaneChannelLayer", "ClosesOnGap", "LayerPublisher", "NormalChannelError", "gap_reported"]
